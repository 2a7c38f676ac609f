//! The positions where a receiver starts.

use azure_messaging_eventhubs::StartLocation;

use crate::*;

#[test]
fn a_receiver_resumes_at_an_offset_a_sequence_number_and_a_time() {
    within_limit(async {
        let hub = hub();
        append(&hub, 0, &["a", "b"]);
        tokio::time::sleep(Duration::from_millis(5)).await;
        append(&hub, 0, &["c", "d"]);
        let consumer = consumer(&hub).await;
        let (second, third) = {
            let receiver = receiver(&consumer, 0, from(StartLocation::Earliest)).await;
            let mut events = stream(&receiver);
            next(&mut events).await;
            let seen = (next(&mut events).await, next(&mut events).await);
            drop(events);
            receiver.close().await.unwrap();
            seen
        };
        for location in [
            StartLocation::Offset(second.offset().clone().unwrap()),
            StartLocation::SequenceNumber(1),
            StartLocation::EnqueuedTime(third.enqueued_time().unwrap() - Duration::from_millis(1)),
        ] {
            let receiver = receiver(&consumer, 0, from(location.clone())).await;
            assert_eq!(
                take_bodies(&mut stream(&receiver), 2).await,
                ["c", "d"],
                "{location:?}"
            );
            receiver.close().await.unwrap();
        }
    });
}

#[test]
fn the_latest_position_skips_what_is_there() {
    within_limit(async {
        let hub = hub();
        append(&hub, 0, &["old"]);
        let consumer = consumer(&hub).await;
        let receiver = receiver(&consumer, 0, from(StartLocation::Latest)).await;
        let mut events = stream(&receiver);
        let append_later = async {
            until(|| hub.open_receivers("$Default", 0) == 1).await;
            append(&hub, 0, &["new"]);
        };
        let (event, ()) = futures::join!(next(&mut events), append_later);
        assert_eq!(body(&event), "new");
    });
}

#[test]
fn a_position_the_hub_never_gave_is_refused() {
    within_limit(async {
        let hub = hub();
        let consumer = consumer(&hub).await;
        let receiver = receiver(&consumer, 0, from(StartLocation::Offset("77".to_owned()))).await;
        let error = stream(&receiver).next().await.unwrap().unwrap_err();
        assert!(format!("{error:?}").contains("'77' is invalid"), "{error:?}");
    });
}

#[test]
fn a_receiver_starts_at_the_oldest_event_kept() {
    within_limit(async {
        let hub = Hub::start(&HubConfig {
            retain_bytes: 100,
            ..HubConfig::default()
        })
        .unwrap();
        for number in 0..50 {
            hub.append(0, format!("{number:010}").into_bytes(), []).unwrap();
        }
        let begin = hub.begin_sequence_number(0).unwrap();
        assert!(begin > 0);
        let consumer = consumer(&hub).await;
        let properties = consumer.get_partition_properties("0").await.unwrap();
        assert_eq!(properties.beginning_sequence_number, begin);
        let receiver = receiver(&consumer, 0, from(StartLocation::SequenceNumber(3))).await;
        assert_eq!(next(&mut stream(&receiver)).await.sequence_number(), Some(begin));
    });
}
