//! The labels in the store.
//!
//! All of them are one file, as the mutes are: people write labels one at a time, so they are few, and retraining and reports
//! read those of the whole fleet with one request. A label holds the stretch of its incident, so nobody searches the table of
//! incidents for it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use clap::ValueEnum;
use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use windrow_common::{EventTime, Incident, IncidentKind, Length, SensorId};
use windrow_store::{SharedJson, Store, StoreError};

use crate::error::CliError;

const DOCUMENT: SharedJson = SharedJson {
    path: "alerting/labels.json",
    without: "no incident is labelled",
};

/// Number of hours of incidents that are read concurrently.
const READS_IN_FLIGHT: usize = 16;

/// What people found when they looked at an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum IncidentVerdict {
    /// Something was wrong
    True,
    /// Nothing was wrong
    False,
    /// People worked on the machine
    Maintenance,
}

/// What people say of one incident.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IncidentLabel {
    /// The sensor.
    pub(crate) sensor: SensorId,
    /// What the incident is.
    pub(crate) kind: IncidentKind,
    /// What people found.
    pub(crate) verdict: IncidentVerdict,
    /// When the incident began: for most kinds the start of its first window.
    pub(crate) from: EventTime,
    /// The end of its last window, which for an anomaly is the last anomalous one.
    pub(crate) to: EventTime,
    /// Whether it was open when it was labelled, so that `to` is not its end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) open: bool,
    /// What else there is to say, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<String>,
    /// When it was labelled.
    pub(crate) labelled: EventTime,
}

/// All labels of a store, by the ids of their incidents.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IncidentLabels {
    /// The labels.
    pub(crate) labels: BTreeMap<String, IncidentLabel>,
}

impl IncidentVerdict {
    /// Returns its name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::True => "true",
            Self::False => "false",
            Self::Maintenance => "maintenance",
        }
    }
}

impl IncidentLabel {
    /// Returns whether models must not learn the windows of its incident. A false alarm is normal, so they have to.
    pub(crate) const fn is_kept_out_of_training(&self) -> bool {
        matches!(self.verdict, IncidentVerdict::True | IncidentVerdict::Maintenance)
    }

    /// Returns whether the label says that something was wrong that a model should detect. Silence and stuck values are
    /// not detected by models.
    pub(crate) fn is_anomaly(&self) -> bool {
        self.verdict == IncidentVerdict::True && self.kind == IncidentKind::Anomaly
    }

    /// Returns the label of an incident as it is now.
    pub(crate) fn of(
        incident: &Incident,
        verdict: IncidentVerdict,
        note: Option<String>,
        labelled: EventTime,
    ) -> Self {
        let course = &incident.course;
        Self {
            sensor: incident.sensor.clone(),
            kind: course.kind,
            verdict,
            from: course.opened,
            to: course.until,
            open: course.closed.is_none(),
            note,
            labelled,
        }
    }
}

/// Stretches of event time whose windows models must not learn, by sensor.
pub(crate) type KeptOut = HashMap<SensorId, Vec<(EventTime, EventTime)>>;

impl IncidentLabels {
    /// Reads the labels of a store.
    pub(crate) async fn read(store: &Store) -> Result<Self, StoreError> {
        Ok(DOCUMENT.read(store).await?.0)
    }

    /// Changes the labels of a store. If another program changes them at the same time, `change` is called again on what that
    /// one wrote.
    pub(crate) async fn change<T>(
        store: &Store,
        change: impl FnMut(&mut Self) -> Result<T, CliError>,
    ) -> Result<T, CliError> {
        DOCUMENT.change(store, change).await
    }

    /// Updates the labels from those of their incidents that are still in the table: an open incident may have gone on,
    /// and late windows may have extended a closed one.
    pub(crate) async fn catch_up(&mut self, store: &Store) -> Result<(), StoreError> {
        // Incidents of the same hour are in the same file.
        let hours: BTreeSet<EventTime> = self
            .labels
            .values()
            .map(|label| label.from.floor(Length::HOUR))
            .collect();
        let reads: Vec<_> = hours.into_iter().map(|hour| store.incidents_of(hour)).collect();
        let mut reads = futures::stream::iter(reads).buffered(READS_IN_FLIGHT).boxed();
        while let Some(hour) = reads.try_next().await? {
            for incident in hour.incidents {
                if let Some(label) = self.labels.get_mut(&incident.id()) {
                    label.to = incident.course.until;
                    label.open = incident.course.closed.is_none();
                }
            }
        }
        Ok(())
    }

    /// Returns the stretches of event time whose windows models must not learn, by sensor. Their ends are not part of them.
    pub(crate) fn kept_out_of_training(&self) -> KeptOut {
        self.stretches(IncidentLabel::is_kept_out_of_training)
    }

    /// Returns the stretches of event time of some labels, by sensor. Their ends are not part of them.
    pub(crate) fn stretches(&self, of: impl Fn(&IncidentLabel) -> bool) -> KeptOut {
        let mut stretches = KeptOut::new();
        for label in self.labels.values().filter(|label| of(label)) {
            let of_sensor = stretches.entry(label.sensor.clone()).or_default();
            of_sensor.push((label.from, label.to));
        }
        stretches
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use windrow_common::Course;

    fn incident(tag: &str, opened: i64, until: i64, closed: Option<i64>) -> Incident {
        let time = EventTime::from_millis;
        let begun = Course::begun(IncidentKind::Anomaly, time(opened), time(opened + 60_000));
        Incident {
            sensor: SensorId::new("d/1", tag).unwrap(),
            window_length: Length::from_millis(60_000),
            course: Course {
                until: time(until),
                closed: closed.map(time),
                ..begun
            },
        }
    }

    fn labels(incidents: &[(Incident, IncidentVerdict)]) -> IncidentLabels {
        let label = |(incident, verdict): &(Incident, IncidentVerdict)| {
            let label = IncidentLabel::of(incident, *verdict, None, EventTime::from_millis(9));
            (incident.id(), label)
        };
        IncidentLabels {
            labels: incidents.iter().map(label).collect(),
        }
    }

    #[test]
    fn only_what_was_true_or_maintenance_is_kept_out_of_training() {
        let verdicts = [
            IncidentVerdict::True,
            IncidentVerdict::False,
            IncidentVerdict::Maintenance,
        ];
        let incidents = (0..).map(|at| incident("a", at * 600_000, at * 600_000 + 1, None));
        let labels = labels(&incidents.zip(verdicts).collect::<Vec<_>>());
        let kept_out = labels.kept_out_of_training();
        let time = EventTime::from_millis;
        let stretches = [(time(0), time(1)), (time(1_200_000), time(1_200_001))];
        assert_eq!(kept_out[&SensorId::new("d/1", "a").unwrap()], stretches);
        assert_eq!(kept_out.len(), 1);
    }

    #[tokio::test]
    async fn a_label_grows_and_ends_with_its_incident_also_if_that_was_over() {
        let store = Store::create("memory:///").unwrap();
        let open = incident("a", 60_000, 120_000, None);
        let withdrawn = incident("b", 60_000, 180_000, None);
        let over = incident("c", 60_000, 120_000, Some(240_000));
        let all = [open.clone(), withdrawn, over].map(|incident| (incident, IncidentVerdict::True));
        let written = labels(&all);
        let write = |stored: &mut IncidentLabels| {
            *stored = written.clone();
            Ok(())
        };
        IncidentLabels::change(&store, write).await.unwrap();
        let closed = incident("a", 60_000, 300_000, Some(900_000));
        // Windows that came late have extended it.
        let grown = incident("c", 60_000, 600_000, Some(900_000));
        let now = vec![closed, grown];
        store.put_incidents(open.course.opened, now, None).await.unwrap();
        let mut read = IncidentLabels::read(&store).await.unwrap();
        assert_eq!(read, written);
        read.catch_up(&store).await.unwrap();
        let ends = read
            .labels
            .values()
            .map(|label| (label.to.as_millis(), label.open));
        let ends: Vec<_> = ends.collect();
        assert_eq!(ends, [(300_000, false), (180_000, true), (600_000, false)]);
    }

    #[tokio::test]
    async fn a_label_that_another_writes_in_between_is_kept() {
        let store = Store::create("memory:///").unwrap();
        let one = labels(&[(incident("a", 0, 1, None), IncidentVerdict::True)]);
        let other = labels(&[(incident("b", 0, 1, None), IncidentVerdict::False)]);
        let mut between = Some(serde_json::to_vec(&other).unwrap());
        let add = |stored: &mut IncidentLabels| {
            if let Some(between) = between.take() {
                futures::executor::block_on(store.put(DOCUMENT.path, between)).unwrap();
            }
            stored.labels.extend(one.labels.clone());
            Ok(stored.labels.len())
        };
        assert_eq!(IncidentLabels::change(&store, add).await.unwrap(), 2);
        let read = IncidentLabels::read(&store).await.unwrap();
        assert_eq!(read.labels.len(), 2);
        store.put(DOCUMENT.path, "{").await.unwrap();
        let damaged = IncidentLabels::read(&store).await.unwrap_err().to_string();
        assert!(
            damaged.contains(DOCUMENT.path) && damaged.contains("mend or delete it"),
            "{damaged}"
        );
    }
}
