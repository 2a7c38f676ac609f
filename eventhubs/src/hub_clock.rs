//! Estimates the hub's clock from the times of its events.
//!
//! The hub's clock stamps the arrival of every event, so it decides how long a partition has been silent. The clock of
//! this machine may differ by hours, and the hub does not tell its time. But an event enqueued at noon shows that the
//! hub's clock had reached noon when the event was seen; from then on, time passes here as it does there. So the
//! estimate is never ahead of the hub's clock, and behind it by no more than the shortest delay of an event.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use windrow_common::EventTime;

/// How much slower the hub's clock may run than ours: one part in this many. Quartz is off by 100 in a million; an event
/// that is seen later sets it right.
const SLOWER_BY_ONE_IN: i64 = 4_096;

/// The clock of one hub, shared by the partitions that are read.
#[derive(Debug, Default)]
pub(crate) struct HubClock(Mutex<Seen>);

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// The best lower bound: the hub's clock showed at least this time at that instant.
    mark: Option<(EventTime, Instant)>,
    /// The latest enqueued time of any event.
    newest: Option<EventTime>,
    /// The latest enqueued time when the session began.
    newest_at_opening: Option<EventTime>,
}

impl HubClock {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        // Nothing panics while it is locked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that this machine saw an event at `at` that the hub had enqueued at `enqueued`.
    pub(crate) fn note(&self, enqueued: EventTime, at: Instant) {
        let mut seen = self.seen();
        seen.newest = seen.newest.max(Some(enqueued));
        if seen.time_at(at).is_none_or(|time| enqueued > time) {
            seen.mark = Some((enqueued, at));
        }
    }

    /// Notes that the newest event of every partition is known, at the start of a session.
    pub(crate) fn note_opening(&self) {
        let mut seen = self.seen();
        seen.newest_at_opening = seen.newest;
    }

    /// Returns the time that the hub's clock has reached at `at`; `None` if no event was ever seen.
    pub(crate) fn time_at(&self, at: Instant) -> Option<EventTime> {
        self.seen().time_at(at)
    }

    /// Returns the time that the hub's clock showed at `at`, when the clock of this machine showed `here`.
    ///
    /// While the whole hub is silent, an hour of silence looks the same as a local clock that is an hour ahead. A run
    /// that does not wait then has to trust its own clock.
    pub(crate) fn time_at_or(&self, at: Instant, here: EventTime) -> EventTime {
        let seen = self.seen();
        match seen.time_at(at) {
            Some(time) if seen.newest > seen.newest_at_opening => time,
            Some(time) => time.max(here),
            None => here,
        }
    }
}

impl Seen {
    fn time_at(&self, at: Instant) -> Option<EventTime> {
        let (time, noted) = self.mark?;
        let millis = |from: Instant, to: Instant| {
            i64::try_from(to.saturating_duration_since(from).as_millis()).unwrap_or(i64::MAX)
        };
        let (since, before) = (millis(noted, at), millis(at, noted));
        let passed = since - since / SLOWER_BY_ONE_IN - before;
        Some(EventTime::from_millis(time.as_millis().saturating_add(passed)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOON: EventTime = EventTime::from_millis(1_767_614_400_000);

    fn seconds(seconds: i64) -> EventTime {
        EventTime::from_millis(NOON.as_millis() + seconds * 1_000)
    }

    #[test]
    fn the_event_that_took_the_shortest_time_to_get_here_sets_the_clock() {
        let (clock, start) = (HubClock::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(clock.time_at(start), None);
        clock.note(NOON, after(10));
        assert_eq!(clock.time_at(after(10)), Some(NOON));
        assert_eq!(clock.time_at(after(4)), Some(seconds(-6)));
        // An older event that waited longer says nothing new; one that came at once does.
        clock.note(seconds(-60), after(12));
        assert_eq!(clock.time_at(after(12)), Some(seconds(2)));
        clock.note(seconds(7), after(13));
        assert_eq!(clock.time_at(after(13)), Some(seconds(7)));
    }

    #[test]
    fn a_clock_here_that_runs_fast_does_not_get_ahead_of_the_hub() {
        let (clock, start) = (HubClock::default(), Instant::now());
        clock.note(NOON, start);
        let day = 86_400;
        let by_the_hub = day - 86_400 / 10_000;
        let time = clock.time_at(start + Duration::from_secs(day as u64)).unwrap();
        assert!(time <= seconds(by_the_hub) && time > seconds(day - 60), "{time}");
    }

    #[test]
    fn a_run_that_does_not_wait_believes_its_own_clock_only_while_the_whole_hub_is_silent() {
        let (clock, start) = (HubClock::default(), Instant::now());
        let hour = Duration::from_secs(3_600);
        assert_eq!(clock.time_at_or(start, NOON), NOON);
        clock.note(NOON, start);
        clock.note_opening();
        assert_eq!(
            clock.time_at_or(start, NOON.saturating_add(hour)),
            NOON.saturating_add(hour)
        );
        assert_eq!(clock.time_at_or(start, NOON.saturating_sub(hour)), NOON);
        clock.note(seconds(1), start + Duration::from_secs(1));
        for here in [NOON.saturating_add(hour), NOON.saturating_sub(hour)] {
            assert_eq!(clock.time_at_or(start, here), NOON);
        }
    }
}
