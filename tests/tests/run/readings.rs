//! The audit begins at the readings, and what is lost can be recovered.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use windrow_tests::{Row, built, fleet, models_for, signal, windrow, write_csv};

use super::{exported, text, to_the_end};

/// Runs the audit and returns its exit code, its result and what it says on standard error.
fn audit(store: &Path) -> (i32, Value, String) {
    let (code, output, error) = windrow(&["audit", "--store", text(store), "--output", "json"]).end();
    (code, serde_json::from_str(&output).unwrap_or_default(), error)
}

/// Returns the totals of one source: read, in windows, in quarantine, dispatched, in open windows.
fn totals(audit: &Value, source: &str) -> [u64; 5] {
    let source = &audit["sources"][source];
    ["read", "windowed", "quarantined", "dispatched", "open"].map(|field| source[field].as_u64().unwrap())
}

/// Runs a command line as a shell would, with the programs of this build.
fn shell(command: &str) -> String {
    let programs = built("windrow").parent().unwrap().to_owned();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let ran = Command::new("sh")
        .args(["-c", command])
        .env("PATH", path)
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{command}: {error}");
    String::from_utf8(ran.stdout).unwrap()
}

#[test]
fn every_reading_of_every_source_is_in_a_window_or_in_quarantine() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (one, two, store) = (path("one.csv"), path("two.csv"), path("store"));
    let rows = fleet(2, 630, 4);
    write_csv(&one, &rows);
    models_for(text(&one), text(&store));
    let mut lines = fs::read_to_string(&one).unwrap();
    lines.push_str("yesterday,d0,temp,1\n1767571800000,d0,temp,NaN\n");
    fs::write(&one, &lines).unwrap();
    windrow(&to_the_end(text(&one), text(&store))).output();
    // Half a minute of both sensors is open: 2 windows of 30 readings.
    let (code, found, error) = audit(&store);
    assert_eq!(code, 0, "{error}");
    assert_eq!(totals(&found, "one.csv"), [1262, 1260, 2, 1200, 60]);
    assert_eq!(found["sources"]["one.csv"]["partitions"]["one.csv"]["read"], 1262);

    // The open windows are read again; their readings count once. A second source has other sensors.
    let more: Vec<_> = fleet(2, 700, 4).split_off(1260);
    let mut text_of_more = String::new();
    for row in &more {
        text_of_more += &format!("{},d{},temp,{:.3}\n", row.time_ms, row.device, row.value);
    }
    fs::write(&one, lines + &text_of_more).unwrap();
    windrow(&to_the_end(text(&one), text(&store))).output();
    let mut others = fleet(2, 600, 9);
    for row in &mut others {
        row.device += 7;
    }
    write_csv(&two, &others);
    models_for(text(&two), text(&store));
    windrow(&to_the_end(text(&two), text(&store))).output();
    let (code, found, error) = audit(&store);
    assert_eq!(code, 0, "{error}");
    assert_eq!(totals(&found, "one.csv"), [1402, 1400, 2, 1320, 80]);
    assert_eq!(totals(&found, "two.csv"), [1200, 1200, 0, 1200, 0]);
    let said = windrow(&["audit", "--store", text(&store)]).output();
    assert!(
        said.contains("1,402") && said.contains("in open windows"),
        "{said}"
    );

    // Read once more from its start: everything counts anew, and the tables are ahead for a while at most.
    windrow(&[&to_the_end(text(&two), text(&store))[..], &["--restart"]].concat()).output();
    let (code, found, error) = audit(&store);
    assert_eq!(
        (code, totals(&found, "two.csv")),
        (0, [1200, 1200, 0, 1200, 0]),
        "{error}"
    );

    // A part of quarantine/ and a part of dispatched/ are lost.
    fs::remove_dir_all(store.join("quarantine")).unwrap();
    fs::create_dir_all(store.join("quarantine/date=2000-01-01/hour=00")).unwrap();
    fs::write(store.join("quarantine/date=2000-01-01/hour=00/x.ndjson"), "").unwrap();
    let (code, _, error) = audit(&store);
    assert_eq!(code, 3, "{error}");
    assert!(
        error.contains("one.csv: 2 readings that were set aside are not in quarantine/"),
        "{error}"
    );
}

#[test]
fn readings_whose_file_was_gone_fail_the_audit_and_come_back_with_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let (source, store) = (folder.path().join("readings"), folder.path().join("store"));
    fs::create_dir(&source).unwrap();
    let rows = fleet(2, 700, 4);
    write_csv(&source.join("a.csv"), &rows[..1260]);
    models_for(text(&source), text(&store));
    let words = to_the_end(text(&source), text(&store));
    windrow(&words).output();
    let away = folder.path().join("a.csv");
    fs::rename(source.join("a.csv"), &away).unwrap();
    write_csv(&source.join("b.csv"), &rows[1260..]);
    windrow(&[&words[..], &["--at-end", "dispatch"]].concat()).output();
    let (code, found, error) = audit(&store);
    assert_eq!(code, 3, "{error}");
    assert_eq!(totals(&found, "readings"), [1400, 1400, 0, 1340, 0]);
    assert!(
        error.contains("readings: 60 readings were put in windows that are neither"),
        "{error}"
    );
    // The file is put back, and its stretch replayed.
    fs::rename(&away, source.join("a.csv")).unwrap();
    let replay = [
        "replay",
        text(&source),
        "--store",
        text(&store),
        "--from",
        "2026-01-05T00:10:00Z",
        "--to",
        "2026-01-05T00:11:00Z",
    ];
    windrow(&replay).output();
    let row = |csv: &str| {
        csv.lines()
            .filter(|row| row.contains("T00:10:00Z"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    for row in row(&exported(text(&store))) {
        assert_eq!(row.split(',').nth(4), Some("60"), "{row}");
    }
    let (code, found, error) = audit(&store);
    assert_eq!(code, 0, "{error}");
    let notes = found["sources"]["readings"]["notes"].to_string();
    assert!(notes.contains("a replay has dispatched as many since"), "{notes}");
}

#[test]
fn lost_windows_are_had_back_with_the_command_that_the_audit_names() {
    let folder = tempfile::tempdir().unwrap();
    let (csv, store) = (folder.path().join("my readings.csv"), folder.path().join("store"));
    write_csv(&csv, &fleet(3, 7_200, 4));
    let lines = fs::read_to_string(&csv)
        .unwrap()
        .replace("ts,device", "stamp,device");
    fs::write(&csv, lines).unwrap();
    let train = [
        "models",
        "train",
        "--source",
        text(&csv),
        "--store",
        text(&store),
        "--column-time",
        "stamp",
        "--nu",
        "0.1",
    ];
    windrow(&train).output();
    let words = [
        &to_the_end(text(&csv), text(&store))[..],
        &["--column-time", "stamp", "--interval", "10m"],
    ]
    .concat();
    windrow(&words).output();
    let right = exported(text(&store));
    fs::remove_dir_all(store.join("predictions/date=2026-01-05/hour=01")).unwrap();
    let (code, found, error) = audit(&store);
    assert_eq!(code, 3, "{error}");
    assert_eq!(found["all"]["lost"], 180, "{found}");
    let command = found["get_back"][0].as_str().unwrap();
    assert!(error.contains(command), "{error}");
    assert!(
        command.contains("--from 2026-01-05T01:00:00Z --to 2026-01-05T02:00:00Z"),
        "{command}"
    );
    let said = shell(command);
    assert!(
        said.contains("replaying the windows from 2026-01-05T01:00:00Z"),
        "{said}"
    );
    let (code, found, error) = audit(&store);
    assert_eq!((code, &found["all"]["predicted"]), (0, &360.into()), "{error}");
    assert_eq!(exported(text(&store)), right);
    // The checkpoint has not moved: nothing is left to read.
    assert_eq!(windrow(&words).json()["readings"], 0);
}

#[test]
fn late_readings_are_scored_by_a_replay_of_their_stretch() {
    let folder = tempfile::tempdir().unwrap();
    let (csv, store) = (folder.path().join("readings.csv"), folder.path().join("store"));
    let rows = fleet(2, 600, 4);
    let (late, in_time): (Vec<Row>, Vec<Row>) = rows
        .iter()
        .copied()
        .partition(|row| row.device == 1 && (120_000..150_000).contains(&(row.time_ms % 600_000)));
    assert_eq!(late.len(), 30);
    write_csv(&csv, &in_time);
    models_for(text(&csv), text(&store));
    let words = to_the_end(text(&csv), text(&store));
    windrow(&words).output();
    write_csv(&csv, &in_time.iter().chain(&late).copied().collect::<Vec<_>>());
    let (code, output, error) = windrow(&words).end();
    assert!(code == 2 && error.contains("30 late"), "{output}{error}");
    let counts = |csv: &str| -> Vec<String> {
        let rows = csv
            .lines()
            .filter(|row| row.starts_with("d1,") && row.contains("T00:02:00Z"));
        rows.map(|row| row.split(',').nth(4).unwrap().to_owned())
            .collect()
    };
    assert_eq!(counts(&exported(text(&store))), ["30"]);
    // Times within intervals are moved to their ends, and the replay says so.
    let replay = [
        "replay",
        text(&csv),
        "--store",
        text(&store),
        "--sensor",
        "d1/temp",
        "--from",
        "2026-01-05T00:02:10Z",
        "--to",
        "2026-01-05T00:02:20Z",
    ];
    let said = windrow(&replay).output();
    assert!(
        said.contains("from 2026-01-05T00:02:00Z to 2026-01-05T00:03:00Z"),
        "{said}"
    );
    let then = exported(text(&store));
    assert_eq!(counts(&then), ["60"]);
    assert_eq!(then.lines().count(), 21);
    let (code, found, error) = audit(&store);
    assert_eq!(code, 0, "{error}");
    assert_eq!(found["all"]["superseded"], 1, "{found}");
    assert_eq!(totals(&found, "readings.csv"), [1200, 1170, 30, 1170, 0]);
    let notes = found["sources"]["readings.csv"]["notes"].to_string();
    assert!(notes.contains("dispatched/ has 30 readings more"), "{notes}");

    let (code, _, error) = windrow(&[&replay[..5], &["d9/temp"], &replay[6..]].concat()).end();
    assert!(
        code == 1 && error.contains("has no readings to replay"),
        "{code} {error}"
    );
    let (_, _, error) = windrow(
        &[
            &replay[..],
            &["--column-value", "device", "--column-device", "value"],
        ]
        .concat(),
    )
    .end();
    assert!(error.contains("(1,200 items could not be read)"), "{error}");
}

#[test]
fn a_replay_that_is_stopped_before_its_end_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    fs::create_dir(&store).unwrap();
    // A year of a thousand sensors takes hours.
    let replay = [
        "replay",
        "sim:devices=200,tags=5,duration=365d,start=2026-01-01T00:00:00Z",
        "--store",
        text(&store),
        "--from",
        "2026-01-01T00:00:00Z",
        "--to",
        "2027-01-01T00:00:00Z",
    ];
    let mut running = Command::new(built("windrow"));
    running.args(replay).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = running.spawn().unwrap();
    // It says what it replays once it can be stopped.
    let mut said = String::new();
    let mut output = BufReader::new(running.stdout.take().unwrap());
    output.read_line(&mut said).unwrap();
    assert!(said.contains("replaying the windows"), "{said}");
    signal(&running, "TERM");
    let ended = running.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(1));
    let error = String::from_utf8(ended.stderr).unwrap();
    assert!(
        error.contains("was stopped before its end; run it again"),
        "{error}"
    );
}
