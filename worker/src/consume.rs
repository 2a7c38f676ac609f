//! The worker's loop: one owner of the consumer, one write under way while the next batch gathers.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use futures::StreamExt;
use tokio::time::Instant;
use windrow_common::queue::{Consumer, Delivery, Queue};
use windrow_common::store::{PartNames, Store};
use windrow_common::{ScoringMessage, SensorId, Shutdown};
use windrow_model::RepositoryError;

use crate::batch::{Batch, Written};
use crate::models::{LoadedModel, ModelCache};
use crate::score::{Scorable, Unscorable, score};
use crate::stats::Stats;
use crate::{WorkerError, WorkerOptions};

/// Messages scored together on a blocking thread: enough to pay for the hop, few enough to flush on time.
const MICRO_BATCH: usize = 2_048;

/// Models read from the store at once.
const LOADS_IN_FLIGHT: usize = 32;

/// Scores messages until a stop is asked for or the queue is closed and drained. When it returns `Ok`, everything it
/// took is persisted and settled.
pub async fn run<Q: Queue>(
    queue: Q,
    store: Store,
    models: ModelCache,
    options: WorkerOptions,
    stats: Arc<Stats>,
    mut shutdown: Shutdown,
) -> Result<(), WorkerError> {
    let consumer = queue.consume(options.prefetch).await?;
    let names = PartNames::new(&options.name);
    let mut worker = Worker {
        consumer,
        models,
        stats,
        batch: Batch::default(),
        oldest: None,
        held: 0,
        options,
    };
    let mut deliveries = Vec::with_capacity(MICRO_BATCH);
    let mut writing: Option<Writing> = None;
    let mut idle = Some((store, names));
    let mut intake = true;
    loop {
        if worker.must_flush(intake)
            && let Some((store, names)) = idle.take()
        {
            writing = Some(worker.start_writing(store, names));
        }
        if !intake && writing.is_none() {
            return Ok(());
        }
        let age_due = worker.oldest.map(|oldest| oldest + worker.options.flush_age);
        tokio::select! {
            biased;
            (store, names, written) = finished(&mut writing) => {
                writing = None;
                idle = Some((store, names));
                worker.settle(written?).await?;
            }
            () = shutdown.stopping(), if intake => intake = false,
            () = until(age_due), if idle.is_some() && age_due.is_some() => {
                if let Some((store, names)) = idle.take() {
                    writing = Some(worker.start_writing(store, names));
                }
            }
            received = worker.consumer.receive(&mut deliveries, MICRO_BATCH), if intake && worker.has_room() => {
                if received? == 0 {
                    intake = false;
                }
                worker.score(std::mem::take(&mut deliveries)).await?;
            }
        }
    }
}

/// A write under way; it owns the store and the names and gives them back.
type Writing = Pin<Box<dyn Future<Output = (Store, PartNames, Result<Written, WorkerError>)> + Send>>;

async fn finished(writing: &mut Option<Writing>) -> (Store, PartNames, Result<Written, WorkerError>) {
    match writing {
        Some(writing) => writing.await,
        None => std::future::pending().await,
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

struct Worker<C> {
    consumer: C,
    models: ModelCache,
    stats: Arc<Stats>,
    /// Scored, not being written yet.
    batch: Batch,
    /// When the batch got its first message.
    oldest: Option<Instant>,
    /// Messages taken and not settled, those being written included.
    held: usize,
    options: WorkerOptions,
}

impl<C: Consumer> Worker<C> {
    /// Full enough, or nothing more will come: with as many messages in hand as the prefetch allows, waiting for the
    /// age would only stand still.
    fn must_flush(&self, intake: bool) -> bool {
        self.batch.messages() > 0
            && (self.batch.predictions.len() >= self.options.flush_rows || !self.has_room() || !intake)
    }

    /// Whether another message may be taken: one batch may gather while another is being written.
    fn has_room(&self) -> bool {
        self.held < usize::from(self.options.prefetch.get())
            && self.batch.predictions.len() < self.options.flush_rows
    }

    fn start_writing(&mut self, store: Store, mut names: PartNames) -> Writing {
        let batch = std::mem::take(&mut self.batch);
        self.oldest = None;
        let (name, stats) = (self.options.name.clone(), Arc::clone(&self.stats));
        Box::pin(async move {
            let written = batch.write(&store, &mut names, &name, &stats).await;
            (store, names, written)
        })
    }

    async fn settle(&mut self, written: Written) -> Result<(), WorkerError> {
        self.held -= written.receipts.len() + written.dead.len();
        self.consumer.ack(written.receipts).await?;
        for (receipt, reason) in written.dead {
            self.consumer.dead_letter(receipt, reason).await?;
            self.stats.dead_letters.fetch_add(1, Relaxed);
        }
        Ok(())
    }

    /// Scores deliveries into the batch.
    async fn score(&mut self, deliveries: Vec<Delivery>) -> Result<(), WorkerError> {
        if deliveries.is_empty() {
            return Ok(());
        }
        self.held += deliveries.len();
        self.oldest.get_or_insert_with(Instant::now);
        self.stats.messages.fetch_add(deliveries.len() as u64, Relaxed);
        let redelivered = deliveries.iter().filter(|delivery| delivery.redelivered).count();
        self.stats.redelivered.fetch_add(redelivered as u64, Relaxed);

        let mut decoded = Vec::with_capacity(deliveries.len());
        for Delivery { message, receipt, .. } in deliveries {
            match ScoringMessage::decode(&message.body) {
                Ok(scoring) => decoded.push((message.id, receipt, scoring)),
                Err(error) => {
                    let (id, detail) = (message.id, error.to_string());
                    self.batch.unscorable.push(Unscorable {
                        id,
                        receipt,
                        code: "undecodable",
                        detail,
                    });
                }
            }
        }
        let models = self.models_of(&decoded).await;
        let mut scorable = Vec::with_capacity(decoded.len());
        for (id, receipt, message) in decoded {
            let (code, detail) = match models.get(&message.sensor) {
                Some(Ok(Some(model))) => {
                    scorable.push(Scorable {
                        id,
                        receipt,
                        message,
                        model: Arc::clone(model),
                    });
                    continue;
                }
                Some(Err(error)) => ("bad-model", error.to_string()),
                Some(Ok(None)) | None => (
                    "no-model",
                    format!("{} has no model in the store", message.sensor),
                ),
            };
            self.batch.unscorable.push(Unscorable {
                id,
                receipt,
                code,
                detail,
            });
        }
        let scored = tokio::task::spawn_blocking(move || score(scorable)).await;
        self.batch
            .take_in(scored.map_err(|error| WorkerError::Panicked(error.to_string()))?);
        Ok(())
    }

    /// The model of every sensor in the batch, each asked for once.
    async fn models_of<R>(
        &self,
        decoded: &[(String, R, ScoringMessage)],
    ) -> HashMap<SensorId, Result<Option<Arc<LoadedModel>>, Arc<RepositoryError>>> {
        let mut models = HashMap::with_capacity(decoded.len());
        for (_, _, message) in decoded {
            if !models.contains_key(&message.sensor) {
                models.insert(message.sensor.clone(), Ok(None));
            }
        }
        let sensors: Vec<SensorId> = models.keys().cloned().collect();
        let mut loads = futures::stream::iter(sensors)
            .map(|sensor| async {
                let model = self.models.get(&sensor).await;
                (sensor, model)
            })
            .buffer_unordered(LOADS_IN_FLIGHT);
        while let Some((sensor, model)) = loads.next().await {
            models.insert(sensor, model);
        }
        drop(loads);
        models
    }
}
