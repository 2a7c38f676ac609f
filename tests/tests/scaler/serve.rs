//! The number that KEDA asks for.

use serde_json::Value;
use windrow_tests::{Broker, Service, Stage, eventually};

use super::{MINUTES, SOON, publish, with_models};

fn number(scaler: &Service) -> Option<(u64, String)> {
    let (code, body) = scaler.get("/scale")?;
    let body: Value = serde_json::from_str(&body).ok()?;
    assert_eq!(code, 200);
    Some((body["workers"].as_u64()?, body["reason"].as_str()?.to_owned()))
}

#[test]
fn the_number_follows_the_queue_and_a_scaler_that_has_seen_nothing_says_none() {
    let stage = Stage::new(Broker::shared(), "serve");
    let source = with_models(&stage, 100, 60);
    let (store, management) = (stage.store(), stage.broker.management_url());
    let broker = stage.broker_words();
    let start = |log: &str, management: &str| {
        let mut words = vec![
            "run",
            "--fleet",
            "serve",
            "--store",
            &store,
            "--look-every",
            "1s",
            "--lease",
            "20s",
            "--max-workers",
            "5",
        ];
        words.extend(["--first-boot", "2s", "--management-url", management]);
        words.extend(broker.iter().map(String::as_str));
        Service::start("windrow-scaler", &words, &stage.text(log))
    };
    // It leads, and has nothing to go by: KEDA keeps what runs.
    let mut blind = start("blind.log", "http://127.0.0.1:9");
    eventually(SOON, "it is not ready", || {
        blind.get("/readyz").filter(|(code, _)| *code == 503)
    });
    assert_eq!(blind.get("/scale").map(|(code, _)| code), Some(503));
    blind.signal("TERM");
    assert_eq!(blind.wait(SOON), 0, "{}", blind.log());

    let scaler = start("scaler.log", &management);
    publish(&stage, &source);
    let (wanted, reason) = eventually(MINUTES, "workers are wanted", || {
        number(&scaler).filter(|(wanted, _)| *wanted > 0)
    });
    assert!(
        wanted <= 5 && reason.contains("in the queue"),
        "{wanted}: {reason}"
    );
    let worker = stage.worker("worker", &[]);
    stage.drained(MINUTES);
    eventually(MINUTES, "no worker is wanted", || {
        number(&scaler).filter(|(wanted, _)| *wanted == 0)
    });
    assert_eq!(scaler.metric("windrow_scaler_workers_wanted"), Some(0.0));
    drop(worker);
    assert_eq!(stage.audited()["predicted"], 1_200);
}
