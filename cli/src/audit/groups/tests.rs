use std::ops::Range;

use serde_json::json;
use windrow_common::{Interval, Length, TagSeries};
use windrow_model::{Kernel, Model, OneClassSvm};
use windrow_queue::{Message, Reason};
use windrow_store::PartWriter;

use super::*;
use crate::audit::{Audit, Scope};

const MINUTE: i64 = 60_000;
const TAGS: [&str; 4] = ["flow", "power", "speed", "temp"];
const SMOOTHING: i64 = 5;
/// Readings in each window of each tag.
const READINGS: u64 = 4;
/// The grouper has asked for all windows before this minute.
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

/// A store with a model of four tags, and three hours of their predictions.
struct Stage {
    store: Store,
    writer: PartWriter,
    /// Of the current model.
    version: String,
    /// Of models that were current before: of the same tags, and of two of them.
    former: [String; 2],
}

impl Stage {
    async fn new() -> Self {
        let store = Store::create("memory:///").unwrap();
        let sensor = SensorId::of_group(&"pump".into());
        let repository = ModelRepository::new(store.clone());
        let mut versions = Vec::new();
        for (tags, rho) in [(&TAGS[..], 0.2), (&TAGS[..2], 0.3), (&TAGS[..], 0.4)] {
            let length = Length::from_millis(MINUTE);
            let names = tags.iter().copied().map(Arc::from).collect();
            let group = Group::new(names, SMOOTHING as usize, length).unwrap();
            let kernel = Kernel::Rbf { gamma: 0.1 };
            let svm = OneClassSvm::new(tags.len(), vec![1.0; tags.len()], vec![0.5], -rho, kernel).unwrap();
            let features = "mean".parse().unwrap();
            let model = Model::of_group(group, features, Vec::new(), svm.into(), "by hand").unwrap();
            repository.put(&sensor, &model).await.unwrap();
            versions.push(repository.current(&sensor).await.unwrap().unwrap());
        }
        let [same, two, version] = <[String; 3]>::try_from(versions).unwrap();
        let stage = Self {
            writer: PartWriter::new(&store, "p"),
            store,
            version,
            former: [same, two],
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

    /// Audits the windows from a minute on, when a grouper has read so many parts of the second hour; 0 if it keeps no hours in mind.
    async fn audit(&self, from: Option<i64>, parts: u64, dead: &[DeadLetter]) -> Audit {
        let seen = json!({"hour": minute(60), "parts": parts, "newest": minute(0)});
        let hours = if parts > 0 { vec![seen] } else { Vec::new() };
        let state = json!({
            "format": 1, "base": minute(BASE), "origin": minute(0),
            "hours": hours,
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
        ..GroupTally::default()
    };
    assert_eq!(audit.groups, Some(right));
    let lost = [
        "pump/%28group%29 1970-01-01T00:20:00Z",
        "pump/%28group%29 1970-01-01T01:02:00Z",
    ];
    assert_eq!(audit.findings.lost, lost);
    let back = &audit.get_back;
    assert!(
        back.iter().any(|way| way.contains("grouping/state.json")),
        "{back:?}"
    );

    // Of a grouper that keeps no hours in mind, the base alone tells what it has asked for.
    let groups = stage.audit(None, 0, &[]).await.groups.unwrap();
    assert_eq!((groups.lost, groups.pending), (3, 1));
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
async fn what_the_grouper_has_still_to_see_is_not_lost() {
    let stage = Stage::new().await;
    stage.score((2..180).filter(|at| ![20, 62].contains(at))).await;
    // A part of the second hour came after the grouper was there.
    let groups = stage.audit(None, 1, &[]).await.groups.unwrap();
    assert_eq!((groups.lost, groups.pending), (1, 1));
    // A reading that comes late for the last minute of an hour is in the rows of the next hour, too.
    let late = row(
        SensorId::new("pump", "flow").unwrap(),
        119,
        READINGS + 1,
        "0123456789abcdef",
    );
    stage.write(vec![late]).await;
    let groups = stage.audit(None, 2, &[]).await.groups.unwrap();
    assert_eq!((groups.lost, groups.fewer, groups.pending), (1, 0, 1 + 5));
    // The grouper saw that part, and the rows are not there.
    let groups = stage.audit(None, 3, &[]).await.groups.unwrap();
    assert_eq!((groups.lost, groups.fewer, groups.pending), (2, 1, 4));
    assert_eq!(groups.missing(), 3);
}

#[tokio::test]
async fn a_window_that_lacks_tags_waits_for_a_later_one() {
    let stage = Stage::new().await;
    stage.score(2..180).await;
    let tag = |name: &str| SensorId::new("pump", name).unwrap();
    let some = TAGS[..3]
        .iter()
        .map(|name| row(tag(name), 180, READINGS, "0123456789abcdef"));
    stage.write(some.collect()).await;
    let groups = stage.audit(None, 2, &[]).await.groups.unwrap();
    assert_eq!((groups.expected, groups.pending), (178, 0));
    // Of another device.
    let later = row(SensorId::new("fan", "speed").unwrap(), 181, 1, "0123456789abcdef");
    stage.write(vec![later]).await;
    let groups = stage.audit(None, 2, &[]).await.groups.unwrap();
    assert_eq!((groups.expected, groups.pending), (179, 1));
}

#[tokio::test]
async fn a_row_counts_if_it_has_all_readings_or_was_scored_by_a_model_of_other_tags() {
    let stage = Stage::new().await;
    // The model is newer than the first windows.
    stage
        .score((10..180).filter(|at| ![50, 51, 70].contains(at)))
        .await;
    let sensor = SensorId::of_group(&"pump".into());
    let [same, two] = &stage.former;
    let rows = [
        (50, whole(50) - 1, &stage.version),
        (51, whole(51) - 1, same),
        (70, 40, two),
    ];
    let rows = rows.map(|(at, count, version)| row(sensor.clone(), at, count, version));
    stage.write(rows.to_vec()).await;
    let right = GroupTally {
        expected: 170,
        predicted: 168,
        fewer: 2,
        earlier: 8,
        ..GroupTally::default()
    };
    let audit = stage.audit(None, 3, &[]).await;
    assert_eq!(audit.groups, Some(right));
    let differing = "pump/%28group%29 1970-01-01T00:50:00Z: 79 readings predicted, 80 in the tags' windows";
    assert_eq!(audit.findings.differing[0], differing);
    assert!(audit.findings.lost.is_empty());
}

#[tokio::test]
async fn windows_that_were_not_asked_for_while_the_tags_were_others_are_not_lost() {
    let stage = Stage::new().await;
    stage.score((2..40).chain(80..180)).await;
    let sensor = SensorId::of_group(&"pump".into());
    let two = &stage.former[1];
    stage.write(vec![row(sensor, 40, 40, two)]).await;
    let right = GroupTally {
        expected: 139,
        predicted: 139,
        earlier: 39,
        ..GroupTally::default()
    };
    assert_eq!(stage.audit(None, 3, &[]).await.groups, Some(right));
}
