//! Groupers beside producers and workers, of which one is killed while it leads.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use windrow_tests::{Broker, Plant, Service, Stage, copy_models, eventually, rows, windrow};

const SOON: Duration = Duration::from_secs(60);
const DONE_WITHIN: Duration = Duration::from_secs(180);
/// Windows of both pumps that were asked for when the broker is killed.
const SOME: f64 = 150.0;

fn of_groups(store: &str) -> Vec<Value> {
    let mut all = rows(store);
    all.retain(|row| row["tag"] == "(group)");
    all
}

fn start_grouper(stage: &Stage, number: usize) -> Service {
    let words = [
        "--look-every",
        "500ms",
        "--lease",
        "3s",
        "--grace",
        "2s",
        "--model-refresh",
        "10s",
    ];
    let log = stage.text(&format!("grouper-{number}.log"));
    stage.service("windrow-grouper", &words, &log)
}

/// Returns the number of the grouper that leads.
fn leader(groupers: &[Service]) -> Option<usize> {
    let leads = |grouper: &Service| grouper.metric("windrow_grouper_leader") == Some(1.0);
    groupers.iter().position(leads)
}

/// Returns how many windows the groupers have asked for.
fn asked_for(groupers: &[Service]) -> f64 {
    let windows = |grouper: &Service| grouper.metric("windrow_grouper_windows_total");
    groupers.iter().filter_map(windows).sum()
}

/// Writes the first half of each file of a folder into one folder, and the rest into another.
fn halve(folder: &str, first: &str, second: &str) {
    for half in [first, second] {
        fs::create_dir(half).unwrap();
    }
    for file in fs::read_dir(folder).unwrap() {
        let file = file.unwrap();
        let text = fs::read_to_string(file.path()).unwrap();
        let (header, rows) = text.split_once('\n').unwrap();
        let rows: Vec<&str> = rows.lines().collect();
        let (before, after) = rows.split_at(rows.len() / 2);
        for (half, rows) in [(first, before), (second, after)] {
            let path = Path::new(half).join(file.file_name());
            fs::write(path, format!("{header}\n{}\n", rows.join("\n"))).unwrap();
        }
    }
}

#[test]
fn a_grouper_that_is_killed_and_a_broker_that_restarts_change_nothing_in_what_tags_have_together() {
    let plant = Plant::new();
    let stage = Stage::new(Broker::start().into(), "groups");
    let (store, quiet, day) = (stage.store(), stage.text("quiet"), plant.day());
    plant.train(&store);
    copy_models(&stage.path("store"), &stage.path("quiet"));
    let run = [
        "run",
        "--source",
        &day,
        "--store",
        &quiet,
        "--window",
        "10s",
        "--interval",
        "1m",
        "--until-caught-up",
    ];
    windrow(&run).output();
    let expected = of_groups(&quiet);
    assert_eq!(expected.len() as i64, 2 * (Plant::WINDOWS - 9));

    let mut groupers = vec![start_grouper(&stage, 1), start_grouper(&stage, 2)];
    let mut workers = ["w1", "w2"].map(|name| stage.worker(name, &["--flush-age", "300ms"]));
    for service in groupers.iter_mut().chain(&mut workers) {
        service.ready();
    }
    let (first, second) = (stage.text("first"), stage.text("second"));
    halve(&day, &first, &second);
    let paced = ["--window", "10s", "--interval", "1m", "--speed", "300"];
    let mut producer = stage.producer(&first, &paced);
    eventually(DONE_WITHIN, "some windows", || {
        (asked_for(&groupers) >= SOME).then_some(())
    });
    stage.broker.kill();
    stage.broker.restart();
    assert_eq!(producer.wait(DONE_WITHIN), 0, "{}", producer.log());
    // What it knows of the first half is what the rows of the second begin with.
    let leads = eventually(SOON, "one leads", || leader(&groupers));
    groupers[leads].kill();
    groupers.remove(leads);
    let mut producer = stage.producer(&second, &paced);
    eventually(SOON, "the other one leads", || leader(&groupers));
    groupers.push(start_grouper(&stage, 3));

    assert_eq!(producer.wait(DONE_WITHIN), 0, "{}", producer.log());
    eventually(DONE_WITHIN, "all rows", || {
        std::thread::sleep(Duration::from_secs(1));
        (of_groups(&store).len() >= expected.len()).then_some(())
    });
    stage.drained(DONE_WITHIN);
    for service in groupers.iter_mut().chain(&mut workers) {
        service.signal("TERM");
        assert_eq!(service.wait(SOON), 0, "{}", service.log());
    }
    assert!(
        of_groups(&store) == expected,
        "the rows differ from those of a quiet run"
    );
    assert!(stage.dead_letters().is_empty(), "{:?}", stage.dead_letters());
    let audit = stage.json(&["audit", "--store", &store]);
    assert_eq!(audit["all"]["lost"], 0);
    assert_eq!(audit["groups"]["predicted"], expected.len());
    assert_eq!(audit["groups"]["expected"], expected.len());
}
