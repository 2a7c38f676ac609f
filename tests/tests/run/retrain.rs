//! Models that are trained again, from the aggregates of their sensors' predictions.

use serde_json::{Value, json};
use windrow_tests::windrow;

use super::registry::{DEVICES, Plant, string};
use super::to_the_end;

/// Trains a fleet, and scores the windows that it is trained on again.
fn scored() -> Plant {
    let plant = Plant::new();
    plant.train("0.1", &[]);
    let (readings, store) = (plant.path("readings.csv"), plant.store());
    windrow(&[&to_the_end(&readings, &store)[..], &["--window", "10s"]].concat()).output();
    plant
}

fn retrained(plant: &Plant, words: &[&str]) -> Value {
    let store = plant.store();
    let least: &[&str] = if words.contains(&"--least") {
        &[]
    } else {
        &["--least", "20"]
    };
    let roomy = ["retrain", "--store", &store, "--budget", "1000 per sensor-day"];
    windrow(&[&roomy, least, words].concat()).json()
}

#[test]
fn models_are_trained_again_on_the_last_windows_of_their_sensors() {
    let plant = scored();
    let before = plant.current();
    // Nothing is stored on trial.
    let tried = retrained(&plant, &["--windows", "40", "--dry-run"]);
    assert_eq!(tried["models"], DEVICES);
    assert_eq!(plant.current(), before);
    assert_eq!(
        retrained(&plant, &["--windows", "40", "--candidate"])["models"],
        DEVICES
    );
    assert_eq!(plant.current(), before);

    let done = retrained(&plant, &["--windows", "40"]);
    assert_eq!(done["models"], DEVICES, "{done}");
    let after = plant.current();
    let sensor = &after[0].0;
    assert!(
        before
            .iter()
            .zip(&after)
            .all(|(before, after)| before.1 != after.1)
    );
    let shown = plant.models(&["show", sensor]);
    let training = &shown["metadata"]["training"];
    let first = windows(&plant, sensor)[20].clone();
    assert_eq!(
        (&training["windows"], &training["rows"], string(&training["from"])),
        (&json!(40), &json!(40), first)
    );
    assert_eq!(training["parameters"]["nu"], "0.1", "the options stay");
    // The budget is so large that the lowest threshold keeps it, and the model carries it.
    assert!(done["threshold"].as_f64() > Some(0.0), "{done}");
    assert_eq!(shown["threshold"], done["threshold"]);
    assert_eq!(
        shown["history"].as_array().unwrap().last().unwrap()["by"],
        "retrain"
    );

    // Five thousand windows of forty sensors are more than a mebibyte: several passes give what one gives.
    let passes = retrained(&plant, &["--memory-mib", "1"]);
    assert_eq!(passes["models"], DEVICES);
    let at_once = retrained(&plant, &[]);
    assert_eq!(
        (&at_once["models"], &at_once["unchanged"]),
        (&json!(0), &json!(DEVICES))
    );
}

#[test]
fn sensors_keep_models_that_are_pinned_imported_or_no_worse() {
    let plant = scored();
    let before = plant.current();
    let few = retrained(&plant, &["--least", "61"]);
    assert_eq!(
        (&few["few"], &few["models"]),
        (&json!(DEVICES), &json!(0)),
        "{few}"
    );

    // Windows just inside the boundary count as alarms: the new models are no better than the present ones.
    let store = plant.store();
    let words = "--least 20 --threshold -0.05 --quiet 1 --windows 50".split(' ');
    let strict: Vec<&str> = ["retrain", "--store", &store].into_iter().chain(words).collect();
    let refused = windrow(&strict).json();
    let kept = refused["refused"].as_array().unwrap();
    assert!(kept.len() > 3, "{refused}");
    for sensor in kept {
        let (new, present) = (sensor["incidents"].as_u64(), sensor["present_incidents"].as_u64());
        assert!(new >= present && new > Some(1), "{sensor}");
    }
    let said = windrow(&strict).output();
    assert!(
        said.contains("keep their model, because a new one would raise more incidents"),
        "{said}"
    );
    let name = string(&kept[0]["sensor"]);
    let version =
        |all: &[(String, String)]| all.iter().find(|(sensor, _)| *sensor == name).unwrap().1.clone();
    assert_eq!(version(&plant.current()), version(&before));

    // A pinned sensor gets a candidate, and one whose model is of unknown origin nothing.
    let all = plant.current();
    let (pinned, unknown) = (all[0].clone(), all[1].clone());
    plant.models(&["pin", &pinned.0]);
    let metadata = format!("store/models/{}/{}.json", unknown.0, unknown.1);
    std::fs::remove_file(plant.path(&metadata)).unwrap();
    let done = retrained(&plant, &["--windows", "30"]);
    assert_eq!(
        (&done["pinned"], &done["imported"]),
        (&json!(1), &json!(1)),
        "{done}"
    );
    assert_eq!(done["models"], DEVICES - 2);
    assert_eq!(&plant.current()[..2], [pinned, unknown]);
}

/// Returns the starts of a sensor's windows.
fn windows(plant: &Plant, sensor: &str) -> Vec<String> {
    let store = plant.store();
    let export = [
        "predictions",
        "export",
        "--store",
        &store,
        "--sensor",
        sensor,
        "--format",
        "json",
    ];
    let rows = windrow(&export).output();
    let rows = rows
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    rows.map(|row| string(&row["window_start"])).collect()
}
