use crate::mutes::{Mute, Mutes, Stretch};

use super::*;

fn hour(number: i64) -> EventTime {
    EventTime::from_millis(number * 3_600_000)
}

fn mute(sensors: &str, from: i64, to: Option<i64>) -> Mute {
    Mute {
        id: "m".to_owned(),
        sensors: vec![sensors.parse().unwrap()],
        times: vec![Stretch {
            from: hour(from),
            to: to.map(hour),
        }],
        retired: to.is_none(),
        reason: "new bearings".to_owned(),
        added: hour(0),
        calendar: None,
    }
}

pub(super) async fn set(store: &Store, mutes: Vec<Mute>) {
    let set = |kept: &mut Mutes| {
        kept.mutes.clone_from(&mutes);
        Ok(())
    };
    StoredMutes::change(store, set).await.unwrap();
}

/// Mutes a sensor for an afternoon, and takes another one out of service.
pub(super) fn some() -> Vec<Mute> {
    vec![mute("pump/t1", 1, Some(4)), mute("pump/t2", 8, None)]
}

/// Returns the events that a receiver gets, as `tag stage`.
fn told(watch: &Watch) -> Vec<String> {
    let waiting = watch.waiting(RECEIVER, EventTime::MAX, usize::MAX);
    let text = |event: &Event| format!("{} {}", event.tag, event.stage.name());
    waiting.iter().map(text).collect()
}

async fn marks(store: &Store) -> Vec<(String, Option<EventTime>, bool)> {
    let all = store.incidents(None, None).await.unwrap();
    all.iter()
        .map(|incident| {
            let course = &incident.course;
            (
                incident.sensor.tag.to_string(),
                course.muted_until,
                course.closed.is_none(),
            )
        })
        .collect()
}

/// Writes windows of two sensors: `t0` is anomalous in windows 13 and 14, which is over after 18, and `t1` from 20 on.
async fn write(writer: &PartWriter, from: i64, to: i64) {
    let rows = (from..to).flat_map(|number| {
        [
            prediction(0, number, (13..15).contains(&number)),
            prediction(1, number, number >= 20),
        ]
    });
    writer.write_rows(rows.collect()).await.unwrap();
}

async fn opened(store: &Store) -> Watch {
    Watch::open(store.clone(), options(1_000_000)).await.unwrap()
}

#[tokio::test]
async fn what_is_open_when_the_maintenance_ends_is_announced_then_and_what_is_over_is_not() {
    let store = Store::create("memory:///").unwrap();
    let writer = PartWriter::new(&store, "w");
    set(&store, vec![mute("pump/*", 2, Some(4))]).await;
    write(&writer, 0, 23).await;
    // A run that names nobody keeps no events, and the next one reminds nobody of them either.
    let nobody = WatchOptions {
        receivers: Vec::new(),
        ..options(1_000_000)
    };
    let other = Store::create("memory:///").unwrap();
    set(&other, vec![mute("pump/*", 2, Some(4))]).await;
    write(&PartWriter::new(&other, "w"), 0, 23).await;
    Watch::open(other.clone(), nobody)
        .await
        .unwrap()
        .step()
        .await
        .unwrap();
    let mut later = opened(&other).await;
    later.step().await.unwrap();
    assert!(later.open_incidents().is_empty(), "reminded of what is muted");
    let mut watch = opened(&store).await;
    watch.step().await.unwrap();
    let until = Some(hour(4));
    let right = [("t0".to_owned(), until, false), ("t1".to_owned(), until, true)];
    assert_eq!(marks(&store).await, right);
    assert_eq!(told(&watch), [""; 0]);
    assert!(watch.open_incidents().is_empty(), "reminded of what is muted");
    assert_eq!(watch.counts().hushed, 1);
    // Another one goes on, and the time of the maintenance passes.
    let mut watch = opened(&store).await;
    watch.step().await.unwrap();
    assert_eq!(told(&watch), [""; 0]);
    write(&writer, 23, 24).await;
    watch.step().await.unwrap();
    assert_eq!(told(&watch), ["t1 opened"]);
    assert_eq!(watch.open_incidents().len(), 1);
    assert_eq!(marks(&store).await, right);
}

#[tokio::test]
async fn what_is_over_by_the_end_of_its_maintenance_is_not_told_by_a_step_that_passes_both() {
    let store = Store::create("memory:///").unwrap();
    let writer = PartWriter::new(&store, "w");
    set(&store, vec![mute("pump/*", 3, Some(5))]).await;
    let rows = |from: i64, to: i64| {
        let row = |number| prediction(1, number, (20..22).contains(&number));
        (from..to).map(row).collect()
    };
    writer.write_rows(rows(0, 23)).await.unwrap();
    let mut watch = opened(&store).await;
    watch.step().await.unwrap();
    assert_eq!(watch.open_of(IncidentKind::Anomaly), 1);
    writer.write_rows(rows(23, 40)).await.unwrap();
    watch.step().await.unwrap();
    assert_eq!(watch.open_of(IncidentKind::Anomaly), 0);
    assert!(watch.reached() > hour(5));
    assert_eq!(told(&watch), [""; 0]);
}

#[tokio::test]
async fn a_mute_that_is_removed_holds_nothing_back_and_one_that_comes_late_stops_what_was_not_sent() {
    let store = Store::create("memory:///").unwrap();
    let writer = PartWriter::new(&store, "w");
    write(&writer, 0, 22).await;
    let mut watch = opened(&store).await;
    watch.step().await.unwrap();
    assert_eq!(told(&watch), ["t0 opened", "t0 closed", "t1 opened"]);
    set(&store, vec![mute("pump/t1", 3, Some(9))]).await;
    watch.step().await.unwrap();
    assert_eq!(told(&watch), ["t0 opened", "t0 closed"]);
    assert_eq!(marks(&store).await[1].1, Some(hour(9)));
    // After a restart, too.
    let mut watch = opened(&store).await;
    set(&store, Vec::new()).await;
    watch.step().await.unwrap();
    assert_eq!(told(&watch), ["t0 opened", "t0 closed", "t1 opened"]);
    assert_eq!(marks(&store).await[1].1, None);
}

#[tokio::test]
async fn the_silence_of_a_sensor_that_is_taken_out_of_service_is_over_and_does_not_come_back() {
    let store = Store::create("memory:///").unwrap();
    let writer = PartWriter::new(&store, "w");
    let rows = (0..60).filter(|number| *number < 12);
    let rows = rows.map(|number| prediction(0, number, false));
    let others = (0..60).map(|number| prediction(1, number, false));
    writer.write_rows(rows.chain(others).collect()).await.unwrap();
    let mut watch = opened(&store).await;
    watch.catch_up().await.unwrap();
    assert_eq!(marks(&store).await, [("t0".to_owned(), None, true)]);
    set(&store, vec![mute("pump/t0", 9, None)]).await;
    watch.step().await.unwrap();
    let incidents = store.incidents(None, None).await.unwrap();
    assert_eq!(incidents[0].course.closed, Some(hour(9)));
    let others = (60..200).map(|number| prediction(1, number, false));
    writer.write_rows(others.collect()).await.unwrap();
    watch.catch_up().await.unwrap();
    let mut again = opened(&store).await;
    again.catch_up().await.unwrap();
    assert_eq!(store.incidents(None, None).await.unwrap(), incidents);
    assert_eq!(again.open_of(IncidentKind::Silent), 0);
}
