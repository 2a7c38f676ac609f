//! What a run has read is not read again, and what it has not read is.

use std::fs;

use windrow_tests::{fleet, models_for, windrow, write_csv};

use super::{audited, exported, text, to_the_end};

#[test]
fn a_run_with_the_wrong_columns_says_so_and_leaves_everything_to_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (good, clocks, store) = (path("good.csv"), path("clocks.csv"), path("store"));
    write_csv(&good, &fleet(2, 600, 4));
    models_for(text(&good), text(&store));
    // The usual name for the time is there, but it holds a time of day.
    let lines = fs::read_to_string(&good)
        .unwrap()
        .replace("ts,device", "time,stamp,device");
    let lines = lines.lines().enumerate().map(|(index, line)| match index {
        0 => format!("{line}\n"),
        _ => format!("00:00:{:02},{line}\n", index % 60),
    });
    fs::write(&clocks, lines.collect::<String>()).unwrap();
    let words = to_the_end(text(&clocks), text(&store));
    let (code, _, error) = windrow(&words).end();
    assert_eq!(code, 2, "{error}");
    for part in [
        "no time in its first rows can be read: column time: `00:00:01` is a time of the day",
        "this reads it: --column-time stamp",
    ] {
        assert!(error.contains(part), "`{part}` is missing: {error}");
    }
    let counts = windrow(&[&words[..], &["--column-time", "stamp"]].concat()).json();
    assert_eq!(
        (&counts["readings"], &counts["predictions"]),
        (&1200.into(), &20.into())
    );
    let (code, _, error) = windrow(&words).end();
    assert_eq!(code, 2, "{error}");
    assert!(
        error.contains("--column-time stamp; this run has no column options"),
        "{error}"
    );
}

#[test]
fn two_folders_of_one_name_do_not_share_a_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let plants = ["plantA", "plantB"].map(|plant| folder.path().join(plant).join("readings"));
    for (plant, seed) in plants.iter().zip([4, 5]) {
        fs::create_dir_all(plant).unwrap();
        write_csv(&plant.join("day.csv"), &fleet(2, 600, seed));
    }
    // The plants have different devices.
    let day = plants[1].join("day.csv");
    let renamed = fs::read_to_string(&day)
        .unwrap()
        .replace(",d0,", ",e0,")
        .replace(",d1,", ",e1,");
    fs::write(&day, renamed).unwrap();
    plants
        .iter()
        .for_each(|plant| models_for(text(plant), text(&store)));
    let run = |plant: usize, more: &[&str]| {
        let words = to_the_end(text(&plants[plant]), text(&store));
        windrow(&[&words[..], more].concat())
    };
    assert_eq!(run(0, &[]).json()["readings"], 1200);
    let (code, _, error) = run(1, &[]).end();
    assert_eq!(code, 2, "{error}");
    assert!(
        error.contains("plantA/readings; this one reads ") && error.contains("--restart"),
        "{error}"
    );
    assert_eq!(run(1, &["--source-name", "plantB"]).json()["readings"], 1200);
    // Nothing is new, which is no failure.
    assert_eq!(run(0, &[]).json()["readings"], 0);
    assert_eq!(run(0, &["--restart"]).json()["readings"], 1200);
    assert_eq!(audited(text(&store))["lost"], 0);
}

#[test]
fn a_run_of_mostly_late_readings_is_no_success() {
    let folder = tempfile::tempdir().unwrap();
    let (csv, store) = (folder.path().join("readings.csv"), folder.path().join("store"));
    let mut rows = fleet(2, 600, 4);
    write_csv(&csv, &rows);
    models_for(text(&csv), text(&store));
    let words = to_the_end(text(&csv), text(&store));
    assert_eq!(windrow(&words).json()["readings"], 1200);
    // More readings of windows that are scored, and a few new ones.
    rows.extend(fleet(2, 630, 5).split_off(900));
    write_csv(&csv, &rows);
    let (code, output, error) = windrow(&words).end();
    assert_eq!(code, 2, "{output}{error}");
    for part in [
        "most readings were late, 300 against 60 in windows: 300 late, such as readings.csv, offset ",
        "--allowed-lateness",
    ] {
        assert!(error.contains(part), "`{part}` is missing: {error}");
    }
}

#[test]
fn a_file_that_grows_from_run_to_run_is_scored_as_if_it_had_been_there_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let csv = folder.path().join("readings.csv");
    let rows = fleet(2, 7_200, 4);
    let score = |store: &str, rows: &[windrow_tests::Row], more: &[&str]| {
        write_csv(&csv, rows);
        if !folder.path().join(store).exists() {
            models_for(text(&csv), text(&folder.path().join(store)));
        }
        let store = folder.path().join(store);
        let words = to_the_end(text(&csv), text(&store));
        let words = [&words[..], &["--window", "1m", "--interval", "1h"], more].concat();
        (windrow(&words).json(), exported(text(&store)))
    };
    // The models of both stores come from the whole file.
    let (whole, right) = score("whole", &rows, &[]);
    assert_eq!(
        (&whole["predictions"], &whole["left_open"]),
        (&240.into(), &0.into())
    );
    models_for(text(&csv), text(&folder.path().join("growing")));
    // Up to minute 20, to minute 20 once more, to minute 70, and to the end.
    let steps = [(2_400, 0, 40), (2_400, 0, 40), (8_400, 120, 20), (14_400, 120, 0)];
    for (readings, predictions, left_open) in steps {
        let (counts, _) = score("growing", &rows[..readings], &[]);
        assert_eq!(counts["predictions"], predictions, "{counts}");
        assert_eq!(counts["left_open"], left_open, "{counts}");
        assert_eq!(counts["quarantined"], serde_json::json!({}), "{counts}");
    }
    assert_eq!(exported(text(&folder.path().join("growing"))), right);
}

#[test]
fn a_file_that_is_gone_although_its_windows_are_open_is_missed_aloud() {
    let folder = tempfile::tempdir().unwrap();
    let (source, store) = (folder.path().join("readings"), folder.path().join("store"));
    fs::create_dir(&source).unwrap();
    let rows = fleet(2, 630, 4);
    write_csv(&source.join("a.csv"), &rows);
    models_for(text(&source), text(&store));
    let words = to_the_end(text(&source), text(&store));
    let first = windrow(&words).json();
    assert_eq!(
        (&first["left_open"], &first["missed_files"]),
        (&2.into(), &0.into()),
        "{first}"
    );
    // Half a minute of both sensors is still needed.
    let away = folder.path().join("a.csv");
    fs::rename(source.join("a.csv"), &away).unwrap();
    write_csv(&source.join("b.csv"), &fleet(2, 700, 5).split_off(1300));
    let (code, output, error) = windrow(&words).end();
    assert_eq!(code, 0, "{output}{error}");
    assert!(
        output.contains("missed files  1") && error.contains("the file is gone"),
        "{output}{error}"
    );
}

#[test]
fn files_are_known_by_their_content_whatever_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let (source, store) = (folder.path().join("readings"), folder.path().join("store"));
    fs::create_dir(&source).unwrap();
    let rows = fleet(2, 2_400, 4);
    let all = folder.path().join("all.csv");
    write_csv(&all, &rows);
    let whole = folder.path().join("whole");
    for store in [&store, &whole] {
        models_for(text(&all), text(store));
    }
    windrow(&to_the_end(text(&all), text(&whole))).json();
    let words = to_the_end(text(&source), text(&store));
    let run = |readings: u64| {
        let counts = windrow(&words).json();
        assert_eq!(counts["readings"], readings, "{counts}");
        assert_eq!(counts["quarantined"], serde_json::json!({}), "{counts}");
    };
    let (a, b) = (source.join("a.csv"), source.join("b.csv"));
    write_csv(&a, &rows[..1_200]);
    run(1_200);
    fs::rename(&a, &b).unwrap();
    run(0);
    // Under a name that was read, with as many bytes; then longer; then the first one grows.
    write_csv(&a, &rows[1_200..2_400]);
    run(1_200);
    write_csv(&a, &rows[2_400..4_200]);
    run(1_800);
    write_csv(&b, &[&rows[..1_200], &rows[4_200..]].concat());
    run(600);
    assert_eq!(exported(text(&store)), exported(text(&whole)));
    assert_eq!(audited(text(&store))["lost"], 0);
    let checkpoint = fs::read_to_string(store.join("checkpoints/readings/all.json")).unwrap();
    assert!(checkpoint.contains(r#""a.csv#3":"#), "{checkpoint}");
}
