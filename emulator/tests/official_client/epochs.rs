//! Receivers that compete for a partition.

use azure_messaging_eventhubs::StartLocation;
use azure_messaging_eventhubs::error::ErrorKind;

use crate::*;

fn with_epoch(epoch: i64) -> OpenReceiverOptions {
    OpenReceiverOptions {
        owner_level: Some(epoch),
        ..from(StartLocation::Earliest)
    }
}

#[test]
fn a_higher_epoch_displaces_and_a_lower_one_is_refused() {
    within_limit(async {
        let hub = hub();
        append(&hub, 0, &["a"]);
        let consumers = (consumer(&hub).await, consumer(&hub).await, consumer(&hub).await);
        let first = receiver(&consumers.0, 0, with_epoch(0)).await;
        let mut first_events = stream(&first);
        next(&mut first_events).await;

        let second = receiver(&consumers.1, 0, with_epoch(1)).await;
        let mut second_events = stream(&second);
        assert_eq!(take_bodies(&mut second_events, 1).await, ["a"]);
        let error = first_events.next().await.unwrap().unwrap_err();
        assert!(
            matches!(error.kind, ErrorKind::ConsumerDisconnected(_)),
            "{error:?}"
        );
        assert!(first_events.next().await.is_none(), "the stream has ended");

        let third = receiver(&consumers.2, 0, with_epoch(0)).await;
        let error = stream(&third).next().await.unwrap().unwrap_err();
        assert!(
            matches!(error.kind, ErrorKind::ConsumerDisconnected(_)),
            "{error:?}"
        );

        assert_eq!(hub.open_receivers("$Default", 0), 1);
        append(&hub, 0, &["b"]);
        assert_eq!(take_bodies(&mut second_events, 1).await, ["b"]);
    });
}

#[test]
fn receivers_without_epoch_share_a_partition() {
    within_limit(async {
        let hub = hub();
        append(&hub, 0, &["a"]);
        let consumers = (consumer(&hub).await, consumer(&hub).await);
        let first = receiver(&consumers.0, 0, from(StartLocation::Earliest)).await;
        let second = receiver(&consumers.1, 0, from(StartLocation::Earliest)).await;
        let (mut first, mut second) = (stream(&first), stream(&second));
        assert_eq!(take_bodies(&mut first, 1).await, ["a"]);
        assert_eq!(take_bodies(&mut second, 1).await, ["a"]);
        assert_eq!(hub.open_receivers("$Default", 0), 2);
        append(&hub, 0, &["b"]);
        assert_eq!(take_bodies(&mut first, 1).await, ["b"]);
        assert_eq!(take_bodies(&mut second, 1).await, ["b"]);
    });
}
