//! Readings to windows, windows to scoring messages: pure, fed with batches and the time.
//!
//! Why a replay rebuilds the same messages. Whether a reading is late depends only on the readings before it *in its
//! own partition*: it is late when that partition's watermark has passed its interval's end and the allowed lateness.
//! An interval is dispatched when the watermarks of *all* partitions have passed that point, so by then every
//! partition would call a further reading of it late. Which readings an interval holds is thus settled by the
//! partitions' contents, not by how their reading interleaved; and an `Accumulator` does not depend on order. The one
//! exception is a partition that fell silent (in wall-clock time) and comes back: what it then brings for a dispatched
//! interval is late.
//!
//! What silence means. A partition without readings for a while no longer holds the others back: it is idle. Where the
//! source knows that nothing has arrived in it since, time is taken to go on in it as it does on the wall, and its last
//! intervals close, too ([`Windower::complete_until`]): the last windows of a machine that died are worth scoring.
//!
//! What a checkpoint must say. A [`Position`] holds the event time dispatched through, and for each partition two
//! offsets. From `resume` on, readings are needed by an undispatched interval. Below `judged`, everything has been
//! either put in an interval or quarantined. A replay from `resume` skips readings before the dispatched time that lie
//! below `judged` (they are in what was dispatched, or in quarantine) and calls those above it late.

mod accumulator;
mod config;
mod exact_sum;
mod open_interval;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use windrow_common::{EventTime, ScoringMessage};

pub use config::{WindowConfig, WindowConfigError, Windowing};

use crate::quarantine::{QuarantineReason, Quarantined};
use crate::sensors::SensorTable;
use crate::source::{Batch, Offset, PartitionIndex, Reading};
pub(crate) use accumulator::MAX_ABS_VALUE;
use open_interval::OpenInterval;

/// Where a group of partitions stands, as a checkpoint keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// Every interval that ends here or earlier is dispatched.
    pub dispatched_through: EventTime,
    /// Along the partitions.
    pub partitions: Vec<PartitionPosition>,
}

/// Where one partition stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartitionPosition {
    /// Where a new run starts to read: the lowest offset an undispatched interval needs.
    pub resume: Offset,
    /// Everything below was put in an interval or in quarantine.
    pub judged: Offset,
}

/// What became of the readings so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Put in a window.
    pub accepted: u64,
    /// Skipped, because an earlier run had dealt with them.
    pub replayed: u64,
}

/// Cuts the readings of a group of partitions into windows. The partitions share one watermark.
#[derive(Debug)]
pub struct Windower {
    windowing: Windowing,
    /// Whether no watermark goes beyond when its reading arrived.
    arrivals_are_kept: bool,
    /// By start.
    open: VecDeque<OpenInterval>,
    /// Index into `open` of the interval that took the last reading.
    recent: usize,
    partitions: Vec<Partition>,
    dispatched_through: EventTime,
    tally: Tally,
}

#[derive(Clone, Copy, Debug)]
struct Partition {
    /// Latest event time seen less the out-of-orderness.
    watermark: EventTime,
    /// Where the watermark would be by now, had readings gone on; the beginning of time while they do.
    projected: EventTime,
    /// When its last accepted reading arrived.
    arrived: EventTime,
    /// Where the next batch starts.
    next: Offset,
    /// From the checkpoint: an earlier run dealt with everything below.
    judged_before: Offset,
    /// This run has dealt with everything below.
    judged: Offset,
    ended: bool,
    last_active: Instant,
}

impl Windower {
    /// A windower without open windows, where `position` says an earlier run left off.
    pub fn new(windowing: Windowing, position: &Position, now: Instant) -> Self {
        let mut windower = Self {
            windowing,
            arrivals_are_kept: false,
            open: VecDeque::new(),
            recent: 0,
            partitions: Vec::new(),
            dispatched_through: position.dispatched_through,
            tally: Tally::default(),
        };
        for partition in &position.partitions {
            windower.add_partition(*partition, now);
        }
        windower
    }

    /// Says that readings come with the time of their arrival as the source keeps it, the same in every replay: then a
    /// device whose clock is ahead does not make the others late, since nothing is believed complete before it arrived.
    pub fn trust_arrivals(&mut self) {
        self.arrivals_are_kept = true;
    }

    /// Takes in one more partition, after the ones known.
    pub fn add_partition(&mut self, position: PartitionPosition, now: Instant) {
        self.partitions.push(Partition {
            watermark: EventTime::MIN,
            projected: EventTime::MIN,
            arrived: EventTime::MIN,
            next: position.resume,
            judged_before: position.judged,
            judged: position.judged,
            ended: false,
            last_active: now,
        });
    }

    /// How many partitions there are.
    pub fn partitions(&self) -> usize {
        self.partitions.len()
    }

    /// What became of the readings so far.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// How many windows are open.
    pub fn open_windows(&self) -> usize {
        self.open.iter().map(OpenInterval::len).sum()
    }

    /// Says that a partition's next reading is of `time`, known from looking ahead: windows that a partition not yet
    /// begun cannot touch need not wait for it.
    pub fn look_ahead(&mut self, partition: PartitionIndex, time: EventTime) {
        let watermark = time.saturating_sub(self.windowing.out_of_orderness);
        let partition = &mut self.partitions[partition];
        partition.watermark = partition.watermark.max(watermark);
    }

    /// Says that a partition is silent only because its readings wait for their turn.
    pub fn keep_active(&mut self, partition: PartitionIndex, now: Instant) {
        self.partitions[partition].last_active = now;
    }

    /// Says that all which arrived in a partition before `at` (on the wall's clock) has been taken in. When that makes it
    /// silent for longer than a partition may be, time goes on in it without readings, as far as closes what is open.
    pub fn complete_until(&mut self, partition: PartitionIndex, at: EventTime) {
        let Some(last) = self.open.back() else { return };
        let enough = EventTime::from_millis(last.start.as_millis() + self.windowing.interval_ms)
            .saturating_add(self.windowing.allowed_lateness);
        let partition = &mut self.partitions[partition];
        let silent_since = partition.arrived.saturating_add(self.windowing.idle_after);
        if let Ok(beyond) = u64::try_from(at.as_millis().saturating_sub(silent_since.as_millis())) {
            let projected = partition.watermark.saturating_add(Duration::from_millis(beyond));
            partition.projected = projected.min(enough);
        }
    }

    /// Takes in what is no reading of a batch, before any of its readings is observed.
    pub fn quarantine_unreadable(&mut self, batch: &mut Batch, quarantined: &mut Vec<Quarantined>) {
        let judged_before = self.partitions[batch.partition].judged_before;
        for unreadable in batch.unreadable.drain(..) {
            if unreadable.offset < judged_before {
                self.tally.replayed += 1;
            } else {
                quarantined.push(Quarantined::unreadable(batch.partition, unreadable));
            }
        }
    }

    /// Takes in readings of one partition, in order; what is no use goes to `quarantined`.
    pub fn observe(
        &mut self,
        partition: PartitionIndex,
        readings: &[Reading],
        now: Instant,
        quarantined: &mut Vec<Quarantined>,
        sensors: &SensorTable,
    ) {
        let Some(last) = readings.last() else { return };
        for reading in readings {
            self.observe_one(partition, reading, quarantined, sensors);
        }
        let partition = &mut self.partitions[partition];
        partition.last_active = now;
        partition.projected = EventTime::MIN;
        partition.judged = partition.judged.max(Offset(last.offset.0 + 1));
    }

    /// Notes the end of a batch whose contents were all taken in.
    pub fn finish_batch(&mut self, batch: &Batch) {
        let partition = &mut self.partitions[batch.partition];
        partition.next = partition.next.max(batch.next);
        partition.judged = partition.judged.max(batch.next);
        partition.ended |= batch.ended;
    }

    #[inline]
    fn observe_one(
        &mut self,
        at: PartitionIndex,
        reading: &Reading,
        quarantined: &mut Vec<Quarantined>,
        sensors: &SensorTable,
    ) {
        let partition = &mut self.partitions[at];
        let interval_start = reading.time.floor(self.windowing.interval_ms);
        let reason = if !reading.value.is_finite() {
            Some(QuarantineReason::NonFinite)
        } else if reading.value.abs() > MAX_ABS_VALUE {
            Some(QuarantineReason::OutOfRange)
        } else if reading.time > reading.arrival.saturating_add(self.windowing.max_skew) {
            Some(QuarantineReason::FarFuture)
        } else if reading.time < self.dispatched_through
            || interval_start.as_millis() + self.windowing.interval_ms
                <= partition
                    .watermark
                    .saturating_sub(self.windowing.allowed_lateness)
                    .as_millis()
        {
            Some(QuarantineReason::Late)
        } else {
            None
        };
        if let Some(reason) = reason {
            if reading.offset < partition.judged_before {
                self.tally.replayed += 1;
            } else {
                quarantined.push(Quarantined::reading(at, reason, reading, sensors));
            }
            return;
        }
        let seen = if self.arrivals_are_kept {
            reading.time.min(reading.arrival)
        } else {
            reading.time
        };
        let watermark = seen.saturating_sub(self.windowing.out_of_orderness);
        partition.watermark = partition.watermark.max(watermark);
        partition.arrived = partition.arrived.max(reading.arrival);
        self.tally.accepted += 1;
        let interval = self.interval_at(interval_start);
        interval.note_offset(at, reading.offset);
        let window_start = if self.windowing.window_ms == self.windowing.interval_ms {
            interval_start
        } else {
            reading.time.floor(self.windowing.window_ms)
        };
        self.open[self.recent].add(reading.sensor, window_start, reading.time, reading.value);
    }

    /// The open interval that starts at `start`, made when it is not there; `recent` points to it afterwards.
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

    /// The event time up to which the group is believed complete: the minimum over its partitions, without those that
    /// have ended or are idle. `None` while no partition says anything. Once all have ended, what they all had passed
    /// stays complete.
    fn watermark(&self, now: Instant) -> Option<EventTime> {
        let passed = |p: &Partition| p.watermark.max(p.projected);
        if self.partitions.iter().all(|partition| partition.ended) {
            return self.partitions.iter().map(passed).min();
        }
        let waited_for = |p: &&Partition| {
            let silence = now.saturating_duration_since(p.last_active);
            !p.ended && (silence < self.windowing.idle_after || p.projected > EventTime::MIN)
        };
        self.partitions.iter().filter(waited_for).map(passed).min()
    }

    /// Closes the intervals the watermark has passed and appends their messages to `into`; whether there were any.
    pub fn close_ready(
        &mut self,
        now: Instant,
        sensors: &SensorTable,
        into: &mut Vec<ScoringMessage>,
    ) -> bool {
        let Some(watermark) = self.watermark(now) else {
            return false;
        };
        let complete = watermark.saturating_sub(self.windowing.allowed_lateness);
        self.close_through(complete.floor(self.windowing.interval_ms), sensors, into)
    }

    /// Closes every open interval, at the end of a source whose end is final.
    pub fn close_all(&mut self, sensors: &SensorTable, into: &mut Vec<ScoringMessage>) -> bool {
        let Some(last) = self.open.back() else {
            return false;
        };
        let end = EventTime::from_millis(last.start.as_millis() + self.windowing.interval_ms);
        self.close_through(end, sensors, into)
    }

    fn close_through(
        &mut self,
        end: EventTime,
        sensors: &SensorTable,
        into: &mut Vec<ScoringMessage>,
    ) -> bool {
        self.dispatched_through = self.dispatched_through.max(end);
        let mut closed = false;
        while self.open.front().is_some_and(|interval| interval.start < end)
            && let Some(interval) = self.open.pop_front()
        {
            interval.into_messages(
                self.windowing.window_ms,
                self.windowing.interval_ms,
                sensors,
                into,
            );
            closed = true;
        }
        if closed {
            self.recent = 0;
        }
        closed
    }

    /// Where the group stands once all messages and quarantined readings given out so far are safe.
    pub fn position(&self) -> Position {
        let partitions = self
            .partitions
            .iter()
            .enumerate()
            .map(|(index, partition)| PartitionPosition {
                resume: self
                    .open
                    .iter()
                    .filter_map(|open| open.lowest(index))
                    .min()
                    .unwrap_or(partition.next),
                judged: partition.judged,
            });
        Position {
            dispatched_through: self.dispatched_through,
            partitions: partitions.collect(),
        }
    }
}

#[cfg(test)]
mod tests;
