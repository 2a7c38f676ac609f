//! Measures windows per second of a whole `windrow run`: read, cut windows, queue, score, persist, checkpoint.
//!
//! Run it with `cargo bench -p windrow-tests --bench end_to_end`. The fleet reports every ten seconds; its models hold
//! a few dozen support vectors over four features. Each figure is the median of several runs, each into a store that
//! holds only models.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;

use windrow_tests::windrow;

const ROUNDS: usize = 5;
const FLEET: &str = "sim:devices=500,tags=5,duration=6h,anomalies=0,start=";

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let store = store.to_str().unwrap();
    let train = format!("{FLEET}2026-01-04T00:00:00Z");
    let words = [
        "models",
        "train",
        "--source",
        &train,
        "--store",
        store,
        "--nu",
        "0.1",
        "--max-rows",
        "360",
    ];
    windrow(&words).output();
    let source = format!("{FLEET}2026-01-05T00:00:00Z");
    println!("2,500 sensors, 6 hours; the median of {ROUNDS} runs\n");
    println!(
        "{:>8} {:>10} {:>10} {:>10} {:>12} {:>12}",
        "interval", "readings", "windows", "messages", "readings/s", "windows/s"
    );
    for interval in ["1m", "1h"] {
        let mut runs: Vec<_> = (0..ROUNDS)
            .map(|_| {
                for left in ["predictions", "dispatched", "checkpoints"] {
                    let left = folder.path().join("store").join(left);
                    if left.exists() {
                        fs::remove_dir_all(left).unwrap();
                    }
                }
                let words = [
                    "run",
                    "--source",
                    &source,
                    "--store",
                    store,
                    "--interval",
                    interval,
                    "--until-caught-up",
                ];
                let counts = windrow(&words).json();
                assert_eq!(counts["predictions"], counts["windows"], "{counts}");
                counts
            })
            .collect();
        runs.sort_by(|a, b| {
            a["seconds"]
                .as_f64()
                .unwrap()
                .total_cmp(&b["seconds"].as_f64().unwrap())
        });
        let median = &runs[ROUNDS / 2];
        let rate = |what: &str| median[what].as_f64().unwrap() / median["seconds"].as_f64().unwrap();
        println!(
            "{interval:>8} {:>10} {:>10} {:>10} {:>12.0} {:>12.0}",
            median["readings"].as_u64().unwrap(),
            median["windows"].as_u64().unwrap(),
            median["messages"].as_u64().unwrap(),
            rate("readings"),
            rate("windows"),
        );
    }
}
