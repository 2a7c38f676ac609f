//! Other detectors than the SVM, and the choice among them by back-test.

use std::fmt::Write;
use std::fs;

use serde_json::{Value, json};
use windrow_tests::windrow;

use super::registry::{DEVICES, Plant, string};
use super::{text, to_the_end};

#[test]
fn other_detectors_are_trained_score_and_are_kept_by_retraining() {
    let plant = Plant::new();
    let (source, store) = (plant.path("readings.csv"), plant.store());
    for (detector, name) in [
        ("pca", "principal components"),
        ("robust-z", "robust z"),
        ("neighbours", "nearest neighbours"),
    ] {
        plant.train("0.02", &["--detector", detector]);
        let sensor = plant.current()[0].0.clone();
        let shown = plant.models(&["show", &sensor]);
        assert_eq!(shown["detector"], name);
        let parameters = &shown["metadata"]["training"]["parameters"];
        assert_eq!(
            (&parameters["detector"], &parameters["kernel"]),
            (&json!(detector), &Value::Null)
        );
        let facts = windrow(&["models", "show", "--store", &store, &sensor]).output();
        assert!(facts.contains(name) && facts.contains("limit"), "{facts}");
    }
    windrow(&[&to_the_end(&source, &store)[..], &["--window", "10s"]].concat()).output();
    let words = "--least 20 --windows 40 --budget".split(' ');
    let retrain: Vec<&str> = ["retrain", "--store", &store].into_iter().chain(words).collect();
    let retrained = windrow(&[&retrain[..], &["1000 per sensor-day"]].concat()).json();
    assert_eq!(retrained["models"], DEVICES, "{retrained}");
    let shown = plant.models(&["show", &plant.current()[0].0]);
    assert_eq!(shown["detector"], "nearest neighbours");
    assert_eq!(shown["metadata"]["training"]["parameters"]["nu"], "0.02");
    assert_eq!(
        shown["history"].as_array().unwrap().last().unwrap()["by"],
        "retrain"
    );

    // What a detector has no use for is refused, not ignored.
    for unused in [["--gamma", "1"], ["--kernel", "linear"]] {
        let words = [
            "models",
            "train",
            "--store",
            &store,
            "--source",
            &source,
            "--detector",
            "pca",
        ];
        let (code, _, error) = windrow(&[&words[..], &unused].concat()).end();
        assert!(code == 2 && error.contains(unused[0]), "{error}");
    }
}

#[test]
fn each_sensor_gets_what_finds_more_in_a_back_test_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let (csv, store) = (folder.path().join("readings.csv"), folder.path().join("store"));
    let mut rows = "ts,device,tag,value\n".to_owned();
    for second in (0..1_200 * 60).step_by(20) {
        let noise = |by: u32| f64::from((second * 7_919 + by * 104_729) % 1_009) / 1_009.0;
        let (hour, minute) = (second / 3_600, second / 60 % 60);
        let time = format!("2026-01-05T{hour:02}:{minute:02}:{:02}Z", second % 60);
        let counter = f64::from(second) / 20.0 + 0.5 * noise(1);
        writeln!(rows, "{time},m,counter,{counter}").unwrap();
        writeln!(rows, "{time},m,calm,{}", 70.0 + noise(2) + noise(3) + noise(4)).unwrap();
    }
    fs::write(&csv, rows).unwrap();
    let (csv, store) = (text(&csv), text(&store));
    let models = |words: &[&str]| windrow(&[&["models"], words, &["--store", store]].concat());
    models(&["train", "--source", csv, "--window", "1m"]).json();
    windrow(&[&to_the_end(csv, store)[..], &["--window", "1m"]].concat()).output();
    let version = |sensor: &str| string(&models(&["show", sensor]).json()["version"]);
    let before = ["m/calm", "m/counter"].map(version);

    // Predictions hold the windows of the readings, so both choose the same; and nothing is stored on trial.
    let tried = models(&["tune", "--dry-run", "--trials"]).json();
    let of_source = models(&["tune", "--dry-run", "--trials", "--source", csv, "--window", "1m"]).json();
    assert_eq!(tried, of_source);
    assert_eq!(["m/calm", "m/counter"].map(version), before);
    let of = |tuned: &Value, sensor: &str| {
        let all = tuned["sensors"].as_array().unwrap().clone();
        all.into_iter().find(|one| one["sensor"] == sensor).unwrap()
    };
    let counter = of(&tried, "m/counter");
    assert_eq!(counter["stays"], false, "{counter}");
    assert_eq!(counter["chosen"]["features"], "std,range");
    assert!(
        string(&counter["why"]).contains("; the present one is out: its value only grew"),
        "{counter}"
    );
    let trials = counter["trials"].as_array().unwrap();
    assert!(trials.len() > 15 && trials[0] == counter["present"], "{counter}");
    let said = models(&["tune", "--dry-run", "--trials", "m/counter"]).output();
    assert!(
        said.contains("chosen") && said.contains("1 sensors would have a new model"),
        "{said}"
    );
    assert!(!said.contains("m/calm"), "{said}");

    let tuned = models(&["tune"]).json();
    assert_eq!(of(&tuned, "m/counter")["chosen"], counter["chosen"]);
    let shown = models(&["show", "m/counter"]).json();
    assert_eq!(shown["features"], "std,range");
    assert_eq!(shown["history"].as_array().unwrap().last().unwrap()["by"], "tune");
    assert_eq!(shown["metadata"]["training"]["windows"], 1_200);
    // Nothing is better by a tenth than what was chosen.
    let again = models(&["tune"]).json();
    assert_eq!(
        (&again["models"], &again["stay"]),
        (&json!(0), &json!(2)),
        "{again}"
    );

    let (code, _, error) = models(&["tune", "m/other"]).end();
    assert!(code == 2 && error.contains("no such sensor"), "{error}");
    let few = models(&["tune", "--least", "5000"]).json();
    assert_eq!(few["few"], 2);

    // A sensor without a model gets one, also if it is that which any sensor is trained with.
    let new = folder.path().join("new");
    let words = [
        "models",
        "tune",
        "--source",
        csv,
        "--window",
        "1m",
        "--store",
        text(&new),
    ];
    let first = windrow(&words).json();
    assert_eq!(
        (&first["models"], &first["stay"]),
        (&json!(2), &json!(0)),
        "{first}"
    );
    let calm = of(&first, "m/calm");
    assert_eq!(
        (&calm["stays"], &calm["chosen"]),
        (&json!(false), &calm["present"]),
        "{calm}"
    );
    let listed = windrow(&["models", "list", "--store", text(&new)]).json();
    assert_eq!(listed.as_array().map(Vec::len), Some(2), "{listed}");
    // Of what the source lacks nothing is known.
    let (code, _, error) = windrow(&[&words[..], &["m/other"]].concat()).end();
    assert!(
        code == 2 && error.contains("has no window of such a sensor"),
        "{error}"
    );
}
