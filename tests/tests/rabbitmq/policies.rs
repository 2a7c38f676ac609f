//! Policies that somebody else set on all queues.

use std::time::Duration;

use windrow_common::SensorId;
use windrow_queue::Queue;
use windrow_tests::{Broker, Bystanders, Stage, eventually, fleet, models_for, write_csv};

use super::scoring_message;

const SOON: Duration = Duration::from_secs(60);
const MESSAGES: i64 = 60;

#[tokio::test(flavor = "multi_thread")]
async fn a_full_dead_letter_queue_loses_nothing_and_every_policy_that_can_is_told() {
    let stage = Stage::new(Broker::shared(), "policies");
    write_csv(&stage.path("readings.csv"), &fleet(1, 600, 6));
    models_for(&stage.text("readings.csv"), &stage.store());
    let set = |name: &str, pattern: &str, definition: &str| {
        let words = ["set_policy", "--apply-to", "queues", name, pattern, definition];
        stage.broker.control(&words);
    };
    let lasting = r#""message-ttl":86400000,"expires":86400000"#;
    set("on-score", r"^policies\.score$", &format!("{{{lasting}}}"));
    set(
        "on-dead",
        r"^policies\.dead$",
        &format!("{{{lasting},\"max-length\":5}}"),
    );
    let queue = stage.queue_of_its_own();
    queue.connect().await.unwrap();
    let management = stage.broker.management_url();
    let at = ["--management-url", &management];
    let words = [&at[..], &["--flush-age", "100ms", "--drain-timeout", "5s"]].concat();
    let mut worker = stage.worker("full", &words);
    worker.ready();

    let risks = [
        ("score", "on-score", "message-ttl"),
        ("score", "on-score", "expires"),
        ("dead", "on-dead", "message-ttl"),
        ("dead", "on-dead", "expires"),
    ];
    let told = |text: &str| {
        let sentence = |(queue, policy, key)| {
            format!("policy `{policy}` sets {key}=86400000 on queue `policies.{queue}`: it")
        };
        risks.into_iter().all(|risk| text.contains(&sentence(risk))) && !text.contains("max-length")
    };
    eventually(SOON, "the log tells of the policies", || {
        told(&worker.log()).then_some(())
    });
    eventually(SOON, "`windrow queue` tells of the policies", || {
        let (code, said, error) = stage.windrow(&[&["queue"], &at[..]].concat());
        assert_eq!(code, 0, "{error}");
        told(&said).then_some(())
    });
    let said = stage.json(&[&["queue"], &at[..]].concat());
    assert_eq!(
        said["policy_risks"].as_array().unwrap().len(),
        risks.len(),
        "{said}"
    );

    // Without a model, each message becomes a dead letter. The queue refuses those for which it has no room.
    for minute in 0..MESSAGES {
        let message = scoring_message(SensorId::new("d", "t").unwrap(), minute * 60_000, 60_000);
        queue.publish(message).await.unwrap().wait().await.unwrap();
    }
    eventually(SOON, "the worker says that it is refused", || {
        worker.get("/readyz").filter(|(code, _)| *code == 503)
    });
    let bystanders = Bystanders::start(&stage, "d0/temp", 60_000);
    bystanders.are_scored_by(&worker, "the dead-letter queue is full");
    // A stop does not wait for room.
    worker.signal("TERM");
    assert_eq!(worker.wait(Duration::from_secs(20)), 4, "{}", worker.log());
    let mut worker = stage.worker("next", &words);
    bystanders.are_scored_by(&worker, "its successor waits for the same room");
    bystanders.end();
    stage.broker.control(&["clear_policy", "on-dead"]);
    eventually(SOON, "every message is a dead letter", || {
        let (_, said, error) = stage.windrow(&["dead-letters", "list", "--by-reason", "--output", "json"]);
        assert!(
            error.is_empty() || error.contains("another consumer holds"),
            "{error}"
        );
        said.contains(&format!("\"no-model\": {MESSAGES}")).then_some(())
    });
    worker.ready();
    worker.signal("TERM");
    assert_eq!(worker.wait(SOON), 0);
    stage.broker.control(&["clear_policy", "on-score"]);
}
