//! Sets up the process tests: a folder with readings and a store, a broker, and services that use them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::{Broker, Service, eventually, windrow};
use serde_json::Value;
use tempfile::TempDir;
use windrow_queue::{Amqp, AmqpConfig, QueueNames};

/// A temporary folder, a broker and a queue prefix that one test's services share.
#[derive(Debug)]
pub struct Stage {
    folder: TempDir,
    /// The broker that the services use.
    pub broker: Arc<Broker>,
    prefix: String,
}

impl Stage {
    /// Creates a stage with an empty folder.
    pub fn new(broker: Arc<Broker>, prefix: &str) -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            broker,
            prefix: prefix.to_owned(),
        }
    }

    /// Returns a path in the stage's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Returns a path in the stage's folder as a string.
    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Returns the services' store.
    pub fn store(&self) -> String {
        self.text("store")
    }

    /// Returns the prefix of the queues' names.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Returns the options that select the broker and the queues.
    pub fn broker_words(&self) -> Vec<String> {
        ["--amqp-url", &self.broker.url(), "--queue-prefix", &self.prefix]
            .map(str::to_owned)
            .to_vec()
    }

    /// Creates a client of the stage's queue, for tests that publish messages themselves.
    pub fn queue_of_its_own(&self) -> Amqp {
        Amqp::new(AmqpConfig {
            names: QueueNames::under(&self.prefix),
            ..AmqpConfig::new(self.broker.url().parse().unwrap())
        })
    }

    /// Starts a worker with the options `more`.
    pub fn worker(&self, name: &str, more: &[&str]) -> Service {
        let log = self.text(&format!("{name}.log"));
        self.service("windrow-worker", &[&["--name", name], more].concat(), &log)
    }

    /// Starts a producer that exits at the end of `source`.
    pub fn producer(&self, source: &str, more: &[&str]) -> Service {
        self.service(
            "windrow-producer",
            &[&["--source", source, "--until-caught-up"], more].concat(),
            &self.text("producer.log"),
        )
    }

    /// Starts a service with the stage's store and broker, and logs to `log`.
    pub fn service(&self, program: &str, more: &[&str], log: &str) -> Service {
        let mut words = self.broker_words();
        words.extend(["--store", &self.store()].map(str::to_owned));
        words.extend(more.iter().map(|word| (*word).to_owned()));
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        Service::start(program, &words, log)
    }

    /// Runs `windrow` with the broker's options and returns its exit code, output and error.
    pub fn windrow(&self, words: &[&str]) -> (i32, String, String) {
        let broker = self.broker_words();
        let mut all: Vec<&str> = words.to_vec();
        all.extend(broker.iter().map(String::as_str));
        windrow(&all).end()
    }

    /// Runs `windrow` with the broker's options, expects success and returns the JSON it prints.
    pub fn json(&self, words: &[&str]) -> Value {
        let (code, output, error) = self.windrow(&[words, &["--output", "json"]].concat());
        assert_eq!(code, 0, "{words:?}: {error}{output}");
        serde_json::from_str(&output).unwrap()
    }

    /// Returns RabbitMQ's figures of the queue.
    pub fn queue(&self) -> Value {
        self.json(&["queue", "--management-url", &self.broker.management_url()])
    }

    /// Returns RabbitMQ's figures of the queue; `None` before it exists.
    pub fn queue_if_any(&self) -> Option<Value> {
        let management = self.broker.management_url();
        let words = ["queue", "--management-url", &management, "--output", "json"];
        let (code, output, _) = self.windrow(&words);
        (code == 0).then(|| serde_json::from_str(&output).unwrap())
    }

    /// Waits until the queue has no ready and no unacknowledged messages.
    pub fn drained(&self, within: Duration) {
        // The broker's figures are up to five seconds old, so one look could see an old zero: expect three in a row.
        let mut empty = 0;
        eventually(within, "the queue is empty", || {
            let queue = self.queue();
            empty = if queue["ready"] == 0 && queue["unacked"] == 0 {
                empty + 1
            } else {
                0
            };
            if empty == 3 {
                return Some(());
            }
            std::thread::sleep(Duration::from_secs(3));
            None
        });
    }

    /// Returns the dead letters in the queue.
    pub fn dead_letters(&self) -> Vec<Value> {
        self.json(&["dead-letters", "list"]).as_array().unwrap().clone()
    }

    /// Runs the audit, the queue's dead letters included, expects it to be clean and returns its totals.
    pub fn audited(&self) -> Value {
        self.json(&["audit", "--store", &self.store()])["all"].clone()
    }
}

/// Returns all predictions of a store as CSV, one for each window.
pub fn exported(store: &str) -> String {
    windrow(&["predictions", "export", "--store", store, "--format", "csv"]).output()
}

/// Returns all predictions of a store, one for each window.
pub fn rows(store: &str) -> Vec<Value> {
    let lines = windrow(&["predictions", "export", "--store", store, "--format", "json"]).output();
    let rows = lines.lines().map(serde_json::from_str);
    rows.collect::<Result<_, _>>().unwrap()
}

/// Copies what training has left in one store into another.
pub fn copy_models(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    let trained = ["models", "alerting", ".windrow.lock"].map(|name| from.join(name));
    let status = std::process::Command::new("cp")
        .arg("-r")
        .args(trained.iter().filter(|path| path.exists()))
        .arg(to)
        .status();
    assert!(status.unwrap().success());
}
