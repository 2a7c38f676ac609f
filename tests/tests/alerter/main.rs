//! Tests `windrow-alerter` with a real Alertmanager and a webhook: what happens is told once, whatever is away or killed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod causes;
mod killed;
mod muted;
mod told;
mod webhook;

use std::time::Duration;

use windrow_common::{Aggregate, Cause, EventTime, Length, Prediction, SensorId};
use windrow_store::{PartWriter, Store};

const SOON: Duration = Duration::from_secs(60);
/// Short, because a silence has to last two windows before it is told.
const WINDOW: i64 = 5_000;

/// A store whose predictions a test writes by hand, in windows before a fixed time near the present.
struct Scored {
    folder: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
    writer: PartWriter,
    end: i64,
}

impl Scored {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let store = Store::create(folder.path().join("store").to_str().unwrap()).unwrap();
        Self {
            writer: PartWriter::new(&store, "test"),
            folder,
            runtime,
            // Windows are written up to twenty windows after it, and none in the future.
            end: (EventTime::now().as_millis() / WINDOW - 30) * WINDOW,
        }
    }

    fn store(&self) -> String {
        self.folder.path().join("store").to_str().unwrap().to_owned()
    }

    fn log(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Writes one part with the windows of a sensor that begin `from` to `to` windows after the fixed time.
    fn write(&self, tag: &str, from: i64, to: i64, score: impl Fn(i64) -> f64) {
        let rows = (from..to).map(|minute| prediction(tag, self.end + minute * WINDOW, score(minute)));
        self.runtime
            .block_on(self.writer.write_rows(rows.collect()))
            .unwrap();
    }
}

fn prediction(tag: &str, start: i64, score: f64) -> Prediction {
    let mean = (start / WINDOW) as f64;
    Prediction {
        sensor: SensorId::new("pump-7", tag).unwrap(),
        window_length: Length::from_millis(WINDOW),
        aggregate: Aggregate {
            window_start: EventTime::from_millis(start),
            count: 60,
            mean,
            std: 1.0,
            min: mean - 1.0,
            max: mean + 1.0,
            first: mean,
            last: mean,
        },
        decision: -score,
        score: Some(score),
        anomaly: score >= 0.0,
        model_version: "00000000000000aa".into(),
        shadow: None,
        threshold: None,
        cause: (score >= 0.0).then(|| Cause {
            feature: "mean".into(),
            value: mean,
            normal: Some((0.25, 84.5)),
            share: 0.5,
        }),
    }
}
