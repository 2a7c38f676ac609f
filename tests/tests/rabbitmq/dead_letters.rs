//! Tests the dead-letter commands against RabbitMQ: list, show, replay, purge.

use std::time::Duration;

use serde_json::{Value, json};
use windrow_common::EventTime;
use windrow_queue::{DeadLetter, Queue, Reason, StoredDeadLetters};
use windrow_store::Store;
use windrow_tests::{Broker, Stage, fleet, windrow, write_csv};

use super::{impatient, message, queue};

const SOON: Duration = Duration::from_secs(60);

/// Returns a line of a service's log.
fn json_of(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))
}

#[test]
fn dead_letters_are_listed_replayed_and_purged_on_the_real_queue() {
    let stage = Stage::new(Broker::shared(), "letters");
    let (two, five, store) = (stage.text("two.csv"), stage.text("five.csv"), stage.store());
    write_csv(&stage.path("two.csv"), &fleet(2, 600, 6));
    write_csv(&stage.path("five.csv"), &fleet(5, 600, 6));
    let train = |source: &str| {
        windrow(&[
            "models", "train", "--source", source, "--store", &store, "--nu", "0.1",
        ])
        .output();
    };
    train(&two);
    let mut producer = stage.producer(&five, &[]);
    assert_eq!(producer.wait(SOON), 0);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let queue = stage.queue_of_its_own();
        queue
            .publish(message("rubbish"))
            .await
            .unwrap()
            .wait()
            .await
            .unwrap();
    });
    let mut worker = stage.worker("ward", &["--flush-age", "100ms"]);
    stage.drained(SOON);
    assert_eq!(worker.metric("windrow_worker_dead_letters_total"), Some(31.0));

    // The trace id leads from a worker's log line to the producer's.
    let lines = |log: String| log.lines().map(json_of).collect::<Vec<_>>();
    let refused = lines(worker.log());
    let refused = refused.iter().find(|line| line["reason"] == "no-model").unwrap();
    assert_eq!(refused["message"], "cannot score the message");
    assert!(refused["trace_id"].is_string(), "{refused}");
    let is_step =
        |line: &Value| line["message"] == "published" && line["span"]["trace_id"] == refused["trace_id"];
    assert!(
        lines(producer.log()).iter().any(is_step),
        "{refused}\n{}",
        producer.log()
    );

    let letters = stage.dead_letters();
    assert_eq!(letters.len(), 31);
    assert_eq!(stage.dead_letters(), letters, "looking changes something");
    let counts = stage.json(&["dead-letters", "list", "--by-reason"]);
    assert_eq!(counts, json!({"no-model": 30, "undecodable": 1}));
    let letter = letters
        .iter()
        .find(|letter| letter["reason"] == "undecodable")
        .unwrap();
    assert_eq!(letter["id"], "rubbish");
    assert!(letter["worker"].as_str().unwrap().starts_with("ward"), "{letter}");
    assert!(
        letter["detail"]
            .as_str()
            .unwrap()
            .contains("not a Windrow message"),
        "{letter}"
    );
    let other = letters
        .iter()
        .find(|letter| letter["reason"] == "no-model")
        .unwrap();
    let shown = stage.json(&["dead-letters", "show", other["id"].as_str().unwrap()]);
    assert_eq!(shown["aggregates"].as_array().unwrap().len(), 1, "{shown}");
    let audit = stage.audited();
    assert_eq!(
        (&audit["predicted"], &audit["dead_lettered"]),
        (&20.into(), &30.into())
    );

    // The store holds the errors too, for people without access to the broker.
    let reports = std::process::Command::new("grep")
        .args(["-rc", "no-model", &stage.text("store/errors")])
        .output();
    assert!(!reports.unwrap().stdout.is_empty());

    train(&five);
    let (code, said, error) = stage.windrow(&["dead-letters", "replay", "--sensor", "d3/temp"]);
    assert_eq!(
        (code, said.as_str()),
        (0, "replayed 10: they are in the scoring queue again\n"),
        "{error}"
    );
    let (code, said, _) = stage.windrow(&["dead-letters", "replay", "--older-than", "1d"]);
    assert_eq!(
        (code, said.as_str()),
        (0, "replayed 0: they are in the scoring queue again\n")
    );
    stage.drained(SOON);
    assert_eq!(stage.dead_letters().len(), 21);
    let audit = stage.audited();
    assert_eq!(
        (&audit["predicted"], &audit["dead_lettered"]),
        (&30.into(), &20.into())
    );

    let purge = ["dead-letters", "purge", "--reason", "undecodable"];
    assert_eq!(
        stage.windrow(&purge).1,
        "would delete 1 dead letters; --yes deletes them for good\n"
    );
    assert_eq!(stage.dead_letters().len(), 21);
    let (_, said, _) = stage.windrow(&[&purge[..], &["--yes"]].concat());
    assert_eq!(said, "deleted 1 dead letters\n");
    assert_eq!(stage.dead_letters().len(), 20);
    // A producer has kept a message in the store that is too large for the broker.
    let kept = DeadLetter {
        message: message("too-large"),
        reason: Reason {
            code: "too-large".to_owned(),
            detail: "larger than max_message_size".to_owned(),
            worker: String::new(),
        },
        dead_at: EventTime::now(),
        deliveries: 1,
    };
    let in_the_store = Store::open(&store).unwrap();
    let in_the_store = StoredDeadLetters::of(&in_the_store);
    runtime.block_on(in_the_store.put(&kept)).unwrap();
    let told =
        "windrow: 1 more in the store, which this leaves alone: give --store without naming a broker\n";
    for words in [
        &["list"][..],
        &["list", "--by-reason"],
        &["list", "--reason", "too-large"],
        &["replay", "--reason", "too-large"],
        &["purge", "--reason", "too-large", "--yes"],
    ] {
        let (code, _, error) = stage.windrow(&[&["dead-letters"], words, &["--store", &store]].concat());
        assert_eq!((code, error.as_str()), (0, told), "{words:?}");
    }
    let (_, _, error) = stage.windrow(&["dead-letters", "list", "--reason", "no-model", "--store", &store]);
    assert_eq!(error, "", "none of them is in the store");
    assert_eq!(runtime.block_on(in_the_store.list()).unwrap(), [kept]);

    let queue = stage.queue();
    assert_eq!((&queue["ready"], &queue["consumers"]), (&0.into(), &1.into()));
    worker.signal("TERM");
    assert_eq!(worker.wait(SOON), 0);
}

/// A replay deletes a dead letter only after its message is confirmed: without a scoring queue it deletes none.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_dies_loses_nothing() {
    use lapin::{Connection, ConnectionProperties};
    use std::num::NonZeroU16;
    use windrow_queue::{Consumer, Reason};

    let broker = Broker::shared();
    let queue = queue(&broker, "dying_replay");
    for id in 0..300 {
        queue
            .publish(message(&id.to_string()))
            .await
            .unwrap()
            .wait()
            .await
            .unwrap();
    }
    let mut consumer = queue.consume(NonZeroU16::new(300).unwrap()).await.unwrap();
    let mut deliveries = Vec::new();
    while deliveries.len() < 300 {
        consumer.receive(&mut deliveries, 300).await.unwrap();
    }
    let reason = || Reason {
        code: "no-model".to_owned(),
        detail: String::new(),
        worker: String::new(),
    };
    for delivery in deliveries {
        let receipt = consumer
            .dead_letter(delivery.receipt, reason())
            .await
            .unwrap()
            .unwrap();
        consumer.ack(vec![receipt]).await.unwrap();
    }
    drop(consumer);

    let operator = impatient(&broker, "dying_replay").await;
    operator.connect().await.unwrap();
    let connection = Connection::connect(&broker.url(), ConnectionProperties::default())
        .await
        .unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel
        .queue_delete("dying_replay.score".into(), Default::default())
        .await
        .unwrap();
    assert_eq!(operator.dead_letters().list(10).await.unwrap().len(), 10);
    operator.dead_letters().replay(|_| true).await.unwrap_err();
    // The broker returns the replay's unacknowledged messages to the queue asynchronously.
    let all_there = async {
        while queue.dead_letters().list(1_000).await.unwrap().len() < 300 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(SOON, all_there)
        .await
        .expect("all dead letters are still in the queue");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_letters_than_a_prefetch_can_be_are_all_listed_and_purged() {
    use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
    use lapin::{BasicProperties, Connection, ConnectionProperties};

    // More than two subscriptions hold, of which each takes at most 65,535.
    const LETTERS: usize = 133_000;
    // The first of these are the last that the first subscription takes: acks make room in it while the second one reads.
    const PURGED_FIRST: std::ops::Range<usize> = 65_435..66_435;
    let broker = Broker::shared();
    let operator = impatient(&broker, "many_letters").await;
    let connection = Connection::connect(&broker.url(), ConnectionProperties::default())
        .await
        .unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await
        .unwrap();
    let mut confirmations = Vec::with_capacity(LETTERS);
    for id in 0..LETTERS {
        let properties = BasicProperties::default().with_message_id(id.to_string().into());
        let options = BasicPublishOptions::default();
        let published = channel.basic_publish(
            "".into(),
            "many_letters.dead".into(),
            options,
            b"rubbish",
            properties,
        );
        confirmations.push(published.await.unwrap());
    }
    for confirmation in confirmations {
        confirmation.await.unwrap();
    }
    let selected = |dead: &DeadLetter| PURGED_FIRST.contains(&dead.message.id.parse().unwrap());
    let purged = operator.dead_letters().purge(selected).await.unwrap();
    assert_eq!(purged, PURGED_FIRST.len() as u64);
    let left = LETTERS - PURGED_FIRST.len();
    are_back(&channel, left).await;
    let letters = operator.dead_letters().list(usize::MAX).await.unwrap();
    let ids: std::collections::HashSet<_> = letters.iter().map(|letter| &letter.message.id).collect();
    assert_eq!(ids.len(), left);
    are_back(&channel, left).await;
    let purged = operator.dead_letters().purge(|_| true).await.unwrap();
    assert_eq!(purged, left as u64);
    assert_eq!(operator.dead_letters().list(1).await.unwrap(), []);
}

/// Waits until this many letters wait in the queue: a busy broker takes its time to return what a pass has looked at.
async fn are_back(channel: &lapin::Channel, count: usize) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(120);
    loop {
        let passive = lapin::options::QueueDeclareOptions {
            passive: true,
            ..Default::default()
        };
        let queue = channel.queue_declare("many_letters.dead".into(), passive, Default::default());
        let ready = queue.await.unwrap().message_count() as usize;
        if ready == count {
            return;
        }
        assert!(
            std::time::Instant::now() < deadline,
            "{ready} of {count} are back"
        );
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}
