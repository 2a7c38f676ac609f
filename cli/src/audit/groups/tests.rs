use std::ops::Range;

use serde_json::json;
use windrow_common::{Interval, Length, TagSeries};
use windrow_model::{Kernel, Model, OneClassSvm};
use windrow_queue::{Message, Reason};
use windrow_store::PartWriter;

use super::*;
use crate::audit::{Audit, Scope};

const MINUTE: i64 = 60_000;
const TAGS: [&str; 3] = ["flow", "power", "speed"];
const SMOOTHING: i64 = 5;
/// Readings in each window of each tag.
const READINGS: u64 = 4;
/// The grouper has asked for everything before.
const BASE: i64 = 120;
const ALL: Range<i64> = 0..180;

fn minute(at: i64) -> EventTime {
    EventTime::from_millis(at * MINUTE)
}

fn aggregate(at: i64, count: u64) -> Aggregate {
    Aggregate {
        window_start: minute(at),
        count,
        mean: 1.0,
        std: 0.0,
        min: 1.0,
        max: 1.0,
        first: 1.0,
        last: 1.0,
    }
}

fn row(sensor: SensorId, at: i64, count: u64, version: &str) -> Prediction {
    Prediction {
        sensor,
        window_length: Length::from_millis(MINUTE),
        aggregate: aggregate(at, count),
        decision: 1.0,
        score: Some(-1.0),
        threshold: None,
        anomaly: false,
        model_version: version.into(),
        cause: None,
        shadow: None,
    }
}

/// Returns the number of readings that the row of a window is made of.
fn whole(at: i64) -> u64 {
    TAGS.len() as u64 * READINGS * (at + 1).min(SMOOTHING).unsigned_abs()
}

/// A store with a model of three tags, and three hours of their predictions.
struct Stage {
    store: Store,
    writer: PartWriter,
    /// Of the model.
    version: String,
}

impl Stage {
    async fn new() -> Self {
        let store = Store::create("memory:///").unwrap();
        let length = Length::from_millis(MINUTE);
        let group = Group::new(TAGS.map(Arc::from).to_vec(), SMOOTHING as usize, length).unwrap();
        let svm = OneClassSvm::new(3, vec![1.0; 3], vec![0.5], -0.4, Kernel::Rbf { gamma: 0.1 }).unwrap();
        let model =
            Model::of_group(group, "mean".parse().unwrap(), Vec::new(), svm.into(), "by hand").unwrap();
        let sensor = SensorId::of_group(&"pump".into());
        let repository = ModelRepository::new(store.clone());
        repository.put(&sensor, &model).await.unwrap();
        let version = repository.current(&sensor).await.unwrap().unwrap();
        let writer = PartWriter::new(&store, "p");
        let stage = Self {
            store,
            writer,
            version,
        };
        let tags = TAGS.iter().map(|tag| SensorId::new("pump", tag).unwrap());
        let rows = tags.flat_map(|tag| ALL.map(move |at| row(tag.clone(), at, READINGS, "0123456789abcdef")));
        stage.write(rows.collect()).await;
        stage
    }

    async fn write(&self, rows: Vec<Prediction>) {
        self.writer.write_rows(rows).await.unwrap();
    }

    /// Writes predictions of all tags together.
    async fn score(&self, windows: impl Iterator<Item = i64>) {
        let sensor = SensorId::of_group(&"pump".into());
        let rows = windows.map(|at| row(sensor.clone(), at, whole(at), &self.version));
        self.write(rows.collect()).await;
    }

    /// Audits the windows from a minute on, when a grouper has read so many parts of the second hour.
    async fn audit(&self, from: Option<i64>, parts: u64, dead: &[DeadLetter]) -> Audit {
        let state = json!({
            "format": 1, "base": minute(BASE), "origin": minute(0),
            "hours": [{"hour": minute(60), "parts": parts, "newest": minute(0)}],
        });
        self.store
            .put("grouping/state.json", state.to_string().into_bytes())
            .await
            .unwrap();
        let scope = Scope::begin(&self.store, from.map(minute), None).await.unwrap();
        scope.audit(dead).await.unwrap()
    }
}

/// Returns a dead letter that asks for these windows.
fn dead_letter(windows: Range<i64>) -> DeadLetter {
    let start = minute(windows.start);
    let message = GroupMessage {
        sensor: SensorId::of_group(&"pump".into()),
        interval: Interval {
            start,
            length: Length::from_millis((windows.end - windows.start) * MINUTE),
        },
        window_length: Length::from_millis(MINUTE),
        series: (TAGS.iter())
            .map(|tag| TagSeries {
                tag: (*tag).into(),
                aggregates: (windows.start - SMOOTHING + 1..windows.end)
                    .map(|at| aggregate(at, READINGS))
                    .collect(),
            })
            .collect(),
    };
    DeadLetter {
        message: Message {
            id: message.id(),
            kind: "".into(),
            content_type: "".into(),
            enqueued_at: start,
            traceparent: None,
            body: message.encode().unwrap().into(),
        },
        reason: Reason {
            code: "no-model".into(),
            detail: String::new(),
            worker: "w".into(),
        },
        dead_at: start,
        deliveries: 1,
    }
}

#[tokio::test]
async fn every_window_that_follows_from_those_of_the_tags_is_accounted_for() {
    let stage = Stage::new().await;
    let missing = [20, 61, 62, 130];
    stage
        .score(ALL.filter(|at| *at >= 2 && !missing.contains(at)))
        .await;
    let audit = stage.audit(None, 2, &[dead_letter(61..62)]).await;
    let right = GroupTally {
        // The first two windows have less than half of what a row is made of.
        expected: 178,
        predicted: 174,
        dead_lettered: 1,
        lost: 2,
        pending: 1,
    };
    assert_eq!(audit.groups, Some(right));
    let lost = [
        "pump/%28group%29 1970-01-01T00:20:00Z",
        "pump/%28group%29 1970-01-01T01:02:00Z",
    ];
    assert_eq!(audit.findings.lost, lost);
    assert!(
        audit
            .explanations
            .iter()
            .any(|why| why.contains("grouping/state.json")),
        "{:?}",
        audit.explanations
    );

    // The grouper has still to see a part of the second hour.
    let audit = stage.audit(None, 1, &[]).await;
    let groups = audit.groups.unwrap();
    assert_eq!((groups.lost, groups.pending), (1, 3));
    // What lies before is still what rows are made of.
    let audit = stage.audit(Some(60), 2, &[]).await;
    let groups = audit.groups.unwrap();
    assert_eq!((groups.expected, groups.lost, groups.pending), (120, 2, 1));
    assert!(
        !audit.hours.contains_key("date=1970-01-01/hour=00"),
        "{:?}",
        audit.hours
    );
}

#[tokio::test]
async fn a_row_counts_if_it_has_all_readings_or_was_scored_by_a_model_of_other_tags() {
    let stage = Stage::new().await;
    // The model is newer than the first windows.
    stage.score((10..180).filter(|at| *at != 50 && *at != 70)).await;
    let sensor = SensorId::of_group(&"pump".into());
    let fewer = row(sensor.clone(), 50, whole(50) - 1, &stage.version);
    let of_others = row(sensor, 70, 1, "0000000000000000");
    stage.write(vec![fewer, of_others]).await;
    let groups = stage.audit(None, 3, &[]).await.groups.unwrap();
    let right = GroupTally {
        expected: 170,
        predicted: 169,
        lost: 1,
        ..GroupTally::default()
    };
    assert_eq!(groups, right);
}
