use std::time::Duration;

use windrow_common::{Aggregate, Course, Incident, Prediction};
use windrow_producer::quarantine::QuarantineReason;
use windrow_store::{DispatchedWindow, PartWriter};

use super::super::attention::{LoudModel, drifting, loud_models};
use super::*;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

fn sensor(tag: &str) -> SensorId {
    SensorId::new("pump", tag).unwrap()
}

fn minute(number: i64) -> EventTime {
    EventTime::from_millis(number * MINUTE)
}

fn dispatched(tag: &str, number: i64) -> DispatchedWindow {
    DispatchedWindow {
        sensor: sensor(tag),
        window_start: minute(number),
        window_length: Length::from_millis(MINUTE),
        count: 2,
        source: "a".into(),
    }
}

fn prediction(tag: &str, number: i64) -> Prediction {
    Prediction {
        sensor: sensor(tag),
        window_length: Length::from_millis(MINUTE),
        aggregate: Aggregate {
            window_start: minute(number),
            count: 2,
            mean: 1.0,
            std: 0.0,
            min: 1.0,
            max: 1.0,
            first: 1.0,
            last: 1.0,
        },
        decision: 1.0,
        score: Some(-1.0),
        anomaly: false,
        model_version: "00000000000000aa".into(),
        threshold: None,
        cause: None,
        shadow: None,
    }
}

fn incident(tag: &str, kind: IncidentKind, from: i64, closed: Option<i64>) -> Incident {
    let mut course = Course::begun(kind, minute(from), minute(from + 20));
    course.closed = closed.map(minute);
    course.until = minute(closed.unwrap_or(from + 20));
    Incident {
        sensor: sensor(tag),
        window_length: Length::from_millis(MINUTE),
        course,
    }
}

/// Writes windows of a sensor from the minute `from` on, all dispatched and those that are `scored` predicted.
async fn write(writer: &PartWriter, tag: &str, minutes: std::ops::Range<i64>, scored: bool) {
    let windows = minutes.clone().map(|number| dispatched(tag, number));
    writer.write_rows(windows.collect()).await.unwrap();
    if scored {
        let rows: Vec<_> = minutes.map(|number| prediction(tag, number)).collect();
        writer.write_rows(rows.clone()).await.unwrap();
        // A crash wrote some of them twice.
        writer.write_rows(rows[..rows.len() / 2].to_vec()).await.unwrap();
    }
}

#[tokio::test]
async fn every_expected_window_is_in_one_column() {
    let store = Store::create("memory:///").unwrap();
    let writer = PartWriter::new(&store, "w");
    let hours = |from: i64, to: i64| from * 60..to * 60;
    write(&writer, "steady", hours(0, 6), true).await;
    // Falls silent after five hours and a half.
    write(&writer, "silent", 0..330, true).await;
    write(&writer, "stuck", hours(0, 6), true).await;
    write(&writer, "modelless", hours(0, 6), false).await;
    // Lost ten windows, of which four have readings in quarantine.
    write(&writer, "gap", 0..310, true).await;
    write(&writer, "gap", 320..360, true).await;
    let lines = (310..314).flat_map(|number| {
        let line = |second: i64| {
            serde_json::json!({
                "source": "a", "partition": "p", "at": minute(400).to_string(), "reason": QuarantineReason::Late,
                "offset": number * 100 + second, "detail": "it came late", "device": "pump", "tag": "gap",
                "time": EventTime::from_millis(number * MINUTE + second * 1_000).to_string(), "value": "1.0",
                "interval_ms": MINUTE,
            })
        };
        [line(0), line(30)]
    });
    writer
        .write_lines("quarantine", lines.collect::<Vec<_>>())
        .await
        .unwrap();
    let incidents = Incidents::of(
        vec![
            incident("silent", IncidentKind::Silent, 330, None),
            incident("dead", IncidentKind::Silent, -600, None),
            incident("stuck", IncidentKind::Stuck, 300, Some(345)),
        ],
        None,
    );
    let accounting = Accounting::of(&store, &incidents, (None, None), Length::HOUR)
        .await
        .unwrap();
    let last = accounting.lines[&EventTime::from_millis(5 * HOUR)];
    let right = Account {
        expected: 6 * 60,
        scored: 60 + 30 + 15 + 50,
        stuck: 45,
        silent: 30 + 60,
        no_model: 60,
        unscored: 0,
        quarantined: 4,
        unexplained: 6,
        quarantined_readings: 8,
    };
    assert_eq!(last, right);
    for (at, line) in &accounting.lines {
        let found = line.scored + line.stuck + line.silent + line.no_model + line.unscored;
        let found = found + line.quarantined + line.unexplained;
        assert_eq!(found, line.expected, "{at}: {line:?}");
    }
    assert_eq!(accounting.without_model(), [&sensor("modelless")]);
    // A day is the sum of its hours, and what is not asked for is learned from and left out.
    let by_day = Accounting::of(&store, &incidents, (None, None), Length::DAY)
        .await
        .unwrap();
    let mut sum = Account::default();
    accounting.lines.values().for_each(|line| sum.add(line));
    assert_eq!(by_day.lines.into_values().collect::<Vec<_>>(), [sum]);
    let from = Some(EventTime::from_millis(5 * HOUR));
    let only = Accounting::of(&store, &incidents, (from, None), Length::HOUR)
        .await
        .unwrap();
    assert_eq!(only.lines.into_values().collect::<Vec<_>>(), [right]);
}

#[tokio::test]
async fn what_needs_attention_is_of_the_stretch_that_is_asked_for() {
    let store = Store::create("memory:///").unwrap();
    let writer = PartWriter::new(&store, "w");
    let length = Length::HOUR;
    let row = |tag: &str, number: i64| {
        let mut row = prediction(tag, number * 60);
        row.window_length = length;
        // One rises by half of what it moves in a day; one flags each tenth window.
        let cycle = f64::from(u8::try_from(number % 24).unwrap());
        row.aggregate.mean = cycle + if tag == "drifts" { number as f64 / 4.0 } else { 0.0 };
        row.anomaly = tag == "loud" && number % 10 == 0;
        row
    };
    let hours = 12 * 24;
    let rows = (0..hours).flat_map(|number| ["drifts", "loud", "quiet"].map(|tag| row(tag, number)));
    writer.write_rows(rows.collect()).await.unwrap();
    let incidents = Incidents::of(Vec::new(), None);
    let from = Some(EventTime::from_millis(2 * 24 * HOUR));
    let mut accounting = Accounting::of(&store, &incidents, (from, None), Length::DAY)
        .await
        .unwrap();
    let counted: Vec<_> = accounting
        .sensors()
        .iter()
        .map(|known| (known.scored, known.scored_time, known.anomalies))
        .collect();
    let (scored, scored_time) = (10 * 24, Duration::from_millis(10 * 24 * HOUR as u64));
    assert_eq!(
        counted,
        [
            (scored, scored_time, 0),
            (scored, scored_time, 24),
            (scored, scored_time, 0)
        ]
    );
    let loud = loud_models(&accounting.models, accounting.sensors(), 9)
        .await
        .unwrap();
    let loud: Vec<_> = loud.iter().map(LoudModel::flagged).collect();
    assert_eq!(loud, [(&sensor("loud"), 0.1)]);
    let found = drifting(accounting.sensors_mut());
    let names: Vec<_> = found
        .iter()
        .map(|(sensor, drift)| (sensor.tag.to_string(), drift.days))
        .collect();
    assert_eq!(names, [("drifts".to_owned(), 9)]);
    assert!((found[0].1.moved - 9.0 * 6.0).abs() < 1e-9, "{found:?}");
}
