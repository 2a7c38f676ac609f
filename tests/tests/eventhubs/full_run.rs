//! Follows readings from `windrow send` to predictions.

use windrow_tests::{copy_models, exported, windrow};

use super::{EXIT_WITHIN, HubStage, WITHIN};

#[test]
fn a_fleet_sent_to_a_hub_is_scored_as_it_is_from_a_file() {
    let hub = HubStage::new("fullrun");
    let stage = &hub.stage;
    // Two partitions, so that the sender has to keep them in step.
    let fleet = "sim:devices=60,tags=3,period=5s,partitions=2,seed=8,start=2026-01-05T00:00:00Z";
    let train = format!("{fleet},duration=2h");
    windrow(&[
        "models",
        "train",
        "--source",
        &train,
        "--store",
        &stage.store(),
        "--nu",
        "0.1",
    ])
    .output();
    copy_models(&stage.path("store"), &stage.path("quiet"));
    let (day, quiet) = (format!("{fleet},duration=30m"), stage.text("quiet"));
    let run = ["run", "--source", &day, "--store", &quiet, "--until-caught-up"];
    let run = windrow(&run).json();

    let sent = hub.send(&day, &[]);
    assert_eq!(sent["readings"], run["readings"]);
    let mut workers = [stage.worker("w1", &[]), stage.worker("w2", &[])];
    let mut producer = hub.producer(
        "p",
        &["--until-caught-up", "--at-end", "dispatch", "--window", "1m"],
    );
    assert_eq!(producer.wait(WITHIN), 0, "{}", producer.log());
    stage.drained(WITHIN);
    for worker in &mut workers {
        worker.signal("TERM");
        assert_eq!(worker.wait(EXIT_WITHIN), 0, "{}", worker.log());
    }
    let audit = stage.audited();
    assert_eq!(
        (&audit["predicted"], &audit["lost"]),
        (&run["predictions"], &0.into())
    );
    assert!(
        exported(&quiet) == exported(&stage.store()),
        "the predictions differ"
    );
}
