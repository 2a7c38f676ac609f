//! Properties, sending and receiving.

use azure_messaging_eventhubs::models::{AmqpSimpleValue, EventData};
use azure_messaging_eventhubs::{EventDataBatchOptions, StartLocation};
use windrow_test_hub::SimpleValue;

use crate::*;

#[test]
fn the_properties_of_the_hub_and_its_partitions_are_told() {
    within_limit(async {
        let hub = hub();
        append(&hub, 2, &["a", "b"]);
        let consumer = consumer(&hub).await;
        let properties = consumer.get_eventhub_properties().await.unwrap();
        assert_eq!(properties.name, "readings");
        assert_eq!(properties.partition_ids, ["0", "1", "2", "3"]);
        assert!(properties.created_on.is_some());

        let filled = consumer.get_partition_properties("2").await.unwrap();
        assert_eq!(filled.beginning_sequence_number, 0);
        assert_eq!(filled.last_enqueued_sequence_number, 1);
        assert!(!filled.is_empty);
        assert!(filled.last_enqueued_time_utc.is_some());
        let empty = consumer.get_partition_properties("3").await.unwrap();
        assert_eq!(empty.last_enqueued_sequence_number, -1);
        assert_eq!(empty.last_enqueued_offset, "-1");
        assert!(empty.is_empty);
        assert!(consumer.get_partition_properties("4").await.is_err());
    });
}

#[test]
fn a_batch_with_a_key_comes_back_whole_from_one_partition() {
    within_limit(async {
        let hub = hub();
        let producer = producer(&hub).await;
        let before = std::time::SystemTime::now() - Duration::from_millis(1);
        for round in 0..3 {
            let options = EventDataBatchOptions {
                partition_key: Some("sensor-1".to_owned()),
                ..EventDataBatchOptions::default()
            };
            let batch = producer.create_batch(Some(options)).await.unwrap();
            for number in 0..10 {
                let event = EventData::builder()
                    .with_body(format!("{round}.{number}"))
                    .with_message_id("id")
                    .with_content_type("text/plain".to_owned())
                    .add_property("number".to_owned(), i64::from(number))
                    .build();
                assert!(batch.try_add_event_data(event, None).unwrap());
            }
            producer.send_batch(batch, None).await.unwrap();
        }
        let filled: Vec<u16> = (0..4)
            .filter(|&number| hub.last_sequence_number(number).is_some())
            .collect();
        assert_eq!(filled.len(), 1, "one key, one partition");

        let consumer = consumer(&hub).await;
        let receiver = receiver(&consumer, filled[0], from(StartLocation::Earliest)).await;
        let mut events = stream(&receiver);
        let mut last_offset = -1;
        for sequence in 0..30 {
            let event = next(&mut events).await;
            assert_eq!(body(&event), format!("{}.{}", sequence / 10, sequence % 10));
            assert_eq!(event.sequence_number(), Some(sequence));
            let offset: i64 = event.offset().as_ref().unwrap().parse().unwrap();
            assert!(offset > last_offset);
            last_offset = offset;
            assert_eq!(event.partition_key().as_deref(), Some("sensor-1"));
            let enqueued = event.enqueued_time().unwrap();
            assert!(enqueued >= before && enqueued <= std::time::SystemTime::now());
            let data = event.event_data();
            assert_eq!(data.content_type(), Some("text/plain"));
            assert_eq!(data.message_id(), Some(&"id".into()));
            assert_eq!(
                data.properties().unwrap()["number"],
                AmqpSimpleValue::from(sequence % 10)
            );
        }
    });
}

#[test]
fn single_events_without_a_key_go_to_the_partitions_in_turn() {
    within_limit(async {
        let hub = hub();
        let producer = producer(&hub).await;
        for number in 0..8 {
            producer.send_event(format!("{number}"), None).await.unwrap();
        }
        for partition in 0..4 {
            assert_eq!(hub.last_sequence_number(partition), Some(1));
        }
        let consumer = consumer(&hub).await;
        let receiver = receiver(&consumer, 1, from(StartLocation::Earliest)).await;
        assert_eq!(take_bodies(&mut stream(&receiver), 2).await, ["1", "5"]);
    });
}

#[test]
fn events_appended_by_a_test_arrive_with_their_properties() {
    within_limit(async {
        let hub = hub();
        let properties = [("kind".to_owned(), SimpleValue::String("odd".to_owned()))];
        assert_eq!(hub.append(0, b"x".to_vec(), properties).unwrap(), 0);
        assert!(hub.append(9, Vec::new(), []).is_err());
        let consumer = consumer(&hub).await;
        let receiver = receiver(&consumer, 0, from(StartLocation::Earliest)).await;
        let event = next(&mut stream(&receiver)).await;
        assert_eq!(
            event.event_data().properties().unwrap()["kind"],
            AmqpSimpleValue::from("odd")
        );
        // The client may have the event before the hub has counted it.
        while hub.delivered(0) == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(hub.delivered(0), 1);
    });
}

#[test]
fn an_event_that_is_too_large_is_refused_and_the_hub_goes_on() {
    within_limit(async {
        let hub = hub();
        let wrong = producer(&hub).await;
        let too_large = vec![b'x'; (1 << 20) + 1];
        // The client learns of the detach only when it sends next; until then it waits for an outcome.
        let sending = wrong.send_event(too_large, None);
        assert!(
            tokio::time::timeout(Duration::from_secs(1), sending)
                .await
                .is_err()
        );
        let error = wrong.send_event("small", None).await.unwrap_err();
        assert!(
            format!("{error:?}").contains("LinkPayloadSizeExceeded"),
            "{error:?}"
        );

        let right = producer(&hub).await;
        right.send_event("small", None).await.unwrap();
        let stored: Vec<_> = (0..4)
            .filter_map(|number| hub.last_sequence_number(number))
            .collect();
        assert_eq!(stored, [0]);
    });
}

#[test]
fn an_event_for_an_unknown_hub_or_partition_is_refused() {
    within_limit(async {
        let hub = hub();
        let producer = ProducerClient::builder()
            .with_custom_endpoint(hub.endpoint())
            .open_with_connection_string(&hub.connection_string().replace("=readings", "=writings"), None)
            .await
            .unwrap();
        let error = producer.send_event("lost", None).await.unwrap_err();
        assert!(format!("{error:?}").contains("NotFound"), "{error:?}");

        let producer = crate::producer(&hub).await;
        let error = send(&producer, 7, &["lost"]).await.unwrap_err();
        assert!(format!("{error:?}").contains("NotFound"), "{error:?}");
        send(&producer, 3, &["found"]).await.unwrap();

        let consumer = consumer(&hub).await;
        let receiver = receiver(&consumer, 7, from(StartLocation::Earliest)).await;
        let error = stream(&receiver).next().await.unwrap().unwrap_err();
        assert!(format!("{error:?}").contains("NotFound"), "{error:?}");
    });
}
