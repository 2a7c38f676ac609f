//! When anomalous windows open an incident, and when it closes.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use windrow_common::{Cause, Course, EventTime, IncidentKind, Peak};

use super::{Rules, Window};

/// Most windows that vote on an incident.
pub(super) const MOST_VOTERS: u32 = 1_000;

/// The anomalous windows of a sensor that are not over.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Votes {
    /// The anomalous ones of the last windows, each with the number of windows since.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    cast: Vec<Vote>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    open: Option<Open>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Vote {
    ago: u32,
    start: EventTime,
    score: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    threshold: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cause: Option<Arc<Cause>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Open {
    course: Course,
    /// Number of normal windows since the last anomalous one.
    quiet: u32,
}

impl Votes {
    /// Takes the next window, and returns the incident that it closes.
    pub(super) fn take(&mut self, window: &Window, rules: &Rules) -> Option<Course> {
        let anomalous = window.score > rules.threshold_of(window.threshold);
        if let Some(open) = &mut self.open {
            return match open.take(window, anomalous, rules) {
                None => None,
                closed => {
                    self.open = None;
                    closed
                }
            };
        }
        if !anomalous && self.cast.is_empty() {
            return None;
        }
        self.cast.retain_mut(|vote| {
            vote.ago += 1;
            vote.ago < rules.of
        });
        if anomalous {
            self.cast.push(Vote::of(window));
        }
        if self.cast.len() >= rules.open_after as usize && anomalous {
            self.open(window, rules);
        }
        None
    }

    fn open(&mut self, window: &Window, rules: &Rules) {
        let Some(first) = self.cast.first() else { return };
        let mut course = Course::begun(IncidentKind::Anomaly, first.start, window.end);
        for vote in self.cast.drain(..) {
            add(&mut course, vote, rules);
        }
        self.open = Some(Open { course, quiet: 0 });
    }

    /// Returns when the incident opened that is open, or that the next windows may open.
    pub(super) fn openings(&self) -> impl Iterator<Item = EventTime> {
        let open = self.open.iter().map(|open| open.course.opened);
        open.chain(self.cast.iter().map(|vote| vote.start))
    }

    /// Returns the incident that is open.
    pub(super) fn course(&self) -> Option<Course> {
        self.open.as_ref().map(|open| open.course.clone())
    }
}

impl Vote {
    fn of(window: &Window) -> Self {
        Self {
            ago: 0,
            start: window.start,
            score: window.score,
            threshold: window.threshold,
            cause: window.cause.clone(),
        }
    }
}

impl Open {
    fn take(&mut self, window: &Window, anomalous: bool, rules: &Rules) -> Option<Course> {
        if anomalous {
            self.quiet = 0;
            self.course.until = window.end;
            add(&mut self.course, Vote::of(window), rules);
            return None;
        }
        self.quiet += 1;
        if self.quiet < rules.quiet {
            return None;
        }
        self.course.closed = Some(window.end);
        Some(self.course.clone())
    }
}

/// Adds an anomalous window to an incident.
fn add(course: &mut Course, vote: Vote, rules: &Rules) {
    course.windows += 1;
    if vote.score > rules.critical_of(vote.threshold) && course.escalated.is_none() {
        course.escalated = Some(vote.start);
    }
    if course.peak.as_ref().is_none_or(|peak| vote.score > peak.score) {
        course.peak = Some(Peak {
            score: vote.score,
            at: vote.start,
            cause: vote.cause,
        });
    }
}
