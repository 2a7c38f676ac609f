//! The hub as the official client sees it.

// Clippy recognizes tests by their attribute, and the helpers here have none.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod epochs;
mod faults;
mod positions;
mod processor;
mod round_trip;

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use azure_messaging_eventhubs::models::ReceivedEventData;
use azure_messaging_eventhubs::{
    ConsumerClient, EventDataBatchOptions, EventReceiver, OpenReceiverOptions, ProducerClient, RetryOptions,
    StartLocation, StartPosition,
};
use futures::{Stream, StreamExt};
use windrow_test_hub::{Hub, HubConfig};

/// Longest time a test may take.
const LIMIT: Duration = Duration::from_secs(60);

type Events<'a> = Pin<Box<dyn Stream<Item = azure_messaging_eventhubs::Result<ReceivedEventData>> + 'a>>;

fn hub() -> Hub {
    let config = HubConfig {
        partitions: 4,
        ..HubConfig::default()
    };
    choose_tls();
    Hub::start(&config).unwrap()
}

/// Chooses one of the two TLS implementations in the workspace.
///
/// Left to choose, the client's TLS library panics, even where it needs none.
fn choose_tls() {
    // An error means that another test was first.
    _ = rustls::crypto::ring::default_provider().install_default();
}

/// Runs a test on its own runtime, and fails it when its time is up.
fn within_limit<F: Future<Output = ()>>(test: F) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime
        .block_on(async { tokio::time::timeout(LIMIT, test).await })
        .expect("the test took too long");
}

/// Returns options with few retries, so that an error surfaces within the time limit.
fn few_retries() -> RetryOptions {
    RetryOptions {
        initial_delay: azure_core::time::Duration::milliseconds(20),
        max_retries: 3,
        ..RetryOptions::default()
    }
}

async fn producer(hub: &Hub) -> ProducerClient {
    ProducerClient::builder()
        .with_custom_endpoint(hub.endpoint())
        .with_retry_options(few_retries())
        .open_with_connection_string(&hub.connection_string(), None)
        .await
        .unwrap()
}

async fn consumer(hub: &Hub) -> ConsumerClient {
    ConsumerClient::builder()
        .with_custom_endpoint(hub.endpoint())
        .with_retry_options(few_retries())
        .open_with_connection_string(&hub.connection_string(), None)
        .await
        .unwrap()
}

fn from(location: StartLocation) -> OpenReceiverOptions {
    OpenReceiverOptions {
        start_position: Some(StartPosition {
            location,
            inclusive: false,
        }),
        ..OpenReceiverOptions::default()
    }
}

async fn receiver(consumer: &ConsumerClient, partition: u16, options: OpenReceiverOptions) -> EventReceiver {
    consumer
        .open_receiver_on_partition(partition.to_string(), Some(options))
        .await
        .unwrap()
}

fn stream(receiver: &EventReceiver) -> Events<'_> {
    Box::pin(receiver.stream_events())
}

async fn next(events: &mut Events<'_>) -> ReceivedEventData {
    events.next().await.unwrap().unwrap()
}

async fn take_bodies(events: &mut Events<'_>, count: usize) -> Vec<String> {
    let mut bodies = Vec::new();
    for _ in 0..count {
        bodies.push(body(&next(events).await));
    }
    bodies
}

fn body(event: &ReceivedEventData) -> String {
    String::from_utf8(event.event_data().body().unwrap().to_vec()).unwrap()
}

/// Sends bodies to one partition in one batch.
async fn send(
    producer: &ProducerClient,
    partition: u16,
    bodies: &[&str],
) -> azure_messaging_eventhubs::Result<()> {
    let options = EventDataBatchOptions {
        partition_id: Some(partition.to_string()),
        ..EventDataBatchOptions::default()
    };
    let batch = producer.create_batch(Some(options)).await?;
    for body in bodies {
        assert!(batch.try_add_event_data(*body, None)?);
    }
    producer.send_batch(batch, None).await
}

fn append(hub: &Hub, partition: u16, bodies: &[&str]) {
    for body in bodies {
        hub.append(partition, body.as_bytes().to_vec(), []).unwrap();
    }
}

/// Waits until the hub is in the wanted state.
async fn until(wanted: impl Fn() -> bool) {
    while !wanted() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
