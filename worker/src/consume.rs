//! The worker's loop: one owner of the consumer, and one write in flight while the next batch gathers.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use futures::StreamExt;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::Instrument;
use windrow_common::ScoringMessage;
use windrow_queue::{Consumer, Delivery, Queue};
use windrow_service::Shutdown;
use windrow_store::{PartWriter, Store, run_blocking};

use crate::batch::{self, Written};
use crate::models::{ModelCache, ModelFound};
use crate::score::{Envelope, Scorable, Scored, Unscorable, score};
use crate::stats::{ARCHIVED_MODEL, BAD_MODEL, NO_MODEL, Stats, UNDECODABLE};
use crate::suspects::Suspects;
use crate::{WorkerError, WorkerOptions};

/// Messages scored together on a blocking thread: enough to pay for the thread switch, few enough to flush on time.
const MICRO_BATCH: usize = 2_048;

/// A queue that is silent for this long has sent everything, for suspects to be gathered.
const QUIET: Duration = Duration::from_millis(250);

/// Models read from the store concurrently.
const LOADS_IN_FLIGHT: usize = 32;

/// Scores messages until a stop is requested or the queue is closed and drained. When it returns `Ok`, the results of
/// every message it received are durable and the message is settled.
pub async fn run<Q: Queue>(
    queue: Q,
    store: Store,
    models: ModelCache,
    options: WorkerOptions,
    stats: Arc<Stats>,
    mut shutdown: Shutdown,
) -> Result<(), WorkerError> {
    let consumer = tokio::select! {
        consumer = queue.consume(options.prefetch) => consumer?,
        () = shutdown.stopping() => return Ok(()),
    };
    let mut worker = Worker {
        writer: PartWriter::new(&store, &options.name),
        queue,
        consumer,
        models,
        stats,
        gathered: Scored::default(),
        oldest: None,
        received_at: Instant::now(),
        held: 0,
        suspects: Suspects::default(),
        options,
    };
    let mut deliveries = Vec::with_capacity(MICRO_BATCH);
    let mut writing: Option<Writing> = None;
    // Turns false after the last delivery that was in flight when the stop was requested.
    let mut intake = true;
    let mut stopping = false;
    loop {
        if writing.is_none() && worker.must_flush(intake) {
            writing = Some(worker.start_writing());
        }
        if worker.suspects.is_gathering() && (!intake || worker.is_full()) {
            worker.suspects.arrange();
        }
        if writing.is_none() && worker.gathered.messages() == 0 {
            let group = worker.suspects.next_group();
            if !group.is_empty() {
                worker.score(group).await?;
                continue;
            }
            if !intake {
                return Ok(());
            }
        }
        let quiet_due = worker.suspects.is_gathering().then(|| worker.received_at + QUIET);
        let age_due = worker.oldest.map(|oldest| oldest + worker.options.flush_age);
        tokio::select! {
            biased;
            written = finished(&mut writing) => {
                writing = None;
                worker.settle(written?).await?;
            }
            () = shutdown.stopping(), if !stopping => {
                stopping = true;
                worker.consumer.stop_intake().await;
            }
            () = until(age_due), if writing.is_none() && age_due.is_some() => {
                writing = Some(worker.start_writing());
            }
            received = worker.consumer.receive(&mut deliveries, MICRO_BATCH), if intake && worker.has_room() => {
                if received? == 0 {
                    intake = false;
                }
                worker.accept(std::mem::take(&mut deliveries)).await?;
            }
            () = until(quiet_due), if quiet_due.is_some() => worker.suspects.arrange(),
        }
    }
}

/// A write in flight, in a separate task.
type Writing = JoinHandle<Result<Written, WorkerError>>;

async fn finished(writing: &mut Option<Writing>) -> Result<Written, WorkerError> {
    match writing {
        Some(writing) => writing
            .await
            .unwrap_or_else(|panic| Err(WorkerError::Panicked(panic.to_string()))),
        None => std::future::pending().await,
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

struct Worker<Q: Queue> {
    queue: Q,
    consumer: Q::Consumer,
    models: ModelCache,
    stats: Arc<Stats>,
    writer: PartWriter,
    /// Scored messages that are not being written yet.
    gathered: Scored,
    /// When the first message of `gathered` arrived.
    oldest: Option<Instant>,
    /// When the last messages arrived.
    received_at: Instant,
    /// Messages received and not settled, including suspects and messages being written.
    held: usize,
    suspects: Suspects,
    options: WorkerOptions,
}

impl<Q: Queue> Worker<Q> {
    /// Returns whether the batch is full enough or no more messages will come. Half the prefetch is enough: the other
    /// half gathers while this one is written and acked.
    fn must_flush(&self, intake: bool) -> bool {
        let messages = self.gathered.messages();
        messages > 0
            && (self.gathered.predictions.len() >= self.options.flush_rows
                || messages >= usize::from(self.options.prefetch.get()).div_ceil(2)
                || !self.has_room()
                || !intake)
    }

    /// Returns whether another message may be received: one batch may gather while another is being written, and
    /// suspects, once all are gathered, are processed before anything new.
    fn has_room(&self) -> bool {
        !self.is_full()
            && self.gathered.predictions.len() < self.options.flush_rows
            && (self.suspects.is_empty() || self.suspects.is_gathering())
    }

    /// Returns whether the worker holds as many messages as it may.
    fn is_full(&self) -> bool {
        self.held >= usize::from(self.options.prefetch.get())
    }

    /// Starts to write the gathered batch in a separate task, so that it continues while the next batch is scored.
    fn start_writing(&mut self) -> Writing {
        let gathered = std::mem::take(&mut self.gathered);
        self.oldest = None;
        let (writer, worker, stats) = (
            self.writer.clone(),
            self.options.name.clone(),
            Arc::clone(&self.stats),
        );
        let write = async move { batch::write(gathered, &writer, &worker, &stats).await };
        tokio::spawn(write.in_current_span())
    }

    /// Publishes the announcements of a written batch, then dead-letters or acks its messages. Dead letters come first,
    /// so that the acks have no gaps and one frame acks them all.
    async fn settle(&mut self, written: Written) -> Result<(), WorkerError> {
        let Written {
            done,
            dead,
            announcements,
        } = written;
        if !announcements.is_empty() {
            self.queue.announce(announcements).await?;
        }
        let settled = done.len() + dead.len();
        self.held -= settled;
        self.stats.held.dec_by(settled as i64);
        if !dead.is_empty() {
            let dead_letters = dead.len() as u64;
            self.consumer.dead_letter(dead).await?;
            self.stats.dead_letters_in_all.fetch_add(dead_letters, Relaxed);
        }
        let receipts = done.into_iter().map(|envelope| envelope.receipt).collect();
        self.consumer.ack(receipts).await?;
        Ok(())
    }

    /// Scores new deliveries into the batch. Suspects, whose workers died repeatedly, wait to be scored apart.
    async fn accept(&mut self, mut deliveries: Vec<Delivery>) -> Result<(), WorkerError> {
        self.held += deliveries.len();
        self.received_at = Instant::now();
        // The gauge covers all consumers of the process.
        self.stats.held.inc_by(deliveries.len() as i64);
        self.stats.messages.inc_by(deliveries.len() as u64);
        let redelivered = deliveries.iter().filter(|delivery| delivery.redelivered).count();
        self.stats.redelivered.inc_by(redelivered as u64);
        self.suspects.take_from(&mut deliveries);
        self.score(deliveries).await
    }

    /// Scores deliveries into the batch.
    #[tracing::instrument(
        name = "micro_batch",
        skip_all,
        fields(messages = deliveries.len(), first = deliveries.first().map(|delivery| &*delivery.message.id)),
    )]
    async fn score(&mut self, deliveries: Vec<Delivery>) -> Result<(), WorkerError> {
        if deliveries.is_empty() {
            return Ok(());
        }
        self.oldest.get_or_insert_with(Instant::now);
        let mut decoded = Vec::with_capacity(deliveries.len());
        for Delivery { message, receipt, .. } in deliveries {
            let scoring = ScoringMessage::decode(&message.body);
            let envelope = Envelope { message, receipt };
            match scoring {
                Ok(scoring) => decoded.push((envelope, scoring)),
                Err(error) => self.set_aside(envelope, UNDECODABLE, error.to_string()),
            }
        }
        let models = self.models_of(&decoded).await;
        let mut scorable = Vec::with_capacity(decoded.len());
        for ((envelope, message), model) in decoded.into_iter().zip(models) {
            match model {
                Ok(Some(model)) => scorable.push(Scorable {
                    envelope,
                    message,
                    model,
                }),
                Err(error) if error.is_of_one_model() => {
                    let code = if error.is_archived() {
                        ARCHIVED_MODEL
                    } else {
                        BAD_MODEL
                    };
                    self.set_aside(envelope, code, error.to_string());
                }
                Err(error) => return Err(WorkerError::Models(error)),
                Ok(None) => {
                    let detail = format!("{} has no model in the store", message.sensor);
                    self.set_aside(envelope, NO_MODEL, detail);
                }
            }
        }
        let announce = self.options.announce;
        let scored = run_blocking(move || score(scorable, announce)).await;
        self.gathered.extend(scored.map_err(WorkerError::Panicked)?);
        Ok(())
    }

    fn set_aside(&mut self, envelope: Envelope, code: &'static str, detail: String) {
        tracing::warn!(
            message = envelope.message.id,
            traceparent = envelope.message.traceparent,
            reason = code,
            detail,
            "cannot score the message"
        );
        self.gathered.unscorable.push(Unscorable {
            envelope,
            code,
            detail,
        });
    }

    /// Returns the model of each message. Most are cached; the others are read concurrently, once per sensor.
    async fn models_of(&self, decoded: &[(Envelope, ScoringMessage)]) -> Vec<ModelFound> {
        let mut models = Vec::with_capacity(decoded.len());
        let mut missing = Vec::new();
        for (at, (_, message)) in decoded.iter().enumerate() {
            let model = self.models.cached(&message.sensor).await;
            if model.is_none() {
                missing.push(at);
            }
            models.push(Ok(model));
        }
        let mut loads = futures::stream::iter(missing)
            .map(|at| async move {
                let model = self.models.get(&decoded[at].1.sensor).await;
                (at, model)
            })
            .buffer_unordered(LOADS_IN_FLIGHT);
        while let Some((at, model)) = loads.next().await {
            models[at] = model;
        }
        models
    }
}
