//! Reads the partitions that this producer owns, each with a separate pipeline.
//!
//! A session holds one connection. In it, the client's event processor claims partitions and hands out a client for
//! each. Each partition gets a pipeline, which ends when another producer takes the partition over. Any failure of the
//! connection ends the session: the pipelines drop their open windows, and the next session rebuilds them from the
//! checkpoints.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use azure_messaging_eventhubs::processor::PartitionClient;
use azure_messaging_eventhubs::{EventProcessor, StartPosition};
use futures::future::LocalBoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, interval, timeout};
use windrow_common::{Backoff, HasRemedy, Remedy};
use windrow_queue::Queue;
use windrow_service::{Shutdown, ShutdownTrigger};

use super::credit::Credit;
use super::fetch::{Fetch, room_for_bodies};
use super::foreign::Foreign;
use super::lag::{Watched, watch};
use super::opening::{Opened, from, open};
use super::ownership::Ownerships;
use super::receiver::{Ended, Receiver};
use super::{EventHubSource, FIRST_WAIT, LONGEST_WAIT, OPEN_WITHIN, RENEWALS};
use crate::client::part_with;
use crate::hub_clock::HubClock;
use crate::partition::{Bounds, PartitionSource};
use crate::{EventHubError, SharingError};
use windrow_producer::Pipeline;
use windrow_producer::checkpoint::Group;
use windrow_producer::source::Until;

/// Events between the receiver and the pipeline's thread: about as many as one batch decodes.
const EVENTS_AHEAD: usize = 4_096;

/// Reads the partitions that this producer owns, until a stop is requested. With [`Until::CaughtUp`], also stops once
/// all partitions have been read to their end.
pub(crate) async fn run<Q: Queue>(
    source: EventHubSource,
    mut pipeline: Pipeline<Q>,
    mut shutdown: Shutdown,
) -> Result<(), SharingError> {
    let opening = &mut pipeline.options.opening;
    if opening.restart {
        // Every producer that takes ownership of a partition would restart it from the beginning.
        let why = "an Event Hub is shared; choose another --source-name to read it from its start";
        return Err(EventHubError::Config("--restart".to_owned(), why.to_owned()).into());
    }
    opening.origin.source = source.hub.to_string();
    let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
    let mut known = HashSet::new();
    // Once a hub has been read, its configuration is right.
    let mut has_worked = false;
    let connecting = format!("connecting to {}", source.hub);
    pipeline.stats.set_source_outage(Some(connecting));
    loop {
        let began = Instant::now();
        let ended = session(&source, &pipeline, &mut known, shutdown.clone()).await;
        if began.elapsed() > LONGEST_WAIT {
            has_worked |= !known.is_empty();
            backoff.reset();
        }
        let error = match ended {
            Ok(()) => return Ok(()),
            Err(SharingError::Hub(error)) if may_pass(&error, !known.is_empty(), has_worked) => error,
            Err(error) => return Err(error),
        };
        tracing::warn!(%error, "the session failed; reading again from the checkpoints");
        pipeline.stats.set_source_outage(Some(error.to_string()));
        let wait = backoff.next_wait().max(error.least_wait());
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = shutdown.stopping() => return Ok(()),
        }
    }
}

/// Returns whether another session may follow one that ended with this error. A hub that once accepted this producer
/// refuses it while its key is rotated or its role is changed, so such a refusal is retried.
fn may_pass(error: &EventHubError, let_in: bool, has_worked: bool) -> bool {
    match error.remedy() {
        Remedy::Wait => true,
        Remedy::GrantAccess => let_in,
        Remedy::FixConfig | Remedy::GiveUp => has_worked,
    }
}

async fn session<Q: Queue>(
    source: &EventHubSource,
    pipeline: &Pipeline<Q>,
    known: &mut HashSet<String>,
    mut shutdown: Shutdown,
) -> Result<(), SharingError> {
    let opened = tokio::select! {
        opened = timeout(OPEN_WITHIN, open(source, pipeline, known)) => match opened {
            Ok(opened) => opened?,
            Err(_) => return Err(source.hub.silent(OPEN_WITHIN).into()),
        },
        () = shutdown.stopping() => return Ok(()),
    };
    pipeline.stats.set_source_outage(None);
    let Opened {
        processor,
        ownerships,
        partitions,
        positions,
        clock,
    } = opened;
    known.extend(partitions.keys().cloned());
    let watched = Watched::default();
    let mut session = Session {
        source,
        pipeline,
        ownerships: &ownerships,
        bounds: partitions,
        positions,
        watched: &watched,
        clock: &clock,
        room: room_for_bodies(),
        shares: watch::Sender::new(0),
        reading: HashMap::new(),
        waiting: HashMap::new(),
        finished: HashMap::new(),
        pipelines: FuturesUnordered::new(),
        foreign: Foreign::default(),
        stopping: false,
        failure: None,
    };
    let every = source.ownership_expiry / RENEWALS;
    let watch = watch(source, &pipeline.stats, &watched, &clock, known, every);
    let ended = session.run(&processor, watch, shutdown).await;
    drop(session);
    ownerships.release().await?;
    if let Some(processor) = Arc::into_inner(processor) {
        part_with("processor", processor.close()).await;
    }
    ended
}

/// A partition that is being read.
struct ActivePartition {
    trigger: Arc<ShutdownTrigger>,
    superseded: Rc<Cell<bool>>,
}

struct Session<'a, Q> {
    source: &'a EventHubSource,
    pipeline: &'a Pipeline<Q>,
    ownerships: &'a Ownerships,
    bounds: HashMap<String, Bounds>,
    positions: HashMap<String, StartPosition>,
    watched: &'a Watched,
    clock: &'a Arc<HubClock>,
    room: Arc<Semaphore>,
    /// How many partitions share the memory for prefetched events.
    shares: watch::Sender<usize>,
    reading: HashMap<String, ActivePartition>,
    /// Clients of partitions that were handed out again while the previous pipeline is still stopping.
    waiting: HashMap<String, Arc<PartitionClient>>,
    /// Clients of partitions that are read to their end. Kept, because the processor hands out a partition again once
    /// its client is dropped.
    finished: HashMap<String, Arc<PartitionClient>>,
    /// The client's streams cannot leave the thread that created them, so the receivers share one task.
    pipelines: FuturesUnordered<LocalBoxFuture<'static, (String, Ended)>>,
    foreign: Foreign,
    stopping: bool,
    failure: Option<SharingError>,
}

impl<Q: Queue> Session<'_, Q> {
    async fn run(
        &mut self,
        processor: &EventProcessor,
        watch: impl Future<Output = EventHubError>,
        mut shutdown: Shutdown,
    ) -> Result<(), SharingError> {
        let mut claiming = pin!(processor.run());
        let mut watch = pin!(watch);
        let mut check = interval(self.source.ownership_expiry / RENEWALS);
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
                    Ok(client) => self.start(client),
                    Err(error) => self.fail(self.source.hub.error(&error).into()),
                },
                Some((partition, ended)) = self.pipelines.next() => self.note_end(partition, ended).await,
                changed = &mut watch, if !self.stopping => self.fail(changed.into()),
                _ = check.tick(), if !self.stopping => self.check().await,
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

    fn fail(&mut self, error: SharingError) {
        self.failure.get_or_insert(error);
        self.stop();
    }

    /// Starts the pipeline of a partition that this producer now owns.
    fn start(&mut self, client: Arc<PartitionClient>) {
        let partition = client.get_partition_id().to_owned();
        if let Some(before) = self.reading.get(&partition) {
            before.trigger.stop();
            before.superseded.set(true);
            self.waiting.insert(partition, client);
            return;
        }
        match self.foreign.has(&partition) {
            true => tracing::debug!(partition, "reading the stolen partition again"),
            false => tracing::info!(partition, "reading the partition"),
        }
        let Some(bounds) = self.bounds.get(&partition).copied() else {
            // The partition was added after the session opened; the next session knows it.
            let why = format!("partition {partition} was added");
            let hub = self.source.hub.to_string();
            return self.fail(
                EventHubError::Away {
                    hub,
                    why,
                    busy: false,
                }
                .into(),
            );
        };
        let (events, to_decode) = mpsc::channel(EVENTS_AHEAD);
        let source = PartitionSource::new(
            &partition,
            to_decode,
            &self.source.mapping,
            bounds,
            Arc::clone(self.clock),
        );
        self.watched.insert(&partition, source.read_to());
        let (trigger, stop) = Shutdown::new();
        let trigger = Arc::new(trigger);
        let superseded = Rc::new(Cell::new(false));
        self.reading.insert(
            partition.clone(),
            ActivePartition {
                trigger: Arc::clone(&trigger),
                superseded: Rc::clone(&superseded),
            },
        );
        let group = Group::Partition {
            name: partition.clone(),
            start: bounds.start,
            oldest: bounds.oldest,
        };
        let ran = self
            .pipeline
            .clone()
            .run_group(Box::new(source), group, stop.clone());
        let position = match self.ownerships.begin(&partition) {
            Some(begin) => from(begin),
            None => self.positions.get(&partition).cloned().unwrap_or_default(),
        };
        self.shares.send_replace(self.reading.len());
        let fetch = Fetch {
            hub: self.source.hub.clone(),
            consumer_group: self.source.consumer_group.clone(),
            partition: partition.clone(),
            position,
            credit: Credit::new(self.source.prefetch, self.source.prefetch_bytes),
            partitions: self.shares.subscribe(),
            events,
            room: Arc::clone(&self.room),
            stats: Arc::clone(&self.pipeline.stats),
        };
        let receiver = Receiver {
            client,
            superseded,
            fetch,
            source: self.source.clone(),
            trigger,
            stop,
        };
        let ran = tokio::spawn(ran);
        self.pipelines
            .push(receiver.feed(ran).map(|ended| (partition, ended)).boxed_local());
    }

    async fn note_end(&mut self, partition: String, ended: Ended) {
        self.reading.remove(&partition);
        self.shares.send_replace(self.reading.len());
        match ended {
            // If the partition already waits to be read again, another producer of this source owned it in between.
            Ended::Lost(Some(why))
                if !self.waiting.contains_key(&partition) && self.is_ours(&partition).await =>
            {
                self.note_theft(&partition, why);
            }
            Ended::Lost(_) => tracing::info!(partition, "the partition goes to another producer"),
            Ended::Stopped => {}
            Ended::CaughtUp(client) => {
                self.finished.insert(partition.clone(), client);
                self.stop_when_caught_up().await;
            }
            Ended::Failed(error) => self.fail(error),
        }
        // None of our producers reads a stolen partition, so keep exporting its growing lag.
        if !self.foreign.has(&partition) {
            self.forget_lag(&partition);
        }
        if let Some(client) = self.waiting.remove(&partition)
            && !self.stopping
        {
            self.start(client);
        }
    }

    /// Returns whether the store says that this producer owns the partition.
    async fn is_ours(&self, partition: &str) -> bool {
        !self.stopping && self.ownerships.owns(partition).await.unwrap_or(false)
    }

    fn note_theft(&mut self, partition: &str, why: String) {
        let group = &self.source.consumer_group;
        if let Some(times) = self.foreign.note(partition, why, std::time::Instant::now()) {
            let outage = self.foreign.outage(group).unwrap_or_default();
            tracing::warn!(partition, times, "{outage}");
        }
        self.pipeline.stats.set_source_outage(self.foreign.outage(group));
    }

    fn forget_lag(&self, partition: &str) {
        self.watched.remove(partition);
        self.pipeline.stats.forget_lag(partition);
    }

    /// Stops reporting a partition as stolen once it is read undisturbed again, or another producer owns it.
    async fn check_thefts(&mut self) {
        let calm = self
            .foreign
            .calm(self.source.ownership_expiry, std::time::Instant::now());
        for partition in self.foreign.partitions() {
            let is_read = self.reading.contains_key(&partition);
            let over = match is_read {
                true => calm.contains(&partition),
                false => !self.is_ours(&partition).await,
            };
            if over && let Some(was_told) = self.foreign.forget(&partition) {
                if was_told {
                    tracing::info!(partition, "the partition is not stolen any more");
                }
                if !is_read {
                    self.forget_lag(&partition);
                }
                let outage = self.foreign.outage(&self.source.consumer_group);
                self.pipeline.stats.set_source_outage(outage);
            }
        }
    }

    /// Checks that claims are renewed, and stops if all partitions are caught up.
    async fn check(&mut self) {
        if self.ownerships.stalled(self.source.ownership_expiry) {
            // The client waits for an answer that never comes, while others take over our partitions.
            return self.fail(self.source.hub.silent(self.source.ownership_expiry).into());
        }
        self.check_thefts().await;
        self.stop_when_caught_up().await;
    }

    /// Stops once every partition has been read to its end here, or belongs to another producer.
    async fn stop_when_caught_up(&mut self) {
        if self.source.until == Until::Stopped || !self.reading.is_empty() || self.finished.is_empty() {
            return;
        }
        match self.ownerships.of_others(self.source.ownership_expiry).await {
            Ok(others) => {
                let done =
                    |partition: &String| self.finished.contains_key(partition) || others.contains(partition);
                if self.bounds.keys().all(done) {
                    self.stop();
                }
            }
            Err(error) => self.fail(error.into()),
        }
    }
}
