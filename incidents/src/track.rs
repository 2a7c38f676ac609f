//! The incidents of one sensor, from its windows in order.

use serde::{Deserialize, Serialize};
use windrow_common::{Course, EventTime, IncidentKind};

use super::prior::Prior;
use super::range::Range;
use super::rate::Rate;
use super::silence::Silence;
use super::stuck::Stuck;
use super::votes::Votes;
use super::{Rules, Window};

/// Where a sensor stands after some of its windows: what is open, and what its next windows are compared with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Track {
    #[serde(flatten)]
    votes: Votes,
    silence: Silence,
    stuck: Stuck,
    #[serde(default)]
    range: Range,
    #[serde(default)]
    rate: Rate,
    /// What its history says; `None` once it is known whether that holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    prior: Option<Box<Prior>>,
}

impl Track {
    /// Takes the next window in the order of event time, and adds the incidents that it closes to `ended`.
    pub fn take(&mut self, window: &Window, rules: &Rules, ended: &mut Vec<Course>) {
        ended.extend(self.silence.take(window, rules));
        ended.extend(self.votes.take(window, rules));
        ended.extend(self.stuck.take(window, rules));
        ended.extend(self.range.take(window, rules));
        ended.extend(self.rate.take(window, rules));
        if let Some(holds) = self.prior.as_mut().and_then(|prior| prior.take(window))
            && let Some(prior) = self.prior.take()
            && holds
        {
            self.silence.learn(&prior.silence);
            self.stuck.learn(prior.stuck);
        }
    }

    /// Takes the windows so far for a history, and returns where a sensor begins that has it; `None` if they say too little.
    pub fn learned(self) -> Option<Self> {
        let prior = Prior {
            until: self.end()?,
            count: self.rate.usual()?,
            silence: self.silence,
            stuck: self.stuck,
            windows: 0,
            most: 0,
        };
        Some(Self {
            prior: Some(Box::new(prior)),
            ..Self::default()
        })
    }

    /// Returns the end of the last window.
    pub fn end(&self) -> Option<EventTime> {
        self.silence.end()
    }

    /// Returns whether the sensor is silent at the event time `now`.
    pub(super) fn is_silent(&self, now: EventTime, rules: &Rules) -> bool {
        self.silence.course(now, rules).is_some()
    }

    /// Returns the kind and the opening of each incident that windows to come may change: those that are open, and those that
    /// they may open with a start among the windows before.
    pub fn openings(&self) -> impl Iterator<Item = (IncidentKind, EventTime)> {
        let anomalies = self.votes.openings().map(|at| (IncidentKind::Anomaly, at));
        let others = [
            (IncidentKind::Stuck, self.stuck.opening()),
            (IncidentKind::Range, self.range.opening()),
            (IncidentKind::Rate, self.rate.opening()),
            (IncidentKind::Silent, self.silence.end()),
        ];
        let others = others.into_iter().filter_map(|(kind, at)| Some((kind, at?)));
        anomalies.chain(others)
    }

    /// Returns the incidents that are open at the event time `now`, which the fleet has reached.
    pub fn open(&self, now: EventTime, rules: &Rules) -> impl Iterator<Item = Course> {
        let silence = self.silence.course(now, rules);
        self.votes
            .course()
            .into_iter()
            .chain(self.stuck.course())
            .chain(self.range.course())
            .chain(self.rate.course())
            .chain(silence)
    }
}

#[cfg(test)]
mod tests;
