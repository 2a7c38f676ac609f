//! When values outside of a sensor's physical range are an incident: at once.
//!
//! A sensor at its limit goes in and out, so the incident lasts until it was inside for as long as an anomaly has to be
//! quiet.

use serde::{Deserialize, Serialize};
use windrow_common::{Breach, Course, EventTime, IncidentKind};

use super::{Rules, Window};

/// The physical range of a sensor. Without one, nothing is outside.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// The least value that it can measure.
    pub low: f64,
    /// The greatest value that it can measure.
    pub high: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            low: f64::NEG_INFINITY,
            high: f64::INFINITY,
        }
    }
}

impl Limits {
    /// Returns what of a window with these extremes is outside; the worse one if both are.
    pub(super) fn breach(&self, min: f64, max: f64, at: EventTime) -> Option<Breach> {
        let below = (min < self.low).then_some((min, self.low));
        let above = (max > self.high).then_some((max, self.high));
        let breach = |(value, limit)| Breach { value, limit, at };
        worst(below.map(breach), above.map(breach))
    }
}

/// Returns the breach that is further beyond its limit; the first of two that are equal.
fn worst(first: Option<Breach>, second: Option<Breach>) -> Option<Breach> {
    match (first, second) {
        (Some(first), Some(second)) if second.excess() > first.excess() => Some(second),
        (None, second) => second,
        (first, _) => first,
    }
}

/// The windows of a sensor outside of its range that are not over.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Range {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    open: Option<Open>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Open {
    course: Course,
    /// Number of windows inside since the last one that was not.
    inside: u32,
}

impl Range {
    /// Takes the next window, and returns the incident that it closes.
    pub(super) fn take(&mut self, window: &Window, rules: &Rules) -> Option<Course> {
        if window.breach.is_none() {
            let open = self.open.as_mut()?;
            open.inside += 1;
            if open.inside < rules.quiet {
                return None;
            }
            return self.open.take().map(|open| Course {
                closed: Some(window.end),
                ..open.course
            });
        }
        let open = self.open.get_or_insert_with(|| Open {
            course: Course::begun(IncidentKind::Range, window.start, window.end),
            inside: 0,
        });
        open.inside = 0;
        open.course.until = window.end;
        open.course.windows += 1;
        open.course.breach = worst(open.course.breach, window.breach);
        None
    }

    /// Returns when the incident opened that is open.
    pub(super) fn opening(&self) -> Option<EventTime> {
        self.open.as_ref().map(|open| open.course.opened)
    }

    /// Returns the incident that is open.
    pub(super) fn course(&self) -> Option<Course> {
        self.open.as_ref().map(|open| open.course.clone())
    }
}
