//! The table of incidents in the store, as far as it may still change.

use std::collections::{BTreeMap, BTreeSet};

use windrow_common::{Course, EventTime, Incident, IncidentKind, Length};
use windrow_store::{Store, StoreError, Version};

use crate::fleet::{Change, Key};

/// The hours of the table that were read or changed.
#[derive(Debug)]
pub(crate) struct Table {
    store: Store,
    hours: BTreeMap<EventTime, Hour>,
}

#[derive(Debug, Default)]
struct Hour {
    rows: BTreeMap<Row, Course>,
    version: Option<Version>,
    is_changed: bool,
}

/// What tells incidents apart.
type Row = (Key, EventTime, IncidentKind);

impl Table {
    pub(crate) fn new(store: Store) -> Self {
        Self {
            store,
            hours: BTreeMap::new(),
        }
    }

    /// Reads the hours of these times, and those from `from` on.
    pub(crate) async fn read(
        &mut self,
        times: impl IntoIterator<Item = EventTime>,
        from: Option<EventTime>,
    ) -> Result<(), StoreError> {
        let mut wanted: BTreeSet<EventTime> = times.into_iter().map(hour).collect();
        if let Some(from) = from {
            let hours = self.store.hours("incidents", Some(from), None).await?;
            wanted.extend(hours.iter().filter_map(windrow_store::Hour::start));
        }
        for hour in wanted {
            self.hour(hour).await?;
        }
        Ok(())
    }

    /// Returns the incidents that were read.
    pub(crate) fn courses(&self) -> impl Iterator<Item = (&Key, &Course)> {
        let rows = self.hours.values().flat_map(|hour| &hour.rows);
        rows.map(|((key, ..), course)| (key, course))
    }

    /// Applies changes to hours that were read. Returns those that the table did not have yet, each as it was in the table
    /// before.
    pub(crate) fn apply(&mut self, changes: Vec<Change>) -> Vec<Change> {
        let mut applied = Vec::new();
        for change in changes {
            let Some(course) = change.course() else {
                continue;
            };
            let row = (change.key.clone(), course.opened, course.kind);
            let hour = self.hours.entry(hour(course.opened)).or_default();
            let before = match &change.now {
                Some(now) => hour.rows.insert(row, now.clone()),
                None => hour.rows.remove(&row),
            };
            if before != change.now {
                hour.is_changed = true;
                applied.push(Change { before, ..change });
            }
        }
        applied
    }

    /// Writes what has changed.
    pub(crate) async fn write(&mut self) -> Result<(), StoreError> {
        for (time, hour) in &mut self.hours {
            if !hour.is_changed {
                continue;
            }
            let rows = hour
                .rows
                .iter()
                .map(|((key, ..), course)| incident(key, course.clone()));
            let rows = rows.collect();
            let written = self
                .store
                .put_incidents(*time, rows, hour.version.as_ref())
                .await?;
            hour.version = Some(written);
            hour.is_changed = false;
        }
        Ok(())
    }

    /// Forgets the hours before `time`, and those that nothing is open in, if they were written.
    pub(crate) fn forget_before(&mut self, time: EventTime) {
        self.hours.retain(|start, hour| *start >= time || hour.is_changed);
    }

    async fn hour(&mut self, time: EventTime) -> Result<&mut Hour, StoreError> {
        use std::collections::btree_map::Entry;
        match self.hours.entry(time) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(unknown) => {
                let read = self.store.incidents_of(time).await?;
                let rows = read.incidents.into_iter().map(|incident| {
                    let key = Key {
                        sensor: incident.sensor,
                        window_length: incident.window_length,
                    };
                    let course = incident.course;
                    ((key, course.opened, course.kind), course)
                });
                Ok(unknown.insert(Hour {
                    rows: rows.collect(),
                    version: read.version,
                    is_changed: false,
                }))
            }
        }
    }
}

fn hour(time: EventTime) -> EventTime {
    time.floor(Length::HOUR)
}

fn incident(key: &Key, course: Course) -> Incident {
    Incident {
        sensor: key.sensor.clone(),
        window_length: key.window_length,
        course,
    }
}
