//! The promises of a queue, tested on every implementation.
//!
//! `conformance!(make_queue)` creates one test for each promise. `make_queue` takes the test's name. It returns a queue
//! for this test alone, with [`LIMIT`] redeliveries, and a closure that lists the queue's dead letters. The closure lives as
//! long as the test, so it can hold what the queue needs.
//!
//! Everything here is for tests, so code that cannot continue panics and says why.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc
)]

#[cfg(feature = "amqp")]
pub use crate::amqp::testing as headers;

use std::collections::BTreeSet;
use std::num::NonZeroU16;
use std::time::Duration;

use windrow_common::{EventTime, ScoringMessage};

use crate::{Consumer, DeadLetter, Delivery, Message, Queue, Reason, Receipt};

/// Creates one test for each promise.
#[macro_export]
macro_rules! conformance {
    ($make_queue:path) => {
        $crate::conformance! {
            $make_queue =>
            every_message_arrives_whole_and_is_confirmed
            no_more_than_the_prefetch_is_out
            what_a_consumer_leaves_behind_comes_again_and_is_marked
            a_stopped_consumer_gets_what_was_on_its_way_and_no_more
            whenever_it_is_stopped_nothing_is_delivered_again;
            a_dead_letter_is_kept_with_its_reason
            a_message_no_consumer_survives_becomes_a_dead_letter
        }
    };
    ($make_queue:path => $($promise:ident)*; $($promise_of_dead_letters:ident)*) => {
        $(#[tokio::test]
        async fn $promise() {
            let (queue, _dead) = $make_queue(stringify!($promise));
            $crate::testing::$promise(queue).await;
        })*
        $(#[tokio::test]
        async fn $promise_of_dead_letters() {
            let (queue, dead) = $make_queue(stringify!($promise_of_dead_letters));
            $crate::testing::$promise_of_dead_letters(queue, dead).await;
        })*
    };
}

/// Returns a message whose body is its id.
pub fn message(id: &str) -> Message {
    Message {
        id: id.to_owned(),
        kind: ScoringMessage::KIND.into(),
        content_type: ScoringMessage::CONTENT_TYPE.into(),
        enqueued_at: EventTime::from_millis(1_767_571_200_123),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
        body: id.as_bytes().to_vec().into(),
    }
}

/// How long an expected delivery may take on two busy cores.
const SOON: Duration = Duration::from_secs(20);
/// How long to wait to be sure that no delivery comes.
const WHILE: Duration = Duration::from_millis(300);

/// Redeliveries after which a message becomes a dead letter. The queue under test must be configured with it.
pub const LIMIT: u32 = 4;

fn prefetch(count: u16) -> NonZeroU16 {
    NonZeroU16::new(count).unwrap()
}

/// Receives the next `count` deliveries.
async fn take(consumer: &mut impl Consumer, count: usize) -> Vec<Delivery> {
    let mut deliveries = Vec::new();
    while deliveries.len() < count {
        let left = count - deliveries.len();
        let received = tokio::time::timeout(SOON, consumer.receive(&mut deliveries, left)).await;
        let received = received.expect("a delivery in time").unwrap();
        assert!(received > 0 && received <= left, "{received}");
    }
    deliveries
}

async fn nothing_comes(consumer: &mut impl Consumer) {
    let mut deliveries = Vec::new();
    let waited = tokio::time::timeout(WHILE, consumer.receive(&mut deliveries, 10)).await;
    assert!(waited.is_err(), "{waited:?} {deliveries:?}");
}

fn receipts(deliveries: Vec<Delivery>) -> Vec<Receipt> {
    deliveries.into_iter().map(|delivery| delivery.receipt).collect()
}

/// Receives what is still in flight to a consumer after it has stopped intake.
async fn rest(consumer: &mut impl Consumer) -> Vec<Delivery> {
    let mut rest = Vec::new();
    while tokio::time::timeout(SOON, consumer.receive(&mut rest, 7))
        .await
        .unwrap()
        .unwrap()
        > 0
    {}
    rest
}

async fn publish(queue: &impl Queue, ids: std::ops::Range<u32>) {
    for id in ids {
        // The in-memory queue confirms a message only once it is settled, so waiting here would block.
        let confirmation = queue.publish(message(&id.to_string())).await.unwrap();
        tokio::spawn(confirmation.wait());
    }
}

/// Every message arrives whole, is delivered once, and is confirmed.
pub async fn every_message_arrives_whole_and_is_confirmed(queue: impl Queue) {
    let mut confirmations = Vec::new();
    for id in 0..500 {
        confirmations.push(queue.publish(message(&id.to_string())).await.unwrap());
    }
    let mut consumer = queue.consume(prefetch(1_000)).await.unwrap();
    let deliveries = take(&mut consumer, 500).await;
    let ids: BTreeSet<_> = deliveries
        .iter()
        .map(|delivery| delivery.message.id.clone())
        .collect();
    assert_eq!(ids.len(), 500);
    for delivery in &deliveries {
        assert_eq!(*delivery.message, message(&delivery.message.id));
        assert!(!delivery.redelivered && delivery.failures == 0);
    }
    consumer.ack(receipts(deliveries)).await.unwrap();
    for confirmation in confirmations {
        tokio::time::timeout(SOON, confirmation.wait())
            .await
            .unwrap()
            .unwrap();
    }
    nothing_comes(&mut consumer).await;
    drop(consumer);
    let mut another = queue.consume(prefetch(10)).await.unwrap();
    nothing_comes(&mut another).await;
}

/// No more than the prefetch is unsettled, and acks in any order make room.
pub async fn no_more_than_the_prefetch_is_out(queue: impl Queue) {
    publish(&queue, 0..25).await;
    let mut consumer = queue.consume(prefetch(10)).await.unwrap();
    let mut first = take(&mut consumer, 10).await;
    nothing_comes(&mut consumer).await;
    // Acks out of order and with gaps, as a worker with several batches may do.
    let later = first.split_off(5);
    consumer.ack(receipts(later)).await.unwrap();
    let more = take(&mut consumer, 5).await;
    nothing_comes(&mut consumer).await;
    consumer.ack(receipts(first)).await.unwrap();
    consumer.ack(receipts(more)).await.unwrap();
    let last = take(&mut consumer, 10).await;
    consumer.ack(receipts(last)).await.unwrap();
    nothing_comes(&mut consumer).await;
}

/// What a consumer has not settled when it ends is delivered again, marked as redelivered.
pub async fn what_a_consumer_leaves_behind_comes_again_and_is_marked(queue: impl Queue) {
    publish(&queue, 0..6).await;
    let mut consumer = queue.consume(prefetch(6)).await.unwrap();
    let mut deliveries = take(&mut consumer, 6).await;
    deliveries.sort_by(|a, b| a.message.id.cmp(&b.message.id));
    let left = deliveries.split_off(4);
    consumer.ack(receipts(deliveries)).await.unwrap();
    drop((consumer, left));
    let mut another = queue.consume(prefetch(6)).await.unwrap();
    let mut again = take(&mut another, 2).await;
    again.sort_by(|a, b| a.message.id.cmp(&b.message.id));
    let ids: Vec<_> = again
        .iter()
        .map(|delivery| delivery.message.id.as_str())
        .collect();
    assert_eq!(ids, ["4", "5"]);
    assert!(
        again
            .iter()
            .all(|delivery| delivery.redelivered && delivery.failures == 1),
        "{again:?}"
    );
    another.ack(receipts(again)).await.unwrap();
    nothing_comes(&mut another).await;
}

/// A dead letter is kept with its reason and not delivered again; `dead` lists the dead letters.
pub async fn a_dead_letter_is_kept_with_its_reason(
    queue: impl Queue,
    dead: impl AsyncFn() -> Vec<DeadLetter>,
) {
    publish(&queue, 0..5).await;
    let mut consumer = queue.consume(prefetch(5)).await.unwrap();
    let mut deliveries = take(&mut consumer, 5).await;
    let at = deliveries
        .iter()
        .position(|delivery| delivery.message.id == "2")
        .unwrap();
    let reason = Reason {
        code: "no-model".to_owned(),
        detail: "é".repeat(5_000),
        worker: "w".to_owned(),
    };
    let poison = deliveries.remove(at).receipt;
    let dead_lettering = consumer.dead_letter(poison, reason);
    // It needs the consumer no longer.
    consumer.ack(receipts(deliveries)).await.unwrap();
    let poison = dead_lettering.await.unwrap().expect("a durable dead letter");
    consumer.ack(vec![poison]).await.unwrap();
    nothing_comes(&mut consumer).await;
    drop(consumer);
    let dead_letters = dead().await;
    assert_eq!(dead_letters.len(), 1);
    assert_eq!(dead_letters[0].message, message("2"));
    assert_eq!(
        (dead_letters[0].reason.code.as_str(), dead_letters[0].deliveries),
        ("no-model", 1)
    );
    assert!(dead_letters[0].reason.detail.starts_with("éé"));
    let mut another = queue.consume(prefetch(5)).await.unwrap();
    nothing_comes(&mut another).await;
}

/// A message that no consumer survives becomes a dead letter after [`LIMIT`] redeliveries; `dead` lists the dead
/// letters.
pub async fn a_message_no_consumer_survives_becomes_a_dead_letter(
    queue: impl Queue,
    dead: impl AsyncFn() -> Vec<DeadLetter>,
) {
    publish(&queue, 0..1).await;
    for failures in 0..=LIMIT + 1 {
        let mut consumer = queue.consume(prefetch(5)).await.unwrap();
        if failures > LIMIT {
            nothing_comes(&mut consumer).await;
        } else {
            let deliveries = take(&mut consumer, 1).await;
            assert_eq!(deliveries[0].failures, failures);
        }
    }
    let deadline = tokio::time::Instant::now() + SOON;
    loop {
        let dead_letters = dead().await;
        if let [dead_letter] = &dead_letters[..] {
            assert_eq!(dead_letter.reason.code, "delivery-limit");
            assert_eq!(dead_letter.message.body, message("0").body);
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{dead_letters:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A stopped consumer receives what was in flight and nothing more; the rest goes to others, unmarked.
pub async fn a_stopped_consumer_gets_what_was_on_its_way_and_no_more(queue: impl Queue) {
    publish(&queue, 0..100).await;
    let mut consumer = queue.consume(prefetch(40)).await.unwrap();
    let first = take(&mut consumer, 10).await;
    consumer.stop_intake().await;
    let rest = rest(&mut consumer).await;
    assert!(rest.len() <= 30, "{}", rest.len());
    let mut done: BTreeSet<String> = BTreeSet::new();
    done.extend(
        first
            .iter()
            .chain(&rest)
            .map(|delivery| delivery.message.id.clone()),
    );
    consumer.ack(receipts(first)).await.unwrap();
    consumer.ack(receipts(rest)).await.unwrap();
    drop(consumer);
    let mut another = queue.consume(prefetch(200)).await.unwrap();
    let others = take(&mut another, 100 - done.len()).await;
    assert!(
        others.iter().all(|delivery| !delivery.redelivered),
        "a message was redelivered"
    );
    done.extend(others.iter().map(|delivery| delivery.message.id.clone()));
    assert_eq!(done.len(), 100);
    another.ack(receipts(others)).await.unwrap();
    nothing_comes(&mut another).await;
}

/// Stops many consumers right after an ack, when deliveries are most likely in flight.
pub async fn whenever_it_is_stopped_nothing_is_delivered_again(queue: impl Queue) {
    const ROUNDS: u32 = 25;
    const BATCH: u32 = 60;
    let mut done = BTreeSet::new();
    for round in 0..ROUNDS {
        publish(&queue, round * BATCH..(round + 1) * BATCH).await;
        let mut consumer = queue.consume(prefetch(40)).await.unwrap();
        let mut kept = take(&mut consumer, 40).await;
        let acked: Vec<_> = kept.drain(..20).collect();
        assert!(kept.iter().chain(&acked).all(|delivery| !delivery.redelivered));
        done.extend(
            acked
                .iter()
                .chain(&kept)
                .map(|delivery| delivery.message.id.clone()),
        );
        consumer.ack(receipts(acked)).await.unwrap();
        consumer.stop_intake().await;
        let rest = rest(&mut consumer).await;
        done.extend(rest.iter().map(|delivery| delivery.message.id.clone()));
        consumer.ack(receipts(kept)).await.unwrap();
        consumer.ack(receipts(rest)).await.unwrap();
    }
    let mut another = queue.consume(prefetch(2_000)).await.unwrap();
    let others = take(&mut another, (ROUNDS * BATCH) as usize - done.len()).await;
    let again = others.iter().filter(|delivery| delivery.redelivered).count();
    assert_eq!(again, 0, "of {}", others.len());
    another.ack(receipts(others)).await.unwrap();
    nothing_comes(&mut another).await;
}
