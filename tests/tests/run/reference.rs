//! Compares Windrow with the reference architecture on its own data and models; `make reference` runs these tests.
//!
//! The data are not in this repository: `WINDROW_REFERENCE` names their folder, by default `../shared/reference` beside
//! this repository.

use std::collections::HashMap;
use std::env;
use std::fs;
use std::path::PathBuf;

use windrow_tests::windrow;

use super::{audited, exported, text};

fn reference() -> PathBuf {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/reference");
    let folder = env::var_os("WINDROW_REFERENCE").map_or_else(|| PathBuf::from(beside), PathBuf::from);
    assert!(
        folder.join("sensor_data.csv").exists(),
        "the reference's data are not in {}: set WINDROW_REFERENCE to their folder",
        folder.display()
    );
    folder
}

fn import(store: &str) {
    let mut words = vec![
        "models".to_owned(),
        "import".into(),
        "--store".into(),
        store.into(),
    ];
    for model in fs::read_dir(reference().join("models")).unwrap() {
        words.push(text(&model.unwrap().path()).to_owned());
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let output = windrow(&words).output();
    assert!(output.ends_with("imported 15 of 15 models\n"), "{output}");
}

#[test]
#[ignore = "needs the reference's data: make reference"]
fn reference_predictions_are_reproduced() {
    let folder = tempfile::tempdir().unwrap();
    let (store, data) = (text(folder.path()), reference().join("sensor_data.csv"));
    import(store);
    let words = [
        "run",
        "--source",
        text(&data),
        "--store",
        store,
        "--window",
        "5s",
        "--until-caught-up",
    ];
    let counts = windrow(&words).json();
    assert_eq!(counts["predictions"], 17_768);
    assert_eq!(audited(store)["predicted"], 17_768);

    let expected = fs::read_to_string(reference().join("expected_predictions.csv")).unwrap();
    let mut right = HashMap::new();
    for line in expected.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        let time = format!("{}Z", fields[0].replace(' ', "T").trim_end_matches(".000"));
        let decision: f64 = fields[4].parse().unwrap();
        right.insert(
            (fields[1].to_owned(), fields[2].to_owned(), time),
            (decision, fields[5] == "1"),
        );
    }
    assert_eq!(right.len(), 17_768);
    let (mut largest, mut compared) = (0.0_f64, 0);
    for line in exported(store).lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        let key = (fields[0].to_owned(), fields[1].to_owned(), fields[2].to_owned());
        let (decision, anomaly) = right
            .remove(&key)
            .unwrap_or_else(|| panic!("{key:?} is not expected"));
        let ours: f64 = fields[11].parse().unwrap();
        largest = largest.max((ours - decision).abs());
        if decision.abs() > 1e-12 {
            assert_eq!(fields[13] == "true", anomaly, "{line}");
            compared += 1;
        }
    }
    println!("{compared} labels equal, largest difference of a decision {largest:e}");
    assert!(right.is_empty() && largest <= 1e-12, "{largest:e}");
}

#[test]
#[ignore = "needs the reference's data: make reference"]
fn reference_hours_are_one_message_a_sensor() {
    let folder = tempfile::tempdir().unwrap();
    let (store, data) = (text(folder.path()), reference().join("sensor_data.csv"));
    import(store);
    let mut words = vec!["run", "--source", text(&data), "--store", store];
    words.extend(["--window", "1m", "--interval", "1h", "--until-caught-up"]);
    // The data end within an hour.
    words.extend(["--at-end", "dispatch"]);
    let counts = windrow(&words).json();
    let readings = fs::read_to_string(&data).unwrap();
    let hour = |line: &str| {
        let fields: Vec<&str> = line.split(',').collect();
        (
            fields[0][..13].to_owned(),
            fields[1].to_owned(),
            fields[2].to_owned(),
        )
    };
    let sensor_hours: std::collections::HashSet<_> = readings.lines().skip(1).map(hour).collect();
    assert_eq!(counts["messages"], sensor_hours.len());
    assert_eq!(audited(store)["predicted"], counts["windows"]);
}
