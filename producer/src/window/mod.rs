//! Turns readings into windows, and windows into scoring messages. Pure code, fed with batches and the time.
//!
//! A reading is *late* if the interval that it belongs to has been dispatched for its sensor ([`DispatchedThrough`]), or has
//! been closed by its sensor's own readings or silence. An interval is dispatched, sensor by sensor, when no partition
//! can bring more for it:
//!
//! - A source that ends and has looked at all of its contents says so ([`Batch::complete_before`]). Nothing is late
//!   then, in whatever order the readings come. If too many windows are open at once, the latest ones are left to
//!   another pass over the source ([`Windower::next_pass`]).
//! - Of any other source, the watermarks of all partitions have to pass the end of the interval plus the allowed
//!   lateness, and so must the sensor's own readings in each partition that it has been in (`clock`). If the sensor is
//!   silent, it is enough that its partition has gone on for a while without it. A further reading of the interval is
//!   then late in every one of these partitions. So the partitions' contents decide which readings an interval holds,
//!   not the order in which the partitions are read; and an `Accumulator` does not depend on order. The only exception
//!   is a partition that falls silent (in wall-clock time) and comes back.
//!
//! What silence means: a partition that has had no readings for a while is idle and no longer holds the others back. If
//! the source knows that nothing has arrived in it since, its event time advances with the wall clock and its last
//! intervals close too ([`Windower::idle`]). The last windows of a machine that died are worth scoring.
//!
//! What a checkpoint must hold: a [`Position`] has, for each sensor, the event time dispatched through, and for each
//! partition two offsets, the readings that were set aside although their intervals are still open, and how many
//! readings went where ([`Judged`], [`Ledger`]). From `resume` on, an undispatched interval needs readings. Every reading
//! below `judged` has been put in an interval or in quarantine. The watermark need not be saved: the reading that moved it is read again, or its interval is dispatched.
//!
//! A replay from `resume` judges nothing below `judged` again: neither its clock nor its options matter there. What lies
//! before its sensor's dispatched time, or was set aside, is skipped, and the rest is accepted. By watermark, no
//! interval closes before every partition has been read up to `judged`.
//!
//! ```
//! use std::time::Instant;
//!
//! use windrow_common::EventTime;
//! use windrow_producer::sensors::SensorTable;
//! use windrow_producer::source::{Batch, Offset, Reading};
//! use windrow_producer::window::{Emitted, Position, WindowConfig, Windower};
//!
//! let mut sensors = SensorTable::new();
//! let sensor = sensors.intern("pump-7", "temp")?;
//! let reading = |second: i64, value| Reading {
//!     sensor,
//!     time: EventTime::from_millis(second * 1_000),
//!     arrival: EventTime::now(),
//!     value,
//!     offset: Offset(second as u64),
//! };
//! let now = Instant::now();
//! let mut windower = Windower::new(WindowConfig::default().validate()?, &Position::start(1), now);
//! let mut batch = Batch {
//!     readings: vec![reading(1, 71.0), reading(59, 73.0), reading(66, 72.0)],
//!     next: Offset(67),
//!     ..Batch::default()
//! };
//! let mut out = Emitted::default();
//! windower.take(&mut batch, &sensors, now, &mut out);
//! // The watermark is at 61 s: the first minute is complete, the second is open.
//! assert_eq!(out.messages[0].aggregates[0].mean, 72.0);
//! assert_eq!(windower.open_windows(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod accumulator;
mod clock;
mod config;
mod dispatched;
mod exact_sum;
mod judge;
mod ledger;
mod live;
mod open_interval;
mod partition;
mod passes;
mod position;
mod verdicts;
mod watermark;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use windrow_common::{EventTime, ScoringMessage};

pub use config::{WindowConfig, WindowConfigError, Windowing};
pub use dispatched::DispatchedThrough;
pub use ledger::{Judged, Ledger};
pub use position::{PartitionPosition, Position};

use crate::quarantine::Quarantined;
use crate::sensors::SensorTable;
use crate::source::{Batch, Offset, PartitionIndex, Source};
pub(crate) use accumulator::MAX_ABS_VALUE;
use clock::Clocks;
use ledger::Accounts;
use live::Closing;
use open_interval::OpenInterval;
use partition::Partition;
pub use verdicts::{Claim, SetAside};
use watermark::Watermark;

/// Counts of the readings so far, by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Put in a window.
    pub accepted: u64,
    /// Skipped because an earlier run had processed them.
    pub replayed: u64,
    /// How often the source was read again from some point, because not all of its windows could be open at once.
    pub passes: u64,
}

/// The output of a [`Windower`].
#[derive(Debug, Default)]
pub struct Emitted {
    /// Messages of closed intervals; those of one sensor are in time order.
    pub messages: Vec<ScoringMessage>,
    /// Readings that cannot be used, with the reasons.
    pub quarantined: Vec<Quarantined>,
    /// How many bytes of unreadable items these hold.
    pub raw_bytes: usize,
}

/// A windower that cuts the readings of a group of partitions into windows. The partitions share one watermark.
#[derive(Debug)]
pub struct Windower {
    windowing: Windowing,
    /// Open intervals, sorted by start.
    open: VecDeque<OpenInterval>,
    /// Index into `open` of the interval that took the last reading.
    recent: usize,
    partitions: Vec<Partition>,
    dispatched_through: EventTime,
    dispatched: Arc<DispatchedThrough>,
    /// How far an earlier run may have dispatched; `None` once this run has repeated it.
    claimed: Option<Arc<DispatchedThrough>>,
    clocks: Clocks,
    closing: Closing,
    /// The start of the first interval that is left to another pass, because too many windows were open.
    horizon: Option<EventTime>,
    /// Readings that were counted as accepted and then left to another pass, which accepts them once more.
    counted_already: u64,
    /// How many readings were put in a window or left to another pass.
    kept: u64,
    accounts: Accounts,
    tally: Tally,
}

impl Windower {
    /// Creates a windower without open windows, at the position where an earlier run stopped.
    pub fn new(windowing: Windowing, position: &Position, now: Instant) -> Self {
        Self::with_next_times(windowing, position, |_| None, now)
    }

    /// Creates a windower for the partitions of `source`, which has been moved to `position`.
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
            dispatched: Arc::clone(&position.dispatched),
            claimed: position.claimed.clone(),
            clocks: Clocks::default(),
            closing: Closing::default(),
            horizon: None,
            counted_already: 0,
            kept: 0,
            accounts: Accounts::continued(&position.ledger),
            tally: Tally::default(),
        };
        for (index, partition) in position.partitions.iter().enumerate() {
            windower.add_partition(partition.clone(), next_time(index), now);
        }
        windower
    }

    /// Adds a partition after the known ones. `next_time` is the event time of its next reading, if known.
    pub fn add_partition(&mut self, position: PartitionPosition, next_time: Option<EventTime>, now: Instant) {
        let watermark = Watermark::new(next_time, self.windowing.out_of_orderness, now);
        self.partitions.push(Partition::new(position, watermark));
    }

    /// Returns the counts of the readings so far, by outcome.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Returns the number of open windows.
    pub fn open_windows(&self) -> usize {
        self.open.iter().map(OpenInterval::len).sum()
    }

    /// Takes a batch and closes the intervals that the watermark has passed. Drains the batch's unreadable rows.
    pub fn take(&mut self, batch: &mut Batch, sensors: &SensorTable, now: Instant, out: &mut Emitted) {
        self.quarantine_unreadable(batch, out);
        let kept_before = self.kept;
        for (index, reading) in batch.readings.iter().enumerate() {
            self.observe(batch, index, reading, sensors, &mut out.quarantined);
        }
        let partition = &mut self.partitions[batch.partition];
        partition.next = partition.next.max(batch.next);
        partition.judged = partition.judged.max(batch.next);
        partition.is_usable |= self.kept > kept_before;
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
        self.close_claimed(sensors, out);
        match batch.complete_before {
            Some(time) => {
                self.close_through(time.floor(self.windowing.interval), sensors, out);
                self.leave_to_another_pass();
            }
            None => self.close_complete(sensors, now, out),
        }
    }

    /// Lets time pass while nothing can be read. `complete_until` is a time of the source's clock: everything that
    /// arrived in the group before it has been taken. If a partition has been silent for too long by then, its event time advances
    /// without readings, as far as needed to close the open intervals.
    pub fn idle(
        &mut self,
        complete_until: Option<EventTime>,
        sensors: &SensorTable,
        now: Instant,
        out: &mut Emitted,
    ) {
        self.close_claimed(sensors, out);
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

    /// Closes every open interval, at the final end of a source.
    pub fn close_all(&mut self, sensors: &SensorTable, out: &mut Emitted) {
        if let Some(last) = self.open.back() {
            self.close_through(self.end_of(last.start), sensors, out);
        }
    }

    /// Closes the open intervals whose ends the readings have reached, at the end of a source that may grow. The last
    /// interval is only begun if there would have been further readings in it.
    pub fn close_reached(&mut self, sensors: &SensorTable, out: &mut Emitted) {
        self.close_claimed(sensors, out);
        let Some(last) = self.open.back().map(|last| last.start) else {
            return;
        };
        // First the others: their last readings tell the steps of sensors with a single reading in the last interval.
        self.close_through(last, sensors, out);
        if let Some(last) = self.open.back() {
            let reached = last.reached(&self.dispatched).max(last.start);
            self.close_through(reached.floor(self.windowing.interval), sensors, out);
        }
    }

    /// Returns what was set aside in each partition since the last call, to be claimed before it is quarantined.
    pub fn take_news(&mut self) -> Vec<Claim> {
        let partitions = self.partitions.iter_mut();
        let news = partitions.map(|partition| match partition.is_usable {
            true => partition.verdicts.take_news(),
            // Its position does not move yet.
            false => Claim::default(),
        });
        news.collect()
    }

    /// Returns the position to save once everything emitted so far is durable.
    pub fn position(&self) -> Position {
        let partitions = self.partitions.iter().enumerate();
        self.position_of(partitions.map(|(index, partition)| match partition.is_usable {
            true => self.position_in(index),
            // As long as nothing of it could be used, the options are probably wrong, and a run with the right ones
            // reads it again.
            false => PartitionPosition::start(partition.start),
        }))
    }

    fn position_of(&self, partitions: impl Iterator<Item = PartitionPosition>) -> Position {
        Position {
            dispatched_through: self.dispatched_through,
            dispatched: Arc::clone(&self.dispatched),
            claimed: self.claimed.clone(),
            ledger: self.accounts.ledger(&self.partitions),
            partitions: partitions.collect(),
        }
    }

    fn position_in(&self, partition: PartitionIndex) -> PartitionPosition {
        let resume = self.resume(partition);
        let Partition {
            judged,
            next,
            verdicts,
            counts,
            ..
        } = &self.partitions[partition];
        let (judged, next) = (*judged, *next);
        PartitionPosition {
            resume,
            judged,
            set_aside: verdicts.from(resume),
            content: None,
            claim: verdicts.claim_beyond(next),
            counts: *counts,
        }
    }

    /// Returns the lowest offset of a partition that an open interval needs.
    fn resume(&self, partition: PartitionIndex) -> Offset {
        let open = self.open.iter().filter_map(|open| open.lowest(partition));
        let Partition { left, next, .. } = self.partitions[partition];
        open.chain(left).min().unwrap_or(next)
    }

    fn end_of(&self, interval_start: EventTime) -> EventTime {
        EventTime::from_millis(interval_start.as_millis() + self.windowing.interval.as_millis())
    }

    fn close_through(&mut self, end: EventTime, sensors: &SensorTable, out: &mut Emitted) {
        self.dispatched_through = self.dispatched_through.max(end);
        let before = out.messages.len();
        while self.open.front().is_some_and(|interval| interval.start < end)
            && let Some(interval) = self.open.pop_front()
        {
            let dispatched = Arc::make_mut(&mut self.dispatched);
            interval.into_messages(&self.windowing, sensors, dispatched, &mut out.messages);
            self.recent = 0;
        }
        self.accounts.dispatch(&out.messages[before..]);
        self.forget_verdicts();
    }

    /// Forgets verdicts on readings that no run reads again.
    fn forget_verdicts(&mut self) {
        for index in 0..self.partitions.len() {
            if !self.partitions[index].verdicts.is_empty() {
                let resume = self.resume(index);
                self.partitions[index].verdicts.forget_before(resume);
            }
        }
    }
}

#[cfg(test)]
mod tests;
