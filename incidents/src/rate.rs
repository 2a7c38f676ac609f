//! When a sensor that sends too few readings is an incident.
//!
//! Sensors that send when something happens have any number of readings in a window, so only one that used to send at a
//! steady rate can lose it: nine of ten of its windows had about as many readings as its usual ones, for two days at least,
//! and it has never been slow for so long lately. Two days hold a night and the day before it, whenever they begin. What is usual is the median of its last windows that were not slow.

use serde::{Deserialize, Serialize};
use windrow_common::{Breach, Course, EventTime, IncidentKind};

use super::{Rules, Window};

/// A window with fewer than this part of the usual readings is slow.
const PART: u32 = 3;

/// Number of windows whose median is usual.
const RECENT: usize = 31;

/// How often longer than the longest recent slowness an incident is.
const TIMES: i64 = 3;

/// How much longer than the longest so far an incident may make it: one is no habit, several are.
const GROWS_BY: i64 = 8;

/// After about this time a long slowness is forgotten, in ms: slow nights and weekends are remembered.
const MEMORY: i64 = 14 * 86_400_000;

/// For so long a sensor has to be known before it can lose its rate, in ms.
const KNOWN_FOR: i64 = 2 * 86_400_000;

/// A rate that lasts for so long is the usual one from then on, in ms.
const ACCEPTED_AFTER: i64 = 7 * 86_400_000;

/// How many windows have to be seen for each window of [`Rules::rate_after`].
const SEEN_FOR_EACH: u32 = 4;

/// Number of windows after which half of what was counted is forgotten.
const COUNTED: u32 = 4_096;

/// How many readings a sensor sends.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Rate {
    /// Start of its first window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since: Option<EventTime>,
    /// The numbers of readings of its last windows that were not slow, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    recent: Vec<u32>,
    /// Their median.
    #[serde(default)]
    usual: u32,
    /// Number of windows that were counted, without those of incidents.
    #[serde(default)]
    seen: u32,
    /// Number of these with about as many readings as usual.
    #[serde(default)]
    steady: u32,
    /// Longest time for which it was slow, in ms; it shrinks with time.
    #[serde(default)]
    longest: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    slow: Option<Slow>,
}

/// Slow windows in a row.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Slow {
    start: EventTime,
    end: EventTime,
    windows: u32,
    worst: Breach,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    noticed: Option<EventTime>,
}

impl Rate {
    /// Takes the next window, and returns the incident that it ends.
    pub(super) fn take(&mut self, window: &Window, rules: &Rules) -> Option<Course> {
        if rules.rate_after == 0 {
            *self = Self::default();
            return None;
        }
        let since = *self.since.get_or_insert(window.start);
        // What opened the incident may be a third, and it is over only with half: a rate between the two goes on.
        let part = if self.is_open() { 2 } else { PART };
        let least = self.usual.div_ceil(part);
        if self.recent.len() == RECENT && window.count < least {
            self.slow_down(window, since, rules)
        } else {
            self.go_on(window)
        }
    }

    fn is_open(&self) -> bool {
        self.slow.is_some_and(|slow| slow.noticed.is_some())
    }

    fn slow_down(&mut self, window: &Window, since: EventTime, rules: &Rules) -> Option<Course> {
        let breach = Breach {
            value: window.count.into(),
            limit: self.usual.div_ceil(PART).into(),
            at: window.start,
        };
        let slow = self.slow.get_or_insert(Slow {
            start: window.start,
            end: window.end,
            windows: 0,
            worst: breach,
            noticed: None,
        });
        slow.end = window.end;
        slow.windows = slow.windows.saturating_add(1);
        if breach.value < slow.worst.value {
            slow.worst = breach;
        }
        let lasts = slow.end.as_millis() - slow.start.as_millis();
        if lasts > ACCEPTED_AFTER {
            let ended = self.course().map(|course| Course {
                closed: Some(window.end),
                ..course
            });
            *self = Self {
                since: Some(since),
                ..Self::default()
            };
            return ended;
        }
        let known = slow.start.as_millis() - since.as_millis() >= KNOWN_FOR;
        let is_long = slow.windows >= rules.rate_after && lasts > TIMES * self.longest;
        let enough = rules.rate_after.saturating_mul(SEEN_FOR_EACH);
        let is_steady = self.seen >= enough && self.steady >= self.seen - self.seen / 10;
        if slow.noticed.is_none() && known && is_long && is_steady {
            slow.noticed = Some(window.end);
        }
        None
    }

    /// Ends the slowness, if there is one, and counts the window.
    fn go_on(&mut self, window: &Window) -> Option<Course> {
        let length = window.end.as_millis() - window.start.as_millis();
        let ended = self.course().map(|course| Course {
            closed: Some(window.end),
            ..course
        });
        let mut lasted = 0;
        if let Some(slow) = self.slow.take() {
            lasted = slow.end.as_millis() - slow.start.as_millis();
            match ended {
                Some(_) => lasted = lasted.min(GROWS_BY * self.longest.max(length)),
                // Windows of an incident say little about what is usual.
                None => self.seen = self.seen.saturating_add(slow.windows),
            }
        }
        let since = i128::from((length + lasted).min(MEMORY));
        let shrinks = i128::from(self.longest - lasted) * since / i128::from(MEMORY);
        self.longest = lasted.max(self.longest - i64::try_from(shrinks).unwrap_or_default());
        self.count(window.count);
        ended
    }

    fn count(&mut self, readings: u32) {
        self.seen = self.seen.saturating_add(1);
        // A quarter more or less; of few readings, one.
        let may_differ = (self.usual / 4).max(1);
        if readings.abs_diff(self.usual) <= may_differ {
            self.steady += 1;
        }
        if self.seen > COUNTED {
            (self.seen, self.steady) = (self.seen / 2, self.steady / 2);
        }
        let mut forgotten = None;
        if self.recent.len() >= RECENT {
            forgotten = Some(self.recent.remove(0));
        }
        self.recent.push(readings);
        if forgotten != Some(readings) {
            self.usual = median(&self.recent);
        }
    }

    /// Returns the usual number of readings of a window, if enough windows were seen.
    pub(super) fn usual(&self) -> Option<u32> {
        (self.recent.len() == RECENT).then_some(self.usual)
    }

    /// Returns when the incident opened that is open, or that the next windows may open.
    pub(super) fn opening(&self) -> Option<EventTime> {
        self.slow.map(|slow| slow.start)
    }

    /// Returns the incident that is open.
    pub(super) fn course(&self) -> Option<Course> {
        let slow = self.slow?;
        Some(Course {
            until: slow.end,
            windows: slow.windows.into(),
            breach: Some(slow.worst),
            ..Course::begun(IncidentKind::Rate, slow.start, slow.noticed?)
        })
    }
}

/// Returns the median of at most [`RECENT`] numbers.
fn median(numbers: &[u32]) -> u32 {
    let mut sorted = [0; RECENT];
    let sorted = &mut sorted[..numbers.len()];
    sorted.copy_from_slice(numbers);
    let (_, median, _) = sorted.select_nth_unstable(numbers.len() / 2);
    *median
}
