//! Decides how many events the hub may send ahead to a partition's receiver, so that the events of all partitions fit
//! into memory.
//!
//! AMQP counts credit in events, and an event may have a hundred bytes or a million. So a receiver first assumes that
//! every event has the largest size that the service accepts, and then follows the sizes that it sees. When they
//! change, it is reopened with another credit.

/// The largest event of the Basic, Standard and Premium tiers, at most
/// (<https://learn.microsoft.com/azure/event-hubs/event-hubs-quotas>).
const LARGEST_EVENT: usize = 1 << 20;
/// Smallest size to assume for an event, in bytes: its names and annotations take room too.
const SMALLEST_EVENT: usize = 1 << 10;
/// Smallest number of events for which a size is remembered.
const REMEMBERED: u32 = 1_024;
/// How many times larger the next credit may be: the sizes of a few events say little about the next thousand.
const GROWTH: u32 = 8;

/// The credit of a partition's receiver.
#[derive(Debug)]
pub(crate) struct Credit {
    /// The most events, whatever their size.
    most: u32,
    /// Bytes for the events of all partitions.
    budget: usize,
    /// Credit of the open receiver, in events; 0 before the first one.
    current: u32,
    /// Events since the receiver was opened.
    seen: u32,
    /// Whether a whole credit of events has been seen.
    is_known: bool,
    /// The largest event of this stretch and of the one before, and the events in this stretch.
    largest: usize,
    largest_before: usize,
    in_stretch: u32,
}

impl Credit {
    pub(crate) fn new(most: u32, budget: usize) -> Self {
        Self {
            most,
            budget,
            current: 0,
            seen: 0,
            is_known: false,
            largest: 0,
            largest_before: 0,
            in_stretch: 0,
        }
    }

    /// Notes the size of an event that has arrived.
    pub(crate) fn note(&mut self, bytes: usize) {
        self.largest = self.largest.max(bytes);
        self.seen = self.seen.saturating_add(1);
        self.is_known |= self.seen >= self.current;
        self.in_stretch += 1;
        if self.in_stretch >= REMEMBERED {
            (self.largest_before, self.largest, self.in_stretch) = (self.largest, 0, 0);
        }
    }

    /// Returns a size that no recent event exceeds, in bytes. It is rounded up to a power of two, so that slow growth
    /// reopens the receiver rarely.
    fn size(&self) -> usize {
        let largest = self.largest.max(self.largest_before).max(SMALLEST_EVENT);
        let assumed = if self.is_known {
            largest
        } else {
            largest.max(LARGEST_EVENT)
        };
        assumed.checked_next_power_of_two().unwrap_or(usize::MAX)
    }

    /// Returns how many events fit into one partition's share of the memory. The number of shares is a power of two;
    /// otherwise a producer that gains partitions one by one would reopen all its receivers each time.
    fn fitting(&self, partitions: usize) -> u32 {
        let share = self.budget / partitions.max(1).next_power_of_two();
        let fitting = u32::try_from(share / self.size()).unwrap_or(u32::MAX);
        fitting.clamp(1, self.most)
    }

    /// Returns the credit to change to, if there is a reason to change.
    fn wanted(&self, partitions: usize) -> Option<u32> {
        let fitting = self.fitting(partitions);
        if self.current == 0 || fitting < self.current {
            return Some(fitting);
        }
        let grown = fitting.min(self.current.saturating_mul(GROWTH));
        let is_worth_it = grown / 2 >= self.current || (grown == self.most && grown > self.current);
        (is_worth_it && self.seen >= self.current).then_some(grown)
    }

    /// Returns whether the receiver should be opened again.
    pub(crate) fn is_due(&self, partitions: usize) -> bool {
        self.wanted(partitions).is_some()
    }

    /// Returns the credit for a receiver that is opened now.
    pub(crate) fn open(&mut self, partitions: usize) -> u32 {
        self.current = self.wanted(partitions).unwrap_or(self.current);
        self.seen = 0;
        self.current
    }

    /// Estimates how many bytes the hub may send ahead to the open receiver.
    pub(crate) fn bytes(&self) -> usize {
        self.size().saturating_mul(self.current as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::iter::repeat_n;

    const MIB: usize = 1 << 20;

    /// Returns the credits of the receivers that are opened while events of these sizes arrive.
    fn credits(credit: &mut Credit, partitions: usize, sizes: impl IntoIterator<Item = usize>) -> Vec<u32> {
        let mut credits = Vec::new();
        for bytes in sizes {
            if credit.is_due(partitions) {
                credits.push(credit.open(partitions));
                assert!(credit.bytes() <= credit.budget / partitions || credits.last() == Some(&1));
            }
            credit.note(bytes);
        }
        credits
    }

    #[test]
    fn small_events_get_the_full_count_after_two_steps() {
        let mut credit = Credit::new(300, 128 * MIB);
        assert_eq!(credits(&mut credit, 8, repeat_n(200, 5_000)), [16, 128, 300]);
        let mut alone = Credit::new(3_000, 128 * MIB);
        assert_eq!(credits(&mut alone, 1, repeat_n(200, 5_000)), [128, 1_024, 3_000]);
    }

    #[test]
    fn large_events_get_what_fits_into_the_share_of_their_partition() {
        let sizes = || repeat_n(256_000, 5_000);
        assert_eq!(credits(&mut Credit::new(300, 128 * MIB), 8, sizes()), [16, 64]);
        assert_eq!(credits(&mut Credit::new(300, 128 * MIB), 32, sizes()), [4, 16]);
        // Nothing fits; one at a time goes on.
        assert_eq!(credits(&mut Credit::new(300, MIB), 32, sizes()), [1]);
    }

    #[test]
    fn the_first_large_event_ends_a_credit_for_small_ones_and_is_remembered() {
        let mut credit = Credit::new(300, 128 * MIB);
        credits(&mut credit, 8, repeat_n(200, 5_000));
        credit.note(900_000);
        assert!(credit.is_due(8));
        assert_eq!(credit.open(8), 16);
        let mut sizes = repeat_n(200, 1_000).chain([900_000]).cycle().take(20_000);
        assert_eq!(credits(&mut credit, 8, &mut sizes), [0; 0]);
        assert_eq!(credits(&mut credit, 8, repeat_n(200, 5_000)), [128, 300]);
    }

    #[test]
    fn a_share_shrinks_when_partitions_are_gained() {
        let mut credit = Credit::new(300, 128 * MIB);
        assert_eq!(credits(&mut credit, 1, repeat_n(500_000, 2_000)), [128, 256]);
        assert!(credit.is_due(2));
        assert_eq!(credit.open(2), 128);
        assert_eq!(credit.open(8), 32);
        // A fifth partition is one of eight.
        assert!(!credit.is_due(5));
        // Few events say nothing: the share is that of the largest ones.
        let mut new = Credit::new(300, 128 * MIB);
        assert_eq!(new.open(1), 128);
        new.note(200);
        assert!(new.is_due(8));
        assert_eq!(new.open(8), 16);
    }

    #[test]
    fn events_that_grow_slowly_cost_few_receivers() {
        let mut credit = Credit::new(300, 128 * MIB);
        let opened = credits(&mut credit, 8, (0..1_000).map(|event| 200_000 + 800 * event));
        assert!(opened.len() <= 5, "{opened:?}");
    }
}
