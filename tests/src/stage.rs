//! What the process tests play on: readings, a store with models, a broker, and services between them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::{Broker, Service, eventually, windrow};
use serde_json::Value;
use tempfile::TempDir;
use windrow_common::queue::{Amqp, AmqpConfig, QueueNames};

/// A folder, a broker and a name for the queues.
#[derive(Debug)]
pub struct Stage {
    folder: TempDir,
    /// The broker between its services.
    pub broker: Arc<Broker>,
    prefix: String,
}

impl Stage {
    /// An empty stage.
    pub fn new(broker: Arc<Broker>, prefix: &str) -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            broker,
            prefix: prefix.to_owned(),
        }
    }

    /// A place in the stage's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The same as text.
    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// The services' store.
    pub fn store(&self) -> String {
        self.text("store")
    }

    /// Options that say which broker and queues.
    pub fn broker_words(&self) -> Vec<String> {
        ["--amqp-url", &self.broker.url(), "--queue-prefix", &self.prefix]
            .map(str::to_owned)
            .to_vec()
    }

    /// The stage's queue, to publish to by hand.
    pub fn queue_of_its_own(&self) -> Amqp {
        Amqp::new(AmqpConfig {
            names: QueueNames::under(&self.prefix),
            ..AmqpConfig::new(self.broker.url().parse().unwrap())
        })
    }

    /// Starts a worker; `more` are options of this one.
    pub fn worker(&self, name: &str, more: &[&str]) -> Service {
        let log = self.text(&format!("{name}.log"));
        self.service("windrow-worker", &[&["--name", name], more].concat(), &log)
    }

    /// Starts a producer of `source` that ends with it.
    pub fn producer(&self, source: &str, more: &[&str]) -> Service {
        self.service(
            "windrow-producer",
            &[&["--source", source, "--until-caught-up"], more].concat(),
            &self.text("producer.log"),
        )
    }

    /// Starts a service with the stage's store and broker, its log in `log`.
    pub fn service(&self, program: &str, more: &[&str], log: &str) -> Service {
        let mut words = self.broker_words();
        words.extend(["--store", &self.store()].map(str::to_owned));
        words.extend(more.iter().map(|word| (*word).to_owned()));
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        Service::start(program, &words, log)
    }

    /// Runs `windrow` with the broker's options added; its exit code, output and error.
    pub fn windrow(&self, words: &[&str]) -> (i32, String, String) {
        let broker = self.broker_words();
        let mut all: Vec<&str> = words.to_vec();
        all.extend(broker.iter().map(String::as_str));
        windrow(&all).end()
    }

    /// The same, which has to succeed and print JSON.
    pub fn json(&self, words: &[&str]) -> Value {
        let (code, output, error) = self.windrow(&[words, &["--output", "json"]].concat());
        assert_eq!(code, 0, "{words:?}: {error}{output}");
        serde_json::from_str(&output).unwrap()
    }

    /// What RabbitMQ says of the queue.
    pub fn queue(&self) -> Value {
        self.json(&["queue", "--management-url", &self.broker.management_url()])
    }

    /// Waits until nothing waits in the queue and nothing is with a worker.
    pub fn drained(&self, within: Duration) {
        // The broker's figures are up to five seconds old: once for what was there, twice to be sure.
        let mut empty = 0;
        eventually(within, "the queue is empty", || {
            let queue = self.queue();
            empty = if queue["ready"] == 0 && queue["unacked"] == 0 {
                empty + 1
            } else {
                0
            };
            std::thread::sleep(Duration::from_secs(3));
            (empty == 3).then_some(())
        });
    }

    /// Dead letters by message id.
    pub fn dead_letters(&self) -> Vec<Value> {
        self.json(&["dead-letters", "list"]).as_array().unwrap().clone()
    }

    /// The audit, dead letters of the queue included; it has to be clean.
    pub fn audited(&self) -> Value {
        self.json(&["audit", "--store", &self.store()])["all"].clone()
    }
}

/// All predictions of a store, each once, as CSV.
pub fn exported(store: &str) -> String {
    windrow(&["predictions", "export", "--store", store, "--format", "csv"]).output()
}

/// Copies the models of one store into another.
pub fn copy_models(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    let status = std::process::Command::new("cp")
        .arg("-r")
        .args([from.join("models"), from.join(".windrow.lock")])
        .arg(to)
        .status();
    assert!(status.unwrap().success());
}
