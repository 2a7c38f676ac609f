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
    habits.write(store, |_| true).await.unwrap();
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
async fn a_history_of_long_ago_or_of_other_windows_says_nothing() {
    let fortnight = 14 * 86_400_000 / WINDOW;
    let vary = |number: i64| flat(1, number, number as f64);
    let with_more_readings = |number: i64| {
        let mut row = vary(number);
        row.aggregate.count = 5;
        row
    };
    let longer = |number: i64| Prediction {
        window_length: Length::from_millis(2 * WINDOW),
        ..vary(number)
    };
    for (why, history) in [
        ("it counts", (-HISTORY..0).map(vary).collect::<Vec<_>>()),
        ("it overlaps", (-HISTORY..1).map(vary).collect()),
        (
            "long ago",
            (-HISTORY..0).map(|number| vary(number - fortnight - 1)).collect(),
        ),
        ("another rate", (-HISTORY..0).map(with_more_readings).collect()),
        ("another length", (-HISTORY..-1).step_by(2).map(longer).collect()),
        ("too short", (-20..0).map(vary).collect()),
    ] {
        let store = Store::create("memory:///").unwrap();
        learn(&store, history.into_iter()).await;
        let found = stuck_at_once(&store).await;
        let expected: &[IncidentKind] = match why {
            "it counts" => &[IncidentKind::Stuck],
            _ => &[],
        };
        assert_eq!(found, expected, "{why}");
    }
}

#[tokio::test]
async fn a_damaged_file_is_named_and_the_others_are_read_once_it_is_gone() {
    let store = Store::create("memory:///").unwrap();
    some(&store).await;
    let damaged = "alerting/habits/00000002.ndjson.zst";
    store.put(damaged, "no zstd").await.unwrap();
    store.put("alerting/habits/notes.txt", "mine").await.unwrap();
    let mut stored = StoredHabits::default();
    let error = stored.news(&store).await.unwrap_err().to_string();
    assert!(error.contains(damaged), "{error}");
    store.delete(damaged).await.unwrap();
    assert_eq!(stored.news(&store).await.unwrap().len(), 2);
    assert!(stored.news(&store).await.unwrap().is_empty());
}

#[tokio::test]
async fn of_two_trainings_at_once_one_is_first_and_both_leave_what_is_new() {
    let history = |sensors: std::ops::Range<u8>| {
        sensors.flat_map(|sensor| (-HISTORY..0).map(move |number| prediction(sensor, number, false)))
    };
    // In some rounds both look for what is there before either writes, as operations on files take time.
    for _ in 0..20 {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::create(folder.path().to_str().unwrap()).unwrap();
        tokio::join!(learn(&store, history(0..2)), learn(&store, history(1..3)));
        let listed = store.list("alerting/habits").await.unwrap();
        assert_eq!(listed.len(), 2);
        let known = StoredHabits::default().news(&store).await.unwrap();
        assert_eq!(known.len(), 3);
    }
}
