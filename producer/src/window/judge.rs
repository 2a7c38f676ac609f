//! Judges each reading: it belongs in a window or in quarantine, or an earlier run has dealt with it.

use windrow_common::EventTime;

use super::open_interval::OpenInterval;
use super::partition::Partition;
use super::{Emitted, MAX_ABS_VALUE, Windower, Windowing, verdicts};
use crate::quarantine::{QuarantineReason, Quarantined};
use crate::sensors::SensorTable;
use crate::source::{Arrivals, Batch, Reading};

impl Windower {
    /// Quarantines the items of the batch that could not be read.
    pub(super) fn quarantine_unreadable(&mut self, batch: &mut Batch, out: &mut Emitted) {
        let Partition { verdicts, counts, .. } = &mut self.partitions[batch.partition];
        for unreadable in batch.unreadable.drain(..) {
            let is_repeated = self.tally.passes == 0 && verdicts.is_claimed(unreadable.offset);
            if verdicts.cover(unreadable.offset) && !is_repeated {
                self.tally.replayed += u64::from(self.tally.passes == 0) * unreadable.readings;
            } else {
                counts.quarantined += unreadable.readings;
                out.raw_bytes += unreadable.raw.bytes().len();
                let quarantined = Quarantined::unreadable(batch.partition, unreadable);
                out.quarantined.push(quarantined);
            }
        }
    }

    /// Puts the `index`-th reading of the batch into its window, or into `quarantined`.
    #[inline]
    pub(super) fn observe(
        &mut self,
        batch: &Batch,
        index: usize,
        reading: &Reading,
        sensors: &SensorTable,
        quarantined: &mut Vec<Quarantined>,
    ) {
        let Windowing { window, interval, .. } = self.windowing;
        let interval_start = reading.time.floor(interval);
        let record = |reason| {
            let nth = verdicts::nth(&batch.readings, index);
            Quarantined::reading(batch.partition, reason, reading, nth, interval, sensors)
        };
        let partition = &mut self.partitions[batch.partition];
        let dispatched_through = self.dispatched.through(reading.sensor);
        let claimed_through = match &self.claimed {
            Some(claimed) => claimed.through(reading.sensor),
            None => EventTime::MIN,
        };
        if partition.verdicts.cover(reading.offset) {
            if self.tally.passes == 0
                && let Some(reason) = partition.verdicts.to_repeat(&batch.readings, index)
            {
                partition.counts.quarantined += 1;
                quarantined.push(record(reason));
                return;
            }
            if reading.time < dispatched_through
                || unusable(reading.value).is_some()
                || partition.verdicts.was_set_aside(&batch.readings, index)
            {
                self.tally.replayed += u64::from(self.tally.passes == 0);
                return;
            }
            match self.tally.passes == 0 && partition.verdicts.is_claimed(reading.offset) {
                // Judged by an earlier run, and not counted yet.
                true => partition.counts.windowed += 1,
                false => self.accounts.to_read_again -= 1,
            }
        } else {
            let closed_through = dispatched_through.max(claimed_through);
            let late_before = match batch.complete_before {
                Some(_) => closed_through,
                None => {
                    let clocks = &mut self.clocks;
                    let sensor = reading.sensor;
                    closed_through.max(clocks.late_before(
                        sensor,
                        batch.partition,
                        partition,
                        &self.windowing,
                    ))
                }
            };
            if let Some(reason) = reject(&self.windowing, reading, late_before) {
                // What is only claimed is dispatched later: another pass or run may come before that.
                let is_open = reading.time >= dispatched_through;
                partition
                    .verdicts
                    .set_aside(&batch.readings, index, reason, self.kept, is_open);
                partition.counts.quarantined += 1;
                quarantined.push(record(reason));
                return;
            }
            partition.counts.windowed += 1;
        }
        self.kept += 1;
        if self.horizon.is_some_and(|horizon| interval_start >= horizon) {
            // Readings come in the order of their offsets.
            partition.left.get_or_insert(reading.offset);
            self.accounts.left += 1;
            return;
        }
        // The watermark never passes the arrival time, so a device whose clock is ahead makes no other device late. A
        // replay decides the same only if the source keeps arrival times.
        let seen = match batch.arrivals {
            Arrivals::OfSource => reading.time.min(reading.arrival),
            Arrivals::OfReader => reading.time,
        };
        partition
            .watermark
            .advance(seen, reading.arrival, &self.windowing);
        if batch.complete_before.is_none() {
            let (sensor, at) = (reading.sensor, batch.partition);
            if self.clocks.note(sensor, at, seen, partition, &self.windowing) {
                self.closing.note_ready(sensor);
            }
        }
        match self.counted_already {
            0 => self.tally.accepted += 1,
            _ => self.counted_already -= 1,
        }
        self.accounts.open += 1;
        let open = self.interval_at(interval_start);
        open.note_offset(batch.partition, reading.offset);
        let window_start = if window == interval {
            interval_start
        } else {
            reading.time.floor(window)
        };
        open.add(reading.sensor, window_start, reading.time, reading.value);
    }

    /// Returns the open interval that starts at `start`, and creates it if needed. Points `recent` to it.
    #[inline]
    fn interval_at(&mut self, start: EventTime) -> &mut OpenInterval {
        if self
            .open
            .get(self.recent)
            .is_none_or(|recent| recent.start != start)
        {
            self.recent = match self.open.binary_search_by_key(&start, |interval| interval.start) {
                Ok(at) => at,
                Err(at) => {
                    self.open.insert(at, OpenInterval::new(start));
                    at
                }
            };
        }
        &mut self.open[self.recent]
    }
}

/// Returns why a reading belongs in no window, or `None` if it belongs in one.
#[inline]
fn reject(windowing: &Windowing, reading: &Reading, late_before: EventTime) -> Option<QuarantineReason> {
    if let Some(reason) = unusable(reading.value) {
        Some(reason)
    } else if reading.time > reading.arrival.saturating_add(windowing.max_skew) {
        Some(QuarantineReason::FarFuture)
    } else if reading.time < late_before {
        Some(QuarantineReason::Late)
    } else {
        None
    }
}

/// Returns why a value cannot be aggregated, or `None` if it can.
#[inline]
pub(super) fn unusable(value: f64) -> Option<QuarantineReason> {
    if !value.is_finite() {
        Some(QuarantineReason::NonFinite)
    } else if value.abs() > MAX_ABS_VALUE {
        Some(QuarantineReason::OutOfRange)
    } else {
        None
    }
}
