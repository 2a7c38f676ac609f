//! Several passes over a source that ends, if not all of its windows can be open at once.

use std::time::Instant;

use super::{Emitted, Tally, Windower};
use crate::sensors::SensorTable;
use crate::source::Offset;

/// How many windows may be open while a source is read whose windows close when their readings are all read. They take
/// about 150 bytes each.
pub(super) const MAX_OPEN_WINDOWS: usize = 1_000_000;

impl Windower {
    /// Leaves the latest intervals to another pass, if too many windows are open. At least one interval stays.
    pub(super) fn leave_to_another_pass(&mut self) {
        let mut windows = self.open_windows();
        while windows > self.max_open
            && self.open.len() > 1
            && let Some(last) = self.open.pop_back()
        {
            windows -= last.len();
            self.horizon = Some(last.start);
            self.recent = 0;
            for (index, partition) in self.partitions.iter_mut().enumerate() {
                let lowest = last.lowest(index).into_iter();
                partition.left = partition.left.into_iter().chain(lowest).min();
            }
            self.tally.accepted -= last.readings();
        }
    }

    /// Begins another pass, if one is needed: closes what is open and returns where each partition must be read again.
    /// Call it at the end of the source.
    pub fn next_pass(
        &mut self,
        sensors: &SensorTable,
        now: Instant,
        out: &mut Emitted,
    ) -> Option<Vec<Offset>> {
        self.horizon?;
        self.close_all(sensors, out);
        let position = self.position();
        let mut pass = Self::new(self.windowing, &position, now);
        pass.tally = Tally {
            passes: self.tally.passes + 1,
            ..self.tally
        };
        pass.max_open = self.max_open;
        *self = pass;
        Some(
            position
                .partitions
                .iter()
                .map(|partition| partition.resume)
                .collect(),
        )
    }
}
