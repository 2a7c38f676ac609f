//! Kills `windrow run` ten times and compares its predictions with those of an undisturbed run.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use windrow_tests::{Draws, fleet, models_for, windrow, write_csv};

use super::{audited, exported, text};

const KILLS: u32 = 10;

#[test]
fn ten_kills_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("readings");
    fs::create_dir(&source).unwrap();
    // Two files that overlap in time and one that follows.
    write_csv(&source.join("a.csv"), &fleet(40, 7200, 1));
    let other = fleet(60, 7200, 2);
    let (early, late) = other.split_at(other.len() / 2);
    let rename = |rows: &[windrow_tests::Row]| -> Vec<_> {
        rows.iter()
            .map(|row| windrow_tests::Row {
                device: row.device + 40,
                ..*row
            })
            .collect()
    };
    write_csv(&source.join("b.csv"), &rename(early));
    write_csv(&source.join("c.csv"), &rename(late));
    let (whole, killed) = (folder.path().join("whole"), folder.path().join("killed"));
    for store in [&whole, &killed] {
        models_for(text(&source), text(store));
    }
    let run = |store, speed: &[&str]| {
        let words = [
            "run",
            "--source",
            text(&source),
            "--store",
            store,
            "--until-caught-up",
        ];
        windrow(&[&words[..], speed].concat())
    };
    run(text(&whole), &[]).output();

    let seed = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_nanos();
    let mut draws = Draws(u64::try_from(seed % u128::from(u64::MAX)).unwrap());
    println!("{draws:?}");
    for kill in 0..KILLS {
        // At this speed the two hours outlast all ten runs, and kills fall both before and after checkpoints: the first
        // checkpoint is saved after about 1.5 s.
        let mut child = run(text(&killed), &["--speed", "200"]).start();
        std::thread::sleep(Duration::from_millis(draws.below(4_000)));
        assert!(
            child.try_wait().unwrap().is_none(),
            "run {kill} ended before it was killed"
        );
        child.kill().unwrap();
        child.wait().unwrap();
    }
    // However slow the machine is, one kill falls after a checkpoint from which a file need not be read whole.
    let mut child = run(text(&killed), &["--speed", "200"]).start();
    let checkpoints = killed.join("checkpoints");
    let is_saved = || resumes_at(&checkpoints).filter(|resume| *resume > 1_000);
    windrow_tests::eventually(Duration::from_secs(60), "a checkpoint is saved", is_saved);
    child.kill().unwrap();
    child.wait().unwrap();
    let last = run(text(&killed), &[]).json();
    println!("the last run: {last}");
    let readings = last["readings"].as_u64().unwrap();
    assert!(readings < 720_000, "no checkpoint was used: {last}");

    let (left, right) = (exported(text(&whole)), exported(text(&killed)));
    assert_eq!(left.lines().count(), 100 * 120 + 1);
    assert!(left == right, "the predictions differ");
    let incidents = |store| windrow(&["incidents", "list", "--store", store]).json();
    assert_eq!(incidents(text(&whole)), incidents(text(&killed)));
    assert_ne!(incidents(text(&whole)).as_array().unwrap().len(), 0);
    let (whole, killed) = (audited(text(&whole)), audited(text(&killed)));
    println!("{killed}");
    assert_eq!(whole["dispatched"], 12_000);
    assert_eq!(killed["predicted"], 12_000);
}

/// Returns the furthest row from which a checkpoint below this folder has a file read.
fn resumes_at(folder: &Path) -> Option<u64> {
    let of_file = |path: &Path| {
        // A kill may come before a file beside it, which is complete, has replaced the checkpoint.
        path.extension().filter(|ending| *ending == "json")?;
        let saved: Value = serde_json::from_str(&fs::read_to_string(path).ok()?).ok()?;
        let partitions = saved["partitions"].as_object()?.values();
        partitions
            .filter_map(|partition| partition["resume"].as_u64())
            .max()
    };
    let paths = folder
        .read_dir()
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()));
    let furthest = paths.filter_map(|path| {
        if path.is_dir() {
            resumes_at(&path)
        } else {
            of_file(&path)
        }
    });
    furthest.max()
}
