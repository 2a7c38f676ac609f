//! The broker goes and comes back; so does everything published and everything delivered.

use std::collections::HashMap;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use windrow_common::queue::{Consumer, Queue};
use windrow_tests::Broker;

use super::{message, queue};

const MESSAGES: usize = 20_000;
const WITHIN: Duration = Duration::from_secs(150);

/// Publishes while the broker is stopped, killed and its connections are cut, and consumes all the while.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_broker_does_every_confirmed_message_arrives() {
    let broker = Arc::new(Broker::start());
    let (publishing, consuming) = (queue(&broker, "recovery"), queue(&broker, "recovery"));
    let publisher = tokio::spawn(async move {
        let mut confirmations = Vec::new();
        for id in 0..MESSAGES {
            confirmations.push(publishing.publish(message(&id.to_string())).await.unwrap());
            if id % 200 == 0 {
                // Slow enough for the faults below to fall in between.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        for confirmation in confirmations {
            confirmation.wait().await.unwrap();
        }
        publishing
    });
    let consumer = tokio::spawn(async move {
        let mut consumer = consuming.consume(NonZeroU16::new(500).unwrap()).await.unwrap();
        let mut arrived: HashMap<String, u32> = HashMap::new();
        let mut deliveries = Vec::new();
        while arrived.len() < MESSAGES {
            consumer.receive(&mut deliveries, 100).await.unwrap();
            let mut receipts = Vec::new();
            for delivery in deliveries.drain(..) {
                assert_eq!(*delivery.message, message(&delivery.message.id));
                *arrived.entry(delivery.message.id.clone()).or_default() += 1;
                receipts.push(delivery.receipt);
            }
            consumer.ack(receipts).await.unwrap();
        }
        arrived
    });
    let faults = tokio::task::spawn_blocking(move || {
        let pause = || std::thread::sleep(Duration::from_secs(1));
        pause();
        broker.control(&["close_all_connections", "a test"]);
        pause();
        broker.kill();
        pause();
        broker.restart();
        pause();
        broker.stop();
        broker.restart();
        pause();
        // Consumers are cancelled, publishers find no queue: both declare it again.
        broker.control(&["delete_queue", "recovery.score", "--if-empty", "false"].as_slice()[..2]);
        broker
    });
    let broker = faults.await.unwrap();
    let publishing = tokio::time::timeout(WITHIN, publisher)
        .await
        .expect("published in time")
        .unwrap();
    // What lay in the deleted queue is gone with it, so everything is published once more, as a replay would.
    for id in 0..MESSAGES {
        let confirmation = publishing.publish(message(&id.to_string())).await.unwrap();
        tokio::spawn(confirmation.wait());
    }
    let arrived = tokio::time::timeout(WITHIN, consumer)
        .await
        .expect("all arrived in time")
        .unwrap();
    assert_eq!(arrived.len(), MESSAGES);
    assert!(publishing.trouble().is_none());
    drop(broker);
}
