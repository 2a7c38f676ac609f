//! The partitions that are this producer's, each read by a pipeline of its own.
//!
//! A session holds a connection. In it the client's event processor claims partitions and hands out receivers; each
//! becomes a pipeline that ends when its partition goes to another producer. Any failure of the connection ends the
//! session: the pipelines forget their open windows, and the next session builds them again from the checkpoints.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use azure_messaging_eventhubs::error::ErrorKind;
use azure_messaging_eventhubs::models::{ReceivedEventData, StartPositions};
use azure_messaging_eventhubs::processor::PartitionClient;
use azure_messaging_eventhubs::{
    ConsumerClient, EventHubsError, EventProcessor, StartLocation, StartPosition,
};
use futures::future::LocalBoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, Stream, StreamExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, interval, timeout};
use windrow_common::queue::Queue;
use windrow_common::store::Store;
use windrow_common::{Backoff, EventTime, Shutdown, ShutdownTrigger};

use super::event::Event;
use super::ownership::{Hub, Ownerships};
use super::partition::{PartitionSource, ReadTo};
use super::{EventHubError, EventHubSource, FIRST_WAIT, LONGEST_WAIT, Start};
use crate::checkpoint::{CheckpointError, Group};
use crate::source::Offset;
use crate::stats::Stats;
use crate::window::Windowing;
use crate::{ProducerError, ProducerOptions};

/// Events between the receiver and the pipeline's thread: about what is decoded at a time.
const EVENTS_AHEAD: usize = 4_096;
/// How long a hub may take to let a session begin.
const OPEN_WITHIN: Duration = Duration::from_secs(60);
/// How long the hub may take to say where a partition ends; meanwhile nothing else of the session goes on.
const LOOK_WITHIN: Duration = Duration::from_millis(500);
/// Claims are renewed so often within their expiry.
const RENEWALS: u32 = 3;

/// Everything a pipeline needs besides its partition.
#[derive(Clone)]
struct Downstream<Q> {
    windowing: Windowing,
    queue: Q,
    store: Store,
    options: ProducerOptions,
    stats: Arc<Stats>,
}

/// Reads the partitions that fall to this producer until a stop is asked for or, if it is to stop there, all are read
/// to their end.
pub(crate) async fn run<Q: Queue>(
    source: EventHubSource,
    windowing: Windowing,
    queue: Q,
    store: Store,
    options: ProducerOptions,
    stats: Arc<Stats>,
    mut shutdown: Shutdown,
) -> Result<(), ProducerError> {
    let downstream = Downstream {
        windowing,
        queue,
        store,
        options,
        stats: Arc::clone(&stats),
    };
    let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
    let mut reached = false;
    loop {
        let began = Instant::now();
        let error = match session(&source, &downstream, &mut reached, shutdown.clone()).await {
            Ok(()) => return Ok(()),
            Err(ProducerError::EventHub(error)) if error.is_transient() || reached => error,
            Err(error) => return Err(error),
        };
        if began.elapsed() > LONGEST_WAIT {
            backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        }
        tracing::warn!(%error, "reading again from the checkpoints");
        stats.set_source_trouble(Some(error.to_string()));
        let wait = backoff.next_wait().max(error.least_wait());
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = shutdown.stopping() => return Ok(()),
        }
    }
}

async fn session<Q: Queue>(
    source: &EventHubSource,
    downstream: &Downstream<Q>,
    reached: &mut bool,
    mut shutdown: Shutdown,
) -> Result<(), ProducerError> {
    let opened = tokio::select! {
        opened = timeout(OPEN_WITHIN, open(source, downstream)) => match opened {
            Ok(opened) => opened?,
            Err(_) => return Err(source.hub.silent(OPEN_WITHIN).into()),
        },
        () = shutdown.stopping() => return Ok(()),
    };
    *reached = true;
    downstream.stats.set_source_trouble(None);
    let Opened {
        looker,
        processor,
        ownerships,
        places,
    } = opened;
    let mut session = Session {
        source,
        downstream,
        looker: &looker,
        ownerships: &ownerships,
        places,
        reading: HashMap::new(),
        waiting: HashMap::new(),
        finished: HashMap::new(),
        pipelines: FuturesUnordered::new(),
        stopping: false,
        failure: None,
    };
    let ended = session.run(&processor, shutdown).await;
    drop(session);
    ownerships.release().await?;
    // Errors of what is thrown away anyway.
    if let Some(processor) = Arc::into_inner(processor) {
        _ = processor.close().await;
    }
    _ = looker.close().await;
    ended
}

/// An open connection to the hub.
struct Opened {
    /// For the hub's properties; the processor keeps a client of its own.
    looker: ConsumerClient,
    processor: Arc<EventProcessor>,
    ownerships: Arc<Ownerships>,
    places: HashMap<String, Place>,
}

/// What of a partition was settled at the session's start.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    /// Where it begins when it has no checkpoint.
    start: Offset,
    /// The oldest event that is still kept.
    oldest: Offset,
    /// Where to stop, if it is to stop.
    end: Option<Offset>,
}

async fn open<Q: Queue>(
    source: &EventHubSource,
    downstream: &Downstream<Q>,
) -> Result<Opened, ProducerError> {
    let hub = &source.hub;
    let failed = |error: EventHubsError| hub.error(&error);
    let looker = hub.consumer(&source.consumer_group).await?;
    let properties = looker.get_eventhub_properties().await.map_err(failed)?;
    let mut places = HashMap::new();
    let mut positions = StartPositions::default();
    positions.default.location = match source.start {
        Start::Earliest | Start::Latest => StartLocation::Earliest,
        Start::At(time) => {
            let since_epoch = u64::try_from(time.as_millis()).unwrap_or_default();
            StartLocation::EnqueuedTime(std::time::UNIX_EPOCH + Duration::from_millis(since_epoch))
        }
    };
    positions.default.inclusive = matches!(source.start, Start::At(_));
    for partition in properties.partition_ids {
        let state = looker
            .get_partition_properties(&partition)
            .await
            .map_err(failed)?;
        let offset = |number: i64| Offset(u64::try_from(number).unwrap_or_default());
        let next = offset(if state.is_empty {
            state.beginning_sequence_number
        } else {
            state.last_enqueued_sequence_number + 1
        });
        let mut place = Place {
            oldest: offset(state.beginning_sequence_number),
            end: source.until_caught_up.then_some(next),
            ..Place::default()
        };
        if source.start == Start::Latest {
            // As a number: `@latest` would skip what comes between now and the attach.
            place.start = next;
            let before = i64::try_from(next.0).unwrap_or(i64::MAX) - 1;
            positions.per_partition.insert(
                partition.clone(),
                StartPosition {
                    location: StartLocation::SequenceNumber(before),
                    inclusive: false,
                },
            );
        }
        places.insert(partition, place);
    }
    let names = Hub {
        namespace: hub.host.clone(),
        name: hub.name.clone(),
        consumer_group: source.consumer_group.clone(),
    };
    let ownerships = Arc::new(Ownerships::new(
        &downstream.store,
        &downstream.options.source_name,
        names,
    ));
    let span = |duration: Duration| azure_core::time::Duration::try_from(duration).unwrap_or_default();
    let processor = EventProcessor::builder()
        .with_update_interval(span(source.ownership_expiry / RENEWALS))
        .with_partition_expiration_duration(span(source.ownership_expiry))
        .with_prefetch(source.prefetch)
        .with_start_positions(positions)
        .build(
            hub.consumer(&source.consumer_group).await?,
            Arc::clone(&ownerships) as _,
        )
        .await
        .map_err(failed)?;
    Ok(Opened {
        looker,
        processor,
        ownerships,
        places,
    })
}

/// How a partition's pipeline came to its end.
enum Ended {
    /// The partition is another producer's now.
    Lost,
    /// It is read to where it ended when the session began.
    CaughtUp(Arc<PartitionClient>),
    /// As it was told to.
    Stopped,
    Failed(ProducerError),
}

/// A partition being read.
struct Reading {
    trigger: Arc<ShutdownTrigger>,
    read_to: Arc<ReadTo>,
}

struct Session<'a, Q> {
    source: &'a EventHubSource,
    downstream: &'a Downstream<Q>,
    looker: &'a ConsumerClient,
    ownerships: &'a Ownerships,
    places: HashMap<String, Place>,
    reading: HashMap<String, Reading>,
    /// Handed out again while the pipeline before is still winding down.
    waiting: HashMap<String, Arc<PartitionClient>>,
    /// Kept, since a client that is gone is handed out again.
    finished: HashMap<String, Arc<PartitionClient>>,
    /// The client's streams cannot leave the thread they were made on, so the receivers share one task.
    pipelines: FuturesUnordered<LocalBoxFuture<'static, (String, Ended)>>,
    stopping: bool,
    failure: Option<ProducerError>,
}

impl<Q: Queue> Session<'_, Q> {
    async fn run(&mut self, processor: &EventProcessor, mut shutdown: Shutdown) -> Result<(), ProducerError> {
        let mut claiming = pin!(processor.run());
        let mut look = interval(self.source.ownership_expiry / RENEWALS);
        loop {
            if self.stopping && self.pipelines.is_empty() {
                return self.failure.take().map_or(Ok(()), Err);
            }
            tokio::select! {
                ended = &mut claiming, if !self.stopping => {
                    let error = match ended {
                        Ok(()) => EventHubError::Away {
                            hub: self.source.hub.to_string(),
                            why: "claiming partitions has ended".to_owned(),
                            busy: false,
                        },
                        Err(error) => self.source.hub.error(&error),
                    };
                    self.fail(error.into());
                }
                client = processor.next_partition_client(), if !self.stopping => match client {
                    Ok(client) => self.take_on(client),
                    Err(error) => self.fail(self.source.hub.error(&error).into()),
                },
                Some((partition, ended)) = self.pipelines.next() => self.note(partition, ended).await,
                _ = look.tick(), if !self.stopping => self.look().await,
                () = shutdown.stopping(), if !self.stopping => self.stop(),
            }
        }
    }

    fn stop(&mut self) {
        self.stopping = true;
        for reading in self.reading.values() {
            reading.trigger.stop();
        }
    }

    fn fail(&mut self, error: ProducerError) {
        self.failure.get_or_insert(error);
        self.stop();
    }

    /// Starts the pipeline of a partition that has become ours.
    fn take_on(&mut self, client: Arc<PartitionClient>) {
        let partition = client.get_partition_id().to_owned();
        if let Some(before) = self.reading.get(&partition) {
            before.trigger.stop();
            self.waiting.insert(partition, client);
            return;
        }
        tracing::info!(partition, "reads a partition");
        let place = self.places.get(&partition).copied().unwrap_or_default();
        let (events, to_decode) = mpsc::channel(EVENTS_AHEAD);
        let source = PartitionSource::new(&partition, to_decode, &self.source.mapping, place.end);
        let (trigger, stop) = Shutdown::new();
        let trigger = Arc::new(trigger);
        self.reading.insert(
            partition.clone(),
            Reading {
                trigger: Arc::clone(&trigger),
                read_to: source.read_to(),
            },
        );
        let Downstream {
            windowing,
            queue,
            store,
            options,
            stats,
        } = self.downstream.clone();
        let group = Group::Partition {
            name: partition.clone(),
            start: place.start,
            oldest: place.oldest,
        };
        let pipeline = crate::run_group(
            Box::new(source),
            group,
            windowing,
            queue,
            store,
            options,
            stats,
            stop.clone(),
        );
        let receiver = Receiver {
            client,
            events,
            source: self.source.clone(),
            trigger,
            stop,
        };
        let pipeline = tokio::spawn(pipeline);
        self.pipelines.push(
            receiver
                .feed(pipeline)
                .map(|ended| (partition, ended))
                .boxed_local(),
        );
    }

    async fn note(&mut self, partition: String, ended: Ended) {
        self.reading.remove(&partition);
        self.downstream.stats.forget_lag(&partition);
        match ended {
            Ended::Lost => tracing::info!(partition, "the partition goes to another producer"),
            Ended::Stopped => {}
            Ended::CaughtUp(client) => {
                self.finished.insert(partition.clone(), client);
                self.stop_when_caught_up().await;
            }
            Ended::Failed(error) => self.fail(error),
        }
        if let Some(client) = self.waiting.remove(&partition)
            && !self.stopping
        {
            self.take_on(client);
        }
    }

    /// Looks how far behind the partitions are, and whether all is done.
    async fn look(&mut self) {
        for (partition, Reading { read_to, .. }) in &self.reading {
            let asked = self.looker.get_partition_properties(partition);
            let Ok(Ok(state)) = timeout(LOOK_WITHIN, asked).await else {
                // The session is about to end of it, or it works next time.
                return;
            };
            let next = i64::try_from(read_to.next()).unwrap_or(i64::MAX);
            let events = match state.is_empty {
                true => 0,
                false => (state.last_enqueued_sequence_number + 1 - next).max(0),
            };
            let behind_ms = EventTime::now().as_millis() - read_to.enqueued_ms();
            let seconds = if events > 0 {
                behind_ms.max(0) as f64 / 1_000.0
            } else {
                0.0
            };
            self.downstream.stats.set_lag(partition, events, seconds);
        }
        self.stop_when_caught_up().await;
    }

    /// Stops once every partition is read to its end here, or is another producer's.
    async fn stop_when_caught_up(&mut self) {
        if !self.source.until_caught_up || !self.reading.is_empty() || self.finished.is_empty() {
            return;
        }
        match self.ownerships.of_others(self.source.ownership_expiry).await {
            Ok(others) => {
                let done =
                    |partition: &String| self.finished.contains_key(partition) || others.contains(partition);
                if self.places.keys().all(done) {
                    self.stop();
                }
            }
            Err(error) => self.fail(error.into()),
        }
    }
}

/// Hands a partition's events to its pipeline.
struct Receiver {
    client: Arc<PartitionClient>,
    events: mpsc::Sender<Event>,
    source: EventHubSource,
    trigger: Arc<ShutdownTrigger>,
    stop: Shutdown,
}

type Pipeline = tokio::task::JoinHandle<Result<(), ProducerError>>;

/// Why a receiver has stopped.
enum Cause {
    Stop,
    /// The pipeline ended by itself.
    Pipeline(Result<Result<(), ProducerError>, tokio::task::JoinError>),
    Receiving(EventHubsError),
}

impl Receiver {
    async fn feed(mut self, mut pipeline: Pipeline) -> Ended {
        let cause = {
            let mut stream = pin!(self.client.stream_events());
            loop {
                tokio::select! {
                    ran = &mut pipeline => break Cause::Pipeline(ran),
                    () = self.stop.stopping() => break Cause::Stop,
                    passed = pass_on(&mut stream, &self.events, &self.source) => {
                        if let Err(error) = passed {
                            break Cause::Receiving(error);
                        }
                    }
                }
            }
        };
        // First the stop, then the end of events: windows that are open stay so.
        let by_itself = matches!(cause, Cause::Pipeline(_)) && !self.stop.is_stopping();
        self.trigger.stop();
        drop(self.events);
        let (lost, broken, ran) = match cause {
            Cause::Pipeline(ran) => (false, None, ran),
            Cause::Stop => (false, None, pipeline.await),
            Cause::Receiving(error) => {
                let lost = matches!(error.kind, ErrorKind::ConsumerDisconnected(_));
                (
                    lost,
                    (!lost).then(|| self.source.hub.error(&error)),
                    pipeline.await,
                )
            }
        };
        let ended = match ran {
            Err(error) => Ended::Failed(ProducerError::Panicked(error.to_string())),
            Ok(Err(ProducerError::Checkpoint(CheckpointError::TakenOver { .. }))) => Ended::Lost,
            Ok(Err(error)) => Ended::Failed(error),
            Ok(Ok(())) if by_itself => return Ended::CaughtUp(self.client),
            Ok(Ok(())) if lost => Ended::Lost,
            Ok(Ok(())) => match broken {
                Some(error) => Ended::Failed(error.into()),
                None => Ended::Stopped,
            },
        };
        // Without this the processor would think that it is still being read.
        if let Some(client) = Arc::into_inner(self.client) {
            _ = client.close().await;
        }
        ended
    }
}

/// Waits for the next event and hands it on. Nothing is lost when it is cancelled: room comes first.
async fn pass_on<S>(
    stream: &mut S,
    events: &mpsc::Sender<Event>,
    source: &EventHubSource,
) -> Result<(), EventHubsError>
where
    S: Stream<Item = Result<ReceivedEventData, EventHubsError>> + Unpin,
{
    let Ok(room) = events.reserve().await else {
        // The pipeline has ended and says why.
        return std::future::pending().await;
    };
    match stream.next().await {
        Some(Ok(received)) => {
            if let Some(event) = Event::of(&received, &source.mapping) {
                room.send(event);
            }
            Ok(())
        }
        Some(Err(error)) => Err(error),
        None => Err(ErrorKind::ConsumerDisconnected(None).into()),
    }
}
