//! What survives a kill between any two of a watch's accesses to the store.

use std::task::Poll;

use super::*;

const DAY: i64 = 86_400_000 / WINDOW;

/// Runs a life that is killed after so many waits; a write that has begun ends as it would on disk. Returns whether it got to
/// its end.
fn lives(folder: &str, waits: usize) -> bool {
    let runtime = runtime();
    let finished = runtime.block_on(async {
        let store = Store::open(folder).unwrap();
        let mut life = Box::pin(async {
            let mut watch = Watch::open(store, options(1_000_000)).await.unwrap();
            watch.catch_up().await.unwrap();
        });
        let mut left = waits;
        std::future::poll_fn(move |context| {
            if left == 0 {
                return Poll::Ready(false);
            }
            left -= 1;
            life.as_mut().poll(context).map(|()| true)
        })
        .await
    });
    drop(runtime);
    finished
}

fn of(sensor: u8, days: &[i64]) -> Vec<Prediction> {
    // Every fourth hour of a day, which makes fewer parts.
    let numbers = days.iter().flat_map(|day| day * DAY..(day + 1) * DAY);
    let some = numbers.filter(|number| number % 24 < 6);
    some.map(|number| prediction(sensor, number, number % 24 < 3 && number % 5 == 0))
        .collect()
}

fn write(folder: &str, rows: Vec<Prediction>) {
    runtime().block_on(async {
        let store = Store::open(folder).unwrap();
        PartWriter::new(&store, "w").write_rows(rows).await.unwrap();
    });
}

fn incidents(folder: &str) -> Vec<windrow_common::Incident> {
    runtime().block_on(async {
        let store = Store::open(folder).unwrap();
        store.incidents(None, None).await.unwrap()
    })
}

#[test]
fn a_kill_while_late_days_are_worked_in_loses_none_of_them() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [quiet, killed] = folders.each_ref().map(|folder| folder.path().to_str().unwrap());
    for folder in [quiet, killed] {
        drop(runtime().block_on(async { Store::create(folder) }).unwrap());
    }
    write(quiet, [of(0, &[0, 1, 2, 3]), of(1, &[0, 1, 2, 3])].concat());
    assert!(lives(quiet, usize::MAX));
    write(killed, [of(0, &[0, 1, 2, 3]), of(1, &[0, 3])].concat());
    assert!(lives(killed, usize::MAX));
    let mut deaths = 0;
    // The states between the two days do not know the first one, and must not be the past of the second one.
    for missing in [1, 2] {
        write(killed, of(1, &[missing]));
        let mut waits = 1;
        while !lives(killed, waits) {
            deaths += 1;
            // Each wait at first, then some, so that the test ends.
            waits += 1 + waits / 12;
        }
    }
    assert_eq!(incidents(killed), incidents(quiet));
    // Nor does a later life find anything that the last one left undone.
    assert!(lives(killed, usize::MAX));
    assert_eq!(incidents(killed), incidents(quiet));
    assert!(deaths > 20, "only {deaths} lives were killed");
}

#[tokio::test]
async fn an_incident_that_was_withdrawn_and_opens_again_is_told_with_other_ids() {
    let store = Store::create("memory:///").unwrap();
    let writer = PartWriter::new(&store, "w");
    let with = |number: i64, anomaly: bool, count: u64| {
        let row = prediction(0, number, anomaly);
        Prediction {
            aggregate: Aggregate {
                count,
                ..row.aggregate
            },
            ..row
        }
    };
    let rows = (0..6).map(|number| with(number, (2..4).contains(&number), 2));
    writer.write_rows(rows.collect()).await.unwrap();
    let mut ids = Vec::new();
    let mut watch = Watch::open(store.clone(), options(1_000_000)).await.unwrap();
    watch.step().await.unwrap();
    for (count, anomaly) in [(3, false), (4, true), (5, false), (6, true)] {
        writer.write_rows(vec![with(2, anomaly, count)]).await.unwrap();
        // A life that ends between the outbox and the table adds its events again.
        for news in watch.follower.news().await.unwrap() {
            watch.take(&news).await.unwrap();
        }
        let changes = watch.fleet.changes();
        for event in changes.iter().flat_map(events_of) {
            watch.tell(event);
        }
        watch.outbox.write().await.unwrap();
        watch = Watch::open(store.clone(), options(1_000_000)).await.unwrap();
        watch.step().await.unwrap();
        let waiting = watch.waiting(RECEIVER, EventTime::MAX, usize::MAX);
        watch.taken(RECEIVER, &waiting).await.unwrap();
        ids.extend(waiting.into_iter().map(|event| event.id));
    }
    let incident = "pump/t0@10m/1970-01-01T00:20:00Z/anomaly";
    let right = ["opened", "withdrawn", "opened/2", "withdrawn/2", "opened/3"];
    let right = right.map(|stage| format!("{incident}/{stage}"));
    assert_eq!(ids, right);
}
