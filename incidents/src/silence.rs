//! When a sensor that sends nothing is an incident.
//!
//! What is usual is learned from the sensor itself: it is silent when it has sent nothing for three times the longest
//! pause of its recent past. So sensors that report once a day, or that rest at night, are not silent.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use windrow_common::{Course, EventTime, IncidentKind};

use super::{Rules, Window};

/// How often longer than the longest recent pause a silence is.
const TIMES: i64 = 3;

/// After about this time a long pause is forgotten, in ms: rests at night and at weekends are remembered.
const MEMORY: i64 = 14 * 86_400_000;

/// How much longer than the longest pause so far a silence may make it: one silence is no habit, several are.
const GROWS_BY: i64 = 8;

/// Least number of windows before a sensor can be missed.
const LEAST_WINDOWS: u32 = 4;

/// The pauses of a sensor.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Silence {
    /// Start of its last window.
    #[serde(default)]
    start: Option<EventTime>,
    /// End of its last window.
    #[serde(default)]
    end: Option<EventTime>,
    /// Longest time between the starts of two windows, in ms; it shrinks with time.
    #[serde(default)]
    longest: i64,
    /// Number of windows, up to [`LEAST_WINDOWS`].
    #[serde(default)]
    windows: u32,
}

/// Returns by how much the longest pause shrinks, which is `longer` than the newest, in the time since the window before.
fn shrinks_by(longer: i64, since: i64) -> i64 {
    let by = i128::from(longer) * i128::from(since) / i128::from(MEMORY);
    i64::try_from(by).unwrap_or_default()
}

impl Silence {
    /// Takes the next window, and returns the silence that it ends.
    pub(super) fn take(&mut self, window: &Window, rules: &Rules) -> Option<Course> {
        let ended = self.course(window.start, rules).map(|course| Course {
            until: window.start,
            closed: Some(window.start),
            ..course
        });
        if let Some(start) = self.start {
            let pause = window.start.as_millis() - start.as_millis();
            let since = pause.min(MEMORY);
            let most = self.longest.saturating_mul(GROWS_BY);
            let pause = if ended.is_some() { pause.min(most) } else { pause };
            let shrunk = self.longest - shrinks_by(self.longest - pause, since);
            self.longest = pause.max(shrunk);
        }
        self.windows = LEAST_WINDOWS.min(self.windows + 1);
        (self.start, self.end) = (Some(window.start), Some(window.end));
        ended
    }

    /// Adds what was usual in a history.
    pub(super) fn learn(&mut self, history: &Self) {
        self.longest = self.longest.max(history.longest);
    }

    pub(super) fn end(&self) -> Option<EventTime> {
        self.end
    }

    /// Returns the silence that lasts at the event time `now`.
    pub(super) fn course(&self, now: EventTime, rules: &Rules) -> Option<Course> {
        let (start, end) = (self.start?, self.end?);
        if rules.silent_after == Duration::ZERO || self.windows < LEAST_WINDOWS {
            return None;
        }
        let usual = u64::try_from(self.longest.saturating_mul(TIMES)).unwrap_or_default();
        let by_pause = start.saturating_add(Duration::from_millis(usual));
        let noticed = by_pause.max(end.saturating_add(rules.silent_after));
        (now > noticed).then(|| Course::begun(IncidentKind::Silent, end, noticed))
    }
}
