//! The outbox, which holds events until the receivers have taken them.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use windrow_common::{EventTime, Incident};
use windrow_store::{Store, StoreError, Version};

use crate::fleet::Change;
use crate::{Event, Stage};

const OUTBOX: &str = "alerting/outbox.json";

/// The events that not all receivers have taken, in the store.
#[derive(Debug)]
pub(crate) struct Outbox {
    store: Store,
    kept: Kept,
    /// The ids of the events.
    ids: HashSet<String>,
    version: Option<Version>,
    is_changed: bool,
    /// The event time that the fleet has reached. Events of a muted incident wait until it passes the end of the
    /// maintenance.
    reached: EventTime,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    events: Vec<Waiting>,
    /// The receivers that each event is kept for. A run without receivers leaves the events for those that were named last.
    #[serde(default)]
    receivers: Vec<String>,
    /// Ids of the open incidents whose opening was sent or waits to be sent.
    #[serde(default)]
    open: BTreeSet<String>,
    /// The incidents that were withdrawn, and those that were over and opened again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    again: BTreeMap<String, Again>,
}

/// An incident that was withdrawn or closed, and may open again. Each later opening has its own event ids; otherwise a
/// receiver that deduplicates by id would drop its events.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Again {
    /// How often it has opened.
    times: u32,
    /// Whether it is withdrawn or closed.
    is_over: bool,
    /// The time of its last event.
    at: EventTime,
}

/// How many events were dropped because of their age.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Expired {
    /// Not all receivers have taken them.
    pub(crate) untaken: usize,
    /// Their sensors are taken out of service, so nobody was to hear of them.
    pub(crate) retired: usize,
}

/// An event, and the receivers that have not taken it.
#[derive(Debug, Serialize, Deserialize)]
struct Waiting {
    #[serde(flatten)]
    event: Event,
    receivers: Vec<String>,
    /// Earliest time to send it, in case it is withdrawn at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    not_before: Option<EventTime>,
}

impl Waiting {
    /// Returns whether a maintenance holds the event back at the event time `reached`. The end of an incident is never
    /// held back: receivers that know the incident need it.
    fn is_muted(&self, reached: EventTime) -> bool {
        let is_news = matches!(self.event.stage, Stage::Opened | Stage::Escalated);
        is_news && self.event.course.muted_until.is_some_and(|until| until > reached)
    }

    /// Returns whether its sensor is taken out of service: a maintenance without an end.
    fn is_retired(&self) -> bool {
        let is_news = matches!(self.event.stage, Stage::Opened | Stage::Escalated);
        is_news && self.event.course.muted_until == Some(EventTime::MAX)
    }

    /// Returns whether nobody may have heard of its incident.
    fn is_held(&self, reached: EventTime) -> bool {
        self.event.stage == Stage::Opened && self.is_muted(reached)
    }
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
            reached: EventTime::MIN,
        })
    }

    /// Says which event time the fleet has reached.
    pub(crate) fn reach(&mut self, time: EventTime) {
        self.reached = self.reached.max(time);
    }

    /// Updates the end of the maintenance in the waiting events of an incident, if it has changed.
    pub(crate) fn mute(&mut self, change: &Change) {
        let (Some(before), Some(now)) = (&change.before, &change.now) else {
            return;
        };
        if before.muted_until == now.muted_until {
            return;
        }
        let incident = Incident {
            sensor: change.key.sensor.clone(),
            window_length: change.key.window_length,
            course: now.clone(),
        };
        let id = incident.id();
        let waiting = self
            .kept
            .events
            .iter_mut()
            .filter(|kept| kept.event.incident == id);
        for kept in waiting {
            kept.event.course.muted_until = now.muted_until;
            self.is_changed = true;
        }
    }

    /// Says that an incident opens again that was over, so that its events get ids of their own.
    pub(crate) fn open_again(&mut self, change: &Change) {
        let Some(now) = &change.now else { return };
        let incident = Incident {
            sensor: change.key.sensor.clone(),
            window_length: change.key.window_length,
            course: now.clone(),
        };
        // After a crash this may be called again, when the incident is already open. Keep the entry then.
        self.kept.again.entry(incident.id()).or_insert(Again {
            times: 1,
            is_over: true,
            at: now.noticed,
        });
    }

    /// Adds an event, unless it is already waiting. It is sent after `not_before` and after the maintenance of its incident; if
    /// the incident closes or is withdrawn by then, neither event is sent. Returns whether the event will be sent.
    pub(crate) fn add(&mut self, mut event: Event, not_before: Option<EventTime>) -> bool {
        match event.stage {
            Stage::Opened => {
                self.kept.open.insert(event.incident.clone());
            }
            Stage::Escalated => {}
            Stage::Closed | Stage::Withdrawn => {
                // A receiver that was not told of the opening need not hear of the end.
                if !self.kept.open.remove(&event.incident) {
                    return false;
                }
                self.is_changed = true;
                if self.forget_early(&event) {
                    return false;
                }
            }
        }
        self.name(&mut event);
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

    /// Gives an event of an incident that has opened before an id of its own.
    fn name(&mut self, event: &mut Event) {
        let again = match event.stage {
            Stage::Withdrawn => {
                let first = Again {
                    times: 1,
                    is_over: false,
                    at: event.at(),
                };
                let again = self.kept.again.entry(event.incident.clone()).or_insert(first);
                Some(again)
            }
            _ => self.kept.again.get_mut(&event.incident),
        };
        let Some(again) = again else { return };
        // After a crash, the same event may be added again.
        if event.stage == Stage::Opened && again.is_over {
            again.times += 1;
        }
        again.is_over = matches!(event.stage, Stage::Closed | Stage::Withdrawn);
        again.at = again.at.max(event.at());
        self.is_changed = true;
        if again.times > 1 {
            event.id = format!("{}/{}", event.id, again.times);
        }
    }

    /// Drops the waiting events of an incident that is over, if nobody can have heard of it. Returns whether it did.
    fn forget_early(&mut self, over: &Event) -> bool {
        let now = EventTime::now();
        let all = self.kept.receivers.len();
        let is_early = |kept: &Waiting| {
            let is_hushed = kept.event.course.muted_until.is_some() && over.course.is_hushed();
            let is_new = kept.event.stage == Stage::Opened && kept.receivers.len() == all;
            kept.not_before.is_some_and(|time| time > now)
                || kept.is_held(self.reached)
                || is_hushed && is_new
        };
        let is_of = |kept: &&Waiting| kept.event.incident == over.incident;
        if !self.kept.events.iter().filter(is_of).any(is_early) {
            return false;
        }
        let ids = &mut self.ids;
        self.kept.events.retain(|kept| {
            let stays = kept.event.incident != over.incident;
            if !stays {
                ids.remove(&kept.event.id);
            }
            stays
        });
        true
    }

    /// Drops events older than `time` that not all receivers have taken, and returns how many. Late windows may be `look_back`
    /// older than `time`, so the ids of closed incidents are kept for that long.
    pub(crate) fn expire(&mut self, time: EventTime, look_back: Duration) -> Expired {
        let mut expired = Expired::default();
        for kept in &mut self.kept.events {
            if kept.event.at() < time {
                kept.receivers.clear();
                match kept.is_retired() {
                    true => expired.retired += 1,
                    false => expired.untaken += 1,
                }
            }
        }
        self.drop_taken();
        let known = self.kept.again.len();
        // Windows of that age open nothing again, so the ids cannot return, unless the incident is still to be told as closed.
        let oldest = time.saturating_sub(look_back);
        let Kept { again, open, .. } = &mut self.kept;
        again.retain(|id, again| again.at >= oldest || open.contains(id));
        let dropped = expired != Expired::default();
        self.is_changed |= dropped || self.kept.again.len() < known;
        expired
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

    /// Returns up to `most` events that a receiver has not taken and that may be sent at `time`, oldest first.
    pub(crate) fn waiting(&self, receiver: &str, time: EventTime, most: usize) -> Vec<Event> {
        let waits = |kept: &&Waiting| {
            kept.receivers.iter().any(|name| name == receiver)
                && !kept.is_muted(self.reached)
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

    /// Replaces the receivers, unless `receivers` is empty. Returns how many events are dropped because no receiver is left for
    /// them.
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
mod tests;
