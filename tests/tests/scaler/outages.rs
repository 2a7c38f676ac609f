//! A scaler that cannot see the queue or the store holds the size, says so, and is not ready.

use std::sync::Arc;

use windrow_tests::{Broker, Service, Stage, eventually};

use super::{MINUTES, SOON, scaler, waits_for, with_models, workers_of};

#[test]
fn without_its_broker_or_its_store_a_scaler_holds_the_size_and_says_so() {
    let stage = Stage::new(Arc::new(Broker::start()), "outages");
    with_models(&stage, 5, 60);
    let words = ["--min-workers", "2", "--max-workers", "4", "--first-boot", "2s"];
    let mut scaler = scaler(&stage, "scaler.log", &words);
    scaler.ready();
    waits_for(&scaler, "windrow_scaler_workers", SOON, |workers| workers == 2.0);
    let workers = eventually(SOON, "two workers run", || {
        Some(workers_of(&scaler)).filter(|workers| workers.len() == 2)
    });

    stage.broker.stop();
    is_out(&scaler, "rabbitmq");
    // The size is held: a worker that is lost is replaced.
    let killed = std::process::Command::new("kill")
        .args(["-9", &workers[0].to_string()])
        .status();
    assert!(killed.unwrap().success());
    let workers = eventually(SOON, "another worker takes its place", || {
        let now = workers_of(&scaler);
        (now.len() == 2 && !now.contains(&workers[0])).then_some(now)
    });
    stage.broker.restart();
    is_back(&mut scaler);

    // The store is gone for longer than the lease lasts.
    let (here, away) = (stage.path("store"), stage.path("away"));
    std::fs::rename(&here, &away).unwrap();
    is_out(&scaler, "store");
    waits_for(&scaler, "windrow_scaler_leader", MINUTES, |leader| leader == 0.0);
    assert_eq!(scaler.metric("windrow_scaler_workers_wanted"), Some(2.0));
    std::fs::rename(&away, &here).unwrap();
    is_back(&mut scaler);
    waits_for(&scaler, "windrow_scaler_leader", SOON, |leader| leader == 1.0);
    // Nobody has ended them.
    assert_eq!(workers_of(&scaler), workers);
}

fn is_out(scaler: &Service, dependency: &str) {
    let (_, why) = eventually(MINUTES, "it is not ready", || {
        let ready = scaler.get("/readyz")?;
        (ready.0 == 503 && ready.1.contains(dependency)).then_some(ready)
    });
    let (_, metrics) = scaler.get("/metrics").unwrap();
    let none = format!("windrow_scaler_failures_total{{dependency=\"{dependency}\"}} 0\n");
    assert!(!metrics.contains(&none), "{metrics}");
    assert_eq!(scaler.metric("windrow_scaler_workers_wanted"), Some(2.0), "{why}");
}

fn is_back(scaler: &mut Service) {
    scaler.ready();
    assert_eq!(scaler.metric("windrow_scaler_workers_wanted"), Some(2.0));
}
