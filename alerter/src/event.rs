//! Events of incidents, and the outbox that holds them until the receivers have taken them.

use std::collections::{BTreeSet, HashSet};

use serde::{Deserialize, Serialize};
use windrow_common::{Course, EventTime, Incident};
use windrow_store::{Store, StoreError, Version};

use crate::fleet::Change;

const OUTBOX: &str = "alerting/outbox.json";

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
    /// It never was: windows that came late leave nothing of it.
    Withdrawn,
}

/// A change of an incident that receivers are sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// The same each time it is sent, so that a receiver recognises a repeat.
    pub id: String,
    /// The incident's id.
    pub incident: String,
    /// What happened.
    pub stage: Stage,
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
            device: incident.sensor.device.to_string(),
            tag: incident.sensor.tag.to_string(),
            window_ms: incident.window_length.as_millis(),
            course: incident.course,
        }
    }

    /// Returns the event time at which it happened.
    pub(crate) fn at(&self) -> EventTime {
        let course = &self.course;
        match self.stage {
            Stage::Opened => course.noticed,
            Stage::Escalated => course.escalated.unwrap_or(course.noticed),
            Stage::Closed => course.closed.unwrap_or(course.until),
            Stage::Withdrawn => course.noticed,
        }
    }
}

/// Returns what a change tells people.
pub(crate) fn events_of(change: &Change) -> Vec<Event> {
    let incident = |course: Course| Incident {
        sensor: change.key.sensor.clone(),
        window_length: change.key.window_length,
        course,
    };
    let event = |course: &Course, stage| Event::new(&incident(*course), stage);
    let (before, Some(now)) = (&change.before, &change.now) else {
        return change
            .before
            .iter()
            .map(|before| event(before, Stage::Withdrawn))
            .collect();
    };
    let mut events = Vec::new();
    if before.is_none() {
        events.push(event(now, Stage::Opened));
    }
    let has_escalated = before.is_some_and(|before| before.escalated.is_some());
    if now.escalated.is_some() && !has_escalated {
        events.push(event(now, Stage::Escalated));
    }
    let has_closed = before.is_some_and(|before| before.closed.is_some());
    if now.closed.is_some() && !has_closed {
        events.push(event(now, Stage::Closed));
    }
    events
}

/// The events that not all receivers have taken, in the store.
#[derive(Debug)]
pub(crate) struct Outbox {
    store: Store,
    kept: Kept,
    /// The ids of the events.
    ids: HashSet<String>,
    version: Option<Version>,
    is_changed: bool,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    events: Vec<Waiting>,
    /// Who is told. A run that names nobody leaves the events to them.
    #[serde(default)]
    receivers: Vec<String>,
    /// The incidents of which the opening was told, or waits to be, and which are open.
    #[serde(default)]
    open: BTreeSet<String>,
}

/// An event, and the receivers that have not taken it.
#[derive(Debug, Serialize, Deserialize)]
struct Waiting {
    #[serde(flatten)]
    event: Event,
    receivers: Vec<String>,
    /// Not told before this time, in case it is withdrawn at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    not_before: Option<EventTime>,
}

impl Outbox {
    /// Reads the outbox.
    pub(crate) async fn open(store: Store) -> Result<Self, StoreError> {
        let (kept, version) = match store.get_versioned(OUTBOX).await? {
            None => (Kept::default(), None),
            Some((bytes, version)) => {
                let kept = serde_json::from_slice(&bytes).map_err(|error| StoreError::Damaged {
                    path: OUTBOX.to_owned(),
                    why: format!("{error}; delete it, and what it held is not told"),
                })?;
                (kept, Some(version))
            }
        };
        let kept: Kept = kept;
        Ok(Self {
            store,
            ids: kept.events.iter().map(|kept| kept.event.id.clone()).collect(),
            kept,
            version,
            is_changed: false,
        })
    }

    /// Adds an event, unless it waits already. It is told from `not_before` on; if the incident is over or withdrawn before
    /// that, nobody is told of either. Returns whether it is told at all.
    pub(crate) fn add(&mut self, event: Event, not_before: Option<EventTime>) -> bool {
        match event.stage {
            Stage::Opened => {
                self.kept.open.insert(event.incident.clone());
            }
            Stage::Escalated => {}
            Stage::Closed | Stage::Withdrawn => {
                self.kept.open.remove(&event.incident);
                self.is_changed = true;
                if self.forget_early(&event.incident) {
                    return false;
                }
            }
        }
        if !self.kept.receivers.is_empty() && self.ids.insert(event.id.clone()) {
            let receivers = self.kept.receivers.clone();
            self.kept.events.push(Waiting {
                event,
                receivers,
                not_before,
            });
            self.is_changed = true;
        }
        true
    }

    /// Forgets what waits of an incident, if none of it may be told yet.
    fn forget_early(&mut self, incident: &str) -> bool {
        let now = EventTime::now();
        let of = |kept: &&Waiting| kept.event.incident == incident;
        let is_early = |kept: &Waiting| kept.not_before.is_some_and(|time| time > now);
        if !self.kept.events.iter().filter(of).any(is_early) {
            return false;
        }
        let ids = &mut self.ids;
        self.kept.events.retain(|kept| {
            let stays = kept.event.incident != incident;
            if !stays {
                ids.remove(&kept.event.id);
            }
            stays
        });
        true
    }

    /// Drops events of before `time` that nobody has taken since; returns how many.
    pub(crate) fn expire(&mut self, time: EventTime) -> usize {
        let before = self.kept.events.len();
        for kept in &mut self.kept.events {
            if kept.event.at() < time {
                kept.receivers.clear();
            }
        }
        self.drop_taken();
        let dropped = before - self.kept.events.len();
        self.is_changed |= dropped > 0;
        dropped
    }

    /// Returns the open incidents that people may know of, by id.
    pub(crate) fn told_open(&self) -> HashSet<&str> {
        let now = EventTime::now();
        let mut open: HashSet<&str> = self.kept.open.iter().map(String::as_str).collect();
        for kept in &self.kept.events {
            if kept.not_before.is_some_and(|time| time > now) {
                open.remove(kept.event.incident.as_str());
            }
        }
        open
    }

    /// Returns up to `most` of what a receiver has not taken, and may be told at `time`, oldest first.
    pub(crate) fn waiting(&self, receiver: &str, time: EventTime, most: usize) -> Vec<Event> {
        let waits = |kept: &&Waiting| {
            kept.receivers.iter().any(|name| name == receiver)
                && kept.not_before.is_none_or(|early| early <= time)
        };
        let waiting = self.kept.events.iter().filter(waits).take(most);
        waiting.map(|kept| kept.event.clone()).collect()
    }

    /// Notes that a receiver has taken events.
    pub(crate) fn taken(&mut self, receiver: &str, events: &[Event]) {
        let taken: HashSet<&str> = events.iter().map(|event| event.id.as_str()).collect();
        for kept in &mut self.kept.events {
            if taken.contains(kept.event.id.as_str()) {
                kept.receivers.retain(|name| name != receiver);
                self.is_changed = true;
            }
        }
        self.drop_taken();
    }

    fn drop_taken(&mut self) {
        let ids = &mut self.ids;
        self.kept.events.retain(|kept| {
            let waits = !kept.receivers.is_empty();
            if !waits {
                ids.remove(&kept.event.id);
            }
            waits
        });
    }

    /// Sets who is told, unless nobody is named. Returns how many events nobody waits for any more.
    pub(crate) fn set_receivers(&mut self, receivers: &[String]) -> usize {
        if receivers.is_empty() || receivers == self.kept.receivers {
            return 0;
        }
        self.kept.receivers = receivers.to_vec();
        self.is_changed = true;
        let before = self.kept.events.len();
        for kept in &mut self.kept.events {
            let waited = kept.receivers.len();
            kept.receivers.retain(|name| receivers.contains(name));
            self.is_changed |= kept.receivers.len() != waited;
        }
        self.drop_taken();
        before - self.kept.events.len()
    }

    pub(crate) fn len(&self) -> usize {
        self.kept.events.len()
    }

    /// Writes the outbox if it has changed.
    pub(crate) async fn write(&mut self) -> Result<(), StoreError> {
        if !self.is_changed {
            return Ok(());
        }
        let bytes = serde_json::to_vec(&self.kept).map_err(|error| StoreError::Unencodable {
            path: OUTBOX.to_owned(),
            source: error.into(),
        })?;
        self.version = Some(self.store.put_if(OUTBOX, bytes, self.version.as_ref()).await?);
        self.is_changed = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use windrow_common::{IncidentKind, Length, SensorId};

    use super::*;

    fn event(stage: Stage) -> Event {
        let now = EventTime::now();
        let incident = Incident {
            sensor: SensorId::new("pump-7", "temp").unwrap(),
            window_length: Length::from_millis(60_000),
            course: Course {
                closed: (stage == Stage::Closed).then_some(now),
                ..Course::begun(IncidentKind::Silent, EventTime::from_millis(0), now)
            },
        };
        Event::new(&incident, stage)
    }

    async fn outbox() -> Outbox {
        let mut outbox = Outbox::open(Store::create("memory:///").unwrap()).await.unwrap();
        outbox.set_receivers(&["pager".to_owned()]);
        outbox
    }

    #[tokio::test]
    async fn what_is_over_before_it_may_be_sent_is_never_sent() {
        let hour = std::time::Duration::from_secs(3_600);
        let (past, later) = (
            EventTime::now().saturating_sub(hour),
            EventTime::now().saturating_add(hour),
        );
        for over in [Stage::Withdrawn, Stage::Closed] {
            let mut early = outbox().await;
            assert!(early.add(event(Stage::Opened), Some(later)));
            assert!(early.waiting("pager", EventTime::now(), 9).is_empty());
            assert!(early.told_open().is_empty());
            assert!(!early.add(event(over), None));
            assert_eq!(early.len(), 0);
            let mut due = outbox().await;
            due.add(event(Stage::Opened), Some(past));
            assert_eq!(due.told_open().len(), 1);
            assert!(due.add(event(over), None));
            assert_eq!(due.waiting("pager", EventTime::now(), 9).len(), 2);
            assert!(due.told_open().is_empty());
        }
    }

    #[tokio::test]
    async fn what_nobody_takes_is_dropped_after_its_time_and_counted() {
        let mut outbox = outbox().await;
        outbox.add(event(Stage::Opened), None);
        assert_eq!(outbox.expire(EventTime::from_millis(0)), 0);
        assert_eq!(outbox.expire(EventTime::MAX), 1);
        assert_eq!(outbox.len(), 0);
    }
}
