//! What predictions say of their sensor's model: the threshold of its own.

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
