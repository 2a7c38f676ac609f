//! What predictions tell from their model: the threshold of its own, and the cause of an anomaly.

use windrow_common::Severity;

use super::*;

/// Returns a store after these parts, with a life of the watch after each of them.
async fn watched(parts: impl IntoIterator<Item = Vec<Prediction>>) -> Store {
    let store = Store::create("memory:///").unwrap();
    let writer = PartWriter::new(&store, "w");
    for part in parts {
        writer.write_rows(part).await.unwrap();
        // Each life settles all it has read, so that the next one knows only its state.
        let options = WatchOptions {
            hold: Duration::ZERO,
            ..options(1_000_000)
        };
        let mut watch = Watch::open(store.clone(), options).await.unwrap();
        watch.catch_up().await.unwrap();
    }
    store
}

#[tokio::test]
async fn a_window_counts_by_the_threshold_of_its_own_also_across_restarts() {
    let own = |sensor: u8, number: i64, score: f64, threshold: f64| Prediction {
        score: Some(score),
        threshold: Some(threshold),
        ..prediction(sensor, number, score > 0.0)
    };
    // One part for each hour of six windows; two of three have to be anomalous, and what is anomalous spans two parts.
    let scores = [
        -1.0, -1.0, -1.0, -1.0, -1.0, 3.5, 3.4, -1.0, -1.0, -1.0, -1.0, -1.0,
    ];
    for (threshold, right) in [
        (0.3, Some(Severity::Critical)),
        (2.0, Some(Severity::Warning)),
        (3.4, None),
        // Nothing would be above this one, so it is none.
        (f64::INFINITY, Some(Severity::Critical)),
    ] {
        let rows: Vec<_> = (0..)
            .zip(scores)
            .map(|(number, score)| own(0, number, score, threshold))
            .collect();
        let store = watched(rows.chunks(6).map(<[Prediction]>::to_vec)).await;
        let found = store.incidents(None, None).await.unwrap();
        let found: Vec<_> = found.iter().map(|incident| incident.course.severity()).collect();
        assert_eq!(found, Vec::from_iter(right), "{threshold}");
    }
}

#[tokio::test]
async fn the_cause_of_the_highest_score_survives_restarts_in_votes_and_in_open_incidents() {
    let right = |number| prediction(0, number, true).cause;
    let found = async |highest: i64| {
        let rows = (0..24).map(|number| {
            let row = prediction(0, number, [5, 6, 9].contains(&number));
            let score = if number == highest { Some(2.0) } else { row.score };
            Prediction { score, ..row }
        });
        let rows: Vec<_> = rows.collect();
        let store = watched(rows.chunks(6).map(<[Prediction]>::to_vec)).await;
        let found = store.incidents(None, None).await.unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        found
    };
    for highest in [5, 6] {
        let found = found(highest).await;
        assert_eq!(found[0].course.cause(), right(highest).as_ref());
    }
}

#[tokio::test]
async fn rows_of_versions_without_causes_or_with_others_make_the_same_table_in_every_order() {
    let of = |cause: Option<Cause>| -> Vec<Prediction> {
        let row = |number| prediction(0, number, [3, 4, 5, 20, 21, 22].contains(&number));
        let rows = (0..24).map(row).map(|row| Prediction {
            cause: cause.clone().filter(|_| row.anomaly),
            ..row
        });
        rows.collect()
    };
    let cause = |feature: &str| {
        Some(Cause {
            feature: feature.into(),
            value: 1.0,
            normal: None,
            share: 0.5,
        })
    };
    let versions = [of(None), of(cause("mean")), of(cause("std"))];
    let orders = [[0, 1, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1]];
    let mut tables = Vec::new();
    for order in orders {
        let parts = order.map(|version: usize| versions[version].clone());
        for restarts in [true, false] {
            let store = if restarts {
                watched(parts.clone()).await
            } else {
                let steps = parts.clone().map(|part| (part, Then::Step));
                noisy(&steps, 1_000_000, &[], false).await.0
            };
            tables.push(table(&store).await);
            let found = store.incidents(None, None).await.unwrap();
            let causes: Vec<_> = found.iter().map(|incident| incident.course.cause()).collect();
            let right = cause("std");
            assert_eq!(causes, [right.as_ref(), right.as_ref()], "{order:?}, {restarts}");
        }
    }
    assert!(tables.windows(2).all(|two| two[0] == two[1]));
}

#[tokio::test]
async fn a_cause_that_no_text_can_carry_breaks_neither_the_state_nor_the_outbox() {
    let rows = (0..12).map(|number| {
        let mut row = prediction(0, number, [4, 5].contains(&number));
        if let Some(cause) = &mut row.cause {
            cause.value = if number == 4 { f64::INFINITY } else { 1.0 };
            cause.normal = Some((0.0, f64::INFINITY));
        }
        row
    });
    let rows: Vec<_> = rows.collect();
    let store = watched(rows.chunks(6).map(<[Prediction]>::to_vec)).await;
    let found = store.incidents(None, None).await.unwrap();
    // The window 5 has the higher score.
    let right = Cause {
        feature: "mean".into(),
        value: 1.0,
        normal: None,
        share: 0.75,
    };
    assert_eq!(found[0].course.cause(), Some(&right));
    let again = Watch::open(store.clone(), options(1_000_000)).await.unwrap();
    assert_ne!(again.waiting(RECEIVER, EventTime::MAX, usize::MAX), []);
}

#[tokio::test]
async fn numbers_that_are_not_finite_leave_a_state_and_an_outbox_that_can_be_read() {
    for (score, peak) in [
        (f64::INFINITY, Some(f64::MAX)),
        // By its flag.
        (f64::NAN, Some(1.0)),
        (f64::NEG_INFINITY, None),
    ] {
        let rows = (0..24).map(|number| {
            let row = prediction(0, number, [5, 6].contains(&number));
            let mut aggregate = row.aggregate;
            if number > 8 {
                let extreme = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY][number as usize / 5 % 3];
                (aggregate.min, aggregate.max) = (extreme, extreme);
            }
            let cause = row.cause.clone().map(|cause| Cause {
                value: score,
                normal: Some((f64::NEG_INFINITY, f64::NAN)),
                ..cause
            });
            Prediction {
                score: if row.anomaly { Some(score) } else { row.score },
                aggregate,
                cause,
                ..row
            }
        });
        let rows: Vec<_> = rows.collect();
        // The state is written between the two anomalous windows, and while the incident is open.
        let store = watched(rows.chunks(6).map(<[Prediction]>::to_vec)).await;
        let found = store.incidents(None, None).await.unwrap();
        let found = found
            .iter()
            .map(|incident| incident.course.peak.as_ref().unwrap().score);
        assert_eq!(found.collect::<Vec<_>>(), Vec::from_iter(peak), "{score}");
        let watch = Watch::open(store, options(1_000_000)).await.unwrap();
        let events = watch.waiting(RECEIVER, EventTime::MAX, usize::MAX);
        assert_eq!(!events.is_empty(), peak.is_some(), "{score}");
        for event in events {
            let read: Event = serde_json::from_str(&serde_json::to_string(&event).unwrap()).unwrap();
            assert_eq!(read, event);
        }
    }
}
