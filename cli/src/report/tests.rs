use std::collections::BTreeMap;

use windrow_common::{Length, SensorId};
use windrow_producer::sensors::SensorTable;
use windrow_producer::source::simulator::{Simulator, SimulatorConfig};
use windrow_producer::source::{Batch, Read, Source, Until};

use super::*;

const WINDOW_MS: i64 = 60_000;

/// Returns a simulated day of some sensors. In place of a model, it scores a window's distance from the typical level.
fn sample() -> Report {
    let config: SimulatorConfig = "sim:devices=3,tags=4,anomalies=0.08,gaps=0.01".parse().unwrap();
    let mut simulator = Simulator::new(config, Until::CaughtUp).unwrap();
    let (mut table, mut batch) = (SensorTable::new(), Batch::default());
    let mut windows: BTreeMap<SensorId, BTreeMap<EventTime, Vec<f64>>> = BTreeMap::new();
    while simulator.read(&mut table, &mut batch).unwrap() == Read::Batch {
        for reading in &batch.readings {
            let sensor = windows.entry(table.id(reading.sensor).clone()).or_default();
            sensor
                .entry(reading.time.floor(Length::from_millis(WINDOW_MS)))
                .or_default()
                .push(reading.value);
        }
    }
    let labels = simulator.labels();
    let sensors = windows
        .into_iter()
        .map(|(sensor, windows)| SensorChart {
            windows: scored(&windows),
            truth: labels
                .iter()
                .filter(|label| label.sensor == sensor)
                .map(|label| TruthSpan {
                    from: label.from,
                    to: label.to,
                    kind: label.kind.name().to_owned(),
                })
                .collect(),
            sensor: sensor.to_string(),
        })
        .collect();
    let card = |label: &str, value: &str, note: &str| Card {
        label: label.into(),
        value: value.into(),
        note: note.into(),
    };
    Report {
        title: "Windrow demo".into(),
        subtitle: "3 devices with 4 sensors each, simulated for a day. A one-class SVM per sensor was trained on the day \
                   before, then every minute of the day was scored."
            .into(),
        summary: vec![
            card("Readings", "4,315,692", "2.9 M a second"),
            card("Windows", "719,280", "of one minute"),
            card("Messages", "12,000", "8,100 a second"),
            card("Predictions", "719,280", "one per window"),
            card("Anomalies", "9,412", "1.3 % of windows"),
            card("Precision", "81 %", "flagged windows that were wrong"),
            card("Recall", "93 %", "anomalies noticed"),
        ],
        audit: Verdict {
            ok: true,
            line: "12,000 messages dispatched = 12,000 predicted + 0 dead-lettered; 0 lost, 0 duplicates.".into(),
        },
        detection: [("spike", 61, 58), ("level shift", 48, 45), ("stuck value", 55, 49), ("noise burst", 43, 43), ("drift", 50, 47)]
            .map(|(kind, episodes, detected)| Detection { kind: kind.into(), episodes, detected })
            .into(),
        incidents: Incidents {
            all: 2,
            columns: vec!["opened", "sensor", "cause"],
            rows: vec![["2026-01-05T03:04:00Z", "device-0000/tag-0", "std 4.1, normally 0.7 to 1.4 <"].map(str::to_owned).into()],
        },
        window: Duration::from_millis(WINDOW_MS as u64),
        sensors,
        files: vec![
            FileLink { what: "Predictions".into(), path: "demo/predictions/date=2026-01-05/".into() },
            FileLink { what: "Models".into(), path: "demo/models/".into() },
        ],
    }
}

fn scored(windows: &BTreeMap<EventTime, Vec<f64>>) -> Vec<ChartPoint> {
    let mut points: Vec<(ChartPoint, f64)> = windows
        .iter()
        .map(|(time, values)| {
            let n = values.len() as f64;
            let mean = values.iter().sum::<f64>() / n;
            let std = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
            let (min, max) = values
                .iter()
                .fold((f64::MAX, f64::MIN), |(a, b), v| (a.min(*v), b.max(*v)));
            (
                ChartPoint {
                    time: *time,
                    mean,
                    min,
                    max,
                    decision: 0.0,
                    anomaly: false,
                },
                std,
            )
        })
        .collect();
    let middle = |mut values: Vec<f64>| {
        values.sort_unstable_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let level = middle(points.iter().map(|(point, _)| point.mean).collect());
    let spread = middle(
        points
            .iter()
            .map(|(point, _)| (point.mean - level).abs())
            .collect(),
    );
    let noise = middle(points.iter().map(|(_, std)| *std).collect());
    for (point, std) in &mut points {
        let off = ((point.mean - level) / (2.6 * spread)).powi(2) + ((*std / noise - 1.0) / 1.2).powi(2);
        point.decision = 0.02 * (1.0 - off);
        point.anomaly = point.decision <= 0.0;
    }
    points.into_iter().map(|(point, _)| point).collect()
}

/// Fails when a tag is not closed by its own end tag.
pub(crate) fn assert_balanced(html: &str) {
    let mut open: Vec<&str> = Vec::new();
    let body = &html[html.find("<html").unwrap()..];
    for tag in body.split('<').skip(1) {
        let (tag, _) = tag.split_once('>').unwrap();
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name));
        } else if !tag.ends_with('/') && name != "meta" {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn the_page_needs_nothing_from_outside_and_stays_small() {
    let report = sample();
    let html = render(&report);
    assert_eq!(html.matches("<figure").count(), 12);
    assert_balanced(&html);
    for outside in [
        "http://", "https://", "url(", "@import", "<script", "<link", " src=",
    ] {
        assert!(!html.contains(outside), "{outside}");
    }
    assert!(html.len() < 3_000_000, "{}", html.len());
    for text in [
        "Audit passed",
        "4,315,692",
        "level shift",
        "the 1 with the highest scores of 2",
        "normally 0.7 to 1.4",
        "device-001/temperature",
        "demo/models/",
    ] {
        assert!(html.contains(text), "{text}");
    }
    assert!(
        !html.contains("NaN") && !html.contains("inf"),
        "every position in a drawing is a number"
    );
}

#[test]
fn every_flagged_window_is_marked_and_says_when_and_how_much() {
    let mut report = sample();
    report.sensors.truncate(1);
    let html = render(&report);
    let flagged = report.sensors[0].windows.iter().filter(|point| point.anomaly);
    let marks = html.matches("r=\"3.2\"").count();
    assert_eq!(marks, flagged.clone().count());
    assert!(marks > 5);
    for point in flagged {
        assert!(html.contains(&format!("<title>{}\nmean ", text::moment(point.time))));
    }
}

#[test]
fn names_from_outside_cannot_add_markup() {
    let evil = "<script>alert('x')</script>\"&";
    let mut report = sample();
    report.sensors.truncate(1);
    report.title = evil.into();
    report.subtitle = evil.into();
    report.summary[0] = Card {
        label: evil.into(),
        value: evil.into(),
        note: evil.into(),
    };
    report.audit = Verdict {
        ok: false,
        line: evil.into(),
    };
    report.detection[0].kind = evil.into();
    report.incidents.rows[0][1] = evil.into();
    report.sensors[0].sensor = evil.into();
    for span in &mut report.sensors[0].truth {
        span.kind = evil.into();
    }
    report.files[0] = FileLink {
        what: evil.into(),
        path: evil.into(),
    };
    let html = render(&report);
    assert!(!html.contains("<script"));
    assert!(!html.contains("alert('"));
    assert!(html.contains("Audit failed"));
    assert_balanced(&html);
}

#[test]
fn an_empty_run_has_a_page_too() {
    let mut report = sample();
    report.summary.clear();
    report.detection.clear();
    report.files.clear();
    report.sensors.truncate(3);
    report.sensors[0].windows.clear();
    report.sensors[1].windows.truncate(1);
    for point in &mut report.sensors[2].windows {
        (point.mean, point.min, point.max, point.decision) = (5.0, 5.0, 5.0, 0.0);
    }
    let html = render(&report);
    assert!(html.contains("No window of this sensor was scored."));
    assert!(!html.contains("NaN") && !html.contains("inf"));
    assert_balanced(&html);
    report.sensors.clear();
    assert_balanced(&render(&report));
}

/// Not a test: writes the sample page to the temporary folder, to look at.
#[test]
#[ignore = "writes a file to look at"]
fn write_the_sample_page() {
    let path = std::env::temp_dir().join("windrow-report.html");
    std::fs::write(&path, render(&sample())).unwrap();
    println!("{}", path.display());
}
