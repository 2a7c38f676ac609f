//! Publishers and consumers survive a broker that is stopped, killed or cut off, and lose no message.

use std::collections::HashMap;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use lapin::{Channel, Connection, ConnectionProperties};
use windrow_queue::{Announcement, Consumer, Queue};
use windrow_tests::{Broker, Draws};

use super::{message, queue};

const MESSAGES: usize = 20_000;
const WITHIN: Duration = Duration::from_secs(150);
const LOST_AFTER: Duration = Duration::from_secs(75);

/// Publishes and consumes while the broker is stopped and killed and its connections are closed.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_broker_does_every_confirmed_message_arrives() {
    let broker = Arc::new(Broker::start());
    let (publishing, consuming) = (queue(&broker, "recovery"), queue(&broker, "recovery"));
    let publisher = tokio::spawn(async move {
        let mut confirmations = Vec::new();
        for id in 0..MESSAGES {
            confirmations.push(publishing.publish(message(&id.to_string())).await.unwrap());
            if id % 200 == 0 {
                // Slow enough for the faults below to happen meanwhile.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        for (id, confirmation) in confirmations.into_iter().enumerate() {
            // RabbitMQ 3.10 has kept a confirmation to itself when the queue was deleted while it took the message. A producer
            // is not ready then, and publishes again once it is restarted.
            if let Ok(confirmed) = tokio::time::timeout(LOST_AFTER, confirmation.wait()).await {
                confirmed.unwrap();
            } else {
                let again = publishing.publish(message(&id.to_string())).await.unwrap();
                again.wait().await.unwrap();
            }
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
        // The broker cancels consumers, and publishers find no queue: both redeclare it.
        broker.control(&["delete_queue", "recovery.score", "--if-empty", "false"].as_slice()[..2]);
        broker
    });
    let broker = faults.await.unwrap();
    let publishing = tokio::time::timeout(WITHIN, publisher)
        .await
        .expect("published in time")
        .unwrap();
    // The deleted queue took its messages with it, so publish everything once more, as a replay would.
    for id in 0..MESSAGES {
        let confirmation = publishing.publish(message(&id.to_string())).await.unwrap();
        tokio::spawn(confirmation.wait());
    }
    let arrived = tokio::time::timeout(WITHIN, consumer)
        .await
        .expect("all arrived in time")
        .unwrap();
    assert_eq!(arrived.len(), MESSAGES);
    assert!(publishing.outage().is_none());
    drop(broker);
}

/// Deletes a queue a moment after it exists, again and again until [`LEAVE_IT_ALONE`]. It may fail while the queue's first
/// leader is being elected.
///
/// First it waits until the process that moves the queue's dead letters has started, at most two seconds. The process dies
/// if its queue is deleted before, and if two die within five seconds, RabbitMQ 3.10 starts none until it is restarted: its
/// quorum queues with dead letters can no longer be used.
const DELETE_IT_ALL_THE_TIME: &str = r#"
    Name = rabbit_misc:r(<<"/">>, queue, <<"deleted.score">>),
    HasStarted = fun(_) ->
        Workers = fun() -> [Pid || {_, Pid, _, _} <- supervisor:which_children(rabbit_fifo_dlx_sup), is_pid(Pid)] end,
        case catch [sys:get_state(Pid) || Pid <- Workers()] of
            [_ | _] -> true;
            _ -> timer:sleep(100), false
        end
    end,
    Until = erlang:monotonic_time(second) + 150,
    Again = fun Again() ->
        case rabbit_amqqueue:lookup(Name) of
            {ok, Queue} ->
                timer:sleep(1000),
                lists:any(HasStarted, lists:seq(1, 20)),
                catch rabbit_amqqueue:delete(Queue, false, false, <<"test">>);
            _ -> none
        end,
        timer:sleep(100),
        case application:get_env(rabbit, left_alone) =:= undefined andalso erlang:monotonic_time(second) < Until of
            true -> Again();
            false -> ok
        end
    end,
    Again().
"#;

const LEAVE_IT_ALONE: &str = "application:set_env(rabbit, left_alone, true).";

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_deleted_time_and_again_is_waited_for_by_services() {
    let broker = Arc::new(Broker::start());
    let queue = queue(&broker, "deleted");
    queue.connect().await.unwrap();
    let deleting = Arc::clone(&broker);
    let deleting = tokio::task::spawn_blocking(move || deleting.control(&["eval", DELETE_IT_ALL_THE_TIME]));
    let mut confirmations = Vec::new();
    let told = async {
        let says = |why: String| why.contains("refuses messages again and again");
        while !queue.outage().is_some_and(says) {
            let id = confirmations.len().to_string();
            confirmations.push(queue.publish(message(&id)).await.unwrap());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(WITHIN, told)
        .await
        .expect("the outage is told");
    broker.control(&["eval", LEAVE_IT_ALONE]);
    deleting.await.unwrap();
    for confirmation in confirmations {
        let published = tokio::time::timeout(WITHIN, confirmation.wait()).await;
        published.expect("published in time").unwrap();
    }
    // The last deletion may have come after the confirmation, so only what is published now is certain to be there.
    queue
        .publish(message("after"))
        .await
        .unwrap()
        .wait()
        .await
        .unwrap();
    assert_eq!(queue.outage(), None);
}

async fn by_hand(broker: &Broker) -> Channel {
    let connection = Connection::connect(&broker.url(), ConnectionProperties::default()).await;
    connection.unwrap().create_channel().await.unwrap()
}

#[tokio::test]
async fn an_exchange_that_was_deleted_is_declared_again() {
    let broker = Broker::shared();
    let queue = queue(&broker, "exchange");
    let announce = async || {
        let announcement = Announcement {
            topic: "d.t".to_owned(),
            body: "{}".into(),
        };
        let announced = tokio::time::timeout(WITHIN, queue.announce(announcement));
        announced.await.expect("announced in time").unwrap();
    };
    announce().await;
    let deleted = by_hand(&broker)
        .await
        .exchange_delete("exchange.anomalies".into(), Default::default())
        .await;
    deleted.unwrap();
    announce().await;
}

/// A worker selects between messages and other events, so it can cancel a receive at any moment, even mid-subscription.
/// Each subscription that is given up would bring the messages closer to the delivery limit.
#[tokio::test]
async fn a_receive_interrupted_while_it_subscribes_keeps_no_message_and_spends_no_delivery() {
    const MESSAGES: usize = 40;
    let broker = Broker::shared();
    let (publishing, consuming) = (queue(&broker, "halfway"), queue(&broker, "halfway"));
    let mut consumer = consuming.consume(NonZeroU16::new(100).unwrap()).await.unwrap();
    let mut draws = Draws(3);
    for round in 0..4 {
        let deleted = by_hand(&broker)
            .await
            .queue_delete("halfway.score".into(), Default::default())
            .await;
        deleted.unwrap();
        // The first receive redeclares the queue. Wait before publishing: RabbitMQ 3.10.8 delivers messages of a queue
        // that is recreated within 20 ms to the consumers of the deleted one.
        tokio::time::sleep(Duration::from_millis(500)).await;
        for id in 0..MESSAGES {
            let confirmation = publishing.publish(message(&id.to_string())).await.unwrap();
            confirmation.wait().await.unwrap();
        }
        let mut deliveries = Vec::new();
        for _ in 0..100 {
            let moment = Duration::from_micros(draws.below(4_000));
            _ = tokio::time::timeout(moment, consumer.receive(&mut deliveries, 1)).await;
        }
        while deliveries.len() < MESSAGES {
            let received = consumer.receive(&mut deliveries, MESSAGES);
            let received = tokio::time::timeout(WITHIN, received).await;
            received
                .unwrap_or_else(|_| panic!("round {round}: a message is kept"))
                .unwrap();
        }
        let spent = deliveries.iter().filter(|delivery| delivery.failures > 0).count();
        assert_eq!(spent, 0, "round {round}: messages that were delivered before");
        let receipts = deliveries.into_iter().map(|delivery| delivery.receipt).collect();
        consumer.ack(receipts).await.unwrap();
    }
}
