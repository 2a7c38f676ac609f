//! The worker's loop: one owner of the consumer, and one write in flight while the next batch gathers.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use futures::StreamExt;
use tokio::task::{JoinError, JoinHandle, JoinSet};
use tokio::time::{Instant, timeout_at};
use tracing::Instrument;
use windrow_common::{MessageError, ScoringMessage, ScoringTask};
use windrow_queue::{Consumer, Delivery, Message, Queue, QueueError, Reason, Receipt};
use windrow_service::Shutdown;
use windrow_store::{PartWriter, Store, run_blocking};

use crate::announce::Announcer;
use crate::cache::{ModelCache, ModelFound};
use crate::persist::{self, Written};
use crate::score::{Scorable, Scored, Unscorable, Unsettled, score};
use crate::stats::{ARCHIVED_MODEL, BAD_MODEL, NO_MODEL, Stats, UNDECODABLE};
use crate::subscribed::subscribed;
use crate::suspects::Suspects;
use crate::{WorkerError, WorkerOptions};

/// Messages scored together on a blocking thread: enough to pay for the thread switch, few enough to flush on time.
const MICRO_BATCH: usize = 2_048;

/// While suspects are gathered: a queue that is silent for this long has sent everything.
const QUIET: Duration = Duration::from_millis(250);

/// How long the acks of a batch wait for its dead letters, so that one frame acks them all.
const DEAD_LETTERS_WITHIN: Duration = Duration::from_secs(1);

/// Models read from the store concurrently.
const LOADS_IN_FLIGHT: usize = 32;

/// Scores messages until a stop is requested or the queue is closed and drained. When it returns `Ok`, the results of
/// every message it received are durable and the message is settled.
#[tracing::instrument(name = "worker", skip_all, fields(worker = options.name))]
pub async fn run<Q: Queue>(
    queue: Q,
    store: Store,
    models: ModelCache,
    options: WorkerOptions,
    stats: Arc<Stats>,
    mut shutdown: Shutdown,
) -> Result<(), WorkerError> {
    // Wait for the store before subscribing. Without it, messages could not be finished, and returning them would spend
    // a delivery.
    tokio::select! {
        answered = store.wait_for_answer() => answered?,
        () = shutdown.stopping() => return Ok(()),
    }
    let consuming = queue.consume(options.prefetch);
    let Some(consumer) = subscribed(consuming, &mut shutdown).await? else {
        return Ok(());
    };
    stats.progress.subscribed();
    let mut worker = Worker {
        writer: PartWriter::new(&store, &options.name),
        announcer: Announcer::new(queue, Arc::clone(&stats)),
        consumer,
        models,
        stats,
        gathered: Scored::default(),
        gathered_bytes: 0,
        oldest: None,
        received_at: Instant::now(),
        held: 0,
        dead_lettering: JoinSet::new(),
        suspects: Suspects::default(),
        options,
    };
    let mut deliveries = Vec::with_capacity(MICRO_BATCH);
    let mut writing: Option<Writing> = None;
    // Becomes false after the last delivery that was in flight when the stop was requested.
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
            if !intake && worker.dead_lettering.is_empty() {
                return Ok(());
            }
        }
        let quiet_due = worker.suspects.is_gathering().then(|| worker.received_at + QUIET);
        let age_due = worker.oldest.map(|oldest| oldest + worker.options.flush_age);
        tokio::select! {
            biased;
            written = finished(&mut writing) => {
                writing = None;
                let written = written?;
                let span = written.span.clone();
                worker.settle(written).instrument(span).await?;
            }
            Some(ended) = worker.dead_lettering.join_next() => worker.settle_dead(ended).await?,
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

/// How a dead-lettering ends; see [`Consumer::dead_letter`].
type DeadLettered = Result<Option<Receipt>, QueueError>;

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

struct Worker<Q: Queue> {
    announcer: Announcer<Q>,
    consumer: Q::Consumer,
    models: ModelCache,
    stats: Arc<Stats>,
    writer: PartWriter,
    /// Scored messages that are not being written yet.
    gathered: Scored,
    /// Bytes of the bodies of the messages of `gathered`.
    gathered_bytes: usize,
    /// When the first message of `gathered` arrived.
    oldest: Option<Instant>,
    /// When the last messages arrived.
    received_at: Instant,
    /// Messages received and not settled, including suspects, messages being written, and those of dead letters that are
    /// not durable yet.
    held: usize,
    /// Dead letters that are not durable yet. Each delays only the ack of its own message.
    dead_lettering: JoinSet<DeadLettered>,
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
                || messages >= usize::from(self.options.prefetch.messages.get()).div_ceil(2)
                || self.gathered_bytes >= self.options.prefetch.bytes.get() / 2
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
        self.held >= usize::from(self.options.prefetch.messages.get())
    }

    /// Starts to write the gathered batch in a separate task, so that it continues while the next batch is scored.
    fn start_writing(&mut self) -> Writing {
        let gathered = std::mem::take(&mut self.gathered);
        self.oldest = None;
        self.gathered_bytes = 0;
        let (writer, worker, stats) = (
            self.writer.clone(),
            self.options.name.clone(),
            Arc::clone(&self.stats),
        );
        let any = gathered.any();
        let span = tracing::info_span!(
            "batch",
            messages = gathered.messages(),
            first = any.map(|message| &*message.id),
            first_trace_id = any.and_then(Message::trace_id),
        );
        let write = async move {
            let _writing = stats.progress.writes();
            persist::write(gathered, &writer, &worker, &stats).await
        };
        tokio::spawn(write.instrument(span))
    }

    /// Announces the anomalies of a written batch, and acks its messages. Neither announcements nor dead letters hold up the
    /// acks for long: a broker that is short of memory takes no messages, and acks make room in it.
    async fn settle(&mut self, written: Written) -> Result<(), WorkerError> {
        let Written {
            done,
            dead,
            announcements,
            ..
        } = written;
        self.announcer.announce(announcements).await;
        let mut receipts: Vec<_> = done.into_iter().map(|unsettled| unsettled.receipt).collect();
        receipts.extend(self.set_aside_durably(dead).await?);
        self.ack(receipts).await
    }

    /// Starts to dead-letter messages. Returns the receipts of those whose dead letters become durable within
    /// [`DEAD_LETTERS_WITHIN`]: acked together with the rest of the batch, they leave no gaps, and one frame acks them
    /// all.
    async fn set_aside_durably(&mut self, dead: Vec<(Receipt, Reason)>) -> Result<Vec<Receipt>, WorkerError> {
        let mut durable = Vec::with_capacity(dead.len());
        // If earlier dead letters are not durable yet, the broker accepts none now, so do not wait for these.
        let deadline = match self.dead_lettering.is_empty() {
            true => Instant::now() + DEAD_LETTERS_WITHIN,
            false => Instant::now(),
        };
        for (receipt, reason) in dead {
            let dead_lettering = self.consumer.dead_letter(receipt, reason).in_current_span();
            self.dead_lettering.spawn(dead_lettering);
            self.stats.unconfirmed_dead_letters.inc();
        }
        while let Ok(Some(ended)) = timeout_at(deadline, self.dead_lettering.join_next()).await {
            durable.extend(self.dead_lettered(ended)?);
        }
        Ok(durable)
    }

    /// Acks the message whose dead-lettering has `ended`, and all others that are durable by now.
    async fn settle_dead(&mut self, ended: Result<DeadLettered, JoinError>) -> Result<(), WorkerError> {
        let mut receipts = Vec::from_iter(self.dead_lettered(ended)?);
        while let Some(ended) = self.dead_lettering.try_join_next() {
            receipts.extend(self.dead_lettered(ended)?);
        }
        self.ack(receipts).await
    }

    /// Counts a dead-lettering that has ended, and returns the receipt if its dead letter is durable. If the message's
    /// channel is lost, the message is no longer held: it is delivered again.
    fn dead_lettered(
        &mut self,
        ended: Result<DeadLettered, JoinError>,
    ) -> Result<Option<Receipt>, WorkerError> {
        let receipt = ended.map_err(|panic| WorkerError::Panicked(panic.to_string()))??;
        self.stats.unconfirmed_dead_letters.dec();
        match &receipt {
            Some(_) => _ = self.stats.dead_letters_in_all.fetch_add(1, Relaxed),
            None => {
                self.held -= 1;
                self.stats.held.dec();
            }
        }
        Ok(receipt)
    }

    /// Acks messages whose results are durable.
    async fn ack(&mut self, receipts: Vec<Receipt>) -> Result<(), WorkerError> {
        self.held -= receipts.len();
        if !receipts.is_empty() {
            self.stats.held.dec_by(receipts.len() as i64);
            self.stats.progress.moved();
        }
        self.consumer.ack(receipts).await?;
        Ok(())
    }

    /// Scores new deliveries into the batch. Suspects, whose workers died repeatedly, wait to be scored apart.
    async fn accept(&mut self, mut deliveries: Vec<Delivery>) -> Result<(), WorkerError> {
        self.held += deliveries.len();
        self.received_at = Instant::now();
        // The gauge covers all consumers of the process.
        if self.stats.held.get() == 0 {
            self.stats.progress.moved();
        }
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
        fields(
            messages = deliveries.len(),
            first = deliveries.first().map(|delivery| &*delivery.message.id),
            first_trace_id = deliveries.first().and_then(|delivery| delivery.message.trace_id()),
        ),
    )]
    async fn score(&mut self, deliveries: Vec<Delivery>) -> Result<(), WorkerError> {
        if deliveries.is_empty() {
            return Ok(());
        }
        self.oldest.get_or_insert_with(Instant::now);
        let mut decoded = Vec::with_capacity(deliveries.len());
        for Delivery { message, receipt, .. } in deliveries {
            self.gathered_bytes += message.body.len();
            let task = ScoringTask::decode(&message.body);
            let unsettled = Unsettled { message, receipt };
            match task {
                Ok(task) => decoded.push((unsettled, task)),
                Err(error) => {
                    let detail = undecodable(&unsettled.message, &error);
                    self.unscorable(unsettled, UNDECODABLE, detail);
                }
            }
        }
        let models = {
            let _loading = self.stats.progress.loads();
            self.models_of(&decoded).await
        };
        let mut scorable = Vec::with_capacity(decoded.len());
        for ((unsettled, task), model) in decoded.into_iter().zip(models) {
            match model {
                Ok(Some(model)) => scorable.push(Scorable {
                    unsettled,
                    task,
                    model,
                }),
                Err(error) if error.is_of_one_model() => {
                    let code = if error.is_archived() {
                        ARCHIVED_MODEL
                    } else {
                        BAD_MODEL
                    };
                    self.unscorable(unsettled, code, error.to_string());
                }
                Err(error) => return Err(WorkerError::Models(error)),
                Ok(None) => {
                    let detail = format!("{} has no model in the store", task.sensor());
                    self.unscorable(unsettled, NO_MODEL, detail);
                }
            }
        }
        let announce = self.options.announce;
        let stats = Arc::clone(&self.stats);
        let scored = run_blocking(move || score(scorable, announce, &stats)).await;
        self.gathered.extend(scored.map_err(WorkerError::Panicked)?);
        Ok(())
    }

    fn unscorable(&mut self, unsettled: Unsettled, code: &'static str, detail: String) {
        let unscorable = Unscorable::logged(unsettled, code, detail);
        self.gathered.unscorable.push(unscorable);
    }

    /// Returns the model of each message. Most are cached; the others are read concurrently, once per sensor.
    async fn models_of(&self, decoded: &[(Unsettled, ScoringTask)]) -> Vec<ModelFound> {
        let mut models = Vec::with_capacity(decoded.len());
        let mut missing = Vec::new();
        for (at, (_, task)) in decoded.iter().enumerate() {
            let model = self.models.cached(task.sensor()).await;
            if model.is_none() {
                missing.push(at);
            }
            models.push(Ok(model));
        }
        let mut loads = futures::stream::iter(missing)
            .map(|at| async move {
                let model = self.models.get(decoded[at].1.sensor()).await;
                (at, model)
            })
            .buffer_unordered(LOADS_IN_FLIGHT);
        while let Some((at, model)) = loads.next().await {
            models[at] = model;
        }
        models
    }
}

/// Says why a body is not a scoring message. Who published it tells a foreign message from one of another version.
fn undecodable(message: &Message, error: &MessageError) -> String {
    let Message {
        kind, content_type, ..
    } = message;
    match kind == ScoringMessage::KIND {
        true => error.to_string(),
        false => format!(
            "not a Windrow message: its type is `{kind}` and its content type `{content_type}`; find out who publishes to this \
             queue"
        ),
    }
}
