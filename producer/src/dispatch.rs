//! Steps to messages on the queue, and confirmations to checkpoints.
//!
//! The order is the guarantee: quarantine written, dispatched windows noted, messages published, all confirmed, and
//! only then the checkpoint that no longer remembers their readings.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use windrow_common::queue::{Confirmation, Message, Queue};
use windrow_common::store::{Dispatched, PartNames, Store, StoreError, encode_dispatched};
use windrow_common::{EventTime, ScoringMessage, Trace, retry_while_transient};

use crate::ProducerError;
use crate::checkpoint::Checkpoint;
use crate::ingest::Step;
use crate::quarantine;
use crate::stats::Stats;
use crate::window::Position;

/// Steps are merged up to about this many windows, so that replays at full speed write few, large parts.
const WINDOWS_PER_PART: usize = 200_000;
/// Checkpoints are saved at most this often, and at the end.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);

/// Published, and where the source stands once it is confirmed.
#[derive(Debug)]
pub(crate) struct Outstanding {
    confirmations: Vec<Confirmation>,
    position: Position,
    partitions: Arc<[String]>,
}

/// Publishes what the ingest thread makes.
pub(crate) struct Dispatcher<Q> {
    pub(crate) source_name: String,
    pub(crate) queue: Q,
    pub(crate) store: Store,
    pub(crate) stats: Arc<Stats>,
}

impl<Q: Queue> Dispatcher<Q> {
    /// Runs until the ingest thread is done.
    pub(crate) async fn run(
        self,
        mut steps: mpsc::Receiver<Step>,
        outstanding: mpsc::Sender<Outstanding>,
    ) -> Result<(), ProducerError> {
        let mut names = PartNames::new("p");
        while let Some(mut step) = steps.recv().await {
            merge_waiting(&mut step, &mut steps);
            if !step.quarantined.is_empty() {
                let Step {
                    partitions,
                    quarantined,
                    ..
                } = &step;
                quarantine::write(
                    &self.store,
                    &mut names,
                    &self.source_name,
                    partitions,
                    quarantined,
                )
                .await?;
            }
            self.note_dispatched(&mut names, &step.messages).await?;
            let confirmations = self.publish(&step.messages).await?;
            let Step {
                position, partitions, ..
            } = step;
            if outstanding
                .send(Outstanding {
                    confirmations,
                    position,
                    partitions,
                })
                .await
                .is_err()
            {
                // The checkpointer has failed and says why.
                return Ok(());
            }
        }
        Ok(())
    }

    /// Writes the audit's left side, one part for each hour of event time.
    async fn note_dispatched(
        &self,
        names: &mut PartNames,
        messages: &[ScoringMessage],
    ) -> Result<(), ProducerError> {
        const HOUR_MS: i64 = 3_600_000;
        let mut hours: HashMap<EventTime, Vec<Dispatched>> = HashMap::new();
        for message in messages {
            for aggregate in &message.aggregates {
                hours
                    .entry(aggregate.window_start.floor(HOUR_MS))
                    .or_default()
                    .push(Dispatched {
                        sensor: message.sensor.clone(),
                        window_start: aggregate.window_start,
                        window_ms: message.window_ms,
                        count: aggregate.count,
                    });
            }
        }
        for (hour, windows) in hours {
            let path = names.next("dispatched", &hour.hive_partition(), "parquet");
            self.stats.windows.inc_by(windows.len() as u64);
            let bytes = encode_dispatched(&windows).map_err(|source| ProducerError::Dispatched {
                path: path.clone(),
                source,
            })?;
            retry_while_transient(
                "noting dispatched windows",
                StoreError::is_transient,
                async || self.store.put(&path, bytes.clone()).await,
            )
            .await?;
        }
        Ok(())
    }

    async fn publish(&self, messages: &[ScoringMessage]) -> Result<Vec<Confirmation>, ProducerError> {
        let mut confirmations = Vec::with_capacity(messages.len());
        let mut trace = Trace::begin();
        for message in messages {
            let id = message.id();
            let body = message.encode().map_err(|source| ProducerError::Encode {
                id: id.clone(),
                source,
            })?;
            let confirmation = self.queue.publish(Message {
                id,
                kind: ScoringMessage::KIND.into(),
                content_type: ScoringMessage::CONTENT_TYPE.into(),
                enqueued_at: EventTime::now(),
                traceparent: Some(trace.next_parent()),
                body: body.into(),
            });
            confirmations.push(confirmation.await?);
            self.stats.messages.inc();
        }
        Ok(confirmations)
    }
}

/// Takes in what else waits, up to a part's worth. Only the newest position counts then.
fn merge_waiting(step: &mut Step, steps: &mut mpsc::Receiver<Step>) {
    let mut windows: usize = step.messages.iter().map(|message| message.aggregates.len()).sum();
    while windows < WINDOWS_PER_PART
        && let Ok(next) = steps.try_recv()
    {
        windows += next
            .messages
            .iter()
            .map(|message| message.aggregates.len())
            .sum::<usize>();
        step.messages.extend(next.messages);
        step.quarantined.extend(next.quarantined);
        step.position = next.position;
        step.partitions = next.partitions;
    }
}

/// Waits for confirmations in the order of publishing, and saves the position they lead to.
pub(crate) async fn save_checkpoints(
    mut outstanding: mpsc::Receiver<Outstanding>,
    mut checkpoint: Checkpoint,
    stats: Arc<Stats>,
) -> Result<(), ProducerError> {
    let mut last_saved = Instant::now();
    let mut unsaved: Option<(Position, Arc<[String]>)> = None;
    while let Some(Outstanding {
        confirmations,
        position,
        partitions,
    }) = outstanding.recv().await
    {
        for confirmation in confirmations {
            confirmation.wait().await?;
            stats.confirmed.inc();
        }
        unsaved = Some((position, partitions));
        if last_saved.elapsed() >= CHECKPOINT_EVERY
            && let Some((position, partitions)) = unsaved.take()
        {
            checkpoint.save(&partitions, &position).await?;
            stats.checkpoints.inc();
            last_saved = Instant::now();
        }
    }
    if let Some((position, partitions)) = unsaved {
        checkpoint.save(&partitions, &position).await?;
        stats.checkpoints.inc();
    }
    Ok(())
}
