//! One prediction counts for each window, whatever was written; and the audit tells what is harmless from what is not.

use std::collections::HashSet;
use std::fs;

use serde_json::Value;
use windrow_tests::{fleet, models_for, windrow, write_csv};

use super::{audited, exported, text, to_the_end};

/// Returns the windows of exported predictions, and expects each to have one row.
fn windows(exported: &str) -> HashSet<String> {
    let rows: Vec<String> = exported
        .lines()
        .skip(1)
        .map(|row| row.split(',').take(4).collect::<Vec<_>>().join(","))
        .collect();
    let windows: HashSet<String> = rows.iter().cloned().collect();
    assert_eq!(windows.len(), rows.len(), "{exported}");
    windows
}

#[test]
fn a_model_promoted_before_a_redelivery_leaves_one_prediction_for_each_window() {
    let folder = tempfile::tempdir().unwrap();
    let (csv, other) = (
        folder.path().join("readings.csv"),
        folder.path().join("other.csv"),
    );
    let store = folder.path().join("store");
    write_csv(&csv, &fleet(2, 600, 4));
    write_csv(&other, &fleet(2, 900, 8));
    models_for(text(&csv), text(&store));
    let words = to_the_end(text(&csv), text(&store));
    windrow(&words).output();
    let first = exported(text(&store));
    models_for(text(&other), text(&store));
    // All messages are delivered again, and scored by the other model.
    let again = [&words[..], &["--restart"]].concat();
    windrow(&again).output();
    windrow(&again).output();
    let then = exported(text(&store));
    assert_eq!(windows(&then), windows(&first));
    assert_eq!(windows(&then).len(), 20);
    let versions = |rows: &str| -> HashSet<String> {
        let header = rows.lines().next().unwrap();
        let version = header
            .split(',')
            .position(|name| name == "model_version")
            .unwrap();
        let rows = rows.lines().skip(1).filter_map(|row| row.split(',').nth(version));
        rows.map(str::to_owned).collect()
    };
    assert!(
        versions(&then).len() <= 2,
        "one model counts for each sensor: {then}"
    );
    let audit = audited(text(&store));
    assert_eq!(
        (&audit["superseded"], &audit["repeats"], &audit["predicted"]),
        (&20.into(), &20.into(), &20.into()),
        "{audit}"
    );
    let said = windrow(&["audit", "--store", text(&store)]).output();
    assert!(
        said.contains("0 lost, 20 superseded rows do not count, 20 duplicates dropped"),
        "{said}"
    );
}

#[test]
fn a_window_that_was_scored_again_with_more_readings_counts_with_those() {
    let folder = tempfile::tempdir().unwrap();
    let (csv, store) = (folder.path().join("readings.csv"), folder.path().join("store"));
    let rows = fleet(2, 600, 4);
    write_csv(&csv, &rows);
    models_for(text(&csv), text(&store));
    let words = to_the_end(text(&csv), text(&store));
    // First without the last half minute.
    write_csv(&csv, &rows[..1140]);
    windrow(&[&words[..], &["--at-end", "dispatch"]].concat()).output();
    write_csv(&csv, &rows);
    windrow(&[&words[..], &["--restart"]].concat()).output();
    let exported = exported(text(&store));
    assert_eq!(windows(&exported).len(), 20);
    for row in exported.lines().skip(1) {
        assert_eq!(row.split(',').nth(4), Some("60"), "{row}");
    }
    let audit = audited(text(&store));
    assert_eq!((&audit["superseded"], &audit["repeats"]), (&2.into(), &18.into()));
}

#[test]
fn contradictions_fail_the_audit_and_say_why() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (folder.path().join("one.csv"), folder.path().join("two.csv"));
    let store = folder.path().join("store");
    write_csv(&one, &fleet(2, 600, 4));
    write_csv(&two, &fleet(2, 600, 8));
    models_for(text(&one), text(&store));
    // Both sources have the same sensors at the same times: no prediction of these windows has all readings.
    for source in [&one, &two] {
        windrow(&to_the_end(text(source), text(&store))).output();
    }
    let audit = ["audit", "--store", text(&store), "--output", "json"];
    let (code, output, error) = windrow(&audit).end();
    assert_eq!(code, 3, "{output}{error}");
    let found: Value = serde_json::from_str(&output).unwrap();
    assert_eq!(found["all"]["conflicting"], 20, "{found}");
    assert!(
        error.contains("20 differing") && error.contains("cut from several partitions or sources"),
        "{error}"
    );

    // Predictions of fewer readings than were dispatched: the parts with the corrections are lost.
    let (csv, store) = (
        folder.path().join("readings.csv"),
        folder.path().join("corrected"),
    );
    let rows = fleet(2, 600, 4);
    models_for(text(&one), text(&store));
    write_csv(&csv, &rows[..1140]);
    let words = to_the_end(text(&csv), text(&store));
    windrow(&[&words[..], &["--at-end", "dispatch"]].concat()).output();
    let (kept, predictions) = (folder.path().join("kept"), store.join("predictions"));
    fs::rename(&predictions, &kept).unwrap();
    write_csv(&csv, &rows);
    windrow(&[&words[..], &["--restart"]].concat()).output();
    fs::remove_dir_all(&predictions).unwrap();
    fs::rename(&kept, &predictions).unwrap();
    let (code, output, error) = windrow(&["audit", "--store", text(&store)]).end();
    assert_eq!(code, 3, "{output}{error}");
    assert!(
        output.contains("30 readings predicted, 60 dispatched") && error.contains("a correction of them"),
        "{output}{error}"
    );
}
