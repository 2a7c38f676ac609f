//! What a history says of sensors, for a watch that has not seen them.

use windrow_common::{Interval, ScoringMessage};

use super::*;
use crate::Habits;

/// Windows of a history that ends where the windows of the tests begin.
const HISTORY: i64 = 300;

/// Returns a window whose readings all have one value.
fn flat(sensor: u8, number: i64, value: f64) -> Prediction {
    let mut row = prediction(sensor, number, false);
    row.aggregate.min = value;
    row.aggregate.max = value;
    row
}

/// Returns the message of a window.
fn message(row: &Prediction) -> ScoringMessage {
    ScoringMessage {
        sensor: row.sensor.clone(),
        interval: Interval {
            start: row.aggregate.window_start,
            length: row.window_length,
        },
        window_length: row.window_length,
        aggregates: vec![row.aggregate],
    }
}

/// Writes what a history of some rows says.
async fn learn(store: &Store, rows: impl Iterator<Item = Prediction>) {
    let mut habits = Habits::default();
    for row in rows {
        habits.take(&message(&row));
    }
    habits.write(store).await.unwrap();
}

/// Writes habits of two sensors of which one pauses.
pub(super) async fn some(store: &Store) {
    let history = (-HISTORY..0).filter(|number| number % 50 > -40);
    let of_one = history.map(|number| prediction(0, number, false));
    let of_another = (-HISTORY..0).map(|number| flat(1, number, number as f64));
    learn(store, of_one.chain(of_another)).await;
}

/// Watches the windows of a sensor that holds one value from its third window on, and another one that goes on.
async fn stuck_at_once(store: &Store) -> Vec<IncidentKind> {
    let rows = (0..40).map(|number| flat(1, number, number.min(2) as f64));
    let rows = rows.chain((0..40).map(|number| prediction(2, number, false)));
    PartWriter::new(store, "w")
        .write_rows(rows.collect())
        .await
        .unwrap();
    let mut watch = Watch::open(store.clone(), options(1_000_000)).await.unwrap();
    watch.catch_up().await.unwrap();
    let incidents = store.incidents(None, None).await.unwrap();
    incidents.iter().map(|incident| incident.course.kind).collect()
}

#[tokio::test]
async fn a_sensor_whose_history_is_known_may_be_stuck_in_its_first_hours() {
    let store = Store::create("memory:///").unwrap();
    assert_eq!(stuck_at_once(&store).await, []);
    let store = Store::create("memory:///").unwrap();
    some(&store).await;
    assert_eq!(stuck_at_once(&store).await, [IncidentKind::Stuck]);
}

#[tokio::test]
async fn what_was_learned_while_a_watch_runs_counts_for_sensors_that_it_meets_later() {
    let store = Store::create("memory:///").unwrap();
    let writer = PartWriter::new(&store, "w");
    let mut watch = Watch::open(store.clone(), options(1_000_000)).await.unwrap();
    let others = (0..40).map(|number| prediction(2, number, false)).collect();
    writer.write_rows(others).await.unwrap();
    watch.step().await.unwrap();
    some(&store).await;
    let rows = (0..40).map(|number| flat(1, number, number.min(2) as f64));
    writer.write_rows(rows.collect()).await.unwrap();
    watch.catch_up().await.unwrap();
    let incidents = store.incidents(None, None).await.unwrap();
    assert_eq!(incidents.len(), 1, "{incidents:?}");
}

#[tokio::test]
async fn the_first_history_of_a_sensor_counts() {
    let store = Store::create("memory:///").unwrap();
    some(&store).await;
    let written = async || store.list("alerting/habits").await.unwrap().len();
    assert_eq!(written().await, 1);
    // A sensor that repeats its values for long could not be stuck so soon.
    let constant = (-HISTORY..0).map(|number| flat(1, number, (number / 100) as f64));
    learn(&store, constant).await;
    assert_eq!(written().await, 1, "nothing is new");
    let another = (-HISTORY..0).map(|number| flat(2, number, 7.0));
    learn(&store, another).await;
    assert_eq!(written().await, 2);
    assert_eq!(stuck_at_once(&store).await, [IncidentKind::Stuck]);
}

#[tokio::test]
async fn a_damaged_file_is_named() {
    let store = Store::create("memory:///").unwrap();
    store
        .put("alerting/habits/1-1.ndjson.zst", "no zstd")
        .await
        .unwrap();
    let error = Watch::open(store, options(10)).await.unwrap_err().to_string();
    assert!(error.contains("alerting/habits/1-1.ndjson.zst"), "{error}");
}
