//! When a sensor that repeats one value is an incident.
//!
//! Set points and status bits repeat a value for hours, so only a sensor that used to vary can be stuck: at least half of
//! its windows before differed from the one before, and it has repeated its value for three times as long as ever lately.
//! Noise repeats nothing, not even once. Such a sensor is stuck after a few windows.
//!
//! A fault freezes whatever value there was, and a machine that stands comes back to the same one: the flow is exactly 0. So a
//! value at which the sensor has rested twice lately counts for itself.

use serde::{Deserialize, Serialize};
use windrow_common::{Course, EventTime, IncidentKind};

use super::{Rules, Window};

/// How often longer than the longest recent repetition a stuck sensor repeats its value.
const TIMES: u32 = 3;

/// A sensor that has repeated nothing lately is stuck after this part of [`Rules::stuck_after`].
const PART_IF_NEVER: u32 = 6;

/// The longest repetition of a sensor that has repeated nothing: a window alone is 1, and a repetition of two is forgotten by half.
const NEVER: f64 = 1.5;

/// After about so many windows a long repetition is forgotten.
const MEMORY: u32 = 1_024;

/// How much longer than the longest repetition so far an incident may make it: one is no habit, several are.
const GROWS_BY: u32 = 8;

/// Number of values at which a sensor rests that are remembered.
const MOST_RESTS: usize = 4;

/// A sensor that comes back to more values than these rests anywhere, and a rest at one says what is usual at all others.
const FEW_RESTS: usize = 2;

/// After so many rests at a value the sensor comes back to it: two faults may show the same.
const COMES_BACK_AFTER: u32 = 2;

/// A rest that does not come back within this time is forgotten, in ms.
const RESTS_FOR: i64 = 14 * 86_400_000;

/// By which part of the difference the usual length of a rest falls, when one is shorter.
const SHRINKS_BY: u32 = 4;

/// How many windows have to be seen for each window of [`Rules::stuck_after`], before a sensor counts as one that varies.
const SEEN_FOR_EACH: u32 = 4;

/// What a sensor repeats.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Stuck {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    run: Option<Run>,
    /// Length of the longest run that ended lately, in windows; it shrinks by and by.
    #[serde(default)]
    longest: f64,
    /// Number of windows before the run.
    #[serde(default)]
    seen: u32,
    /// Number of these that differed from the one before.
    #[serde(default)]
    varied: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    noticed: Option<EventTime>,
    /// Where it has rested, the last one at the end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    rests: Vec<Rest>,
}

/// A value that a sensor has repeated for long enough to be stuck.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Rest {
    value: f64,
    /// Usual length of the repetition, nearer to long ones, in windows.
    windows: u32,
    /// How often it was repeated for long.
    times: u32,
    /// When it was repeated last.
    until: EventTime,
}

/// Windows in a row that have one value.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Run {
    value: f64,
    windows: u32,
    start: EventTime,
    end: EventTime,
}

impl Stuck {
    /// Takes the next window, and returns the incident that it ends.
    pub(super) fn take(&mut self, window: &Window, rules: &Rules) -> Option<Course> {
        if rules.stuck_after == 0 {
            *self = Self::default();
            return None;
        }
        match &mut self.run {
            Some(run) if window.value.is_some_and(|value| is_one(value, run.value)) => {
                run.windows = run.windows.saturating_add(1);
                run.end = window.end;
                if self.noticed.is_none() && self.is_stuck(rules) {
                    self.noticed = Some(window.end);
                }
                None
            }
            _ => self.vary(window, rules),
        }
    }

    /// Ends the run, if there is one, and begins the next.
    fn vary(&mut self, window: &Window, rules: &Rules) -> Option<Course> {
        let ended = self.course().map(|course| Course {
            closed: Some(window.end),
            ..course
        });
        let repeated = self.run.map_or(1, |run| run.windows);
        let mut length = f64::from(repeated);
        if ended.is_some() {
            length = length.min(f64::from(GROWS_BY) * self.longest);
        }
        // A rest to which the sensor comes back says nothing about all other values.
        let is_rest = repeated >= least_if_never(rules) && self.comes_back();
        if !is_rest {
            let shrunk = self.longest - (self.longest - length) / f64::from(MEMORY);
            self.longest = length.max(shrunk);
        }
        // And a run that was an incident says little about what is usual.
        if ended.is_none() && !is_rest {
            self.seen = self.seen.saturating_add(repeated);
            self.varied = self.varied.saturating_add(1);
        }
        if self.seen > u32::MAX / 2 {
            (self.seen, self.varied) = (self.seen / 2, self.varied / 2);
        }
        self.rest(rules);
        let since = |rest: &Rest| window.start.as_millis() - rest.until.as_millis();
        self.rests.retain(|rest| since(rest) <= RESTS_FOR);
        self.noticed = None;
        self.run = window.value.map(|value| Run {
            value,
            windows: 1,
            start: window.start,
            end: window.end,
        });
        ended
    }

    /// Remembers the run, if it was long.
    fn rest(&mut self, rules: &Rules) {
        let Some(run) = self.run.filter(|run| run.windows >= least_if_never(rules)) else {
            return;
        };
        let known = self.rests.iter().position(|rest| is_one(rest.value, run.value));
        let before = known.map(|at| self.rests.remove(at));
        let (usual, times) = before.map_or((0, 0), |rest| (rest.windows, rest.times));
        let most = usual.max(rules.stuck_after).saturating_mul(GROWS_BY);
        let windows = run.windows.min(most);
        self.rests.push(Rest {
            value: run.value,
            windows: windows.max(usual - usual.saturating_sub(windows) / SHRINKS_BY),
            times: times.saturating_add(1),
            until: run.end,
        });
        if self.rests.len() > MOST_RESTS {
            self.rests.remove(0);
        }
    }

    /// Returns the rests to which the sensor comes back.
    fn habits(&self) -> impl Iterator<Item = &Rest> {
        self.rests.iter().filter(|rest| rest.times >= COMES_BACK_AFTER)
    }

    /// Returns whether the run is at one of few values to which the sensor comes back.
    fn comes_back(&self) -> bool {
        let is_known = |run: Run| self.habits().any(|rest| is_one(rest.value, run.value));
        self.run.is_some_and(is_known) && self.habits().count() <= FEW_RESTS
    }

    /// Returns the length of the longest run that is usual for the present one.
    fn usual(&self, run: &Run) -> f64 {
        let rest = self.habits().find(|rest| is_one(rest.value, run.value));
        rest.map_or(self.longest, |rest| self.longest.max(rest.windows.into()))
    }

    /// Returns whether the sensor varies from window to window, as far as it is known.
    fn varies(&self) -> bool {
        self.varied >= self.seen / 2
    }

    fn is_stuck(&self, rules: &Rules) -> bool {
        let Some(run) = self.run else { return false };
        let least = match self.longest < NEVER {
            true => least_if_never(rules),
            false => rules.stuck_after,
        };
        run.windows >= least
            && f64::from(run.windows) > f64::from(TIMES) * self.usual(&run)
            && self.seen >= rules.stuck_after.saturating_mul(SEEN_FOR_EACH)
            && self.varies()
    }

    /// Adds what was usual in a history.
    pub(super) fn learn(&mut self, history: Self) {
        self.longest = self.longest.max(history.longest);
        self.seen = self.seen.saturating_add(history.seen);
        self.varied = self.varied.saturating_add(history.varied);
        if self.rests.is_empty() {
            self.rests = history.rests;
        }
    }

    /// Returns when the incident opened that is open, or that the next windows may open, by whatever rules.
    pub(super) fn opening(&self) -> Option<EventTime> {
        let run = self.run.filter(|_| self.noticed.is_some() || self.varies());
        run.map(|run| run.start)
    }

    /// Returns the incident that is open.
    pub(super) fn course(&self) -> Option<Course> {
        let (run, noticed) = (self.run?, self.noticed?);
        Some(Course {
            until: run.end,
            windows: run.windows.into(),
            ..Course::begun(IncidentKind::Stuck, run.start, noticed)
        })
    }
}

/// Returns after how many windows a sensor is stuck that has repeated nothing.
fn least_if_never(rules: &Rules) -> u32 {
    rules.stuck_after.div_ceil(PART_IF_NEVER).max(2)
}

fn is_one(a: f64, b: f64) -> bool {
    a.to_bits() == b.to_bits()
}
