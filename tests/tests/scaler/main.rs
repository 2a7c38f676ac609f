//! Tests `windrow-scaler` on RabbitMQ: a fleet of worker processes that follows the queue, scalers that take turns, and the
//! agent of a machine.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod agent;
mod follow;
mod outages;
mod scale_set;
mod serve;
mod standby;

use std::time::Duration;

use windrow_tests::{Service, Stage, eventually, fleet, windrow, write_csv};

const SOON: Duration = Duration::from_secs(60);
const MINUTES: Duration = Duration::from_secs(240);

/// Writes readings of `devices` sensors over `seconds`, trains their models, and returns the path of the readings.
fn with_models(stage: &Stage, devices: u32, seconds: u32) -> String {
    let source = stage.text("readings.csv");
    write_csv(&stage.path("readings.csv"), &fleet(devices, seconds, 7));
    let store = stage.store();
    let train = [
        "models", "train", "--source", &source, "--store", &store, "--window", "5s", "--nu", "0.1",
    ];
    windrow(&train).output();
    source
}

/// Puts seconds / 5 messages of each sensor on the queue.
fn publish(stage: &Stage, source: &str) {
    let mut producer = stage.producer(source, &["--window", "5s"]);
    assert_eq!(producer.wait(MINUTES), 0, "{}", producer.log());
}

/// Starts a scaler of worker processes that looks every second.
fn scaler(stage: &Stage, log: &str, more: &[&str]) -> Service {
    let (management, store) = (stage.broker.management_url(), stage.store());
    let broker = stage.broker_words();
    let mut words = vec![
        "run",
        "--fleet",
        "process",
        "--store",
        &store,
        "--look-every",
        "1s",
        "--lease",
        "20s",
    ];
    words.extend(["--management-url", &management]);
    words.extend(broker.iter().map(String::as_str));
    words.extend(more);
    Service::start("windrow-scaler", &words, &stage.text(log))
}

/// Returns the process ids of the workers that a program has started and that still run.
fn workers_of(program: &Service) -> Vec<u32> {
    let id = program.id();
    let mut workers = Vec::new();
    // A program's threads start workers, and each lists its own.
    for thread in std::fs::read_dir(format!("/proc/{id}/task"))
        .into_iter()
        .flatten()
    {
        let children = thread.map(|thread| std::fs::read_to_string(thread.path().join("children")));
        let children = children.unwrap().unwrap_or_default();
        workers.extend(children.split_whitespace().map(|id| id.parse::<u32>().unwrap()));
    }
    workers.retain(|id| runs(*id));
    workers
}

/// Returns whether a process runs. One that has ended and that nobody has waited for does not.
fn runs(id: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    let state = status.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| state != 'Z')
}

/// Waits until a metric has a value.
fn waits_for(service: &Service, metric: &str, within: Duration, is_there: impl Fn(f64) -> bool) -> f64 {
    eventually(within, metric, || {
        service.metric(metric).filter(|value| is_there(*value))
    })
}
