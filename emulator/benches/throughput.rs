//! Measures events per second through the hub with the official client: `cargo bench -p windrow-test-hub [-- EVENTS]`.
//!
//! Client and hub share the machine, so the figure to compare is events per second of CPU time that the client itself
//! took. The hub's threads are recognized by their name.

use std::fs;
use std::time::Instant;

use azure_messaging_eventhubs::{
    ConsumerClient, EventDataBatchOptions, OpenReceiverOptions, ProducerClient, StartLocation, StartPosition,
};
use futures::StreamExt;
use windrow_test_hub::{HUB_THREADS, Hub, HubConfig};

/// Bytes of an event's body.
const BODY: usize = 200;
/// Default number of events.
const EVENTS: u64 = 200_000;

type Outcome = Result<(), Box<dyn std::error::Error>>;

#[tokio::main]
async fn main() -> Outcome {
    let events = std::env::args()
        .find_map(|argument| argument.parse().ok())
        .unwrap_or(EVENTS);
    // The workspace brings two TLS implementations, and the client cannot choose between them.
    _ = rustls::crypto::ring::default_provider().install_default();
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
    let (started, cpu) = (Instant::now(), client_cpu()?);
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
        "sent {events} events in {batches} batches: {:.0} events/s, {:.0} per core that the client took, {:.0} % of \
         the time filling batches",
        events as f64 / seconds,
        events as f64 / (client_cpu()? - cpu),
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
    let (started, cpu) = (Instant::now(), client_cpu()?);
    for _ in 0..events {
        stream.next().await.ok_or("the stream ended")??;
    }
    println!(
        "received {events} events with a prefetch of {prefetch}: {:.0} events/s, {:.0} per core that the client took",
        events as f64 / started.elapsed().as_secs_f64(),
        events as f64 / (client_cpu()? - cpu),
    );
    Ok(())
}

/// Returns the CPU seconds that threads other than the hub's took so far (proc_pid_stat(5): utime and stime).
fn client_cpu() -> Result<f64, Box<dyn std::error::Error>> {
    /// Linux counts in hundredths of a second wherever Rust's standard library runs.
    const TICKS_PER_SECOND: f64 = 100.0;
    let mut ticks = 0;
    for thread in fs::read_dir("/proc/self/task")? {
        let stat = fs::read_to_string(thread?.path().join("stat"))?;
        let (name, fields) = stat.rsplit_once(')').ok_or("a stat file without a name")?;
        if name.ends_with(HUB_THREADS) {
            continue;
        }
        for field in fields.split_whitespace().skip(11).take(2) {
            ticks += field.parse::<u64>()?;
        }
    }
    Ok(ticks as f64 / TICKS_PER_SECOND)
}
