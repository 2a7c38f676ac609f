//! A consumer holds no more bytes than it may, whatever the sizes of messages.

use std::num::{NonZeroU16, NonZeroUsize};
use std::time::Duration;

use windrow_queue::{Consumer, Delivery, Message, Prefetch, Queue, Reason};
use windrow_tests::Broker;

use super::{message, queue};

const SOON: Duration = Duration::from_secs(30);
/// How long to wait to be sure that nothing more comes.
const WHILE: Duration = Duration::from_millis(700);
const LARGE: usize = 100_000;
/// Ten large messages.
const BUDGET: usize = 10 * LARGE;

async fn publish(queue: &impl Queue, ids: std::ops::Range<u32>, bytes: usize) {
    let mut confirmations = Vec::new();
    for id in ids {
        let message = Message {
            body: vec![b'x'; bytes].into(),
            ..message(&id.to_string())
        };
        confirmations.push(queue.publish(message).await.unwrap());
    }
    for confirmation in confirmations {
        confirmation.wait().await.unwrap();
    }
}

fn prefetch(messages: u16) -> Prefetch {
    Prefetch {
        messages: NonZeroU16::new(messages).unwrap(),
        bytes: NonZeroUsize::new(BUDGET).unwrap(),
    }
}

/// Receives until nothing more comes, and settles nothing.
async fn all_that_comes(consumer: &mut impl Consumer) -> Vec<Delivery> {
    let mut held = Vec::new();
    while let Ok(received) = tokio::time::timeout(WHILE, consumer.receive(&mut held, 1_000)).await {
        received.unwrap();
    }
    held
}

async fn ack(consumer: &mut impl Consumer, deliveries: Vec<Delivery>) {
    assert!(
        deliveries.iter().all(|delivery| !delivery.redelivered),
        "a message was delivered again"
    );
    let receipts = deliveries.into_iter().map(|delivery| delivery.receipt).collect();
    consumer.ack(receipts).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_consumer_holds_is_bounded_in_bytes() {
    let broker = Broker::shared();
    let queue = queue(&broker, "window");
    publish(&queue, 0..100, LARGE).await;
    let mut consumer = queue.consume(prefetch(10_000)).await.unwrap();
    let held = all_that_comes(&mut consumer).await;
    assert!(
        (5..=12).contains(&held.len()),
        "{} large messages are held",
        held.len()
    );
    let mut left = 100 - held.len();
    assert!(
        queue.depth().await.unwrap().ready as usize >= left - 12,
        "the broker has sent more"
    );
    ack(&mut consumer, held).await;
    while left > 0 {
        let held = all_that_comes(&mut consumer).await;
        left -= held.len();
        ack(&mut consumer, held).await;
    }
    drop(consumer);

    // Messages become larger than those before.
    let consumer = queue.consume(prefetch(64)).await.unwrap();
    shrinks(&queue, consumer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_grows_over_an_earlier_one_does_not_exceed_the_prefetch() {
    let broker = Broker::shared();
    let queue = queue(&broker, "window_grown");
    publish(&queue, 0..300, 10).await;
    let mut consumer = queue.consume(prefetch(64)).await.unwrap();
    let mut left = 300;
    while left > 0 {
        let held = all_that_comes(&mut consumer).await;
        assert_eq!(held.len(), 64.min(left));
        left -= held.len();
        ack(&mut consumer, held).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_that_waits_does_not_keep_the_window_large() {
    let broker = Broker::shared();
    let queue = queue(&broker, "window_dead");
    let mut consumer = queue.consume(prefetch(64)).await.unwrap();
    publish(&queue, 0..1, 10).await;
    let mut poison = Vec::new();
    consumer.receive(&mut poison, 1).await.unwrap();
    let reason = Reason {
        code: "no-model".to_owned(),
        detail: String::new(),
        worker: String::new(),
    };
    // It waits for as long as nobody polls it.
    let waiting = consumer.dead_letter(poison.remove(0).receipt, reason);
    let mut consumer = shrinks(&queue, consumer).await;
    assert_eq!(queue.depth().await.unwrap().ready, 0, "it is still held");
    let receipt = waiting.await.unwrap().expect("its channel is still there");
    consumer.ack(vec![receipt]).await.unwrap();
    drop(consumer);
    assert_eq!(queue.dead_letters().list(10).await.unwrap().len(), 1);
    let mut another = queue.consume(prefetch(64)).await.unwrap();
    assert!(all_that_comes(&mut another).await.is_empty(), "it was acked");
}

/// Lets many small messages come, and then large ones.
async fn shrinks<C: Consumer>(queue: &impl Queue, mut consumer: C) -> C {
    publish(queue, 100..400, 10).await;
    publish(queue, 400..700, LARGE).await;
    let mut left: usize = 600;
    while left > 100 {
        let mut some = Vec::new();
        let received = tokio::time::timeout(SOON, consumer.receive(&mut some, 8)).await;
        received.expect("a message in time").unwrap();
        left -= some.len();
        ack(&mut consumer, some).await;
    }
    let held = all_that_comes(&mut consumer).await;
    left -= held.len();
    assert!(held.len() <= 20, "{} large messages are held", held.len());
    let ready = queue.depth().await.unwrap().ready as usize;
    assert!(left - ready <= 20, "the broker has sent {} more", left - ready);
    ack(&mut consumer, held).await;
    while left > 0 {
        let held = all_that_comes(&mut consumer).await;
        left -= held.len();
        ack(&mut consumer, held).await;
    }
    assert_eq!(queue.depth().await.unwrap().ready, 0);
    consumer
}
