//! The demo's HTML report: its figures, and charts of the sensors worth looking at.

use std::collections::{BTreeMap, BTreeSet};

use windrow_common::{SensorId, format_duration};
use windrow_producer::source::simulator::AnomalyKind;
use windrow_store::Store;

use super::{DemoArgs, Detected, Outcome};
use crate::error::CliError;
use crate::incidents::{COLUMNS, in_table};
use crate::report::{
    Card, ChartPoint, Detection, FileLink, Incidents, Report, SensorChart, TruthSpan, Verdict,
};
use crate::show;

/// Number of sensors shown for each kind of anomaly.
const OF_EACH_KIND: usize = 2;
/// Number of incidents shown.
const MOST_INCIDENTS: usize = 30;

pub(super) async fn report(args: &DemoArgs, store: &Store, outcome: &Outcome) -> Result<Report, CliError> {
    let (counts, detected) = (&outcome.counts, &outcome.detected);
    let (produced, worked) = (&counts.produced, &counts.worked);
    let percent =
        |share: Option<f64>| share.map_or("–".to_owned(), |share| format!("{:.1} %", share * 100.0));
    let card = |label: &str, value: String, note: String| Card {
        label: label.to_owned(),
        value,
        note,
    };
    let seconds = counts.elapsed.as_secs_f64();
    #[allow(clippy::cast_precision_loss)] // Shown to two digits.
    let rate = |count: u64, unit: &str| format!("{} {unit}", show::short(count as f64 / seconds.max(1e-9)));
    Ok(Report {
        title: "Windrow demo".to_owned(),
        subtitle: format!(
            "{} devices with {} sensors each. A model for each sensor was trained on {} of history; then {} was \
             scored in windows of {}.",
            show::count(args.devices.into()),
            args.tags,
            format_duration(args.history),
            format_duration(args.duration),
            format_duration(args.windows.window)
        ),
        summary: vec![
            card(
                "Readings",
                show::count(produced.accepted),
                rate(produced.accepted, "readings/s"),
            ),
            card(
                "Windows",
                show::count(produced.windows),
                rate(produced.windows, "windows/s"),
            ),
            card(
                "Messages",
                show::count(produced.messages),
                rate(produced.messages, "messages/s"),
            ),
            card(
                "Incidents",
                show::count(detected.incidents.len() as u64),
                format!("from {} flagged windows", show::count(worked.anomalies)),
            ),
            card(
                "Precision",
                percent(detected.precision()),
                "of incidents met a true anomaly".to_owned(),
            ),
            card(
                "Recall",
                percent(detected.recall()),
                "of true anomalies are in an incident".to_owned(),
            ),
        ],
        audit: Verdict {
            ok: outcome.audit.outcome() == crate::audit::Outcome::Clean,
            line: outcome.audit.all.verdict(),
        },
        detection: detected
            .by_kind()
            .map(|(kind, episodes, found)| Detection {
                kind: kind.name().to_owned(),
                episodes,
                detected: found,
            })
            .collect(),
        incidents: incidents(detected),
        window: args.windows.window,
        sensors: charts(store, detected).await?,
        files: vec![
            link("Predictions, Parquet by hour", "store/predictions"),
            link("Dispatched windows, Parquet by hour", "store/dispatched"),
            link("Models, one folder per sensor", "store/models"),
            link("Quarantined readings", "store/quarantine"),
        ],
    })
}

/// Returns the table of the incidents with the highest scores, with what each was about.
fn incidents(detected: &Detected) -> Incidents {
    let rows = detected.incidents.iter().take(MOST_INCIDENTS);
    let rows = rows.map(|(incident, kind)| {
        let truth = kind.map_or("nothing", AnomalyKind::name);
        let mut cells = in_table(incident);
        cells.push(truth.to_owned());
        cells
    });
    Incidents {
        all: detected.incidents.len(),
        columns: COLUMNS.into_iter().chain(["in truth"]).collect(),
        rows: rows.collect(),
    }
}

fn link(what: &str, path: &str) -> FileLink {
    FileLink {
        what: what.to_owned(),
        path: path.to_owned(),
    }
}

/// Returns the sensors to chart: two for each kind of anomaly that was found, one with a missed anomaly, and the one with the
/// most false alarms.
fn interesting(detected: &Detected) -> BTreeSet<SensorId> {
    let mut sensors = BTreeSet::new();
    for kind in AnomalyKind::ALL {
        let of_kind = detected
            .anomalies
            .iter()
            .filter(|(anomaly, found)| anomaly.kind == kind && *found);
        sensors.extend(
            of_kind
                .take(OF_EACH_KIND)
                .map(|(anomaly, _)| anomaly.sensor.clone()),
        );
    }
    let missed = detected.to_be_found().find(|(_, found)| !found);
    sensors.extend(missed.map(|(anomaly, _)| anomaly.sensor.clone()));
    let worst = detected.false_alarms.iter().max_by_key(|(_, count)| **count);
    sensors.extend(worst.map(|(sensor, _)| sensor.clone()));
    sensors
}

async fn charts(store: &Store, detected: &Detected) -> Result<Vec<SensorChart>, CliError> {
    let mut windows: BTreeMap<SensorId, Vec<ChartPoint>> = interesting(detected)
        .into_iter()
        .map(|sensor| (sensor, Vec::new()))
        .collect();
    for hour in store.hours("predictions", None, None).await? {
        for prediction in store.predictions(&hour).await?.rows {
            if let Some(points) = windows.get_mut(&prediction.sensor) {
                let aggregate = prediction.aggregate;
                points.push(ChartPoint {
                    time: aggregate.window_start,
                    mean: aggregate.mean,
                    min: aggregate.min,
                    max: aggregate.max,
                    decision: prediction.decision,
                    anomaly: prediction.anomaly,
                });
            }
        }
    }
    let truth = |sensor: &SensorId| {
        let own = detected
            .anomalies
            .iter()
            .filter(|(anomaly, _)| anomaly.sensor == *sensor);
        own.map(|(anomaly, _)| TruthSpan {
            from: anomaly.from,
            to: anomaly.to,
            kind: anomaly.kind.name().to_owned(),
        })
        .collect()
    };
    Ok(windows
        .into_iter()
        .map(|(sensor, windows)| SensorChart {
            truth: truth(&sensor),
            sensor: sensor.to_string(),
            windows,
        })
        .collect())
}
