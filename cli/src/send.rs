//! `windrow send`: readings to an Event Hub, to try a namespace or to feed one.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use azure_messaging_eventhubs::models::EventData;
use azure_messaging_eventhubs::{EventDataBatchOptions, EventHubsError, ProducerClient};
use clap::Args;
use futures::{StreamExt, TryStreamExt};
use indicatif::ProgressBar;
use serde_json::json;
use tokio::sync::mpsc;
use windrow_common::service::stop_on_signals;
use windrow_common::{Backoff, EventTime, Shutdown};
use windrow_producer::ProducerError;
use windrow_producer::args::{SourceArgs, speed};
use windrow_producer::pace::Pace;
use windrow_producer::sensors::SensorTable;
use windrow_producer::source::eventhubs::EventHub;
use windrow_producer::source::{Batch, Read, Reading, Source, SourceError, Until};

use crate::args::{Output, OutputArg};
use crate::error::CliError;
use crate::progress::style;
use crate::show;

/// Batches on their way at once, each of another device.
const BATCHES_IN_FLIGHT: usize = 32;
/// Bytes of an event, which holds several readings of a device if there are.
const EVENT_BYTES: usize = 64 << 10;
/// Longest wait before looking whether more is due.
const NAP: Duration = Duration::from_millis(20);
/// Waits between tries of one batch, and how many there are before it counts as refused.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
const TRIES: u32 = 10;

#[derive(Args, Debug)]
#[command(after_help = "\
Each event holds JSON readings of one device, a line each; its partition key is the device, so that a device stays in
one partition, in order.
Example: an hour of a small fleet, to a namespace logged in to with the Azure CLI
  windrow send --source sim:devices=100,tags=2,duration=1h --eventhubs-identity cli \\
    eventhubs://fleet.servicebus.windows.net/readings")]
pub(crate) struct SendArgs {
    /// Where to: eventhubs://NAMESPACE.servicebus.windows.net/HUB
    #[arg(value_name = "HUB", env = "WINDROW_SEND_TO")]
    to: String,
    #[command(flatten)]
    source: SourceArgs,
    /// Send at this multiple of the speed the readings were measured at [default: as fast as possible]
    #[arg(long, value_name = "FACTOR", env = "WINDROW_SPEED", value_parser = speed)]
    speed: Option<f64>,
    #[command(flatten)]
    output: OutputArg,
}

/// Bodies of events, by device.
type Events = HashMap<Arc<str>, Vec<Vec<u8>>>;

/// A run of readings to send, and how many there are.
struct Chunk {
    events: Events,
    readings: u64,
}

impl SendArgs {
    pub(crate) async fn run(self) -> Result<(), CliError> {
        let hub = self.source.hub(&self.to)?;
        let source = self.source.open_own(Until::CaughtUp)?;
        let client = hub.producer().await?;
        let (trigger, shutdown) = Shutdown::new();
        stop_on_signals(Arc::new(trigger)).map_err(CliError::Signals)?;
        let (chunks, mut to_send) = mpsc::channel(2);
        let pace = self.speed.map(Pace::new);
        let reading = tokio::task::spawn_blocking(move || read(source, pace, &chunks, &shutdown));
        let bar = ProgressBar::new_spinner();
        bar.set_style(style("{spinner} sending {pos} readings"));
        let (mut readings, mut sent) = (0, 0);
        while let Some(chunk) = to_send.recv().await {
            sent += send(&client, &hub, chunk.events).await?;
            readings += chunk.readings;
            bar.set_position(readings);
        }
        bar.finish_and_clear();
        reading
            .await
            .map_err(|error| CliError::Panicked(error.to_string()))??;
        // What was to be sent is; how the connection ends is of no interest.
        _ = client.close().await;
        match self.output.output {
            Output::Json => show::json(&json!({ "readings": readings, "events": sent })),
            _ => show::line(&format!(
                "sent {} readings in {} events to {hub}",
                show::count(readings),
                show::count(sent)
            )),
        }
    }
}

/// Reads until the source ends or a stop is asked for.
fn read(
    mut source: Box<dyn Source>,
    mut pace: Option<Pace>,
    chunks: &mpsc::Sender<Chunk>,
    shutdown: &Shutdown,
) -> Result<(), SourceError> {
    let (mut sensors, mut batch) = (SensorTable::new(), Batch::default());
    let mut in_step = InStep::new(&*source);
    while !shutdown.is_stopping() {
        let read = source.read(&mut sensors, &mut batch)?;
        let ready = match read {
            Read::Batch => in_step.take_in(&batch),
            Read::End => in_step.rest(),
            Read::Idle => {
                std::thread::sleep(NAP);
                continue;
            }
        };
        let mut ready = &ready[..];
        while !ready.is_empty() && !shutdown.is_stopping() {
            let due = pace
                .as_mut()
                .map_or(ready.len(), |pace| pace.due(ready, Instant::now()));
            let (now, later) = ready.split_at(due);
            ready = later;
            if now.is_empty() {
                std::thread::sleep(NAP);
            } else if chunks.blocking_send(chunk(now, &sensors)).is_err() {
                // The sending side has failed and says why.
                return Ok(());
            }
        }
        if read == Read::End {
            break;
        }
    }
    Ok(())
}

/// Merges the partitions of a source by event time. They are read in turns, each some way ahead; sent like that, a
/// partition of the hub would get devices whose readings are late beside others'.
struct InStep {
    pending: Vec<Reading>,
    /// By partition: the latest event time read; none once it has ended.
    read_to: Vec<Option<EventTime>>,
}

impl InStep {
    fn new(source: &dyn Source) -> Self {
        let partitions = 0..source.partitions().len();
        Self {
            pending: Vec::new(),
            read_to: partitions
                .map(|partition| Some(source.look_ahead(partition).unwrap_or(EventTime::MIN)))
                .collect(),
        }
    }

    /// Takes in a batch; gives what no partition can bring anything before any more.
    fn take_in(&mut self, batch: &Batch) -> Vec<Reading> {
        self.pending.extend_from_slice(&batch.readings);
        self.pending.sort_by_key(|reading| reading.time);
        if self.read_to.len() <= batch.partition {
            self.read_to.resize(batch.partition + 1, Some(EventTime::MIN));
        }
        let latest = batch.readings.iter().map(|reading| reading.time).max();
        let read_to = &mut self.read_to[batch.partition];
        *read_to = match batch.ended {
            true => None,
            false => (*read_to).max(latest),
        };
        let Some(through) = self.read_to.iter().flatten().min() else {
            return self.rest();
        };
        let ready = self.pending.partition_point(|reading| reading.time <= *through);
        self.pending.drain(..ready).collect()
    }

    fn rest(&mut self) -> Vec<Reading> {
        std::mem::take(&mut self.pending)
    }
}

/// The readings as events, those of a device in their order.
fn chunk(readings: &[Reading], sensors: &SensorTable) -> Chunk {
    let mut events = Events::new();
    let mut line = String::new();
    for reading in readings {
        let sensor = sensors.id(reading.sensor);
        line.clear();
        // JSON has no words for what is not finite; as text it is still told from what is missing.
        let value = match reading.value.is_finite() {
            true => json!(reading.value),
            false => json!(reading.value.to_string()),
        };
        // Writing to a string cannot fail.
        _ = writeln!(
            line,
            "{{\"ts\":{},\"device\":{},\"tag\":{},\"value\":{value}}}",
            reading.time.as_millis(),
            json!(*sensor.device),
            json!(*sensor.tag)
        );
        let bodies = events.entry(Arc::clone(&sensor.device)).or_default();
        match bodies.last_mut() {
            Some(body) if body.len() + line.len() <= EVENT_BYTES => body.extend_from_slice(line.as_bytes()),
            _ => bodies.push(line.clone().into_bytes()),
        }
    }
    Chunk {
        events,
        readings: readings.len() as u64,
    }
}

/// Sends the events of several devices side by side; gives their number.
async fn send(client: &ProducerClient, hub: &EventHub, events: Events) -> Result<u64, CliError> {
    let sends = events.into_iter().map(|(device, bodies)| async move {
        let count = bodies.len() as u64;
        // An event at a time keeps a device's order, whatever has to be tried again.
        for body in bodies {
            send_until_taken(client, hub, &device, &body).await?;
        }
        Ok::<_, CliError>(count)
    });
    futures::stream::iter(sends)
        .buffer_unordered(BATCHES_IN_FLIGHT)
        .try_fold(0, async |sum, count| Ok(sum + count))
        .await
}

async fn send_until_taken(
    client: &ProducerClient,
    hub: &EventHub,
    device: &str,
    body: &[u8],
) -> Result<(), CliError> {
    let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
    loop {
        let error = match send_once(client, device, body).await {
            Ok(()) => return Ok(()),
            Err(error) => hub.error(&error),
        };
        if !error.is_transient() || backoff.attempts() >= TRIES {
            return Err(ProducerError::EventHub(error).into());
        }
        tracing::warn!(%error, device, "sending again");
        tokio::time::sleep(backoff.next_wait().max(error.least_wait())).await;
    }
}

async fn send_once(client: &ProducerClient, device: &str, body: &[u8]) -> Result<(), EventHubsError> {
    let options = EventDataBatchOptions {
        partition_key: Some(device.to_owned()),
        ..EventDataBatchOptions::default()
    };
    let batch = client.create_batch(Some(options)).await?;
    let event = EventData::builder()
        .with_content_type("application/x-ndjson".to_owned())
        .with_body(body.to_vec())
        .build();
    // One event of 64 KiB fits whatever a hub allows.
    batch.try_add_event_data(event, None)?;
    client.send_batch(batch, None).await
}
