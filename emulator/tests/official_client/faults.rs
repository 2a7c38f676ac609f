//! Faults on request, and how the client reacts to them.

use std::time::Instant;

use azure_messaging_eventhubs::StartLocation;

use crate::*;

#[test]
fn a_cut_connection_is_replaced_and_reading_starts_over_where_the_receiver_was_opened() {
    within_limit(async {
        let hub = hub();
        append(&hub, 0, &["a", "b", "c"]);
        let consumer = consumer(&hub).await;
        let receiver = receiver(&consumer, 0, from(StartLocation::SequenceNumber(0))).await;
        let mut events = stream(&receiver);
        assert_eq!(take_bodies(&mut events, 2).await, ["b", "c"]);
        hub.drop_connections();
        append(&hub, 0, &["d"]);
        // The client reconnects without telling the caller, and asks for its first position again.
        assert_eq!(take_bodies(&mut events, 3).await, ["b", "c", "d"]);
    });
}

#[test]
fn a_sender_connects_again_after_a_cut() {
    within_limit(async {
        let hub = hub();
        let producer = producer(&hub).await;
        send(&producer, 0, &["a"]).await.unwrap();
        hub.drop_connections();
        until(|| hub.connections() == 0).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        send(&producer, 0, &["b"]).await.unwrap();
        assert_eq!(hub.last_sequence_number(0), Some(1));
    });
}

#[test]
fn a_cut_leaves_a_send_on_its_way_without_an_answer() {
    within_limit(async {
        let hub = hub();
        let producer = producer(&hub).await;
        send(&producer, 0, &["a"]).await.unwrap();
        let sending = tokio::time::timeout(Duration::from_secs(1), send(&producer, 0, &["b"]));
        let cutting = async {
            until(|| hub.last_sequence_number(0) == Some(1)).await;
            hub.drop_connections();
        };
        let (outcome, ()) = futures::join!(sending, cutting);
        assert!(
            outcome.is_err(),
            "the client waits forever; the sender must set a limit"
        );
        send(&producer, 0, &["b"]).await.unwrap();
        assert_eq!(
            hub.last_sequence_number(0),
            Some(2),
            "and the event is stored twice"
        );
    });
}

#[test]
fn a_detached_receiver_starts_over_where_it_was_opened() {
    within_limit(async {
        let hub = hub();
        append(&hub, 0, &["a", "b"]);
        let consumer = consumer(&hub).await;
        let receiver = receiver(&consumer, 0, from(StartLocation::Earliest)).await;
        let mut events = stream(&receiver);
        assert_eq!(take_bodies(&mut events, 2).await, ["a", "b"]);
        hub.detach_receivers("amqp:link:detach-forced");
        assert_eq!(take_bodies(&mut events, 2).await, ["a", "b"]);
    });
}

#[test]
fn a_receiver_detached_for_good_says_so_and_its_client_can_open_another() {
    within_limit(async {
        let hub = hub();
        append(&hub, 0, &["a", "b"]);
        let consumer = consumer(&hub).await;
        let first = receiver(&consumer, 0, from(StartLocation::Earliest)).await;
        let mut events = stream(&first);
        assert_eq!(take_bodies(&mut events, 2).await, ["a", "b"]);
        hub.detach_receivers("amqp:unauthorized-access");
        let error = events.next().await.unwrap().unwrap_err();
        assert!(format!("{error:?}").contains("Unauthorized"), "{error:?}");
        drop(events);
        let _ = first.close().await;
        let second = receiver(&consumer, 0, from(StartLocation::SequenceNumber(0))).await;
        assert_eq!(take_bodies(&mut stream(&second), 1).await, ["b"]);
    });
}

#[test]
fn throttling_is_reported_to_the_sender_and_ends() {
    within_limit(async {
        let hub = hub();
        let producer = producer(&hub).await;
        send(&producer, 0, &["a"]).await.unwrap();
        hub.throttle(Duration::from_secs(60));
        let error = send(&producer, 0, &["b"]).await.unwrap_err();
        assert!(format!("{error:?}").contains("ServerBusy"), "{error:?}");
        // A new link is refused too. The refusal's last flow frame races with the client's own detach, so the client
        // sometimes loses the session and the reason; only the failure is checked.
        send(&producer, 1, &["b"]).await.unwrap_err();
        hub.throttle(Duration::ZERO);
        send(&producer, 0, &["b"]).await.unwrap();
        assert_eq!(hub.last_sequence_number(0), Some(1));
    });
}

#[test]
fn delayed_events_come_late() {
    within_limit(async {
        let hub = hub();
        let consumer = consumer(&hub).await;
        append(&hub, 0, &["a"]);
        hub.delay_deliveries(Duration::from_millis(300));
        let receiver = receiver(&consumer, 0, from(StartLocation::Earliest)).await;
        let started = Instant::now();
        next(&mut stream(&receiver)).await;
        assert!(started.elapsed() >= Duration::from_millis(300));
    });
}

#[test]
fn a_detached_receiver_takes_the_others_of_its_client_with_it() {
    within_limit(async {
        let hub = hub();
        append(&hub, 0, &["a"]);
        append(&hub, 1, &["b"]);
        let consumer = consumer(&hub).await;
        let receivers = (
            receiver(&consumer, 0, from(StartLocation::Earliest)).await,
            receiver(&consumer, 1, from(StartLocation::Earliest)).await,
        );
        let (mut first, mut second) = (stream(&receivers.0), stream(&receivers.1));
        assert_eq!(take_bodies(&mut first, 1).await, ["a"]);
        assert_eq!(take_bodies(&mut second, 1).await, ["b"]);
        hub.detach_partition("$Default", 0, "amqp:link:detach-forced");
        // To renew one link, the client drops all of them, so the other partition starts over too.
        assert_eq!(take_bodies(&mut first, 1).await, ["a"]);
        assert_eq!(take_bodies(&mut second, 1).await, ["b"]);
    });
}

/// Opens a receiver of a client that does not retry. Opening is retried here: a frame for a session that has just ended
/// makes the client's AMQP library give up the connection, and so one time in hundreds its authorization ends it.
async fn without_retries(hub: &Hub, options: OpenReceiverOptions) -> (ConsumerClient, EventReceiver) {
    loop {
        let consumer = ConsumerClient::builder()
            .with_custom_endpoint(hub.endpoint())
            .with_retry_options(RetryOptions {
                max_retries: 0,
                ..RetryOptions::default()
            })
            .open_with_connection_string(&hub.connection_string(), None)
            .await;
        let Ok(consumer) = consumer else { continue };
        let receiver = consumer.open_receiver_on_partition("0".to_owned(), Some(options.clone()));
        if let Ok(receiver) = receiver.await {
            return (consumer, receiver);
        }
    }
}

#[test]
fn without_retries_a_cut_and_a_detach_are_reported_and_a_new_client_goes_on_from_there() {
    within_limit(async {
        let hub = hub();
        append(&hub, 0, &["a", "b", "c"]);
        let mut read = StartLocation::Earliest;
        let faults: [&dyn Fn(); 2] = [&|| hub.drop_connections(), &|| {
            hub.detach_receivers("amqp:link:detach-forced");
        }];
        for (fault, expected) in faults.into_iter().zip(["a", "b"]) {
            let (_consumer, receiver) = without_retries(&hub, from(read)).await;
            let mut events = stream(&receiver);
            let event = next(&mut events).await;
            assert_eq!(body(&event), expected);
            read = StartLocation::Offset(event.offset().clone().unwrap());
            fault();
            // Prefetched events may still arrive, but an error comes before any event is read again.
            let mut last = event.sequence_number();
            while let Ok(event) = events.next().await.unwrap() {
                assert!(event.sequence_number() > last);
                last = event.sequence_number();
            }
        }
        let consumer = consumer(&hub).await;
        let receiver = receiver(&consumer, 0, from(read)).await;
        assert_eq!(take_bodies(&mut stream(&receiver), 1).await, ["c"]);
    });
}
