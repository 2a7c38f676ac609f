//! The examples run, and say what they promise.

use std::path::Path;
use std::process::Command;

use windrow_tests::{built, windrow};

use super::repository;

/// Runs an example, which Cargo builds along with the tests. Returns what it prints.
fn output(example: &str) -> String {
    let program = built("windrow").with_file_name("examples").join(example);
    let output = Command::new(&program)
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{example}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_window_is_scored_in_ten_lines() {
    let said = output("score_a_window");
    let verdicts: Vec<_> = said
        .lines()
        .filter_map(|line| line.split(' ').next_back())
        .collect();
    assert_eq!(verdicts, ["normal", "ANOMALY"], "{said}");
}

#[test]
fn the_windower_is_fed_by_hand() {
    assert_eq!(
        output("windows_by_hand").lines().collect::<Vec<_>>(),
        [
            "pump-7/temp@1970-01-01T00:00:00Z+1m/1m: 3 readings, mean 71.60",
            "quarantined: late at offset 5: its interval was dispatched before the reading arrived",
            "windows still open: 1",
        ]
    );
}

#[test]
fn a_worker_scores_from_the_in_memory_queue() {
    let said = output("worker_in_memory");
    assert!(said.starts_with("pump-7/temp decision +"), "{said}");
}

/// Compose and Kubernetes mount these files.
#[test]
fn the_samples_of_ranges_and_maintenance_are_read() {
    let sample = |name: &str| repository(&format!("examples/alerting/{name}"));
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let store = ["--store", store.to_str().unwrap()];
    let words = |words: &[&str], file: &Path| {
        let words = [words, &[file.to_str().unwrap()], &store].concat();
        windrow(&words).json()
    };
    let calendar = sample("maintenance.ics");
    std::fs::create_dir(folder.path().join("store")).unwrap();
    words(&["mute", "import"], &calendar);
    let listed = windrow(&[&["mute", "list"][..], &store].concat()).json();
    assert!(listed.to_string().contains("pump-7/*"), "{listed}");
    let ranges = sample("ranges.csv");
    words(&["incidents", "update", "--ranges"], &ranges);
    for (file, copy) in [
        (calendar, "k8s/components/mute-calendar/maintenance.ics"),
        (ranges, "k8s/components/ranges/ranges.csv"),
    ] {
        let read = |file: &Path| std::fs::read_to_string(file).unwrap();
        assert_eq!(read(&file), read(&repository(copy)));
    }
}
