//! `windrow send`: readings to an Event Hub, to try a namespace or to feed one.

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
use windrow_common::service::stop_on_signals;
use windrow_common::{Backoff, EventTime, Shutdown};
use windrow_producer::args::{SourceArgs, speed};
use windrow_producer::pace::Pace;
use windrow_producer::sensors::SensorTable;
use windrow_producer::source::eventhubs::{EventHub, EventHubError, HubArgs};
use windrow_producer::source::{Batch, Read, Reading, Source, SourceError, Unreadable, Until};

use crate::args::{Output, OutputArg};
use crate::error::CliError;
use crate::progress::style;
use crate::show;

/// Event time of what is sent together. A device's readings in it share an event, so that those of other devices come
/// as much later, which has to stay well within a producer's --out-of-orderness.
const RUN_SPAN: Duration = Duration::from_secs(1);
/// Readings that are sent together, at most: each may be an event of its own.
const RUN_READINGS: usize = 10_000;
/// Bytes of an event, which holds several readings of a device if there are.
const EVENT_BYTES: usize = 64 << 10;
/// Longest wait before looking whether more is due.
const NAP: Duration = Duration::from_millis(20);
/// A hub that has not answered by then will not: the client waits for ever for an answer that went with its connection.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Waits between tries of one run, and how many there are before it counts as refused.
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
    #[command(flatten)]
    login: HubArgs,
    /// Send at this multiple of the speed the readings were measured at [default: as fast as possible]
    #[arg(long, value_name = "FACTOR", env = "WINDROW_SPEED", value_parser = speed)]
    speed: Option<f64>,
    /// At the end of the source, wait for more until stopped: files that grow, a fleet with duration=forever
    #[arg(long, env = "WINDROW_FOLLOW")]
    follow: bool,
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

/// Rows of the source that are no readings are not sent; each is a line on the standard error, up to so many.
const COMPLAINTS: u64 = 10;

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
        // What was to be sent is; how the connection ends is of no interest.
        let _closed = timeout(FIRST_WAIT, sender.client.close()).await;
        match self.output.output {
            Output::Json => {
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

/// Reads until the source ends or a stop is asked for; gives how many rows were no readings.
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
                        tracing::warn!(partition, line, detail, "not sent");
                    }
                }
                in_step.take_in(&batch)
            }
            // What is still to come is not waited for.
            Read::End | Read::Idle => in_step.rest(),
        };
        if read == Read::Idle && ready.is_empty() {
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
                    // The sending side has failed and says why.
                    return Ok(unreadable);
                }
            }
        }
        if read == Read::End {
            break;
        }
    }
    Ok(unreadable)
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

/// Cuts readings in the order of time into runs that span less than [`RUN_SPAN`] and are sent within [`ANSWER_WITHIN`].
fn runs(mut readings: &[Reading]) -> impl Iterator<Item = &[Reading]> {
    std::iter::from_fn(move || {
        let end = readings.first()?.time.saturating_add(RUN_SPAN);
        let in_span = readings.partition_point(|reading| reading.time < end);
        let (run, rest) = readings.split_at(in_span.min(RUN_READINGS));
        readings = rest;
        Some(run)
    })
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

/// Sends to a hub until it has taken what it is given.
struct Sender {
    hub: EventHub,
    client: BufferedProducerClient,
    /// Why the client has given something up.
    failed: Arc<Mutex<Option<EventHubError>>>,
}

impl Sender {
    async fn open(hub: EventHub) -> Result<Self, EventHubError> {
        let failed = Arc::new(Mutex::new(None));
        let note = Arc::clone(&failed);
        let opening = hub.producer(move |error| {
            // Nothing panics while it is locked.
            *note.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        });
        let client = match timeout(ANSWER_WITHIN, opening).await {
            Ok(client) => client?,
            Err(_) => return Err(hub.silent(ANSWER_WITHIN)),
        };
        Ok(Self { hub, client, failed })
    }

    /// Sends events of devices; gives their number. What has to be sent again may then be in the hub twice.
    async fn send(&mut self, events: &Events) -> Result<u64, CliError> {
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        loop {
            let error = match self.send_once(events).await {
                Ok(sent) => return Ok(sent),
                Err(error) => error,
            };
            if !error.is_transient() || backoff.attempts() >= TRIES {
                return Err(error.into());
            }
            tracing::warn!(%error, "sending again");
            tokio::time::sleep(backoff.next_wait().max(error.least_wait())).await;
            // A client whose connection was cut does not always notice.
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
