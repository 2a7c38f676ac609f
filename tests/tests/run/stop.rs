//! `windrow run` ends on the first signal, whatever is away.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use windrow_tests::{built, eventually, fleet, models_for, signal, write_csv};

use super::text;

const SOON: Duration = Duration::from_secs(60);

#[test]
fn a_run_whose_store_is_away_ends_within_its_drain_timeout_and_says_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let (source, store) = (folder.path().join("readings"), folder.path().join("store"));
    let log = folder.path().join("run.log");
    fs::create_dir(&source).unwrap();
    write_csv(&source.join("a.csv"), &fleet(2, 600, 4));
    models_for(text(&source), text(&store));
    let words = [
        "run",
        "--source",
        text(&source),
        "--store",
        text(&store),
        "--drain-timeout",
        "2s",
    ];
    let mut run = Command::new(built("windrow"))
        .args(words)
        .stdout(Stdio::null())
        .stderr(fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    eventually(SOON, "something is scored", || {
        store.join("predictions").exists().then_some(())
    });
    fs::rename(&store, folder.path().join("away")).unwrap();
    fs::write(&store, "").unwrap();
    write_csv(&source.join("b.csv"), &fleet(2, 1_200, 4));
    eventually(SOON, "it waits for the store", || {
        let said = fs::read_to_string(&log).unwrap();
        said.contains("retrying until it works").then_some(())
    });
    signal(&run, "TERM");
    let ended = eventually(Duration::from_secs(15), "it ends on the first signal", || {
        run.try_wait().unwrap()
    });
    let said = fs::read_to_string(&log).unwrap();
    assert_eq!(ended.code(), Some(4), "{said}");
    assert!(
        said.contains("windrow: work in flight did not finish within 2s of the stop (store: "),
        "{said}"
    );
}
