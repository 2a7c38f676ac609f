//! Promotes, rolls back and deletes models while messages stream through RabbitMQ and workers come and go.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use windrow_common::{EventTime, Prediction};
use windrow_store::Store;
use windrow_tests::{Broker, Service, Stage, eventually, windrow};

const MINUTES: Duration = Duration::from_secs(240);
const SENSORS: usize = 30;
/// Event time passes this much faster than the clock.
const SPEED: &str = "60";
/// How long a worker may take from reading `current` until the part with the prediction is written, on a busy machine. It
/// reads `current` again every 200 ms and writes every 100 ms.
const SCORED_WITHIN: Duration = Duration::from_secs(10);
/// How much event time passes between two changes: more than `SCORED_WITHIN` on the clock.
const PHASE_MS: i64 = 12 * 60_000;

const TRAINED: &str = "sim:devices=10,tags=3,period=5s,start=2026-01-04T00:00:00Z,duration=30m,gaps=0";
const STREAMED: &str = "sim:devices=10,tags=3,period=5s,duration=100m,gaps=0";

/// Which version of each sensor is current from when on.
struct Change {
    at: EventTime,
    versions: BTreeMap<String, String>,
}

struct Stream {
    stage: Stage,
    producer: Service,
    changes: Vec<Change>,
}

impl Stream {
    fn models(&self, words: &[&str]) -> Value {
        let store = self.stage.store();
        windrow(&[&["models"], words, &["--store", &store]].concat()).json()
    }

    fn train(stage: &Stage, nu: &str, more: &[&str]) {
        let store = stage.store();
        let words = ["models", "train", "--source", TRAINED, "--store", &store];
        let options = ["--window", "10s", "--nu", nu];
        windrow(&[&words[..], &options, more].concat()).output();
    }

    /// Notes what is current from now on.
    fn changed(&mut self, at: EventTime) {
        let listed = self.models(&["list"]);
        let entries = listed.as_array().unwrap().iter();
        let current = entries.filter(|entry| entry["current"] == true);
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        self.changes.push(Change {
            at,
            versions: current
                .map(|entry| (text(&entry["sensor"]), text(&entry["version"])))
                .collect(),
        });
    }

    /// Waits until the newest window of every sensor is scored by its current version, and event time has passed since.
    fn scores_with_what_is_current(&mut self) {
        let right = &self.changes.last().unwrap().versions;
        let newest = |rows: &[Prediction]| {
            let mut newest: BTreeMap<String, Prediction> = BTreeMap::new();
            for row in rows {
                newest.insert(row.sensor.to_string(), row.clone());
            }
            newest
        };
        let start = |newest: &BTreeMap<String, Prediction>| {
            let starts = newest.values().map(|row| row.aggregate.window_start.as_millis());
            starts.max().unwrap_or(0)
        };
        let mut since = None;
        eventually(MINUTES, "the current versions score the stream", || {
            std::thread::sleep(Duration::from_millis(500));
            let newest = newest(&counted(&self.stage.store()));
            let all = newest.len() == SENSORS
                && newest
                    .iter()
                    .all(|(sensor, row)| *row.model_version == *right[sensor]);
            if since.is_none() && all {
                since = Some(start(&newest));
            }
            assert_eq!(self.producer.ended(), None, "the stream is long enough");
            since
                .is_some_and(|since| start(&newest) > since + PHASE_MS)
                .then_some(())
        });
    }
}

/// Returns the predictions that count, in order of time for each sensor.
fn counted(store: &str) -> Vec<Prediction> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = Store::create(store).unwrap();
        let mut rows = Vec::new();
        for hour in store.hours("predictions", None, None).await.unwrap() {
            rows.extend(store.predictions(&hour).await.unwrap().rows);
        }
        rows
    })
}

/// Returns the rows of each part, with the time at which it was written.
fn parts(store: &str) -> Vec<(EventTime, Vec<Prediction>)> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = Store::create(store).unwrap();
        let mut parts = Vec::new();
        for blob in store.list("predictions").await.unwrap() {
            // A store with this part only.
            let alone = Store::create("memory:///").unwrap();
            let bytes = store.get(&blob.path).await.unwrap().unwrap();
            alone.put(&blob.path, bytes).await.unwrap();
            let hour = alone.hours("predictions", None, None).await.unwrap().remove(0);
            parts.push((blob.modified, alone.predictions(&hour).await.unwrap().rows));
        }
        parts
    })
}

/// Stores a version of every sensor that looks a month old and that nobody needs.
fn abandon_versions(stage: &Stage) -> BTreeSet<String> {
    Stream::train(stage, "0.4", &["--candidate"]);
    let store = stage.store();
    let listed = windrow(&["models", "list", "--store", &store]).json();
    let mut abandoned = BTreeSet::new();
    for entry in listed.as_array().unwrap() {
        if entry["candidate"] == true {
            let (sensor, version) = (
                entry["sensor"].as_str().unwrap(),
                entry["version"].as_str().unwrap(),
            );
            abandoned.insert(version.to_owned());
            let file = fs::File::options()
                .write(true)
                .open(format!("{store}/models/{sensor}/{version}.model"));
            let month_ago = SystemTime::now() - Duration::from_secs(30 * 86_400);
            file.unwrap().set_modified(month_ago).unwrap();
        }
    }
    assert_eq!(abandoned.len(), SENSORS);
    abandoned
}

#[test]
fn a_promotion_and_a_rollback_during_a_stream_lose_nothing_and_every_prediction_names_its_version() {
    let stage = Stage::new(Broker::shared(), "promotion");
    Stream::train(&stage, "0.1", &[]);
    let abandoned = abandon_versions(&stage);
    Stream::train(&stage, "0.2", &["--candidate"]);
    let worker = |name| stage.worker(name, &["--model-refresh", "200ms", "--flush-age", "100ms"]);
    let (mut first, mut second) = (worker("first"), worker("second"));
    let log = stage.text("producer.log");
    let source = ["--source", STREAMED, "--speed", SPEED, "--until-caught-up"];
    let windows = ["--window", "10s", "--interval", "10s"];
    let words = [&source[..], &windows].concat();
    let producer = stage.service("windrow-producer", &words, &log);
    let mut stream = Stream {
        stage,
        producer,
        changes: Vec::new(),
    };
    stream.changed(EventTime::from_millis(0));
    stream.models(&["shadow"]);
    stream.scores_with_what_is_current();

    let before = EventTime::now();
    let promoted = stream.models(&["promote"]);
    assert_eq!(promoted["promoted"].as_array().unwrap().len(), SENSORS);
    stream.changed(before);
    // What this worker held is scored again, perhaps by the other version.
    first.kill();
    let mut third = stream
        .stage
        .worker("third", &["--model-refresh", "200ms", "--flush-age", "100ms"]);
    let deleted = stream.models(&["gc"]);
    assert_eq!(deleted["deleted"], SENSORS, "{deleted}");
    stream.scores_with_what_is_current();

    let rolled_back = EventTime::now();
    let back = stream.models(&["rollback", "--since", &before.to_string()]);
    assert_eq!(back["rolled_back"].as_array().unwrap().len(), SENSORS, "{back}");
    stream.changed(rolled_back);
    assert_eq!(stream.changes[2].versions, stream.changes[0].versions);
    second.kill();
    assert_eq!(stream.models(&["gc"])["deleted"], 0);
    stream.scores_with_what_is_current();

    let Stream {
        stage,
        mut producer,
        changes,
    } = stream;
    assert_eq!(producer.wait(MINUTES), 0, "{}", producer.log());
    stage.drained(MINUTES);
    third.signal("TERM");
    assert_eq!(third.wait(MINUTES), 0, "{}", third.log());

    assert_eq!(stage.dead_letters(), Vec::<Value>::new());
    let audit = stage.audited();
    let rows = counted(&stage.store());
    let windows: BTreeSet<_> = rows
        .iter()
        .map(|row| (row.sensor.to_string(), row.aggregate.window_start))
        .collect();
    assert_eq!(windows.len(), rows.len(), "one prediction counts for each window");
    assert_eq!(
        (&audit["dispatched"], &audit["predicted"], &audit["lost"]),
        (&rows.len().into(), &rows.len().into(), &0.into())
    );
    assert_eq!(rows.len(), SENSORS * 600, "no gap");
    for (written, rows) in parts(&stage.store()) {
        let began = written.saturating_sub(SCORED_WITHIN);
        for row in rows {
            let sensor = row.sensor.to_string();
            let version = &*row.model_version;
            assert!(!abandoned.contains(version));
            let was_current = changes.iter().enumerate().any(|(at, change)| {
                let until = changes.get(at + 1).map(|next| next.at);
                change.versions[&sensor] == version
                    && change.at <= written
                    && until.is_none_or(|until| until >= began)
            });
            assert!(
                was_current,
                "{sensor} by {version} in a part written at {written}"
            );
            // The candidate was the shadow until it was promoted.
            if let Some(shadow) = row.shadow {
                assert_eq!(*shadow.version, *changes[1].versions[&sensor]);
                assert_ne!(*shadow.version, *version);
            }
        }
    }
    let of = |change: &Change| {
        rows.iter()
            .filter(|row| *row.model_version == *change.versions[&row.sensor.to_string()])
            .count()
    };
    assert_eq!(of(&changes[0]) + of(&changes[1]), rows.len());
    assert!(of(&changes[1]) > SENSORS * 60, "{}", of(&changes[1]));
    let shadowed = rows.iter().filter(|row| row.shadow.is_some()).count();
    assert!(shadowed > SENSORS * 30, "{shadowed}");
}
