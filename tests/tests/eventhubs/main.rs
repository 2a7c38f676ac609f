//! Tests the whole path from an Event Hub to predictions: the official client and a local hub, real services, RabbitMQ.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bad_events;
mod bodies;
mod checkpoints;
mod clients;
mod foreign;
mod full_run;
mod refusals;
mod sharing;
mod silence;

use std::time::Duration;

use windrow_test_hub::{Hub, HubConfig};
use windrow_tests::{Broker, Row, Service, Stage, copy_models, fleet, windrow, write_csv};

const PARTITIONS: u16 = 8;
/// The seed of the fleet's readings.
const SEED: u64 = 5;
const WITHIN: Duration = Duration::from_secs(120);
const EXIT_WITHIN: Duration = Duration::from_secs(60);
const WINDOW: [&str; 2] = ["--window", "5s"];
/// An hour after the first reading of [`HubStage::fleet`] and so later than all, in milliseconds since the epoch.
const AFTER_ALL_MS: i64 = 1_767_571_200_000 + 3_600_000;

/// How readings come to the hub.
#[derive(Clone, Copy)]
enum Way {
    /// With [`HubStage::append`].
    Appended,
    /// With `windrow send`.
    Sent,
}

/// A stage with a local Event Hub as its source.
struct HubStage {
    stage: Stage,
    hub: Hub,
}

impl HubStage {
    fn new(prefix: &str) -> Self {
        let config = HubConfig {
            partitions: PARTITIONS,
            ..HubConfig::default()
        };
        Self::of(prefix, &config)
    }

    fn of(prefix: &str, config: &HubConfig) -> Self {
        Self {
            stage: Stage::new(Broker::shared(), prefix),
            hub: Hub::start(config).unwrap(),
        }
    }

    /// Writes a fleet's readings, trains its models, scores it in one process and returns the number of predictions.
    ///
    /// The readings are in `readings.csv`, the expected predictions in the store `quiet`.
    fn fleet(&self, devices: u32, seconds: u32) -> u64 {
        let (source, store, quiet) = (
            self.stage.text("readings.csv"),
            self.stage.store(),
            self.stage.text("quiet"),
        );
        write_csv(&self.stage.path("readings.csv"), &fleet(devices, seconds, SEED));
        let train = [
            "models", "train", "--source", &source, "--store", &store, "--nu", "0.1",
        ];
        windrow(&[&train[..], &WINDOW].concat()).output();
        copy_models(&self.stage.path("store"), &self.stage.path("quiet"));
        let run = ["run", "--source", &source, "--store", &quiet, "--until-caught-up"];
        let run = windrow(&[&run[..], &WINDOW].concat()).json();
        run["predictions"].as_u64().unwrap()
    }

    /// Appends a reading to its device's partition.
    fn append(&self, row: &Row) {
        let Row {
            time_ms,
            device,
            value,
        } = row;
        let body = format!(r#"{{"ts":{time_ms},"device":"d{device}","tag":"temp","value":{value:.3}}}"#);
        let partition = (device % u32::from(PARTITIONS)) as u16;
        self.hub.append(partition, body.into_bytes(), []).unwrap();
    }

    /// Returns the options to reach the hub and log in.
    fn login(&self) -> Vec<String> {
        [
            "--eventhubs-connection-string",
            &self.hub.connection_string(),
            "--eventhubs-endpoint",
            &self.hub.endpoint(),
        ]
        .map(str::to_owned)
        .to_vec()
    }

    /// Sends a source to the hub with `windrow send` and the options `more`.
    fn send(&self, source: &str, more: &[&str]) -> serde_json::Value {
        let login = self.login();
        let mut words = vec!["send", "eventhubs://localhost/readings", "--source", source];
        words.extend(login.iter().map(String::as_str));
        words.extend(more);
        windrow(&words).json()
    }

    /// Starts a producer that reads the hub and logs to `NAME.log`.
    fn producer(&self, name: &str, more: &[&str]) -> Service {
        let login = self.login();
        let mut words = vec![
            "--source",
            "eventhubs://localhost/readings",
            "--ownership-expiry",
            "3s",
        ];
        if !more.contains(&"--window") {
            words.extend(WINDOW);
        }
        // Unless a test is about silence, it closes no window, however slow the machine is.
        if !more.contains(&"--idle-after") {
            words.extend(["--idle-after", "1h"]);
        }
        words.extend(login.iter().map(String::as_str));
        words.extend(more);
        let log = self.stage.text(&format!("{name}.log"));
        self.stage.service("windrow-producer", &words, &log)
    }

    /// Adds a reading of each of the fleet's devices that is later than all others, which completes all other windows. It
    /// has to come the same way as the others, because that decides the partition.
    fn end_all_windows(&self, devices: u32, way: Way) {
        let last = |device| Row {
            time_ms: AFTER_ALL_MS,
            device,
            value: 1.0,
        };
        let rows: Vec<Row> = (0..devices).map(last).collect();
        match way {
            Way::Appended => rows.iter().for_each(|row| self.append(row)),
            Way::Sent => {
                write_csv(&self.stage.path("end.csv"), &rows);
                self.send(&self.stage.text("end.csv"), &[]);
            }
        }
    }

    /// Returns how many windows all producers together have dispatched.
    fn dispatched(&self) -> u64 {
        let (_, output, _) =
            self.stage
                .windrow(&["audit", "--store", &self.stage.store(), "--output", "json"]);
        let audit: serde_json::Value = serde_json::from_str(&output).unwrap_or_default();
        audit["all"]["dispatched"].as_u64().unwrap_or(0)
    }
}
