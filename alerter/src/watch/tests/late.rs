//! Predictions that come when their hour is settled.

use super::*;

/// Returns the windows of an hour of a sensor, a part each. The third and the sixth have two rows that differ in what their
/// model says: one row of each is among the first parts, and the other one among parts that are read later.
fn rivals(hour: i64) -> Vec<Vec<Prediction>> {
    let first = hour * 6;
    let one = |number: i64, anomaly| vec![prediction(0, first + number, anomaly)];
    let mut parts = vec![one(2, true), one(5, false), one(0, false)];
    parts.extend([1, 3, 4].map(|number| one(number, number != 4)));
    // Repeats, until the next parts are of another group.
    while parts.len() < PARTS_AT_ONCE {
        parts.push(one(0, false));
    }
    parts.extend([one(2, false), one(5, true)]);
    parts
}

#[tokio::test]
async fn of_rows_in_parts_that_are_not_read_at_once_the_one_that_counts_decides_late_or_not() {
    let others = || (0..60).flat_map(|number| [prediction(1, number, false), prediction(0, number, false)]);
    let is_late =
        |row: &Prediction| *row.sensor.tag == *"t0" && (12..18).contains(&(row.aggregate.mean as i64));
    let mut found = Vec::new();
    for (parts_before, parts_after) in [(rivals(2), Vec::new()), (Vec::new(), rivals(2))] {
        let store = Store::create("memory:///").unwrap();
        let writer = PartWriter::new(&store, "w");
        let rows = others().filter(|row| !is_late(row));
        writer.write_rows(rows.collect()).await.unwrap();
        let mut watch = Watch::open(store.clone(), options(1_000_000)).await.unwrap();
        for part in parts_before {
            writer.write_rows(part).await.unwrap();
        }
        watch.catch_up().await.unwrap();
        for part in parts_after {
            writer.write_rows(part).await.unwrap();
        }
        watch.catch_up().await.unwrap();
        found.push(store.incidents(None, None).await.unwrap());
    }
    // Of the third and the sixth, the normal rows count: two of three windows are anomalous in the fourth for the first time.
    let quiet = Store::create("memory:///").unwrap();
    let is_rival =
        |row: &Prediction| is_late(row) && row.anomaly && [14, 17].contains(&(row.aggregate.mean as i64));
    let late = rivals(2).concat().into_iter().filter(|row| !is_rival(row));
    let rows = others().filter(|row| !is_late(row)).chain(late);
    PartWriter::new(&quiet, "w")
        .write_rows(rows.collect())
        .await
        .unwrap();
    let mut watch = Watch::open(quiet.clone(), options(1_000_000)).await.unwrap();
    watch.catch_up().await.unwrap();
    let right = quiet.incidents(None, None).await.unwrap();
    assert_eq!((right.len(), right[0].course.windows), (1, 2));
    assert_eq!(found, [right.clone(), right]);
}

#[tokio::test]
async fn after_a_restart_the_openings_of_one_sensor_say_nothing_of_another_ones() {
    let store = Store::create("memory:///").unwrap();
    let writer = PartWriter::new(&store, "w");
    // Both open at once. That of the first is over with the last window before the base, 06:00; the other one lasts.
    let anomalous = |sensor: u8, number: i64| number < 32 || sensor == 1;
    let rows =
        (0..46).flat_map(|number| [0, 1].map(|sensor| prediction(sensor, number, anomalous(sensor, number))));
    writer.write_rows(rows.collect()).await.unwrap();
    let mut watch = Watch::open(store.clone(), options(1_000_000)).await.unwrap();
    watch.catch_up().await.unwrap();
    assert_eq!(watch.follower.base(), EventTime::from_millis(6 * 3_600_000));
    let right = store.incidents(None, None).await.unwrap();
    assert_eq!(right[0].course.closed, Some(watch.follower.base()));
    assert_eq!((right.len(), right[1].course.closed), (2, None));
    let mut watch = Watch::open(store.clone(), options(1_000_000)).await.unwrap();
    watch.catch_up().await.unwrap();
    assert_eq!(store.incidents(None, None).await.unwrap(), right);
}

#[tokio::test]
async fn what_opened_before_the_base_and_was_noticed_after_it_is_withdrawn_after_a_restart_too() {
    for is_restarted in [false, true] {
        let store = Store::create("memory:///").unwrap();
        let writer = PartWriter::new(&store, "w");
        // The windows 35 and 36 open an incident; the base is the end of the first.
        let rows = (0..46).map(|number| prediction(0, number, [35, 36].contains(&number)));
        writer.write_rows(rows.collect()).await.unwrap();
        let mut watch = Watch::open(store.clone(), options(1_000_000)).await.unwrap();
        watch.catch_up().await.unwrap();
        assert_eq!(watch.follower.base(), EventTime::from_millis(36 * WINDOW));
        assert_eq!(store.incidents(None, None).await.unwrap().len(), 1);
        if is_restarted {
            watch = Watch::open(store.clone(), options(1_000_000)).await.unwrap();
        }
        // With its last reading, the second is normal.
        let mut whole = prediction(0, 36, false);
        whole.aggregate.count += 1;
        writer.write_rows(vec![whole]).await.unwrap();
        watch.catch_up().await.unwrap();
        assert_eq!(store.incidents(None, None).await.unwrap(), [], "{is_restarted}");
    }
}
