//! Compares incidents and flagged windows with the true anomalies of the simulation.

use std::collections::{BTreeMap, HashMap};

use windrow_common::{EventTime, Incident, Prediction, SensorId};
use windrow_producer::source::simulator::{Anomaly, AnomalyKind, meets};
use windrow_store::Store;

use crate::error::CliError;

/// The result of comparing flagged windows with true anomalies.
pub(super) struct Detected {
    /// Flagged windows.
    pub(super) flagged: u64,
    /// Of these, windows that touch a true anomaly.
    pub(super) right: u64,
    /// Flagged windows that touch no true anomaly, by sensor.
    pub(super) false_alarms: BTreeMap<SensorId, u64>,
    /// Every true anomaly, and whether an incident meets it; see [`meets`].
    pub(super) anomalies: Vec<(Anomaly, bool)>,
    /// When every sensor has sent its first reading. An anomaly present from the first reading on began during
    /// training, so it was learned and does not have to be found.
    since: EventTime,
    /// What people would have been told, the highest scores first, with the true anomaly that each meets first.
    pub(super) incidents: Vec<(Incident, Option<AnomalyKind>)>,
}

impl Detected {
    /// Returns the true anomalies that are to be found, and whether they are.
    pub(super) fn to_be_found(&self) -> impl Iterator<Item = &(Anomaly, bool)> {
        self.anomalies
            .iter()
            .filter(|(anomaly, _)| anomaly.from >= self.since)
    }

    /// Returns the number of true anomalies that are to be found.
    pub(super) fn episodes(&self) -> u64 {
        self.to_be_found().count() as u64
    }

    /// Returns the number of these that an incident meets.
    pub(super) fn found(&self) -> u64 {
        self.to_be_found().filter(|(_, found)| *found).count() as u64
    }

    /// Returns the number of incidents that meet a true anomaly.
    pub(super) fn right_incidents(&self) -> u64 {
        self.incidents.iter().filter(|(_, kind)| kind.is_some()).count() as u64
    }

    /// Returns the share of incidents that meet a true anomaly, or `None` if there are none.
    pub(super) fn precision(&self) -> Option<f64> {
        share(self.right_incidents(), self.incidents.len() as u64)
    }

    /// Returns the share of the true anomalies to be found that an incident meets, or `None` if there are none.
    pub(super) fn recall(&self) -> Option<f64> {
        share(self.found(), self.episodes())
    }

    /// Returns the number of false incidents that a sensor has in 30 days.
    #[allow(clippy::cast_precision_loss)] // Counts far below 2^53.
    pub(super) fn false_per_sensor_month(&self, sensors: u64, days: f64) -> f64 {
        let wrong = self.incidents.len() as u64 - self.right_incidents();
        wrong as f64 / sensors as f64 / days * 30.0
    }

    /// Returns the kinds of the anomalies that are to be found, the number of each, and how many of them an incident meets.
    pub(super) fn by_kind(&self) -> impl Iterator<Item = (AnomalyKind, u64, u64)> {
        let counted = AnomalyKind::ALL.into_iter().map(|kind| {
            let (episodes, found) = self.of_kind(kind);
            (kind, episodes, found)
        });
        // Most simulations hold no deaths and no slow drift.
        counted.filter(|(_, episodes, _)| *episodes > 0)
    }

    fn of_kind(&self, kind: AnomalyKind) -> (u64, u64) {
        let of_kind = || {
            self.to_be_found()
                .filter(move |(anomaly, _)| anomaly.kind == kind)
        };
        (
            of_kind().count() as u64,
            of_kind().filter(|(_, found)| *found).count() as u64,
        )
    }
}

#[allow(clippy::cast_precision_loss)] // Counts far below 2^53.
fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// Compares the predictions and the incidents in `store` with the true anomalies; those from `since` on are to be found.
pub(super) async fn detect(
    store: &Store,
    truth: Vec<Anomaly>,
    since: EventTime,
) -> Result<Detected, CliError> {
    let mut by_sensor: HashMap<SensorId, Vec<usize>> = HashMap::new();
    for (at, anomaly) in truth.iter().enumerate() {
        by_sensor.entry(anomaly.sensor.clone()).or_default().push(at);
    }
    let mut detected = Detected {
        flagged: 0,
        right: 0,
        false_alarms: BTreeMap::new(),
        anomalies: truth.into_iter().map(|anomaly| (anomaly, false)).collect(),
        since,
        incidents: Vec::new(),
    };
    for hour in store.hours("predictions", None, None).await? {
        for prediction in store.predictions(&hour).await?.rows {
            if !prediction.anomaly {
                continue;
            }
            detected.flagged += 1;
            let of_sensor = by_sensor.get(&prediction.sensor).into_iter().flatten();
            let mut anomalies = of_sensor.map(|at| &detected.anomalies[*at].0);
            match anomalies.any(|anomaly| touches(&prediction, anomaly.from, anomaly.to)) {
                true => detected.right += 1,
                false => *detected.false_alarms.entry(prediction.sensor).or_default() += 1,
            }
        }
    }
    for incident in store.incidents(None, None).await? {
        let kind = detected.met_by(&incident, &by_sensor);
        detected.incidents.push((incident, kind));
    }
    let height = |incident: &Incident| {
        incident
            .course
            .peak
            .as_ref()
            .map_or(f64::NEG_INFINITY, |peak| peak.score)
    };
    (detected.incidents).sort_by(|(a, _), (b, _)| height(b).total_cmp(&height(a)));
    Ok(detected)
}

impl Detected {
    /// Notes the true anomalies of an incident's sensor that it meets, and returns the kind of the first.
    fn met_by(
        &mut self,
        incident: &Incident,
        by_sensor: &HashMap<SensorId, Vec<usize>>,
    ) -> Option<AnomalyKind> {
        let mut first = None;
        for at in by_sensor.get(&incident.sensor).into_iter().flatten() {
            let (anomaly, found) = &mut self.anomalies[*at];
            if meets(
                &incident.course,
                &(anomaly.from..anomaly.to),
                incident.window_length,
            ) {
                *found = true;
                first = first.or(Some(anomaly.kind));
            }
        }
        first
    }
}

fn touches(prediction: &Prediction, from: EventTime, to: EventTime) -> bool {
    let start = prediction.aggregate.window_start;
    start < to && from.as_millis() < start.as_millis() + prediction.window_length.as_millis()
}
#[cfg(test)]
mod tests {
    use windrow_common::{Course, IncidentKind, Length, Peak};

    use super::*;

    fn minute(number: i64) -> EventTime {
        EventTime::from_millis(number * 60_000)
    }

    fn incident(tag: &str, opened: i64, score: Option<f64>) -> Incident {
        let kind = match score {
            Some(_) => IncidentKind::Anomaly,
            None => IncidentKind::Silent,
        };
        Incident {
            sensor: SensorId::new("d", tag).unwrap(),
            window_length: Length::from_millis(60_000),
            course: Course {
                until: minute(opened + 2),
                peak: score.map(|score| Peak {
                    score,
                    at: minute(opened),
                    cause: None,
                }),
                ..Course::begun(kind, minute(opened), minute(opened + 1))
            },
        }
    }

    #[tokio::test]
    async fn what_was_wrong_from_the_first_reading_on_is_not_to_be_found_but_no_false_alarm() {
        let store = Store::create("memory:///").unwrap();
        let incidents = [
            incident("silent", 20, None),
            incident("early", 6, Some(1.0)),
            incident("late", 20, Some(2.0)),
            incident("false", 20, Some(1.5)),
        ];
        let put = store.put_incidents(minute(0), incidents.to_vec(), None);
        put.await.unwrap();
        let anomaly = |tag: &str, from: i64| Anomaly {
            sensor: SensorId::new("d", tag).unwrap(),
            kind: AnomalyKind::LevelShift,
            from: minute(from),
            to: minute(from + 4),
        };
        let truth = vec![anomaly("early", 5), anomaly("late", 20), anomaly("missed", 20)];
        let detected = detect(&store, truth, minute(10)).await.unwrap();
        assert_eq!((detected.episodes(), detected.found()), (2, 1));
        assert_eq!(detected.of_kind(AnomalyKind::LevelShift), (2, 1));
        assert_eq!(detected.right_incidents(), 2);
        assert_eq!((detected.precision(), detected.recall()), (Some(0.5), Some(0.5)));
        // The highest scores come first; silence has none.
        let tags = detected
            .incidents
            .iter()
            .map(|(incident, _)| &*incident.sensor.tag);
        assert_eq!(tags.collect::<Vec<_>>(), ["late", "false", "early", "silent"]);
    }
}
