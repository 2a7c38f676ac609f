//! Microsoft's clients for Python and Node use the hub, and Windrow reads what they send.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use windrow_test_hub::{Hub, HubConfig};
use windrow_tests::{Azurite, copy_models, exported, fleet, models_for, windrow, write_csv};

const DEVICES: u32 = 3;
/// Readings of a device, one a second.
const SECONDS: u32 = 600;

#[derive(Clone, Copy)]
enum Client {
    Python,
    Node,
}

impl Client {
    /// Runs the client's script against the hub, expects success and returns its output.
    fn run(self, hub: &Hub, words: &[&str]) -> String {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let installed = root.join("../target/hub-clients");
        assert!(
            installed.join(".installed").exists(),
            "Microsoft's clients for Event Hubs are not installed: run `make target/hub-clients/.installed`"
        );
        let (program, script) = match self {
            Self::Python => (installed.join("python/bin/python"), "client.py"),
            Self::Node => (PathBuf::from("node"), "client.js"),
        };
        let output = Command::new(program)
            .arg(root.join("fixtures/eventhubs").join(script))
            .arg(hub.development_connection_string())
            .args(words)
            .env("NODE_PATH", installed.join("node/node_modules"))
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }
}

fn hub() -> Hub {
    let config = HubConfig {
        partitions: 4,
        ..HubConfig::default()
    };
    Hub::start(&config).unwrap()
}

/// Writes a fleet's readings as CSV and as one JSON object a line, and returns the lines.
fn readings(folder: &Path, seconds: u32) -> String {
    let rows = fleet(DEVICES, seconds, 3);
    write_csv(&folder.join("readings.csv"), &rows);
    let mut lines = String::new();
    for row in &rows {
        writeln!(
            lines,
            r#"{{"ts":{},"device":"d{}","tag":"temp","value":{:.3}}}"#,
            row.time_ms, row.device, row.value
        )
        .unwrap();
    }
    std::fs::write(folder.join("readings.ndjson"), &lines).unwrap();
    lines
}

/// Returns the time, device and value of each line, in order.
fn sorted(lines: &str) -> Vec<String> {
    let mut readings: Vec<String> = lines
        .lines()
        .map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            // Node writes 22 where Rust writes 22.000.
            let value = line["value"].as_f64().unwrap();
            format!("{} {} {value}", line["ts"], line["device"])
        })
        .collect();
    readings.sort_unstable();
    readings
}

/// Expects two texts to hold the same readings, each as often.
fn same(received: &str, sent: &str) {
    let (received, sent) = (sorted(received), sorted(sent));
    assert_eq!(received.len(), sent.len());
    let different = received
        .iter()
        .zip(&sent)
        .find(|(received, sent)| received != sent);
    assert_eq!(different, None, "received and sent");
}

/// Expects what a client sent to a hub to be scored exactly as the same readings in a file.
fn is_scored_like_a_file(client: Client) {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    readings(folder.path(), SECONDS);
    let (source, of_file, of_hub) = (path("readings.csv"), path("file"), path("hub"));
    models_for(&source, &of_file);
    copy_models(Path::new(&of_file), Path::new(&of_hub));
    windrow(&[
        "run",
        "--source",
        &source,
        "--store",
        &of_file,
        "--until-caught-up",
    ])
    .output();

    let hub = hub();
    client.run(&hub, &["send", &path("readings.ndjson")]);
    let (login, endpoint) = (hub.connection_string(), hub.endpoint());
    let words = [
        "run",
        "--source",
        "eventhubs://localhost/readings",
        "--eventhubs-connection-string",
        &login,
        "--eventhubs-endpoint",
        &endpoint,
        "--store",
        &of_hub,
        "--until-caught-up",
        "--at-end",
        "dispatch",
    ];
    windrow(&words).output();
    let predictions = exported(&of_file);
    assert_eq!(predictions.lines().count(), 1 + (DEVICES * SECONDS / 60) as usize);
    assert_eq!(exported(&of_hub), predictions);
}

#[test]
fn readings_that_python_sends_are_scored_like_those_of_a_file() {
    is_scored_like_a_file(Client::Python);
}

#[test]
fn readings_that_node_sends_are_scored_like_those_of_a_file() {
    is_scored_like_a_file(Client::Node);
}

#[test]
fn python_receives_what_it_sent_and_goes_on_from_its_checkpoints() {
    let folder = tempfile::tempdir().unwrap();
    let lines = readings(folder.path(), 100);
    let (hub, azurite) = (hub(), Azurite::start());
    let file = folder.path().join("readings.ndjson");
    Client::Python.run(&hub, &["send", file.to_str().unwrap()]);
    let container = azurite.connection_string();
    azurite.create_container("checkpoints");
    let first = Client::Python.run(&hub, &["receive", "120", &container]);
    assert_eq!(first.lines().count(), 120);
    // Each event was followed by a checkpoint, so the rest comes and nothing comes twice.
    let second = Client::Python.run(&hub, &["receive", "180", &container]);
    same(&(first + &second), &lines);
}

#[test]
fn node_receives_what_it_sent() {
    let folder = tempfile::tempdir().unwrap();
    let lines = readings(folder.path(), 100);
    let hub = hub();
    let file = folder.path().join("readings.ndjson");
    Client::Node.run(&hub, &["send", file.to_str().unwrap()]);
    let received = Client::Node.run(&hub, &["receive", "300"]);
    same(&received, &lines);
}
