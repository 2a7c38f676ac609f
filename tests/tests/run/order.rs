//! The order of rows and files changes nothing of a run to the end of them.

use std::fs;
use std::path::Path;

use windrow_tests::{Draws, Row, fleet, models_for, windrow, write_csv};

use super::{audited, exported, text, to_the_end};

const DEVICES: u32 = 10;

/// Returns the rows in order of arrival when each is delayed by a random time below `most_ms`.
fn delayed(rows: &[Row], most_ms: u64) -> Vec<Row> {
    let mut draws = Draws(5);
    let mut arriving: Vec<(i64, Row)> = rows
        .iter()
        .map(|row| (row.time_ms + i64::try_from(draws.below(most_ms)).unwrap(), *row))
        .collect();
    arriving.sort_by_key(|(arrival, _)| *arrival);
    arriving.into_iter().map(|(_, row)| row).collect()
}

/// Writes the rows in several orders and returns the names of the files and folders.
fn orders(folder: &Path, rows: &[Row]) -> Vec<&'static str> {
    let by_device = |device| rows.iter().filter(move |row| row.device == device).copied();
    write_csv(&folder.join("sorted.csv"), rows);
    write_csv(&folder.join("delayed.csv"), &delayed(rows, 90_000));
    write_csv(&folder.join("shuffled.csv"), &delayed(rows, 1_000_000_000));
    let by_devices: Vec<Row> = (0..DEVICES).flat_map(by_device).collect();
    write_csv(&folder.join("by-device.csv"), &by_devices);
    let split = folder.join("split");
    fs::create_dir(&split).unwrap();
    for device in 0..DEVICES {
        let rows: Vec<Row> = by_device(device).collect();
        write_csv(&split.join(format!("d{device}.csv")), &rows);
    }
    vec![
        "sorted.csv",
        "delayed.csv",
        "shuffled.csv",
        "by-device.csv",
        "split",
    ]
}

#[test]
fn the_order_of_rows_and_files_changes_no_prediction_and_no_incident() {
    let folder = tempfile::tempdir().unwrap();
    let mut rows = fleet(DEVICES, 1800, 3);
    // One stray row is dated months after the others.
    let middle = rows.len() / 2;
    rows[middle].time_ms += 90 * 86_400_000;
    let mut right = None;
    for name in orders(folder.path(), &rows) {
        let (source, store) = (
            folder.path().join(name),
            folder.path().join(format!("{name}.store")),
        );
        models_for(text(&folder.path().join("sorted.csv")), text(&store));
        let words = to_the_end(text(&source), text(&store));
        // So low that healthy sensors have incidents.
        let counts = windrow(&[&words[..], &["--threshold", "-0.1"]].concat()).json();
        assert_eq!(counts["readings"], 18_000, "{name}: {counts}");
        assert_eq!(counts["quarantined"], serde_json::json!({}), "{name}");
        assert_eq!(audited(text(&store))["lost"], 0);
        let listed = windrow(&["incidents", "list", "--store", text(&store), "--output", "json"]).output();
        let (predictions, incidents) = right.get_or_insert_with(|| (exported(text(&store)), listed.clone()));
        assert!(
            *predictions == exported(text(&store)),
            "{name} is scored differently"
        );
        assert!(*incidents == listed, "{name} has other incidents");
    }
    let (predictions, incidents) = right.unwrap();
    assert_eq!(
        predictions.lines().count(),
        1 + 300 + 1,
        "a header, and a window for the stray row"
    );
    assert!(incidents.contains("\"anomaly\""), "{incidents}");
}

#[test]
fn the_order_of_rows_and_files_changes_nothing_of_the_training() {
    let folder = tempfile::tempdir().unwrap();
    let rows = fleet(DEVICES, 1800, 3);
    for name in orders(folder.path(), &rows) {
        let (source, store) = (
            folder.path().join(name),
            folder.path().join(format!("{name}.store")),
        );
        let words = [
            "models",
            "train",
            "--source",
            text(&source),
            "--store",
            text(&store),
            "--nu",
            "0.1",
        ];
        let trained = windrow(&words).json();
        assert_eq!(
            (&trained["readings"], &trained["left_out"]),
            (&18_000.into(), &0.into()),
            "{name}"
        );
        assert_eq!(trained["models"], DEVICES, "{name}");
    }
}

#[test]
fn a_device_whose_file_comes_after_the_others_were_scored_is_scored_too() {
    let folder = tempfile::tempdir().unwrap();
    let (all, source) = (folder.path().join("all"), folder.path().join("some"));
    let store = folder.path().join("store");
    fs::create_dir(&all).unwrap();
    fs::create_dir(&source).unwrap();
    orders(&all, &fleet(DEVICES, 600, 3));
    models_for(text(&all.join("sorted.csv")), text(&store));
    let words = to_the_end(text(&source), text(&store));
    for device in [3, 0, 9] {
        let name = format!("d{device}.csv");
        fs::copy(all.join("split").join(&name), source.join(&name)).unwrap();
        let counts = windrow(&words).json();
        assert_eq!(
            (&counts["readings"], &counts["predictions"]),
            (&600.into(), &10.into()),
            "{counts}"
        );
        assert_eq!(counts["quarantined"], serde_json::json!({}));
    }
    assert_eq!(audited(text(&store))["predicted"], 30);
}
