//! The audit tells what waits, what is in another's hands, and what is lost.

use std::num::NonZeroU16;
use std::time::Duration;

use futures::StreamExt;
use lapin::options::{BasicConsumeOptions, BasicQosOptions};
use lapin::{Connection, ConnectionProperties};
use windrow_queue::{Consumer, Queue, Reason};
use windrow_tests::{Broker, Stage, fleet, models_for, write_csv};

const SOON: Duration = Duration::from_secs(60);
/// RabbitMQ's figures are up to five seconds old.
const SEEN_WITHIN: Duration = Duration::from_secs(60);

/// Audits until the exit code and the message are the expected ones.
async fn audited(stage: &Stage, code: i32, says: &str) {
    let url = stage.broker.management_url();
    let words = ["audit", "--store", &stage.store(), "--management-url", &url];
    let mut last = String::new();
    let seen = async {
        loop {
            let (ended, _, error) = stage.windrow(&words);
            if ended == code && error.contains(says) {
                return;
            }
            last = format!("{ended}: {error}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let seen = tokio::time::timeout(SEEN_WITHIN, seen).await;
    assert!(
        seen.is_ok(),
        "expected {code}: {says}; the last audit ended with {last}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_or_is_in_anothers_hands_is_not_lost() {
    let stage = Stage::new(Broker::shared(), "waiting");
    let csv = stage.text("readings.csv");
    write_csv(&stage.path("readings.csv"), &fleet(2, 600, 6));
    models_for(&csv, &stage.store());
    assert_eq!(stage.producer(&csv, &[]).wait(SOON), 0);
    audited(&stage, 5, "up to 20 messages are waiting (20 on the queue)").await;
    let url = stage.broker.management_url();
    let words = ["audit", "--store", &stage.store(), "--management-url", &url];
    let (_, said, _) = stage.windrow(&words);
    assert!(
        said.contains("no prediction yet: ") && !said.contains("lost: ") && !said.contains("to recover them"),
        "what waits is scored without a replay: {said}"
    );

    let queue = stage.queue_of_its_own();
    let mut consumer = queue.consume(NonZeroU16::new(100).unwrap()).await.unwrap();
    let mut deliveries = Vec::new();
    while deliveries.len() < 20 {
        consumer.receive(&mut deliveries, 20).await.unwrap();
    }
    audited(&stage, 5, "up to 20 messages are waiting (20 unacked by workers)").await;

    // Of 20 messages, 5 become dead letters, which another reader takes; 10 are acked without a prediction.
    let mut receipts = deliveries.into_iter().map(|delivery| delivery.receipt);
    let reason = || Reason {
        code: "no-model".to_owned(),
        detail: String::new(),
        worker: String::new(),
    };
    for receipt in receipts.by_ref().take(5) {
        let receipt = consumer.dead_letter(receipt, reason()).await.unwrap();
        consumer.ack(Vec::from_iter(receipt)).await.unwrap();
    }
    let connection = Connection::connect(&stage.broker.url(), ConnectionProperties::default())
        .await
        .unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.basic_qos(100, BasicQosOptions::default()).await.unwrap();
    let options = BasicConsumeOptions::default();
    let reader = channel.basic_consume("waiting.dead".into(), "".into(), options, Default::default());
    let mut reader = reader.await.unwrap();
    for _ in 0..5 {
        reader.next().await.unwrap().unwrap();
    }
    let acked = receipts.by_ref().take(10).collect();
    consumer.ack(acked).await.unwrap();
    let held = "only 10 are waiting (5 unacked by workers, 5 dead letters held by another consumer), so at least 10 \
                messages are lost";
    audited(&stage, 3, held).await;

    // The reader lets go: the dead letters can be listed again.
    connection.close(200, "done".into()).await.unwrap();
    audited(&stage, 3, "0 predicted + 5 dead-lettered; 15 lost").await;
    drop(receipts);
}
