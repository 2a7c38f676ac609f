//! What people are told, and the outbox that holds it until they are.

use std::collections::HashSet;

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

/// Something that people are told about an incident.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// The same whenever it is told, so that a receiver can tell a repeat.
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
}

/// An event, and the receivers that have not taken it.
#[derive(Debug, Serialize, Deserialize)]
struct Waiting {
    #[serde(flatten)]
    event: Event,
    receivers: Vec<String>,
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

    /// Adds an event for these receivers, unless it waits already.
    pub(crate) fn add(&mut self, event: Event, receivers: &[String]) {
        if !receivers.is_empty() && self.ids.insert(event.id.clone()) {
            let receivers = receivers.to_vec();
            self.kept.events.push(Waiting { event, receivers });
            self.is_changed = true;
        }
    }

    /// Returns what a receiver has not taken, oldest first.
    pub(crate) fn waiting(&self, receiver: &str) -> Vec<Event> {
        let waits = |kept: &&Waiting| kept.receivers.iter().any(|name| name == receiver);
        self.kept
            .events
            .iter()
            .filter(waits)
            .map(|kept| kept.event.clone())
            .collect()
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

    /// Forgets receivers that are no longer configured. Returns how many events nobody waits for any more.
    pub(crate) fn keep_only(&mut self, receivers: &[String]) -> usize {
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
