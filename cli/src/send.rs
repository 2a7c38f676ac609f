//! `windrow send`: sends readings to an Event Hub, to try a namespace or to feed one.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use azure_messaging_eventhubs::models::EventData;
use azure_messaging_eventhubs::{BufferedProducerClient, EnqueueEventOptions};
use clap::Args;
use indicatif::ProgressBar;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::timeout;
use windrow_common::{Backoff, EventTime, HasRemedy, Remedy};
use windrow_eventhubs::{EventHub, EventHubError, HubArgs};
use windrow_producer::args::{SourceArgs, speed};
use windrow_producer::pace::Pace;
use windrow_producer::sensors::SensorTable;
use windrow_producer::source::{Batch, Read, Reading, Source, SourceError, Unreadable, Until};
use windrow_service::{Shutdown, stop_on_signals};

use crate::error::CliError;
use crate::output::{OutputArg, OutputFormat};
use crate::progress::style;
use crate::show;

/// Span of event time that is sent together. A device's readings within it share an event, so readings of other devices
/// arrive later by up to this span. It must stay well below a producer's --out-of-orderness.
const RUN_SPAN: Duration = Duration::from_secs(1);
/// Maximum number of readings that are sent together; each may need an event of its own.
const RUN_READINGS: usize = 10_000;
/// Maximum bytes of an event, which holds as many readings of a device as fit.
const EVENT_BYTES: usize = 64 << 10;
/// Wait before checking again for readings that are due.
const NAP: Duration = Duration::from_millis(20);
/// Deadline for an answer of the hub: the client never stops waiting for an answer that was lost with its connection.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// First and longest wait between attempts to send a run, and the number of attempts before the error is final.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
const TRIES: u32 = 10;

#[derive(Args, Debug)]
#[command(after_help = "\
Each event holds readings of one device as JSON, one per line. The partition key is the device, so a device's readings
stay in order in one partition.
Example: send one hour of a small fleet, with the login of the Azure CLI
  windrow send --source sim:devices=100,tags=2,duration=1h --eventhubs-identity cli \\
    eventhubs://fleet.servicebus.windows.net/readings")]
pub(crate) struct SendArgs {
    /// Event Hub to send to: eventhubs://NAMESPACE.servicebus.windows.net/HUB
    #[arg(value_name = "HUB", env = "WINDROW_SEND_TO")]
    to: String,
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    login: HubArgs,
    /// Send at this multiple of real time; 1 keeps the pace of the readings' own times [default: as fast as possible]
    #[arg(long, value_name = "FACTOR", env = "WINDROW_SPEED", value_parser = speed)]
    speed: Option<f64>,
    /// At the end of the source, wait for more readings until stopped: growing files, or a fleet with duration=forever
    #[arg(long, env = "WINDROW_FOLLOW")]
    follow: bool,
    #[command(flatten)]
    output: OutputArg,
}

/// Event bodies by device.
type Events = HashMap<Arc<str>, Vec<Vec<u8>>>;

/// A run of readings to send, and their number.
struct Chunk {
    events: Events,
    readings: u64,
}

/// Maximum number of unreadable rows that are logged. No unreadable row is sent; all of them are counted.
const COMPLAINTS: u64 = 10;

impl From<EventHubError> for CliError {
    fn from(error: EventHubError) -> Self {
        Self::Input(error.into())
    }
}

impl SendArgs {
    pub(crate) async fn run(self) -> Result<(), CliError> {
        let hub = self.login.hub(&self.to)?;
        let source = self.source.open(match self.follow {
            true => Until::Stopped,
            false => Until::CaughtUp,
        })?;
        let mut sender = Sender::open(hub).await?;
        let (trigger, shutdown) = Shutdown::new();
        stop_on_signals(Arc::new(trigger)).map_err(CliError::Signals)?;
        let (chunks, mut to_send) = mpsc::channel(2);
        let pace = self.speed.map(Pace::new);
        let reading = tokio::task::spawn_blocking(move || read(source, pace, &chunks, &shutdown));
        let bar = ProgressBar::new_spinner();
        bar.set_style(style("{spinner} sending {pos} readings"));
        let (mut readings, mut sent) = (0, 0);
        while let Some(chunk) = to_send.recv().await {
            sent += sender.send(&chunk.events).await?;
            readings += chunk.readings;
            bar.set_position(readings);
        }
        bar.finish_and_clear();
        let unreadable = reading
            .await
            .map_err(|error| CliError::Panicked(error.to_string()))??;
        // Every event is sent, so an error on closing the connection does not matter.
        let _closed = timeout(FIRST_WAIT, sender.client.close()).await;
        match self.output.output {
            OutputFormat::Json => {
                show::json(&json!({ "readings": readings, "events": sent, "unreadable": unreadable }))
            }
            _ => show::line(&format!(
                "sent {} readings in {} events to {}; {} rows could not be read",
                show::count(readings),
                show::count(sent),
                sender.hub,
                show::count(unreadable)
            )),
        }
    }
}

/// Reads until the source ends or a stop is requested. Returns the number of unreadable rows.
fn read(
    mut source: Box<dyn Source>,
    mut pace: Option<Pace>,
    chunks: &mpsc::Sender<Chunk>,
    shutdown: &Shutdown,
) -> Result<u64, SourceError> {
    let mut unreadable = 0;
    let (mut sensors, mut batch) = (SensorTable::new(), Batch::default());
    let mut in_step = InStep::new(&*source);
    while !shutdown.is_stopping() {
        let read = source.read(&mut sensors, &mut batch)?;
        let ready = match read {
            Read::Batch => {
                for Unreadable { line, detail, .. } in &batch.unreadable {
                    unreadable += 1;
                    if unreadable <= COMPLAINTS {
                        let partition = &source.partitions()[batch.partition];
                        tracing::warn!(partition, line, detail, "unreadable row is not sent");
                    }
                }
                in_step.push(&batch)
            }
            // The source has nothing more for now, so pending readings do not wait for slower partitions.
            Read::End { .. } | Read::Idle { .. } => in_step.rest(),
        };
        if matches!(read, Read::Idle { .. }) && ready.is_empty() {
            std::thread::sleep(NAP);
        }
        let mut ready = &ready[..];
        while !ready.is_empty() && !shutdown.is_stopping() {
            let due = pace
                .as_mut()
                .map_or(ready.len(), |pace| pace.due(ready, Instant::now()));
            let (now, later) = ready.split_at(due);
            ready = later;
            if now.is_empty() {
                std::thread::sleep(NAP);
            }
            for run in runs(now) {
                if chunks.blocking_send(chunk(run, &sensors)).is_err() {
                    // The sender failed and reports why.
                    return Ok(unreadable);
                }
            }
        }
        if matches!(read, Read::End { .. }) {
            break;
        }
    }
    Ok(unreadable)
}

/// A merge of a source's partitions by event time. The source reads its partitions in turn, each some way ahead of the
/// others. Sent in that order, some devices' readings in a partition of the hub would be late.
struct InStep {
    pending: Vec<Reading>,
    /// The latest event time read from each partition; `None` once the partition has ended.
    read_to: Vec<Option<EventTime>>,
}

impl InStep {
    fn new(source: &dyn Source) -> Self {
        let partitions = 0..source.partitions().len();
        Self {
            pending: Vec::new(),
            read_to: partitions
                .map(|partition| Some(source.next_time(partition).unwrap_or(EventTime::MIN)))
                .collect(),
        }
    }

    /// Adds a batch. Returns, in time order, the readings up to the event time that every partition has reached.
    fn push(&mut self, batch: &Batch) -> Vec<Reading> {
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

/// Cuts time-ordered readings into runs that span less than [`RUN_SPAN`], of at most [`RUN_READINGS`] each: few enough
/// to be sent within [`ANSWER_WITHIN`].
fn runs(mut readings: &[Reading]) -> impl Iterator<Item = &[Reading]> {
    std::iter::from_fn(move || {
        let end = readings.first()?.time.saturating_add(RUN_SPAN);
        let in_span = readings.partition_point(|reading| reading.time < end);
        let (run, rest) = readings.split_at(in_span.min(RUN_READINGS));
        readings = rest;
        Some(run)
    })
}

/// Encodes readings as events; each device's readings keep their order.
fn chunk(readings: &[Reading], sensors: &SensorTable) -> Chunk {
    let mut events = Events::new();
    let mut line = String::new();
    for reading in readings {
        let sensor = sensors.id(reading.sensor);
        line.clear();
        // JSON has no number for NaN or infinity; as a string, the value still differs from a missing one.
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

/// A sender that retries until the hub has accepted the events.
struct Sender {
    hub: EventHub,
    client: BufferedProducerClient,
    /// The error with which the client gave up an event.
    failed: Arc<Mutex<Option<EventHubError>>>,
}

impl Sender {
    async fn open(hub: EventHub) -> Result<Self, EventHubError> {
        let failed = Arc::new(Mutex::new(None));
        let note = Arc::clone(&failed);
        let opening = hub.producer(move |error| {
            // No code panics while it holds the lock.
            *note.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        });
        let client = match timeout(ANSWER_WITHIN, opening).await {
            Ok(client) => client?,
            Err(_) => return Err(hub.silent(ANSWER_WITHIN)),
        };
        Ok(Self { hub, client, failed })
    }

    /// Sends events and returns their number. A retry may leave duplicates in the hub.
    async fn send(&mut self, events: &Events) -> Result<u64, CliError> {
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        loop {
            let error = match self.send_once(events).await {
                Ok(sent) => return Ok(sent),
                Err(error) => error,
            };
            if error.remedy() != Remedy::Wait || backoff.attempts() >= TRIES {
                return Err(error.into());
            }
            tracing::warn!(%error, "sending failed; retrying");
            tokio::time::sleep(backoff.next_wait().max(error.least_wait())).await;
            // A client does not always notice that its connection was cut, so a new client replaces it.
            if let Ok(another) = Self::open(self.hub.clone()).await {
                let _gave_up = timeout(FIRST_WAIT, self.client.abort()).await;
                *self = another;
            }
        }
    }

    async fn send_once(&self, events: &Events) -> Result<u64, EventHubError> {
        let mut sent = 0;
        let sending = async {
            for (device, bodies) in events {
                for body in bodies {
                    let event = EventData::builder()
                        .with_content_type("application/x-ndjson".to_owned())
                        .with_body(body.clone())
                        .build();
                    let options = EnqueueEventOptions {
                        partition_key: Some(device.to_string()),
                        ..EnqueueEventOptions::default()
                    };
                    self.client.enqueue_event(event, Some(options)).await?;
                    sent += 1;
                }
            }
            self.client.flush().await
        };
        match timeout(ANSWER_WITHIN, sending).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(self.hub.error(&error)),
            Err(_) => return Err(self.hub.silent(ANSWER_WITHIN)),
        }
        match self.failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => Err(error),
            None => Ok(sent),
        }
    }
}
