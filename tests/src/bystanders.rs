//! A sensor that a fault does not affect: its messages have to be scored throughout the fault.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use windrow_common::SensorId;
use windrow_queue::Queue;

use crate::{Service, Stage, eventually, scoring_message};

/// Long enough for a busy machine. A fault lasts until the test ends it, so the wait still detects a fleet that makes
/// no progress.
const GOES_ON_WITHIN: Duration = Duration::from_secs(60);
const BETWEEN_MESSAGES: Duration = Duration::from_millis(50);
/// More than workers can have had in hand when the fault began, at this pace.
const MORE: f64 = 20.0;

/// Publishes messages of one sensor at a steady pace, until it is dropped.
#[derive(Debug)]
pub struct Bystanders {
    ends: Arc<AtomicBool>,
    published: Arc<AtomicI64>,
    publishing: Option<JoinHandle<()>>,
}

impl Bystanders {
    /// Starts to publish messages of a sensor that has a model, each of one window of its own.
    pub fn start(stage: &Stage, sensor: &str, window_ms: i64) -> Self {
        let (ends, published) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(0)));
        let (device, tag) = sensor.split_once('/').unwrap();
        let sensor = SensorId::new(device, tag).unwrap();
        let queue = stage.queue_of_its_own();
        let (until, count) = (Arc::clone(&ends), Arc::clone(&published));
        let publishing = thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            while !until.load(Relaxed) {
                let start = count.fetch_add(1, Relaxed) * window_ms;
                let message = scoring_message(sensor.clone(), start, window_ms);
                let publish = async { queue.publish(message).await?.wait().await };
                runtime.block_on(publish).unwrap();
                thread::sleep(BETWEEN_MESSAGES);
            }
        });
        Self {
            ends,
            published,
            publishing: Some(publishing),
        }
    }

    /// Expects `worker` to score more of them now, while something else is wrong.
    pub fn are_scored_by(&self, worker: &Service, meanwhile: &str) {
        let scored = || worker.metric("windrow_worker_predictions_total");
        let before = eventually(GOES_ON_WITHIN, "a bystander's metrics", scored);
        eventually(
            GOES_ON_WITHIN,
            &format!("bystanders are scored while {meanwhile}"),
            || scored().filter(|now| *now >= before + MORE),
        );
    }

    /// Ends them and returns how many were published.
    pub fn end(mut self) -> u64 {
        self.ends.store(true, Relaxed);
        if let Some(publishing) = self.publishing.take() {
            publishing.join().unwrap();
        }
        self.published.load(Relaxed).unsigned_abs()
    }
}

impl Drop for Bystanders {
    fn drop(&mut self) {
        // Not joined: a broker that does not answer would keep a failed test from ending.
        self.ends.store(true, Relaxed);
    }
}
