//! A quorum queue that has lost its majority: a cluster of two nodes, of which one is killed.

use std::thread;
use std::time::{Duration, Instant};

use windrow_tests::{Cluster, Stage, eventually, fleet, models_for, write_csv};

const SOON: Duration = Duration::from_secs(90);
/// Ten seconds, the time to explain, and what a busy machine adds.
const COMMAND_WITHIN: Duration = Duration::from_secs(30);

#[test]
fn without_a_majority_commands_end_with_the_reason_and_workers_are_not_ready_until_it_is_back() {
    let cluster = Cluster::start(2);
    let stage = Stage::new(cluster.node(0).clone(), "majority");
    let (csv, store) = (stage.text("readings.csv"), stage.store());
    write_csv(&stage.path("readings.csv"), &fleet(2, 600, 6));
    models_for(&csv, &store);
    assert_eq!(stage.producer(&csv, &[]).wait(SOON), 0);
    let away = cluster.node(1);
    away.kill();

    let management = stage.broker.management_url();
    let at = ["--management-url", &management];
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
        worker
            .metric("windrow_worker_predictions_total")
            .filter(|count| *count >= 20.0)
    });
    eventually(SOON, "nothing waits and nothing is lost", || {
        let (code, _, _) = stage.windrow(&[&["audit", "--store", &store], &at[..]].concat());
        (code == 0).then_some(())
    });
    worker.signal("TERM");
    assert_eq!(worker.wait(SOON), 0);
}
