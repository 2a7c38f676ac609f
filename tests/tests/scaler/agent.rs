//! The agent of a machine: several workers, one notice, one acknowledgement.

use std::sync::Arc;

use serde_json::Value;
use windrow_tests::{Broker, MetadataService, Service, Stage, eventually};

use super::{MINUTES, SOON, publish, waits_for, with_models, workers_of};

fn agent(stage: &Stage, log: &str, more: &[&str]) -> Service {
    let (broker, store) = (stage.broker_words(), stage.store());
    let mut words = vec!["agent", "--workers", "2", "--store", &store];
    words.extend(broker.iter().map(String::as_str));
    words.extend(more);
    // The workers keep what they receive until they have to end. A variable that is set to nothing counts as not set, and the option
    // of the command line has to reach them all the same.
    let variables = [("WINDROW_FLUSH_AGE", "10m"), ("WINDROW_STORE", "")];
    Service::start_with("windrow-scaler", &words, &stage.text(log), &variables)
}

fn instance(agent: &Service) -> Option<Value> {
    let (code, body) = agent.get("/instance")?;
    assert_eq!(code, 200);
    serde_json::from_str(&body).ok()
}

/// Waits until both workers are there, and publishes 240 messages, which they take in turns and hold.
fn let_both_hold(stage: &Stage, agent: &Service, source: &str) {
    eventually(SOON, "both workers receive messages", || {
        (stage.queue_if_any()?["consumers"] == 2).then_some(())
    });
    publish(stage, source);
    eventually(SOON, "both workers hold messages", || {
        instance(agent).filter(|instance| instance["in_hand"] == 240)
    });
}

#[test]
fn a_notice_drains_all_workers_and_is_acknowledged_once_after_the_last() {
    let stage = Stage::new(Broker::shared(), "agent_notice");
    let source = with_models(&stage, 20, 60);
    let azure = Arc::new(MetadataService::start());
    let mut agent = agent(&stage, "agent.log", &["--scheduled-events", azure.url()]);
    let_both_hold(&stage, &agent, &source);
    azure.announce("A1", "Terminate", "fleet_8");
    azure.announce("A2", "Preempt", "fleet_7");
    // An acknowledgement before the last worker has drained would let Azure end the machine too early.
    let mut workers = workers_of(&agent);
    assert_eq!(workers.len(), 2);
    let early = eventually(SOON, "the agent ends", || {
        let alive = workers_of(&agent);
        let acknowledged = azure.acknowledged();
        if !acknowledged.is_empty() {
            return Some(alive);
        }
        workers = alive;
        None
    });
    assert!(early.is_empty());
    // It keeps quiet until the machine ends, and so does one that is started while Azure still lists the notice.
    let mut again = self::agent(&stage, "again.log", &["--scheduled-events", azure.url()]);
    eventually(SOON, "the second one has seen it", || {
        again
            .log()
            .contains("waiting for the end of this machine")
            .then_some(())
    });
    assert!(workers_of(&agent).is_empty() && workers_of(&again).is_empty());
    for agent in [&mut agent, &mut again] {
        agent.signal("TERM");
        assert_eq!(agent.wait(SOON), 0, "{}", agent.log());
    }
    assert_eq!(azure.acknowledged(), ["A2"]);
    let log = agent.log();
    assert_eq!(log.matches("a worker has drained").count(), 2, "{log}");
    // All that they held is scored, and what they did not hold waits.
    assert_eq!(stage.queue()["redelivered"], 0);
    let after = Stage::worker(&stage, "after", &[]);
    stage.drained(MINUTES);
    drop(after);
    let audit = stage.audited();
    assert_eq!((&audit["predicted"], &audit["repeats"]), (&240.into(), &0.into()));
}

#[test]
fn an_agent_that_is_asked_to_drain_keeps_nothing_in_hand_and_starts_no_worker() {
    let stage = Stage::new(Broker::shared(), "agent_drain");
    let source = with_models(&stage, 20, 60);
    let mut agent = agent(&stage, "agent.log", &[]);
    agent.ready();
    let_both_hold(&stage, &agent, &source);
    let (code, told) = agent.post("/drain").unwrap();
    assert_eq!(code, 200);
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["draining"], true);
    assert!(told["in_hand"].as_u64().unwrap() >= 2, "{told}");
    let done = eventually(SOON, "nothing is in hand", || {
        instance(&agent).filter(|instance| instance["in_hand"] == 0)
    });
    assert_eq!((&done["workers"], &done["draining"]), (&0.into(), &true.into()));
    assert!(workers_of(&agent).is_empty());
    assert_eq!(stage.queue()["redelivered"], 0);
    agent.signal("TERM");
    assert_eq!(agent.wait(SOON), 0, "{}", agent.log());
}

#[test]
fn a_worker_that_cannot_start_is_not_started_over_and_over_and_the_agent_says_why() {
    let stage = Stage::new(Broker::shared(), "agent_wrong");
    with_models(&stage, 1, 10);
    let agent = agent(&stage, "agent.log", &["--worker-program", "/bin/false"]);
    let (_, why) = eventually(SOON, "it is not ready", || {
        agent.get("/readyz").filter(|(code, _)| *code == 503)
    });
    assert!(why.contains("exit status: 1"), "{why}");
    waits_for(&agent, "windrow_agent_lost_workers_total", SOON, |lost| {
        lost >= 4.0
    });
    let lost = agent.metric("windrow_agent_lost_workers_total").unwrap();
    assert!(lost < 20.0, "{lost}");
}
