//! Killed in the middle, again and again.

use std::fs;
use std::time::{Duration, Instant, SystemTime};

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
    let run = |store| {
        let words = [
            "run",
            "--source",
            text(&source),
            "--store",
            store,
            "--until-caught-up",
        ];
        windrow(&words)
    };
    let started = Instant::now();
    run(text(&whole)).output();
    let undisturbed = started.elapsed();

    let seed = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_nanos();
    let mut draws = Draws(u64::try_from(seed % u128::from(u64::MAX)).unwrap());
    println!("undisturbed {undisturbed:?}, {draws:?}");
    for kill in 0..KILLS {
        let mut child = run(text(&killed)).start();
        // From the very start of a run to a good part of it, but never so far that ten such parts are the whole.
        let most = u64::try_from(undisturbed.as_micros()).unwrap() / 12;
        std::thread::sleep(Duration::from_micros(draws.below(most)));
        assert!(
            child.try_wait().unwrap().is_none(),
            "run {kill} ended before it was killed"
        );
        child.kill().unwrap();
        child.wait().unwrap();
    }
    run(text(&killed)).output();

    let (left, right) = (exported(text(&whole)), exported(text(&killed)));
    assert_eq!(left.lines().count(), 100 * 120 + 1);
    assert!(left == right, "the predictions differ");
    let (whole, killed) = (audited(text(&whole)), audited(text(&killed)));
    println!("{killed}");
    assert_eq!(whole["dispatched"], 12_000);
    assert_eq!(killed["predicted"], 12_000);
}
