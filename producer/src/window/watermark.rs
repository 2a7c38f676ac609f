//! Watermarks: the event time up to which a partition, and a group of them, is believed complete.
//!
//! A partition's watermark is the latest event time read from it minus the out-of-orderness. A group's watermark is the
//! minimum over its partitions, except those that have ended or are idle (T. Akidau et al., "The Dataflow Model", VLDB
//! 2015; Flink's bounded out-of-orderness with idleness).

use std::time::{Duration, Instant};

use windrow_common::EventTime;

use super::Windowing;

/// The watermark of one partition.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watermark {
    /// Latest event time seen, minus the out-of-orderness.
    reached: EventTime,
    /// Where the watermark would be if readings had continued; [`EventTime::MIN`] while they do.
    projected: EventTime,
    /// When the last accepted reading arrived.
    arrived: EventTime,
    last_active: Instant,
    ended: bool,
    /// Milliseconds of event time that it has advanced. A single step counts for little, so that one reading with a wrong
    /// time does not make every other sensor seem silent.
    progress: u64,
}

/// A single step of the watermark counts for at most one part in this many of the time after which a sensor counts as
/// silent.
const STEPS_PER_SILENCE: u32 = 4;

impl Watermark {
    /// Creates the watermark of an unread partition. `next_time` is the event time of its next reading, if known:
    /// earlier windows need not wait for it.
    pub(super) fn new(next_time: Option<EventTime>, out_of_orderness: Duration, now: Instant) -> Self {
        Self {
            reached: next_time.map_or(EventTime::MIN, |time| time.saturating_sub(out_of_orderness)),
            projected: EventTime::MIN,
            arrived: EventTime::MIN,
            last_active: now,
            ended: false,
            progress: 0,
        }
    }

    /// Returns the time through which the partition's intervals are closed by the readings that it has brought.
    #[inline]
    pub(super) fn closed(&self, windowing: &Windowing) -> EventTime {
        let complete = self.reached.saturating_sub(windowing.allowed_lateness);
        complete.floor(windowing.interval)
    }

    /// Returns whether nothing more will come.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Returns how far it has advanced, in milliseconds of event time.
    #[inline]
    pub(super) fn progress(&self) -> u64 {
        self.progress
    }

    /// Returns whether the partition brings nothing for now: it has ended, or is silent.
    pub(super) fn has_stopped(&self, now: Instant, idle_after: Duration) -> bool {
        self.ended || self.projected > EventTime::MIN || !self.holds_back(now, idle_after)
    }

    /// Advances the watermark to `seen`, the event time of an accepted reading, minus the out-of-orderness.
    #[inline]
    pub(super) fn advance(&mut self, seen: EventTime, arrival: EventTime, windowing: &Windowing) {
        self.arrived = self.arrived.max(arrival);
        let reached = seen.saturating_sub(windowing.out_of_orderness);
        if reached > self.reached {
            let step = (reached.as_millis() - self.reached.as_millis()).unsigned_abs();
            let most = windowing.idle_after / STEPS_PER_SILENCE;
            self.progress += step.min(most.as_millis() as u64);
            self.reached = reached;
        }
    }

    /// Notes that the partition has been read. One that has ended may go on, as when a file comes back that was gone.
    pub(super) fn note_read(&mut self, now: Instant) {
        self.ended = false;
        self.last_active = now;
        self.projected = EventTime::MIN;
    }

    /// Notes that the partition is silent only because its readings are waiting to be read.
    pub(super) fn note_waiting(&mut self, now: Instant) {
        self.last_active = now;
    }

    /// Notes that nothing more will come.
    pub(super) fn note_end(&mut self) {
        self.ended = true;
    }

    /// Notes that everything that arrived before `at` has been read. Once the partition has been silent for longer than
    /// `idle_after`, event time continues in it at the pace of the wall clock, up to `enough`.
    pub(super) fn project(&mut self, at: EventTime, idle_after: Duration, enough: EventTime) {
        let silent_since = self.arrived.saturating_add(idle_after);
        if let Ok(beyond) = u64::try_from(at.as_millis().saturating_sub(silent_since.as_millis())) {
            let projected = self.reached.saturating_add(Duration::from_millis(beyond));
            self.projected = projected.min(enough);
        }
    }

    fn passed(&self) -> EventTime {
        self.reached.max(self.projected)
    }

    fn holds_back(&self, now: Instant, idle_after: Duration) -> bool {
        let silence = now.saturating_duration_since(self.last_active);
        !self.ended && (silence < idle_after || self.projected > EventTime::MIN)
    }
}

/// Returns the watermark of a group: the minimum over its partitions, except those that have ended or are idle. `None`
/// if no other partition is left. Once all have ended, it is the minimum over all of them.
pub(super) fn of_group<'a>(
    partitions: impl Iterator<Item = &'a Watermark> + Clone,
    now: Instant,
    idle_after: Duration,
) -> Option<EventTime> {
    if partitions.clone().all(|partition| partition.ended) {
        return partitions.map(Watermark::passed).min();
    }
    partitions
        .filter(|partition| partition.holds_back(now, idle_after))
        .map(Watermark::passed)
        .min()
}
