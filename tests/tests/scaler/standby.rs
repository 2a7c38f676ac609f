//! Two scalers of one queue: one acts, and the other takes over when the first is lost.

use windrow_tests::{Broker, Stage, eventually};

use super::{MINUTES, SOON, publish, runs, scaler, waits_for, with_models, workers_of};

#[test]
fn of_two_scalers_one_acts_and_the_other_takes_over() {
    let stage = Stage::new(Broker::shared(), "standby");
    let source = with_models(&stage, 20, 60);
    let words = ["--min-workers", "1", "--max-workers", "2", "--first-boot", "2s"];
    let mut first = scaler(&stage, "first.log", &words);
    waits_for(&first, "windrow_scaler_leader", SOON, |leader| leader == 1.0);
    let mut second = scaler(&stage, "second.log", &words);
    second.ready();
    let workers = eventually(SOON, "a worker runs", || {
        Some(workers_of(&first)).filter(|workers| !workers.is_empty())
    });
    waits_for(&second, "windrow_scaler_steps_total", SOON, |steps| steps > 3.0);
    assert_eq!(second.metric("windrow_scaler_leader"), Some(0.0));
    assert!(workers_of(&second).is_empty());
    // It tells those who ask what the other one has decided.
    let shown = eventually(SOON, "the decision is shown", || {
        second.get("/scale").filter(|(code, _)| *code == 200)
    });
    let shown: serde_json::Value = serde_json::from_str(&shown.1).unwrap();
    assert_eq!(shown["workers"], 1);

    // Killed, it leaves its workers behind, which end by themselves. Nobody acts until its lease has ended.
    first.kill();
    eventually(SOON, "the workers have drained", || {
        (!workers.iter().any(|id| runs(*id))).then_some(())
    });
    waits_for(&second, "windrow_scaler_leader", MINUTES, |leader| leader == 1.0);
    eventually(SOON, "the second one's worker runs", || {
        Some(workers_of(&second)).filter(|workers| !workers.is_empty())
    });
    publish(&stage, &source);
    stage.drained(MINUTES);
    assert_eq!(stage.audited()["predicted"], 240);

    // Stopped, it leaves the lease, and another one begins at once.
    second.signal("TERM");
    assert_eq!(second.wait(SOON), 0, "{}", second.log());
    let third = scaler(&stage, "third.log", &words);
    let begun = std::time::Instant::now();
    waits_for(&third, "windrow_scaler_leader", SOON, |leader| leader == 1.0);
    assert!(
        begun.elapsed().as_secs() < 45,
        "{:?}: {}",
        begun.elapsed(),
        third.log()
    );
}

#[test]
fn a_dry_run_says_what_it_would_do_and_changes_nothing() {
    let stage = Stage::new(Broker::shared(), "dry_run");
    let source = with_models(&stage, 5, 60);
    publish(&stage, &source);
    let mut dry_run = scaler(&stage, "dry_run.log", &["--dry-run"]);
    waits_for(&dry_run, "windrow_scaler_workers_wanted", SOON, |wanted| {
        wanted > 0.0
    });
    assert!(workers_of(&dry_run).is_empty());
    dry_run.signal("TERM");
    assert_eq!(dry_run.wait(SOON), 0, "{}", dry_run.log());
    assert!(!stage.path("store/scaling").exists());
}
