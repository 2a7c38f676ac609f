//! Shows the memory of worker and producer under a long, steady load.
//!
//! Run it with `cargo bench -p windrow-tests --bench soak -- 10m`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant};

use windrow_common::parse_duration;
use windrow_tests::{Broker, Service, windrow};

const LOOK_EVERY: Duration = Duration::from_secs(30);
/// An hour of event time per minute.
const SPEED: &str = "60";
const FLEET: &str = "sim:devices=2000,tags=5,period=60s,anomalies=0.02";

fn main() {
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| word != "--bench")
        .collect();
    let length = parse_duration(words.first().map_or("10m", String::as_str)).expect("a duration such as 10m");
    let broker = Broker::start();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (store, url) = (path("store"), broker.url());
    let history = format!("{FLEET},start=2026-01-04T00:00:00Z,duration=3h");
    windrow(&[
        "models", "train", "--source", &history, "--store", &store, "--nu", "0.1",
    ])
    .output();
    let common = ["--store", &store, "--amqp-url", &url];
    let worker = Service::start("windrow-worker", &common, &path("worker.log"));
    let source = format!("{FLEET},duration=forever");
    let read = ["--source", &source, "--speed", SPEED];
    let producer = Service::start(
        "windrow-producer",
        &[&common[..], &read].concat(),
        &path("producer.log"),
    );
    println!("10,000 sensors, one message per second each\n");
    println!(
        "{:>8} {:>12} {:>14} {:>16}",
        "seconds", "predictions", "worker MiB", "producer MiB"
    );
    let began = Instant::now();
    while began.elapsed() < length {
        std::thread::sleep(LOOK_EVERY.min(length));
        println!(
            "{:>8.0} {:>12.0} {:>14.1} {:>16.1}",
            began.elapsed().as_secs_f64(),
            worker.metric("windrow_worker_predictions_total").unwrap(),
            resident_mib(worker.id()),
            resident_mib(producer.id()),
        );
    }
}

/// Returns the resident memory of a process in MiB.
fn resident_mib(process: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    let kib: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib / 1_024.0
}
