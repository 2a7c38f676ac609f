//! From zero workers to many and back, with nothing lost and no worker ended with messages in hand.

use std::time::{Duration, Instant};

use serde_json::Value;
use windrow_tests::{Broker, Stage, eventually};

use super::{MINUTES, SOON, publish, scaler, waits_for, with_models, workers_of};

/// How long the messages may take.
const TARGET: Duration = Duration::from_secs(120);

#[test]
fn workers_come_from_zero_score_everything_in_time_and_are_gone_again() {
    let stage = Stage::new(Broker::shared(), "follow");
    let source = with_models(&stage, 500, 500);
    let words = [
        "--drain-target",
        "2m",
        "--max-workers",
        "4",
        "--first-rate",
        "200",
        "--first-boot",
        "5s",
        "--price-hour",
        "3600",
    ];
    let mut idle = scaler(&stage, "idle.log", &words);
    idle.ready();
    waits_for(&idle, "windrow_scaler_steps_total", SOON, |steps| steps > 1.0);
    assert_eq!(idle.metric("windrow_scaler_workers_wanted"), Some(0.0));
    assert!(workers_of(&idle).is_empty());
    idle.signal("TERM");
    assert_eq!(idle.wait(SOON), 0, "{}", idle.log());

    // The next one sees all messages at once: on a busy machine, one worker could score the first ones before the last are
    // published.
    publish(&stage, &source);
    eventually(SOON, "all messages are in the queue", || {
        (stage.queue()["ready"] == 50_000).then_some(())
    });
    let mut scaler = scaler(&stage, "scaler.log", &words);
    let published = Instant::now();
    let busy = eventually(SOON, "several workers run", || {
        Some(workers_of(&scaler)).filter(|workers| workers.len() > 1)
    });
    // Another takes the place of one that is killed, and its messages are delivered again.
    waits_for(&scaler, "windrow_scaler_messages", SOON, |messages| {
        messages > 0.0
    });
    let killed = busy[0];
    kill(killed);
    eventually(SOON, "a worker takes its place", || {
        let workers = workers_of(&scaler);
        (workers.len() >= busy.len() && !workers.contains(&killed)).then_some(())
    });
    stage.drained(MINUTES);
    let took = published.elapsed();
    assert!(took < TARGET, "{took:?}: {}", scaler.log());

    eventually(MINUTES, "all workers are gone", || {
        (workers_of(&scaler).is_empty() && scaler.metric("windrow_scaler_workers") == Some(0.0)).then_some(())
    });
    assert_eq!(scaler.metric("windrow_scaler_workers_wanted"), Some(0.0));
    let audit = stage.audited();
    assert_eq!((&audit["predicted"], &audit["lost"]), (&50_000.into(), &0.into()));
    scaler.signal("TERM");
    assert_eq!(scaler.wait(SOON), 0, "{}", scaler.log());
    every_worker_but_the_killed_one_had_drained(&scaler.log());
    the_records_explain_the_bill(&stage);
}

fn kill(process: u32) {
    let killed = std::process::Command::new("kill")
        .args(["-9", &process.to_string()])
        .status();
    assert!(killed.unwrap().success());
}

fn every_worker_but_the_killed_one_had_drained(log: &str) {
    let lines: Vec<Value> = log
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let said = |text: &str| -> Vec<&Value> {
        lines
            .iter()
            .filter(|line| {
                line["message"]
                    .as_str()
                    .is_some_and(|said| said.starts_with(text))
            })
            .collect()
    };
    let (started, drained, lost) = (
        said("started a worker"),
        said("a worker has drained"),
        said("a worker ended"),
    );
    assert_eq!(lost.len(), 1, "{log}");
    assert_eq!(lost[0]["status"], "signal: 9 (SIGKILL)");
    assert_eq!(drained.len() + 1, started.len(), "{log}");
    for worker in drained {
        assert_eq!(worker["status"], "exit status: 0");
    }
}

/// Checks that the store's records say who was paid for, and why.
fn the_records_explain_the_bill(stage: &Stage) {
    let mut records = Vec::new();
    let mut folders = vec![stage.path("store/scaling")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.extension().and_then(|ending| ending.to_str()) {
                _ if path.is_dir() => folders.push(path),
                Some("ndjson") => {
                    let text = std::fs::read_to_string(path).unwrap();
                    records.extend(
                        text.lines()
                            .map(|line| serde_json::from_str::<Value>(line).unwrap()),
                    );
                }
                _ => {}
            }
        }
    }
    let reasons: Vec<&str> = records
        .iter()
        .map(|record| record["reason"].as_str().unwrap())
        .collect();
    for reason in ["drain", "linger", "idle"] {
        assert!(reasons.contains(&reason), "{reason}: {reasons:?}");
    }
    let paid: f64 = records
        .iter()
        .map(|record| record["worker_seconds"].as_f64().unwrap())
        .sum();
    assert!(paid > 1.0, "{records:?}");
    // A second of a worker costs 1.
    let cost: f64 = records
        .iter()
        .map(|record| record["cost"].as_f64().unwrap())
        .sum();
    assert!((cost - paid).abs() < 1e-6, "{cost} {paid}");
    assert!(records.iter().all(|record| record["queue"] == "follow.score"));
}
