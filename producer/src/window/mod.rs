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
//! intervals close, too ([`Windower::idle`]): the last windows of a machine that died are worth scoring.
//!
//! What a checkpoint must say. A [`Position`] holds the event time dispatched through, and for each partition two
//! offsets. From `resume` on, readings are needed by an undispatched interval. Below `judged`, everything has been
//! either put in an interval or quarantined. A replay from `resume` skips readings before the dispatched time that lie
//! below `judged` (they are in what was dispatched, or in quarantine) and calls those above it late.

mod accumulator;
mod config;
mod exact_sum;
mod open_interval;
mod watermark;

use std::collections::VecDeque;
use std::time::Instant;

use windrow_common::{EventTime, ScoringMessage};

pub use config::{WindowConfig, WindowConfigError, Windowing};

use crate::quarantine::{QuarantineReason, Quarantined};
use crate::sensors::SensorTable;
use crate::source::{Arrivals, Batch, Offset, PartitionIndex, Reading, Source};
pub(crate) use accumulator::MAX_ABS_VALUE;
use open_interval::OpenInterval;
use watermark::Watermark;

/// Where a group of partitions stands, as a checkpoint keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// Every interval that ends here or earlier is dispatched.
    pub dispatched_through: EventTime,
    /// Along the partitions.
    pub partitions: Vec<PartitionPosition>,
}

impl Position {
    /// The start of `partitions` partitions of which nothing has been read.
    pub fn start(partitions: usize) -> Self {
        Self {
            dispatched_through: EventTime::MIN,
            partitions: vec![PartitionPosition::default(); partitions],
        }
    }
}

/// Where one partition stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartitionPosition {
    /// Where a new run starts to read: the lowest offset an undispatched interval needs.
    pub resume: Offset,
    /// Everything below was put in an interval or in quarantine.
    pub judged: Offset,
}

/// Counts of what became of the readings so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Put in a window.
    pub accepted: u64,
    /// Skipped, because an earlier run had dealt with them.
    pub replayed: u64,
}

/// What a [`Windower`] gives out.
#[derive(Debug, Default)]
pub struct Emitted {
    /// Of intervals that have closed, by interval.
    pub messages: Vec<ScoringMessage>,
    /// What cannot be used, with the reasons.
    pub quarantined: Vec<Quarantined>,
}

/// Cuts the readings of a group of partitions into windows. The partitions share one watermark.
#[derive(Debug)]
pub struct Windower {
    windowing: Windowing,
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
    watermark: Watermark,
    /// Where the next batch starts.
    next: Offset,
    /// From the checkpoint: an earlier run dealt with everything below.
    judged_before: Offset,
    /// This run has dealt with everything below.
    judged: Offset,
}

impl Windower {
    /// A windower without open windows, where `position` says an earlier run left off.
    pub fn new(windowing: Windowing, position: &Position, now: Instant) -> Self {
        Self::with_next_times(windowing, position, |_| None, now)
    }

    /// A windower for the partitions of `source`, which has been moved to `position`.
    pub fn of_source(windowing: Windowing, position: &Position, source: &dyn Source, now: Instant) -> Self {
        Self::with_next_times(windowing, position, |partition| source.next_time(partition), now)
    }

    fn with_next_times(
        windowing: Windowing,
        position: &Position,
        next_time: impl Fn(PartitionIndex) -> Option<EventTime>,
        now: Instant,
    ) -> Self {
        let mut windower = Self {
            windowing,
            open: VecDeque::new(),
            recent: 0,
            partitions: Vec::new(),
            dispatched_through: position.dispatched_through,
            tally: Tally::default(),
        };
        for (index, partition) in position.partitions.iter().enumerate() {
            windower.add_partition(*partition, next_time(index), now);
        }
        windower
    }

    /// Adds a partition after the known ones. `next_time` is the event time of its next reading, where that is known.
    pub fn add_partition(&mut self, position: PartitionPosition, next_time: Option<EventTime>, now: Instant) {
        self.partitions.push(Partition {
            watermark: Watermark::new(next_time, self.windowing.out_of_orderness, now),
            next: position.resume,
            judged_before: position.judged,
            judged: position.judged,
        });
    }

    /// Counts of what became of the readings so far.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// How many windows are open.
    pub fn open_windows(&self) -> usize {
        self.open.iter().map(OpenInterval::len).sum()
    }

    /// Takes a batch, which it leaves without its unreadable rows, and closes the intervals that the watermark has passed.
    pub fn take(&mut self, batch: &mut Batch, sensors: &SensorTable, now: Instant, out: &mut Emitted) {
        self.quarantine_unreadable(batch, &mut out.quarantined);
        for reading in &batch.readings {
            self.observe(
                batch.partition,
                batch.arrivals,
                reading,
                sensors,
                &mut out.quarantined,
            );
        }
        let partition = &mut self.partitions[batch.partition];
        partition.next = partition.next.max(batch.next);
        partition.judged = partition.judged.max(batch.next);
        if !batch.readings.is_empty() {
            partition.watermark.note_read(now);
        }
        if batch.ended {
            partition.watermark.note_end();
        }
        for (partition, _) in self
            .partitions
            .iter_mut()
            .zip(&batch.waiting)
            .filter(|(_, waits)| **waits)
        {
            partition.watermark.note_waiting(now);
        }
        self.close_complete(sensors, now, out);
    }

    /// Lets time pass while there is nothing to read. `complete_until` says that everything that arrived in the group
    /// before that time (of the wall clock) has been taken. Where that makes a partition silent for longer than a partition
    /// may be, event time continues in it without readings, far enough to close what is open.
    pub fn idle(
        &mut self,
        complete_until: Option<EventTime>,
        sensors: &SensorTable,
        now: Instant,
        out: &mut Emitted,
    ) {
        if let (Some(at), Some(last)) = (complete_until, self.open.back()) {
            let enough = self
                .end_of(last.start)
                .saturating_add(self.windowing.allowed_lateness);
            for partition in &mut self.partitions {
                partition.watermark.project(at, self.windowing.idle_after, enough);
            }
        }
        self.close_complete(sensors, now, out);
    }

    /// Closes every open interval, at the end of a source whose end is final.
    pub fn close_all(&mut self, sensors: &SensorTable, out: &mut Emitted) {
        if let Some(last) = self.open.back() {
            self.close_through(self.end_of(last.start), sensors, out);
        }
    }

    /// Where the group stands once everything emitted so far is safe.
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

    fn quarantine_unreadable(&mut self, batch: &mut Batch, quarantined: &mut Vec<Quarantined>) {
        let judged_before = self.partitions[batch.partition].judged_before;
        for unreadable in batch.unreadable.drain(..) {
            if unreadable.offset < judged_before {
                self.tally.replayed += 1;
            } else {
                quarantined.push(Quarantined::unreadable(batch.partition, unreadable));
            }
        }
    }

    /// Puts a reading into its window, or into `quarantined`.
    #[inline]
    fn observe(
        &mut self,
        at: PartitionIndex,
        arrivals: Arrivals,
        reading: &Reading,
        sensors: &SensorTable,
        quarantined: &mut Vec<Quarantined>,
    ) {
        let Windowing {
            window,
            interval,
            out_of_orderness,
            ..
        } = self.windowing;
        let interval_start = reading.time.floor(interval);
        let partition = &mut self.partitions[at];
        if let Some(reason) = reject(
            &self.windowing,
            reading,
            interval_start,
            partition.watermark.reached(),
            self.dispatched_through,
        ) {
            if reading.offset < partition.judged_before {
                self.tally.replayed += 1;
            } else {
                quarantined.push(Quarantined::reading(at, reason, reading, sensors));
            }
            return;
        }
        // Nothing is believed complete before it has arrived: a device whose clock is ahead then makes no other late. That
        // holds in a replay only where the arrival is the same.
        let seen = match arrivals {
            Arrivals::OfSource => reading.time.min(reading.arrival),
            Arrivals::OfReader => reading.time,
        };
        partition
            .watermark
            .advance(seen, reading.arrival, out_of_orderness);
        self.tally.accepted += 1;
        let open = self.interval_at(interval_start);
        open.note_offset(at, reading.offset);
        let window_start = if window == interval {
            interval_start
        } else {
            reading.time.floor(window)
        };
        open.add(reading.sensor, window_start, reading.time, reading.value);
    }

    /// The open interval that starts at `start`, created when it does not exist; `recent` points to it afterwards.
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

    fn end_of(&self, interval_start: EventTime) -> EventTime {
        EventTime::from_millis(interval_start.as_millis() + self.windowing.interval.as_millis())
    }

    fn close_complete(&mut self, sensors: &SensorTable, now: Instant, out: &mut Emitted) {
        let watermarks = self.partitions.iter().map(|partition| &partition.watermark);
        if let Some(watermark) = watermark::of_group(watermarks, now, self.windowing.idle_after) {
            let complete = watermark.saturating_sub(self.windowing.allowed_lateness);
            self.close_through(complete.floor(self.windowing.interval), sensors, out);
        }
    }

    fn close_through(&mut self, end: EventTime, sensors: &SensorTable, out: &mut Emitted) {
        self.dispatched_through = self.dispatched_through.max(end);
        while self.open.front().is_some_and(|interval| interval.start < end)
            && let Some(interval) = self.open.pop_front()
        {
            interval.into_messages(&self.windowing, sensors, &mut out.messages);
            self.recent = 0;
        }
    }
}

/// Why a reading belongs in no window; `None` when it does. `reached` is its partition's watermark.
#[inline]
fn reject(
    windowing: &Windowing,
    reading: &Reading,
    interval_start: EventTime,
    reached: EventTime,
    dispatched_through: EventTime,
) -> Option<QuarantineReason> {
    if !reading.value.is_finite() {
        Some(QuarantineReason::NonFinite)
    } else if reading.value.abs() > MAX_ABS_VALUE {
        Some(QuarantineReason::OutOfRange)
    } else if reading.time > reading.arrival.saturating_add(windowing.max_skew) {
        Some(QuarantineReason::FarFuture)
    } else if reading.time < dispatched_through
        || interval_start.as_millis() + windowing.interval.as_millis()
            <= reached.saturating_sub(windowing.allowed_lateness).as_millis()
    {
        Some(QuarantineReason::Late)
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
