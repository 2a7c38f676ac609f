//! Events a second through the hub with the official client: `cargo bench -p windrow-test-hub [-- EVENTS]`.
//!
//! It measures the client as much as the hub: both share the machine.

use std::time::Instant;

use azure_messaging_eventhubs::{
    ConsumerClient, EventDataBatchOptions, OpenReceiverOptions, ProducerClient, StartLocation, StartPosition,
};
use futures::StreamExt;
use windrow_test_hub::{Hub, HubConfig};

/// Bytes of an event's body.
const BODY: usize = 200;
/// Events when the command line names no number.
const EVENTS: u64 = 200_000;

type Outcome = Result<(), Box<dyn std::error::Error>>;

#[tokio::main]
async fn main() -> Outcome {
    let events = std::env::args()
        .find_map(|argument| argument.parse().ok())
        .unwrap_or(EVENTS);
    let hub = Hub::start(&HubConfig {
        retain_bytes: usize::MAX,
        ..HubConfig::default()
    })?;
    send(&hub, events).await?;
    for prefetch in [300, 3_000] {
        receive(&hub, events, prefetch).await?;
    }
    Ok(())
}

async fn send(hub: &Hub, events: u64) -> Outcome {
    let producer = ProducerClient::builder()
        .with_custom_endpoint(hub.endpoint())
        .open_with_connection_string(&hub.connection_string(), None)
        .await?;
    let started = Instant::now();
    let mut filling = std::time::Duration::ZERO;
    let (mut sent, mut batches) = (0, 0);
    while sent < events {
        let options = EventDataBatchOptions {
            partition_id: Some("0".to_owned()),
            ..EventDataBatchOptions::default()
        };
        let batch = producer.create_batch(Some(options)).await?;
        let fill = Instant::now();
        while sent < events && batch.try_add_event_data(vec![b'x'; BODY], None)? {
            sent += 1;
        }
        filling += fill.elapsed();
        producer.send_batch(batch, None).await?;
        batches += 1;
    }
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "sent {events} events in {batches} batches: {:.0} events/s, {:.0} % of the time filling batches",
        events as f64 / seconds,
        100.0 * filling.as_secs_f64() / seconds
    );
    producer.close().await?;
    Ok(())
}

async fn receive(hub: &Hub, events: u64, prefetch: u32) -> Outcome {
    let consumer = ConsumerClient::builder()
        .with_custom_endpoint(hub.endpoint())
        .open_with_connection_string(&hub.connection_string(), None)
        .await?;
    let options = OpenReceiverOptions {
        prefetch: Some(prefetch),
        start_position: Some(StartPosition {
            location: StartLocation::Earliest,
            inclusive: false,
        }),
        ..OpenReceiverOptions::default()
    };
    let receiver = consumer
        .open_receiver_on_partition("0".to_owned(), Some(options))
        .await?;
    let mut stream = Box::pin(receiver.stream_events());
    let started = Instant::now();
    for _ in 0..events {
        stream.next().await.ok_or("the stream ended")??;
    }
    println!(
        "received {events} events with a prefetch of {prefetch}: {:.0} events/s",
        events as f64 / started.elapsed().as_secs_f64()
    );
    Ok(())
}
