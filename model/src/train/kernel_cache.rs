//! Rows of the kernel matrix, kept while the solver needs them.

use crate::CodePath;
use crate::svm::{Lanes, Similarities};

/// Kernel rows in a cache bounded in bytes, which evicts the row that was not used for the longest time.
///
/// The whole matrix would take rows² · 8 bytes. Of these, the solver needs the rows of few vectors, again and again.
pub(super) struct KernelCache<'a> {
    similarities: &'a Similarities,
    path: CodePath,
    /// The slot of each row, or [`NONE`].
    slot_of: Vec<u32>,
    slots: Vec<Slot>,
    /// The kernel rows of the slots, back to back. It belongs to the caller and is used again: the pages of fresh memory take
    /// longer to get than the kernel takes to compute.
    values: &'a mut Vec<Lanes>,
    most_slots: usize,
    clock: u64,
}

struct Slot {
    row: usize,
    used: u64,
}

const NONE: u32 = u32::MAX;

impl<'a> KernelCache<'a> {
    /// Creates an empty cache of `bytes` in `values`, but at least of two rows.
    pub(super) fn new(
        similarities: &'a Similarities,
        path: CodePath,
        bytes: usize,
        values: &'a mut Vec<Lanes>,
    ) -> Self {
        let of_row = similarities.blocks() * size_of::<Lanes>();
        Self {
            similarities,
            path,
            slot_of: vec![NONE; similarities.count()],
            slots: Vec::new(),
            values,
            most_slots: (bytes / of_row).max(2),
            clock: 0,
        }
    }

    /// Returns the kernel of a row with every row.
    pub(super) fn row(&mut self, row: usize) -> &[Lanes] {
        let slot = self.load(row);
        self.values_of(slot)
    }

    /// Returns the kernels of two rows with every row.
    pub(super) fn pair(&mut self, first: usize, second: usize) -> (&[Lanes], &[Lanes]) {
        // The first is then the one used last, so loading the second evicts another.
        let (first, second) = (self.load(first), self.load(second));
        (self.values_of(first), self.values_of(second))
    }

    fn values_of(&self, slot: usize) -> &[Lanes] {
        let blocks = self.similarities.blocks();
        &self.values[slot * blocks..][..blocks]
    }

    /// Returns the slot that holds a row, after computing the row if none does.
    fn load(&mut self, row: usize) -> usize {
        self.clock += 1;
        let there = self.slot_of[row];
        if there != NONE {
            self.slots[there as usize].used = self.clock;
            return there as usize;
        }
        let blocks = self.similarities.blocks();
        let slot = if self.slots.len() < self.most_slots {
            self.slots.push(Slot { row, used: 0 });
            let needed = self.slots.len() * blocks;
            if self.values.len() < needed {
                self.values.resize(needed, Lanes::default());
            }
            self.slots.len() - 1
        } else {
            let slots = self.slots.iter().enumerate();
            let oldest = slots.min_by_key(|(_, slot)| slot.used);
            oldest.map_or(0, |(at, _)| at)
        };
        let evicted = std::mem::replace(&mut self.slots[slot].row, row);
        self.slot_of[evicted] = NONE;
        #[allow(clippy::cast_possible_truncation)] // There are no more slots than rows, which are far fewer.
        {
            self.slot_of[row] = slot as u32;
        }
        self.slots[slot].used = self.clock;
        let into = &mut self.values[slot * blocks..][..blocks];
        self.similarities.with(row, self.path, into);
        slot
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_the_same_however_often_they_are_evicted() {
        let rows: Vec<f64> = (0..60).map(|at| f64::from(at).sin()).collect();
        let similarities = Similarities::new(3, &rows, 0.7);
        let (mut of_all, mut of_few) = (Vec::new(), vec![Lanes([f64::NAN; 8]); 2]);
        let mut all = KernelCache::new(&similarities, CodePath::best(), usize::MAX, &mut of_all);
        let mut few = KernelCache::new(&similarities, CodePath::available()[0], 0, &mut of_few);
        for at in (0..400).map(|at| at * 3 % 20) {
            let next = (at * 7 + 3) % 20;
            assert_eq!(few.pair(at, next), all.pair(at, next));
            let own = few.row(at)[at / 8].0[at % 8];
            assert_eq!(own, 1.0);
        }
        assert_eq!((few.slots.len(), all.slots.len()), (2, 20));
    }
}
