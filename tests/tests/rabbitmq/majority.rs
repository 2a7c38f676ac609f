//! A quorum queue that has lost its majority: a cluster of two nodes, of which one is killed.
//!
//! Here no bystander's message can come through that queue, by definition. What has to go on is what workers hold already:
//! it is scored and persisted. And nothing is lost, and everything goes on, once the majority is back.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use windrow_common::SensorId;
use windrow_queue::Queue;
use windrow_tests::{
    Bystanders, Cluster, Service, Stage, eventually, exported, fleet, models_for, scoring_message, write_csv,
};

const SOON: Duration = Duration::from_secs(90);
/// Ten seconds, the time to explain, and what a busy machine adds.
const COMMAND_WITHIN: Duration = Duration::from_secs(30);
/// The windows of the file, scored before.
const BEFORE: f64 = 20.0;
/// The messages of one window that a worker holds when the majority is lost. As many more are in the queue.
const HELD: f64 = 10.0;
/// An hour after the first reading of the file and so later than all, in milliseconds since the epoch.
const AFTER_ALL_MS: i64 = 1_767_571_200_000 + 3_600_000;

/// Publishes messages of a sensor, each of one window after those of the file.
fn publish(stage: &Stage, count: i64) {
    let queue = stage.queue_of_its_own();
    let sensor = SensorId::new("d0", "temp").unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        for minute in 0..count {
            let message = scoring_message(sensor.clone(), AFTER_ALL_MS + minute * 60_000, 60_000);
            queue.publish(message).await.unwrap().wait().await.unwrap();
        }
    });
}

#[test]
fn without_a_majority_commands_end_with_the_reason_and_workers_are_not_ready_until_it_is_back() {
    let cluster = Cluster::start(2);
    let stage = Stage::new(cluster.node(0).clone(), "majority");
    let (csv, store) = (stage.text("readings.csv"), stage.store());
    write_csv(&stage.path("readings.csv"), &fleet(2, 600, 6));
    models_for(&csv, &store);
    assert_eq!(stage.producer(&csv, &[]).wait(SOON), 0);
    let management = stage.broker.management_url();
    let at = ["--management-url", &management];
    let mut holds = stage.worker(
        "holds",
        &[&["--prefetch", "10", "--flush-age", "100ms"], &at[..]].concat(),
    );
    let scored = |worker: &Service| worker.metric("windrow_worker_predictions_total");
    eventually(SOON, "the readings of the file are scored", || {
        scored(&holds).filter(|count| *count == BEFORE)
    });
    // Without the store it holds what it takes, and leaves the rest in the queue.
    fs::rename(stage.path("store"), stage.path("store-away")).unwrap();
    fs::create_dir(stage.path("store")).unwrap();
    publish(&stage, 2 * HELD as i64);
    eventually(SOON, "a worker holds half of the messages", || {
        holds
            .metric("windrow_worker_held_messages")
            .filter(|held| *held == HELD)
    });
    let away = cluster.node(1);
    away.kill();
    fs::remove_dir_all(stage.path("store")).unwrap();
    fs::rename(stage.path("store-away"), stage.path("store")).unwrap();

    let mut worker = stage.worker("waits", &at);
    let mut stopped = stage.worker("stopped", &at);
    let replay = ["replay", &csv, "--store", &store];
    let stretch = ["--from", "2026-01-05T00:00:00Z", "--to", "2026-01-05T00:10:00Z"];
    let commands = [
        (vec!["dead-letters", "list"], "consuming from `majority.dead`"),
        (
            vec!["dead-letters", "purge", "--yes"],
            "consuming from `majority.dead`",
        ),
        (vec!["audit", "--store", &store], "consuming from `majority.dead`"),
        ([&replay[..], &stretch].concat(), "publishing to `majority.score`"),
    ];
    let nobody = format!(
        "the queue has no majority: of its 2 nodes, 1 is away ({})",
        away.name()
    );
    thread::scope(|scope| {
        for (words, asked) in commands {
            let (stage, nobody) = (&stage, &nobody);
            scope.spawn(move || {
                let began = Instant::now();
                let (code, output, error) = stage.windrow(&[&words, &at[..]].concat());
                assert!(
                    code == 1 && error.contains("has not answered for 1") && error.contains(asked),
                    "{words:?}: {code}: {error}{output}"
                );
                assert!(error.contains(nobody), "{words:?}: {error}");
                assert!(
                    began.elapsed() < COMMAND_WITHIN,
                    "{words:?}: {:?}",
                    began.elapsed()
                );
            });
        }
    });
    let said = stage.json(&[&["queue"], &at[..]].concat());
    assert_eq!(said["no_majority"].as_str(), Some(nobody.as_str()), "{said}");
    eventually(SOON, "what was held is scored without a majority", || {
        scored(&holds).filter(|count| *count == BEFORE + HELD)
    });
    let exported = exported(&store);
    assert_eq!(exported.lines().count() as f64, BEFORE + HELD + 1.0, "{exported}");
    let still = stage.json(&[&["queue"], &at[..]].concat());
    assert_eq!(still["no_majority"].as_str(), Some(nobody.as_str()), "{still}");

    let waiting = "has not answered yet: consuming from `majority.score`";
    for worker in [&mut worker, &mut stopped] {
        let said = eventually(SOON, "the worker says what it waits for", || {
            assert_eq!(worker.ended(), None, "{}", worker.log());
            worker.log().contains(&nobody).then(|| worker.get("/readyz"))
        });
        let (code, ready) = said.unwrap();
        assert!(code == 503 && ready.contains(waiting), "{code} {ready}");
        assert_eq!(worker.get("/healthz").unwrap().0, 200);
    }
    stopped.signal("TERM");
    assert_eq!(stopped.wait(Duration::from_secs(25)), 0, "{}", stopped.log());

    away.restart();
    worker.ready();
    eventually(SOON, "all is scored", || {
        let both = scored(&worker)? + scored(&holds)?;
        (both >= BEFORE + 2.0 * HELD).then_some(())
    });
    let bystanders = Bystanders::start(&stage, "d0/temp", 60_000);
    bystanders.are_scored_by(&worker, "the majority is back");
    bystanders.are_scored_by(&holds, "the majority is back");
    bystanders.end();
    stage.drained(SOON);
    // What was published here was never dispatched, so the audit is not clean.
    let (_, said, error) =
        stage.windrow(&[&["audit", "--store", &store, "--output", "json"], &at[..]].concat());
    let audit: serde_json::Value = serde_json::from_str(&said).expect(&error);
    let all = (&audit["all"]["lost"], &audit["all"]["dead_lettered"]);
    assert_eq!(all, (&0.into(), &0.into()), "{audit}");
    for worker in [&mut worker, &mut holds] {
        worker.signal("TERM");
        assert_eq!(worker.wait(SOON), 0, "{}", worker.log());
    }
}
