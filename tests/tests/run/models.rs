//! Models as people have them: names, columns, scalers in other files, and sensors that never vary.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use windrow_tests::windrow;

use super::{exported, text, to_the_end};

fn fixture(name: &str) -> PathBuf {
    let fixtures = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/models/1.9.1"));
    fixtures.join(name)
}

/// Copies a model of mean, std, min and max to each of the names.
fn models(folder: &Path, names: &[&str]) -> Vec<String> {
    let copied = names.iter().map(|name| {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::copy(fixture("joblib-zlib"), &path).unwrap();
        text(&path).to_owned()
    });
    copied.collect()
}

/// Writes readings: three in each of `minutes` minutes, of each sensor and its value at a minute.
fn readings(path: &Path, minutes: u32, sensors: &[(&str, &dyn Fn(u32) -> f64)]) {
    let mut csv = "ts,device,tag,value\n".to_owned();
    for second in (0..minutes * 60).step_by(20) {
        let (hour, minute) = (second / 3_600, second / 60);
        for (sensor, value) in sensors {
            let (device, tag) = sensor.split_once('/').unwrap();
            let time = format!("2026-01-05T{hour:02}:{:02}:{:02}Z", minute % 60, second % 60);
            writeln!(csv, "{time},{device},{tag},{}", value(minute)).unwrap();
        }
    }
    fs::write(path, csv).unwrap();
}

fn import<'a>(store: &'a str, files: &'a [String], options: &[&'a str]) -> (i32, serde_json::Value, String) {
    let mut words = vec!["models", "import", "--store", store, "--output", "json"];
    words.extend(options);
    words.extend(files.iter().map(String::as_str));
    let (code, output, error) = windrow(&words).end();
    (code, serde_json::from_str(&output).unwrap_or_default(), error)
}

fn sensors(imported: &serde_json::Value) -> Vec<&str> {
    let list = imported["imported"].as_array().unwrap().iter();
    list.map(|one| one["sensor"].as_str().unwrap()).collect()
}

const FEATURES: [&str; 2] = ["--features", "mean,std,min,max"];

#[test]
fn endings_are_no_part_of_a_sensors_name_and_two_readings_of_one_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let store = text(&store);
    let files = models(
        folder.path(),
        &[
            "model_pump-7_temp.sav",
            "model_pump-7_press.PKL",
            "model_mixer_01_flow_rate.pkl",
        ],
    );
    let (code, imported, error) = import(store, &files, &FEATURES);
    assert_eq!(
        (code, sensors(&imported)),
        (1, vec!["pump-7/press", "pump-7/temp"]),
        "{error}"
    );
    assert!(
        error.contains("3 ways (mixer/01_flow_rate, mixer_01/flow_rate, mixer_01_flow/rate)"),
        "{error}"
    );

    // The device is given, or the readings know it.
    let given = [
        &FEATURES[..],
        &["--device", "mixer_01", "--name-pattern", "model_mixer_01_{tag}"],
    ]
    .concat();
    let (code, imported, error) = import(store, &files[2..], &given);
    assert_eq!(
        (code, sensors(&imported)),
        (0, vec!["mixer_01/flow_rate"]),
        "{error}"
    );
    let csv = folder.path().join("readings.csv");
    let value = |minute: u32| 34.7 + f64::from(minute % 5) / 10.0;
    readings(
        &csv,
        5,
        &[
            ("pump-7/temp", &value),
            ("mixer_01/flow_rate", &value),
            ("fan/speed", &value),
        ],
    );
    let against = [&FEATURES[..], &["--against", text(&csv)]].concat();
    let (code, imported, error) = import(store, &files, &against);
    assert_eq!((code, sensors(&imported).len()), (0, 3), "{error}");
    assert_eq!(imported["without_readings"], serde_json::json!(["pump-7/press"]));
    assert_eq!(imported["without_models"], serde_json::json!(["fan/speed"]));

    // Two files of one sensor are not imported one over the other.
    let twice = models(folder.path(), &["model_a_b.pkl", "model_a_b.joblib"]);
    let (code, imported, error) = import(store, &twice, &FEATURES);
    assert_eq!((code, sensors(&imported)), (1, vec!["a/b"]), "{error}");
    assert!(error.contains("a model of a/b, and so is"), "{error}");
}

#[test]
fn folders_name_devices_and_scalers_are_beside_their_models() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let mut files = Vec::new();
    for (name, from) in [
        ("pump-7/temp.pkl", "scaled.joblib"),
        ("pump-7/temp_scaler.joblib", "scaler.joblib"),
        ("pump-8/temp.pkl", "scaled.joblib"),
    ] {
        let path = folder.path().join("models").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::copy(fixture(from), &path).unwrap();
        files.push(text(&path).to_owned());
    }
    let pattern = [
        "--name-pattern",
        "{device}/{tag}",
        "--scaler-pattern",
        "{device}/{tag}_scaler",
    ];
    let (code, imported, error) = import(text(&store), &files, &[&FEATURES[..], &pattern].concat());
    assert_eq!((code, sensors(&imported)), (1, vec!["pump-7/temp"]), "{error}");
    assert_eq!(imported["scalers"], 1);
    assert!(
        error.contains("pump-8/temp.pkl: its scaler does not exist"),
        "{error}"
    );
    let shown = windrow(&["models", "show", "--store", text(&store), "pump-7/temp"]).json();
    assert_eq!(shown["detector"], "isolation forest");
    assert_eq!(shown["steps"], serde_json::json!(["stretch"]));
}

#[test]
fn columns_that_name_features_decide_the_order_and_others_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let file = folder.path().join("model_pump-7_temp.pkl");
    fs::copy(fixture("columns-in-order.pkl"), &file).unwrap();
    let files = [text(&file).to_owned()];
    for options in [&FEATURES[..], &[]] {
        let (code, imported, error) = import(text(&store), &files, options);
        assert_eq!(code, 0, "{error}");
        assert_eq!(imported["imported"][0]["features"], "max,mean,min,std");
        assert!(
            error.contains("value_max,value_mean,value_min,value_std are read as"),
            "{error}"
        );
    }
    let (code, _, error) = import(text(&store), &files, &["--features", "mean,std,min,last"]);
    assert!(
        code == 1 && error.contains("name the features that it was fitted on"),
        "{error}"
    );
    let mut other = fs::read(&file).unwrap();
    // Names of the same length, so that the pickle stays whole.
    for (from, to) in [
        (&b"value_max"[..], &b"flow_rate"[..]),
        (b"value_min", b"vibration"),
    ] {
        let at = other
            .windows(from.len())
            .position(|window| window == from)
            .unwrap();
        other[at..at + to.len()].copy_from_slice(to);
    }
    fs::write(&file, other).unwrap();
    let (code, _, error) = import(text(&store), &files, &FEATURES);
    assert!(
        code == 1 && error.contains("not the features of one sensor"),
        "{error}"
    );
}

#[test]
fn a_sensor_that_never_varied_flags_its_change_alone() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let (history, next) = (folder.path().join("history.csv"), folder.path().join("next.csv"));
    let set_point = |minute: u32| if (10..15).contains(&minute) { 40.5 } else { 40.0 };
    let switch = |minute: u32| f64::from(minute / 30 % 2);
    readings(
        &history,
        240,
        &[("m/set", &|_| 40.0), ("m/zero", &|_| 0.0), ("m/switch", &switch)],
    );
    readings(
        &next,
        60,
        &[("m/set", &set_point), ("m/zero", &|_| 0.0), ("m/switch", &switch)],
    );
    let train = [
        "models",
        "train",
        "--source",
        text(&history),
        "--store",
        text(&store),
    ];
    let told = windrow(&train).output();
    assert!(
        told.contains("m/set: its value never varied in the history"),
        "{told}"
    );
    assert!(
        told.contains("m/switch: only 2 of its 240 windows differ from each other"),
        "{told}"
    );
    windrow(&to_the_end(text(&next), text(&store))).output();
    let flagged: Vec<String> = exported(text(&store))
        .lines()
        .filter(|line| line.contains(",true,"))
        .map(|line| line[..24].to_owned())
        .collect();
    let right: Vec<String> = (10..15)
        .map(|minute| format!("m,set,2026-01-05T00:{minute}:00Z"))
        .collect();
    let right: Vec<String> = right.iter().map(|line| line[..24].to_owned()).collect();
    assert_eq!(flagged, right);
}
