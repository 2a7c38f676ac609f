//! Compares the flagged windows with the true anomalies of the simulation.

use std::collections::{BTreeMap, HashMap, HashSet};

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
    /// Every true anomaly, and whether a window that touches it was flagged.
    pub(super) anomalies: Vec<(Anomaly, bool)>,
    /// What people would have been told.
    pub(super) incidents: FoundIncidents,
}

/// The result of comparing incidents with true anomalies.
#[derive(Debug, Default)]
pub(super) struct FoundIncidents {
    /// Number of incidents.
    pub(super) all: u64,
    /// Of these, incidents that meet a true anomaly; see [`meets`].
    pub(super) right: u64,
    /// True anomalies that an incident meets.
    pub(super) found: u64,
}

impl FoundIncidents {
    /// Returns the number of false incidents that a sensor has in 30 days.
    #[allow(clippy::cast_precision_loss)] // Counts far below 2^53.
    pub(super) fn false_per_sensor_month(&self, sensors: u64, days: f64) -> f64 {
        (self.all - self.right) as f64 / sensors as f64 / days * 30.0
    }
}

impl Detected {
    pub(super) fn episodes(&self) -> u64 {
        self.anomalies.len() as u64
    }

    pub(super) fn noticed(&self) -> u64 {
        self.anomalies.iter().filter(|(_, noticed)| *noticed).count() as u64
    }

    /// Returns the share of flagged windows that touch a true anomaly, or `None` if no window was flagged.
    pub(super) fn precision(&self) -> Option<f64> {
        share(self.right, self.flagged)
    }

    /// Returns the share of true anomalies that were noticed, or `None` if there are none.
    pub(super) fn recall(&self) -> Option<f64> {
        share(self.noticed(), self.episodes())
    }

    /// Returns the number of anomalies of a kind, and how many of them were noticed.
    pub(super) fn of_kind(&self, kind: AnomalyKind) -> (u64, u64) {
        let of_kind = || {
            self.anomalies
                .iter()
                .filter(move |(anomaly, _)| anomaly.kind == kind)
        };
        let noticed = of_kind().filter(|(_, noticed)| *noticed).count();
        (of_kind().count() as u64, noticed as u64)
    }
}

#[allow(clippy::cast_precision_loss)] // Counts far below 2^53.
fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// Compares the predictions in `store` with the true anomalies.
pub(super) async fn detect(store: &Store, truth: Vec<Anomaly>) -> Result<Detected, CliError> {
    let mut by_sensor: HashMap<SensorId, Vec<usize>> = HashMap::new();
    for (at, anomaly) in truth.iter().enumerate() {
        by_sensor.entry(anomaly.sensor.clone()).or_default().push(at);
    }
    let mut detected = Detected {
        flagged: 0,
        right: 0,
        false_alarms: BTreeMap::new(),
        anomalies: truth.into_iter().map(|anomaly| (anomaly, false)).collect(),
        incidents: FoundIncidents::default(),
    };
    for hour in store.hours("predictions", None, None).await? {
        for prediction in store.predictions(&hour).await?.rows {
            if !prediction.anomaly {
                continue;
            }
            detected.flagged += 1;
            let mut right = false;
            for at in by_sensor.get(&prediction.sensor).into_iter().flatten() {
                let (anomaly, noticed) = &mut detected.anomalies[*at];
                if touches(&prediction, anomaly.from, anomaly.to) {
                    *noticed = true;
                    right = true;
                }
            }
            detected.right += u64::from(right);
            if !right {
                *detected.false_alarms.entry(prediction.sensor).or_default() += 1;
            }
        }
    }
    let incidents = store.incidents(None, None).await?;
    detected.incidents = compare(&incidents, &by_sensor, &detected.anomalies);
    Ok(detected)
}

/// Compares incidents with the true anomalies of their sensors.
fn compare(
    incidents: &[Incident],
    by_sensor: &HashMap<SensorId, Vec<usize>>,
    anomalies: &[(Anomaly, bool)],
) -> FoundIncidents {
    let mut found = HashSet::new();
    let mut right = 0;
    for Incident {
        sensor,
        window_length,
        course,
    } in incidents
    {
        let of_sensor = by_sensor.get(sensor).into_iter().flatten();
        let touched = of_sensor.filter(|at| {
            let anomaly = &anomalies[**at].0;
            meets(course, &(anomaly.from..anomaly.to), *window_length)
        });
        let touches = touched.map(|at| found.insert(*at)).count() > 0;
        right += u64::from(touches);
    }
    FoundIncidents {
        all: incidents.len() as u64,
        right,
        found: found.len() as u64,
    }
}

fn touches(prediction: &Prediction, from: EventTime, to: EventTime) -> bool {
    let start = prediction.aggregate.window_start;
    start < to && from.as_millis() < start.as_millis() + prediction.window_length.as_millis()
}
