//! What becomes of models after they are stored: candidates, shadows, promotions in stages, rollbacks, pins, and deletion.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use windrow_tests::{fleet, windrow, write_csv};

use super::{audited, text, to_the_end};

pub(crate) const DEVICES: u32 = 40;

/// A folder with readings and a store.
pub(crate) struct Plant {
    folder: tempfile::TempDir,
}

impl Plant {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        write_csv(&folder.path().join("readings.csv"), &fleet(DEVICES, 600, 7));
        Self { folder }
    }

    pub(crate) fn path(&self, name: &str) -> String {
        text(&self.folder.path().join(name)).to_owned()
    }

    pub(crate) fn store(&self) -> String {
        self.path("store")
    }

    /// Runs a command on the models and returns its JSON.
    pub(crate) fn models(&self, words: &[&str]) -> Value {
        let store = self.store();
        windrow(&[&["models"], words, &["--store", &store]].concat()).json()
    }

    /// Trains all sensors; a larger nu makes other models.
    pub(crate) fn train(&self, nu: &str, more: &[&str]) -> Value {
        let source = self.path("readings.csv");
        let words = [
            &["train", "--source", &source, "--window", "10s", "--nu", nu],
            more,
        ];
        self.models(&words.concat())
    }

    /// Returns each sensor's current version.
    pub(crate) fn current(&self) -> Vec<(String, String)> {
        let listed = self.models(&["list"]);
        let entries = listed.as_array().unwrap().iter();
        let current = entries.filter(|entry| entry["current"] == true);
        current
            .map(|entry| (string(&entry["sensor"]), string(&entry["version"])))
            .collect()
    }
}

pub(crate) fn string(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn sensors(list: &Value) -> BTreeSet<String> {
    let list = list.as_array().unwrap().iter();
    list.map(|one| string(&one["sensor"])).collect()
}

#[test]
fn candidates_are_shadowed_compared_promoted_in_stages_and_rolled_back() {
    let plant = Plant::new();
    plant.train("0.1", &[]);
    let before = plant.current();
    assert_eq!(before.len(), DEVICES as usize);
    let trained = plant.train("0.3", &["--candidate"]);
    assert_eq!(trained["candidates"], DEVICES);
    assert_eq!(plant.current(), before, "candidates do not score");

    // Half of the fleet, beside the current models.
    let shadowed = plant.models(&["shadow", "--share", "50%"]);
    let half = sensors(&shadowed["shadowed"]);
    assert!(half.len() > 8 && half.len() < 32, "{}", half.len());
    assert_eq!(shadowed["left"].as_array().unwrap().len() + half.len(), 40);
    let (readings, store) = (plant.path("readings.csv"), plant.store());
    let run = [&to_the_end(&readings, &store)[..], &["--window", "10s"]].concat();
    windrow(&run).output();
    let export = ["predictions", "export", "--store", &store, "--format", "json"];
    let rows = windrow(&export).output();
    let rows: Vec<Value> = rows
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(rows.len(), 40 * 60);
    let sensor = |row: &Value| format!("{}/{}", string(&row["device"]), string(&row["tag"]));
    for row in &rows {
        assert_eq!(
            row["shadow_version"].is_string(),
            half.contains(&sensor(row)),
            "{row}"
        );
        assert_eq!(
            row["shadow_decision"].is_f64(),
            half.contains(&sensor(row)),
            "{row}"
        );
    }
    assert_eq!(audited(&store)["predicted"], 2_400);

    // The comparison counts what the workers have decided.
    let one = half.first().unwrap();
    let of_one = || rows.iter().filter(|row| sensor(row) == *one);
    let live = of_one().filter(|row| row["anomaly"] == true).count();
    let shadow = of_one()
        .filter(|row| row["shadow_decision"].as_f64().unwrap() <= 0.0)
        .count();
    assert!(shadow > live, "nu 0.3 flags more: {shadow} and {live}");
    let diff = plant.models(&["diff", one]);
    let count = |key: &str| diff[key].as_u64().unwrap() as usize;
    assert_eq!(count("windows"), 60);
    assert_eq!(count("flagged_by_both") + count("flagged_by_a_only"), live);
    assert_eq!(count("flagged_by_both") + count("flagged_by_b_only"), shadow);
    assert_eq!(diff["b"]["metadata"]["training"]["parameters"]["nu"], "0.3");
    let named = plant.models(&["diff", one, "current", "candidate"]);
    assert_eq!(named["b"]["version"], diff["b"]["version"]);
    let shown = windrow(&["models", "diff", "--store", &store, one]).output();
    let says = format!("of 60 scored windows, both flag {},", count("flagged_by_both"));
    assert!(shown.contains(&says), "{shown}");

    // A larger share holds the sensors of a smaller one.
    let tenth = sensors(&plant.models(&["promote", "--share", "25%"])["promoted"]);
    assert!(tenth.is_subset(&half) && !tenth.is_empty(), "{tenth:?}");
    let rest = plant.models(&["promote"]);
    assert_eq!(sensors(&rest["promoted"]).len() + tenth.len(), 40);
    assert!(sensors(&rest["promoted"]).is_disjoint(&tenth));
    assert!(plant.current().iter().all(|current| !before.contains(current)));
    let listed = plant.models(&["list"]);
    let none = |mark: &str| {
        listed
            .as_array()
            .unwrap()
            .iter()
            .all(|entry| entry[mark] == false)
    };
    assert!(none("shadow") && none("candidate"), "a promoted shadow has ended");

    let back = plant.models(&["rollback", "--since", "1h", one]);
    assert_eq!(
        back["left"][0]["sensor"],
        one.as_str(),
        "nothing is older: {back}"
    );
    let back = plant.models(&["rollback", one]);
    assert_eq!(sensors(&back["rolled_back"]), BTreeSet::from([one.clone()]));
    // The times of what came first are an hour back, so that the promotions alone are since half an hour.
    for (sensor, _) in &before {
        let path = format!("{store}/models/{sensor}/registry.json");
        let mut registry: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        registry["history"][0]["at"] = json!("2026-01-01T00:00:00Z");
        fs::write(&path, registry.to_string()).unwrap();
    }
    let back = plant.models(&["rollback", "--since", "30m"]);
    assert_eq!(sensors(&back["rolled_back"]).len(), 39, "{}", back["left"]);
    assert_eq!(plant.current(), before);
    let shown = plant.models(&["show", one]);
    let causes = shown["history"].as_array().unwrap().iter();
    let causes: Vec<&str> = causes.map(|entry| entry["by"].as_str().unwrap()).collect();
    assert_eq!(causes, ["train", "promote", "rollback"]);
}

#[test]
fn a_version_tells_what_it_was_trained_on() {
    let plant = Plant::new();
    plant.train("0.1", &["--features", "mean,range", "--kernel", "poly"]);
    let shown = plant.models(&["show", "d3/temp"]);
    let training = &shown["metadata"]["training"];
    let rows = fleet(DEVICES, 600, 7);
    let first = rows.iter().map(|row| row.time_ms).min().unwrap();
    let time = |ms: i64| windrow_common::EventTime::from_millis(ms).to_string();
    assert_eq!(training["from"], time(first - first % 10_000));
    assert_eq!(training["to"], time(first - first % 10_000 + 600_000));
    assert_eq!(
        (&training["windows"], &training["rows"], &training["window_ms"]),
        (&json!(60), &json!(60), &json!(10_000))
    );
    assert_eq!(
        training["parameters"],
        json!({"detector": "svm", "kernel": "poly", "degree": "3", "coef0": "1", "gamma": "scale", "nu": "0.1", "scaler": "true",
            "max_rows": "2000", "profile": "auto", "timezone": "UTC"})
    );
    let hash = string(&training["rows_sha256"]);
    assert_eq!(hash.len(), 64);
    // The same rows have the same hash whatever the model, and other rows another.
    plant.train("0.2", &["--features", "mean,range"]);
    let again = plant.models(&["show", "d3/temp"]);
    assert_eq!(again["metadata"]["training"]["rows_sha256"], hash.as_str());
    assert_ne!(again["version"], shown["version"]);
    let other = plant.models(&["show", "d4/temp"]);
    assert_ne!(other["metadata"]["training"]["rows_sha256"], hash.as_str());
    // What an older version of Windrow stored has no metadata.
    let path = format!(
        "{}/models/d3/temp/{}.json",
        plant.store(),
        string(&again["version"])
    );
    fs::remove_file(path).unwrap();
    let without = plant.models(&["show", "d3/temp"]);
    assert_eq!(
        (&without["metadata"], &without["version"]),
        (&Value::Null, &again["version"])
    );
}

#[test]
fn a_pinned_sensor_keeps_its_model_until_it_is_forced_or_released() {
    let plant = Plant::new();
    plant.train("0.1", &[]);
    let before = plant.current();
    plant.models(&["pin", "d3/temp"]);
    let trained = plant.train("0.2", &[]);
    assert_eq!(
        (&trained["models"], &trained["pinned"]),
        (&json!(40), &json!(["d3/temp"]))
    );
    let of = |versions: &[(String, String)], sensor: &str| {
        let one = versions.iter().find(|(other, _)| other == sensor);
        one.unwrap().1.clone()
    };
    let after = plant.current();
    assert_eq!(of(&after, "d3/temp"), of(&before, "d3/temp"));
    assert_ne!(of(&after, "d4/temp"), of(&before, "d4/temp"));
    let promoted = plant.models(&["promote"]);
    let why = string(&promoted["left"][0]["why"]);
    assert!(
        promoted["promoted"] == json!([]) && why.contains("pinned"),
        "{promoted}"
    );
    let back = plant.models(&["rollback", "--since", "1h"]);
    assert!(!sensors(&back["rolled_back"]).contains("d3/temp"));
    let forced = plant.models(&["promote", "--force", "d3/temp"]);
    assert_eq!(
        sensors(&forced["promoted"]),
        BTreeSet::from(["d3/temp".to_owned()])
    );
    assert_eq!(sensors(&plant.models(&["unpin", "d3/temp"])["released"]).len(), 1);
    assert_eq!(plant.train("0.4", &[])["pinned"], json!([]));

    // Names that mean nothing are said, and the others are done.
    let store = plant.store();
    let words = [
        "models",
        "promote",
        "--store",
        &store,
        "--version",
        "0123456789abcdef",
        "d4/temp",
    ];
    let (code, _, error) = windrow(&words).end();
    assert!(
        code == 1 && error.contains("d4/temp has no model of version 0123456789abcdef"),
        "{error}"
    );
    let (code, _, error) = windrow(&["models", "rollback", "--store", &store]).end();
    assert!(
        code == 2 && error.contains("--since"),
        "what to roll back is said: {error}"
    );
}

/// Makes all files of models look a month old.
fn age(store: &Path) {
    let month_ago = SystemTime::now() - Duration::from_secs(30 * 86_400);
    for file in fs::read_dir(store).unwrap() {
        let path = file.unwrap().path();
        match path.is_dir() {
            true => age(&path),
            false => fs::File::options()
                .write(true)
                .open(path)
                .unwrap()
                .set_modified(month_ago)
                .unwrap(),
        }
    }
}

#[test]
fn versions_that_nobody_needs_are_deleted() {
    let plant = Plant::new();
    for nu in ["0.1", "0.15", "0.2", "0.25", "0.3"] {
        plant.train(nu, &[]);
    }
    plant.train("0.35", &["--candidate"]);
    // A shadow is named or is the candidate, and ends when it is told to.
    plant.models(&["shadow", "d3/temp", "d4/temp"]);
    let stopped = plant.models(&["shadow", "--stop", "d3/temp", "d5/temp"]);
    assert_eq!(
        sensors(&stopped["stopped"]),
        BTreeSet::from(["d3/temp".to_owned()])
    );
    assert_eq!(sensors(&stopped["left"]), BTreeSet::from(["d5/temp".to_owned()]));
    let stopped = plant.models(&["shadow", "--stop"]);
    assert_eq!(
        sensors(&stopped["stopped"]),
        BTreeSet::from(["d4/temp".to_owned()])
    );

    let store = plant.store();
    let young = plant.models(&["gc"]);
    assert_eq!((&young["deleted"], &young["kept"]), (&json!(0), &json!(240)));
    age(&Path::new(&store).join("models"));
    let lately = plant.models(&["gc"]);
    assert_eq!(lately["deleted"], 0, "all were current within a week: {lately}");
    for device in 0..DEVICES {
        let path = format!("{store}/models/d{device}/temp/registry.json");
        let registry = fs::read_to_string(&path).unwrap();
        let mut registry: Value = serde_json::from_str(&registry).unwrap();
        for entry in registry["history"].as_array_mut().unwrap() {
            entry["at"] = json!("2026-01-01T00:00:00Z");
        }
        fs::write(&path, registry.to_string()).unwrap();
    }
    let dry = plant.models(&["gc", "--dry-run"]);
    assert_eq!((&dry["deleted"], &dry["dry_run"]), (&json!(80), &json!(true)));
    assert_eq!(plant.models(&["list"]).as_array().unwrap().len(), 240);
    let done = plant.models(&["gc"]);
    assert_eq!(
        (&done["deleted"], &done["bytes"]),
        (&dry["deleted"], &dry["bytes"])
    );
    // Of each sensor: the last three, and the candidate.
    assert_eq!(plant.models(&["list"]).as_array().unwrap().len(), 160);
    let files = fs::read_dir(format!("{store}/models/d3/temp")).unwrap().count();
    assert_eq!(files, 4 + 4 + 2, "with their metadata, `current` and the record");
    assert_eq!(
        sensors(&plant.models(&["rollback", "d3/temp"])["rolled_back"]).len(),
        1
    );

    let (code, _, error) = windrow(&["models", "gc", "--store", &store, "--older-than", "5m"]).end();
    assert!(code == 2 && error.contains("at least 1h"), "{error}");
}
