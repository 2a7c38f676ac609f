//! Incidents that people have looked at: what is true stays out of training, and counts in the report.

use std::path::Path;

use serde_json::{Value, json};
use windrow_common::EventTime;
use windrow_tests::{fleet, windrow, write_csv};

use super::registry::string;
use super::{text, to_the_end};

const WINDOW_S: i64 = 10;

/// Trains a fleet of three sensors, and scores 60 windows of each: those it is trained on, some of them 50 degrees warmer.
/// Returns when the first window starts.
fn scored(folder: &Path, store: &str) -> EventTime {
    let mut rows = fleet(3, 600, 7);
    let start = rows[0].time_ms;
    let source = folder.join("readings.csv");
    write_csv(&source, &rows);
    let train = ["models", "train", "--source", text(&source), "--store", store];
    windrow(&[&train[..], &["--window", "10s", "--nu", "0.1"]].concat()).output();
    for row in &mut rows {
        let window = (row.time_ms - start) / 1_000 / WINDOW_S;
        let warm: &[i64] = match row.device {
            // The windows between two warm ones are part of the same incident.
            0 => &[30, 33, 48, 49],
            1 => &[20, 21, 22],
            _ => &[],
        };
        row.value += if warm.contains(&window) { 50.0 } else { 0.0 };
    }
    write_csv(&source, &rows);
    let run = to_the_end(text(&source), store);
    let rules = ["--window", "10s", "--quiet", "5", "--threshold", "2"];
    windrow(&[&run[..], &rules].concat()).output();
    EventTime::from_millis(start)
}

#[test]
fn windows_of_true_incidents_stay_out_of_training_and_the_report_tells_how_many_were_true() {
    let folder = tempfile::tempdir().unwrap();
    let store = text(&folder.path().join("store")).to_owned();
    let start = scored(folder.path(), &store);
    let run = |words: &[&str]| windrow(&[words, &["--store", &store]].concat());
    let time =
        |window: i64| EventTime::from_millis(start.as_millis() + window * WINDOW_S * 1_000).to_string();
    let retrained = |words: &[&str]| {
        let all = "retrain --least 20 --windows 50 --quiet 5 --budget";
        let all: Vec<&str> = all.split(' ').chain(["1000 per sensor-day"]).collect();
        run(&[&all[..], words].concat()).json()
    };
    assert_eq!(retrained(&["--dry-run"])["left_out_windows"], 0);

    let incidents = run(&["incidents", "list"]).json();
    let incidents = incidents.as_array().unwrap().iter();
    let found: Vec<_> = incidents
        .map(|one| (string(&one["id"]), string(&one["until"])))
        .collect();
    let id = |device: u32, window| format!("d{device}/temp@10s/{}/anomaly", time(window));
    let (worked_on, warm, again) = (id(1, 20), id(0, 30), id(0, 48));
    assert_eq!(
        found,
        [
            (worked_on, time(23)),
            (warm.clone(), time(34)),
            (again.clone(), time(50))
        ]
    );
    let report = run(&["fleet", "report"]).output();
    assert!(!report.contains("Labelled incidents"), "{report}");

    // The table has short ids.
    let listed = run(&["incidents", "list"]).output();
    let of_work = listed.lines().find(|line| line.contains("d1/temp")).unwrap();
    let short = of_work.split_whitespace().nth(1).unwrap().to_owned();
    assert_eq!(short.len(), 8, "{listed}");
    for (id, verdict) in [(&short, "maintenance"), (&warm, "false"), (&again, "false")] {
        run(&["label", "add", id, verdict]).output();
    }
    // On second thoughts.
    let added = run(&["label", "add", &warm, "true", "--note", "worn bearing"]).json();
    assert_eq!(
        (&added["before"], &added["verdict"]),
        (&json!("false"), &json!("true"))
    );
    let listed = run(&["label", "list"]).json();
    let of_warm: &Value = &listed[0];
    assert_eq!(listed.as_array().unwrap().len(), 3);
    assert_eq!(
        [
            &of_warm["incident"],
            &of_warm["note"],
            &of_warm["from"],
            &of_warm["to"]
        ],
        [&warm, "worn bearing", &time(30), &time(34)]
    );

    for (id, why) in [
        (id(0, 31), "windrow incidents update"),
        ("00000000".to_owned(), "has no incident 00000000"),
        ("d0/temp".to_owned(), "is not the id of an incident"),
    ] {
        let (code, _, error) = run(&["label", "add", &id, "true"]).end();
        assert!(code == 2 && error.contains(why), "{code}: {error}");
    }
    let (code, _, error) = run(&["label", "remove", &again, &id(0, 31)]).end();
    assert!(code == 2 && error.contains("windrow label list"), "{error}");

    let labelled = &run(&["fleet", "report"]).json()["labelled"];
    let right = json!([{
        "kind": "anomaly", "true": 1, "false": 1, "maintenance": 1, "unlabelled": 0, "withdrawn": 0, "precision": 0.5,
    }]);
    assert_eq!(labelled, &right);
    let report = run(&["fleet", "report"]).output();
    assert!(report.contains("50.0 %"), "{report}");

    // What was false counts against a budget; nobody has promised one.
    assert_eq!(run(&["fleet", "report"]).json()["budget"], Value::Null);
    let asked = run(&["fleet", "report", "--budget", "1 per sensor-month"]).json()["budget"].clone();
    assert_eq!(
        [&asked["incidents"], &asked["verdict"], &asked["promised_at"]],
        [&json!(1), &json!("exceeded"), &Value::Null]
    );
    assert_eq!(
        asked["sensors"],
        json!([{ "sensor": "d0/temp", "incidents": 1, "share": 1.0 }])
    );

    let tried = run(&["retrain", "--least", "20", "--windows", "50", "--dry-run"]).output();
    assert!(tried.contains("7 windows of 2 sensors were left out"), "{tried}");
    let done = retrained(&[]);
    assert_eq!(
        [
            &done["left_out_windows"],
            &done["left_out_sensors"],
            &done["models"]
        ],
        [&json!(7), &json!(2), &json!(3)],
        "{done}"
    );
    // Fifty windows up to the newest one, without four, three and none.
    for (sensor, first) in [("d0/temp", 6), ("d1/temp", 7), ("d2/temp", 10)] {
        let training = run(&["models", "show", sensor]).json()["metadata"]["training"].clone();
        assert_eq!(
            [&training["windows"], &training["from"]],
            [&json!(50), &json!(time(first))],
            "{sensor}"
        );
    }
    // A budget that fits into so little time is promised, and kept.
    let promised = ["--budget", "5000 per sensor-day"];
    let all = ["retrain", "--least", "20", "--windows", "50", "--quiet", "5"];
    let threshold = run(&[&all[..], &promised].concat()).json()["threshold"].clone();
    assert!(threshold.is_f64(), "{threshold}");
    let kept = run(&["fleet", "report"]).json()["budget"].clone();
    assert_eq!(
        [&kept["budget"], &kept["threshold"], &kept["verdict"]],
        [&json!("5000 per sensor-day"), &threshold, &json!("kept")]
    );
    let report = run(&["fleet", "report"]).output();
    assert!(report.contains("the budget is kept"), "{report}");
    // The promise holds for a sensor once a model with this threshold scores it.
    assert_eq!(kept["other_threshold"], 3);
    assert!(
        report.contains("3 sensors were last scored by another threshold"),
        "{report}"
    );
    let mut later = fleet(3, 120, 8);
    for row in &mut later {
        row.time_ms += 1_000 * 1_000;
    }
    let source = folder.path().join("later.csv");
    write_csv(&source, &later);
    let again = to_the_end(text(&source), &store);
    windrow(&[&again[..], &["--window", "10s"]].concat()).output();
    let kept = run(&["fleet", "report"]).json()["budget"].clone();
    assert_eq!(kept["other_threshold"], 0, "{kept}");

    run(&["label", "remove", &warm]).output();
    assert_eq!(retrained(&["--dry-run"])["left_out_windows"], 3);
}
