//! The whole program on a VM scale set: it logs in as a machine does, and Azure has an outage in between.

use std::time::Duration;

use windrow_tests::arm::{Arm, RESOURCE_GROUP, SCALE_SET, SUBSCRIPTION, Settings};
use windrow_tests::{Broker, Encryption, EntraId, Service, Stage, eventually};

use super::{MINUTES, SOON, publish, waits_for, with_models};

fn scaler(stage: &Stage, arm: &Arm, entra: &EntraId) -> Service {
    let (management, store, port) = (
        stage.broker.management_url(),
        stage.store(),
        arm.agent_port().to_string(),
    );
    let broker = stage.broker_words();
    let mut words = vec![
        "run",
        "--fleet",
        "vmss",
        "--store",
        &store,
        "--look-every",
        "1s",
        "--lease",
        "20s",
    ];
    words.extend([
        "--management-url",
        &management,
        "--arm-endpoint",
        arm.url(),
        "--agent-port",
        &port,
    ]);
    words.extend([
        "--subscription",
        SUBSCRIPTION,
        "--resource-group",
        RESOURCE_GROUP,
        "--scale-set",
        SCALE_SET,
    ]);
    words.extend([
        "--workers-per-instance",
        "2",
        "--max-workers",
        "6",
        "--first-boot",
        "2s",
    ]);
    words.extend(broker.iter().map(String::as_str));
    let variables = entra.managed_identity();
    let variables: Vec<(&str, &str)> = variables
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    Service::start_with("windrow-scaler", &words, &stage.text("scaler.log"), &variables)
}

#[test]
fn a_scale_set_follows_the_queue_and_keeps_its_size_while_azure_is_away() {
    let (stage, encryption) = (Stage::new(Broker::shared(), "scale_set"), Encryption::new());
    let entra = EntraId::start(&encryption);
    let arm = Arm::start(Settings {
        workers: 2,
        boot: Duration::from_millis(500),
        ..Settings::default()
    });
    arm.trust(&entra);
    let source = with_models(&stage, 50, 60);
    let mut scaler = scaler(&stage, &arm, &entra);
    scaler.ready();
    assert_eq!(arm.set(|set| set.capacity()), 0);

    publish(&stage, &source);
    let started = eventually(SOON, "instances are asked for", || {
        Some(arm.set(|set| set.capacity())).filter(|capacity| *capacity > 0)
    });
    waits_for(&scaler, "windrow_scaler_workers", SOON, |workers| {
        workers == f64::from(2 * started)
    });

    arm.set(|set| set.faults.errors = 1.0);
    let (_, why) = eventually(SOON, "it is not ready", || {
        scaler.get("/readyz").filter(|(code, _)| *code == 503)
    });
    assert!(why.starts_with("fleet: cannot "), "{why}");
    assert_eq!(
        scaler.metric("windrow_scaler_workers_wanted"),
        Some(f64::from(2 * started))
    );
    // The queue is empty by now, and that does not count as long as the scale set cannot be seen.
    let worker = stage.worker("worker", &[]);
    stage.drained(MINUTES);
    assert_eq!(arm.set(|set| set.capacity()), started);

    arm.set(|set| set.faults.errors = 0.0);
    eventually(MINUTES, "all instances are gone", || {
        arm.set(|set| set.capacity() == 0 && set.instances().is_empty())
            .then_some(())
    });
    scaler.ready();
    assert!(arm.set(|set| set.log().violations.is_empty()));
    assert!(arm.set(|set| set.log().most_at_work) <= 6);
    drop(worker);
    assert_eq!(stage.audited()["predicted"], 600);
}
