//! Events of incidents, which receivers get.

use serde::{Deserialize, Serialize};
use windrow_common::{Course, EventTime, Incident};

use crate::fleet::Change;

/// What happened to an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// It has opened.
    Opened,
    /// It has become critical.
    Escalated,
    /// It is over.
    Closed,
    /// It turned out not to exist: late windows removed it.
    Withdrawn,
}

/// A change of an incident that receivers are sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Unique id. It is the same each time the event is sent, so that a receiver can deduplicate.
    pub id: String,
    /// The incident's id.
    pub incident: String,
    /// What happened.
    pub stage: Stage,
    /// Whether it opens again after it was over.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub again: bool,
    /// Who measured.
    pub device: String,
    /// What was measured.
    pub tag: String,
    /// Length of the windows, in milliseconds.
    pub window_ms: i64,
    /// The incident as it was then.
    pub course: Course,
}

impl Stage {
    /// Returns its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Escalated => "escalated",
            Self::Closed => "closed",
            Self::Withdrawn => "withdrawn",
        }
    }
}

impl Event {
    pub(crate) fn new(incident: &Incident, stage: Stage) -> Self {
        let id = incident.id();
        Self {
            id: format!("{id}/{}", stage.name()),
            incident: id,
            stage,
            again: false,
            device: incident.sensor.device.to_string(),
            tag: incident.sensor.tag.to_string(),
            window_ms: incident.window_length.as_millis(),
            course: incident.course.clone(),
        }
    }

    /// Returns the event time at which it happened or, of an incident that was muted, at which people may hear of it.
    pub(crate) fn at(&self) -> EventTime {
        let course = &self.course;
        match self.stage {
            // An incident that opens again may have been noticed long ago, but its last windows are new.
            Stage::Opened if self.again => course.noticed.max(course.until).max(self.muted_until()),
            Stage::Opened => course.noticed.max(self.muted_until()),
            Stage::Escalated => course.escalated.unwrap_or(course.noticed).max(self.muted_until()),
            Stage::Closed => course.closed.unwrap_or(course.until),
            Stage::Withdrawn => course.noticed,
        }
    }

    /// Returns the end of its maintenance; the beginning of time if there is none, or if it does not end.
    fn muted_until(&self) -> EventTime {
        let until = self.course.muted_until;
        until
            .filter(|until| *until < EventTime::MAX)
            .unwrap_or(EventTime::MIN)
    }
}

/// Returns whether an incident is [hushed](Course::is_hushed) since this change: before, it was not, or did not exist.
pub(crate) fn is_hushed_anew(change: &Change) -> bool {
    let is_hushed = |course: &Option<Course>| course.as_ref().is_some_and(Course::is_hushed);
    is_hushed(&change.now) && !is_hushed(&change.before)
}

/// Returns whether a change reopens an incident that people may believe to be over. Late windows can cause this.
pub(crate) fn opens_again(change: &Change) -> bool {
    let is_over = |course: &Course| course.closed.is_some() && !course.is_hushed();
    let is_open = |course: &Course| course.closed.is_none();
    change.before.as_ref().is_some_and(is_over) && change.now.as_ref().is_some_and(is_open)
}

/// Returns the events that a change causes. For receivers, a [hushed](Course::is_hushed) incident does not exist.
pub(crate) fn events_of(change: &Change) -> Vec<Event> {
    let incident = |course: Course| Incident {
        sensor: change.key.sensor.clone(),
        window_length: change.key.window_length,
        course,
    };
    let event = |course: &Course, stage| Event::new(&incident(course.clone()), stage);
    let before = change.before.as_ref().filter(|course| !course.is_hushed());
    let Some(now) = &change.now else {
        let withdrawn = before.iter().map(|before| event(before, Stage::Withdrawn));
        return withdrawn.collect();
    };
    let mut events = Vec::new();
    if before.is_none() && now.is_hushed() {
        return events;
    }
    if before.is_none() || opens_again(change) {
        events.push(Event {
            again: opens_again(change),
            ..event(now, Stage::Opened)
        });
    }
    let has_escalated = before.is_some_and(|before| before.escalated.is_some());
    if now.escalated.is_some() && !has_escalated && !now.is_hushed() {
        events.push(event(now, Stage::Escalated));
    }
    let has_closed = before.is_some_and(|before| before.closed.is_some());
    if now.closed.is_some() && !has_closed {
        events.push(event(now, Stage::Closed));
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::Key;
    use windrow_common::{IncidentKind, Length, SensorId};

    #[test]
    fn an_incident_that_opens_again_is_as_new_as_its_last_windows() {
        let day = |number: i64| EventTime::from_millis(number * 86_400_000);
        let first = Course {
            until: day(2),
            ..Course::begun(IncidentKind::Anomaly, day(1), day(1))
        };
        let over = Course {
            closed: Some(day(3)),
            ..first.clone()
        };
        let longer = Course {
            until: day(9),
            ..first.clone()
        };
        let opened = |before: Option<&Course>, now: &Course| {
            let change = Change {
                key: Key {
                    sensor: SensorId::new("pump-7", "temp").unwrap(),
                    window_length: Length::HOUR,
                },
                before: before.cloned(),
                now: Some(now.clone()),
            };
            let mut events = events_of(&change);
            assert!(events.len() < 2, "{events:?}");
            events.pop().map(|event| (event.stage, event.again, event.at()))
        };
        assert_eq!(opened(None, &longer), Some((Stage::Opened, false, day(1))));
        assert_eq!(opened(Some(&over), &longer), Some((Stage::Opened, true, day(9))));
        assert_eq!(opened(Some(&first), &longer), None, "it only grows");
    }
}
