//! Several passes over a source that ends, if not all of its windows can be open at once.

use std::time::Instant;

use super::open_interval::OpenInterval;
use super::{Emitted, Tally, Windower};
use crate::sensors::SensorTable;
use crate::source::Offset;

/// How many windows may be open beside those of the first open interval, while a source is read that knows what is still
/// to come. A window takes about 150 bytes, and as much again when it is dispatched.
pub(super) const MAX_OPEN_WINDOWS: usize = 500_000;

impl Windower {
    /// Leaves the latest intervals to another pass, if too many windows are open. The first interval stays: where readings
    /// come in order, the others hold but a few windows, however large the fleet.
    pub(super) fn leave_to_another_pass(&mut self) {
        let mut windows: usize = self.open.iter().skip(1).map(OpenInterval::len).sum();
        while windows > self.windowing.max_open
            && let Some(last) = self.open.pop_back()
        {
            windows -= last.len();
            self.horizon = Some(last.start);
            self.recent = 0;
            for (index, partition) in self.partitions.iter_mut().enumerate() {
                let lowest = last.lowest(index).into_iter();
                partition.left = partition.left.into_iter().chain(lowest).min();
            }
            self.counted_already += last.readings();
            self.accounts.leave(last.readings());
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
        let partitions = (0..self.partitions.len()).map(|index| self.position_in(index));
        let position = self.position_of(partitions);
        let mut pass = Self::new(self.windowing, &position, now);
        for (partition, before) in pass.partitions.iter_mut().zip(&mut self.partitions) {
            (partition.start, partition.is_usable) = (before.start, before.is_usable);
            // The next step claims everything below `judged`, so it must also say what was set aside there.
            partition.verdicts.continue_news(before.verdicts.take_news());
        }
        pass.tally = Tally {
            passes: self.tally.passes + 1,
            ..self.tally
        };
        pass.counted_already = self.counted_already;
        *self = pass;
        let partitions = position.partitions.iter();
        Some(partitions.map(|partition| partition.resume).collect())
    }
}
