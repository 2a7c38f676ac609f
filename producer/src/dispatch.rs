//! Turns steps into messages on the queue, and confirmations into checkpoints.
//!
//! The order is the guarantee: write the quarantine, record the dispatched windows, publish the messages, wait for all
//! confirmations. Only then save the checkpoint that no longer needs their readings.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tracing::Instrument;
use windrow_common::{EventTime, ScoringMessage, SensorId};
use windrow_queue::{Confirmation, Message, Queue, Trace};
use windrow_store::{Dispatched, PartWriter, Store, StoreError};

use crate::checkpoint::Checkpoint;
use crate::ingest::Step;
use crate::stats::Stats;
use crate::window::Position;
use crate::{ProducerError, quarantine};

/// Steps are merged up to about this many windows, so that a replay at full speed writes few, large parts.
const WINDOWS_PER_PART: usize = 200_000;
/// Checkpoints are saved at most this often, and at the end.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);
/// The pause after a save is at least this many times as long as the save, so that large checkpoints cost little.
const PAUSES_PER_SAVE: u32 = 10;

/// Published messages, and the position to save once they are confirmed.
#[derive(Debug)]
pub(crate) struct Outstanding {
    confirmations: Vec<Confirmation>,
    position: Position,
    partitions: Arc<[String]>,
    new_sensors: Vec<SensorId>,
}

/// A dispatcher that publishes the ingest thread's messages.
pub(crate) struct Dispatcher<Q> {
    queue: Q,
    writer: PartWriter,
    source_name: Arc<str>,
    stats: Arc<Stats>,
}

impl<Q: Queue> Dispatcher<Q> {
    pub(crate) fn new(queue: Q, store: &Store, source_name: &str, stats: Arc<Stats>) -> Self {
        Self {
            queue,
            writer: PartWriter::new(store, "p"),
            source_name: source_name.into(),
            stats,
        }
    }

    /// Dispatches steps until the ingest thread ends.
    pub(crate) async fn run(
        self,
        mut steps: mpsc::Receiver<Step>,
        outstanding: mpsc::Sender<Outstanding>,
    ) -> Result<(), ProducerError> {
        while let Some(mut step) = steps.recv().await {
            merge_waiting(&mut step, &mut steps);
            let trace = Trace::begin();
            let span = tracing::info_span!("step", trace_id = trace.id());
            let published = self.dispatch(step, trace).instrument(span).await?;
            if outstanding.send(published).await.is_err() {
                // Saving checkpoints has failed; that task returns the error.
                return Ok(());
            }
        }
        Ok(())
    }

    /// Writes the quarantine and the list of dispatched windows, then publishes the messages.
    async fn dispatch(&self, step: Step, trace: Trace) -> Result<Outstanding, ProducerError> {
        let Step {
            emitted,
            position,
            partitions,
            new_sensors,
        } = step;
        let lines = quarantine::lines(&self.source_name, &partitions, &emitted.quarantined);
        self.writer.write_lines(quarantine::TABLE, lines).await?;
        self.note_dispatched(&emitted.messages).await?;
        let confirmations = self.publish(&emitted.messages, trace).await?;
        Ok(Outstanding {
            confirmations,
            position,
            partitions,
            new_sensors,
        })
    }

    /// Writes the list of dispatched windows, which the audit compares with the predictions.
    async fn note_dispatched(&self, messages: &[ScoringMessage]) -> Result<(), StoreError> {
        let windows = messages.iter().flat_map(|message| {
            message.aggregates.iter().map(|aggregate| Dispatched {
                sensor: message.sensor.clone(),
                window_start: aggregate.window_start,
                window_length: message.window_length,
                count: aggregate.count,
                source: Arc::clone(&self.source_name),
            })
        });
        let windows: Vec<Dispatched> = windows.collect();
        let written: usize = self.writer.write_rows(windows).await?.into_iter().sum();
        self.stats.windows.inc_by(written as u64);
        Ok(())
    }

    async fn publish(
        &self,
        messages: &[ScoringMessage],
        mut trace: Trace,
    ) -> Result<Vec<Confirmation>, ProducerError> {
        let mut confirmations = Vec::with_capacity(messages.len());
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
        if !messages.is_empty() {
            // In the span with the trace id, which workers find in each message.
            tracing::info!(messages = messages.len(), "published");
        }
        Ok(confirmations)
    }
}

/// Merges waiting steps, up to one part's worth of windows. The newest position replaces the older ones.
fn merge_waiting(step: &mut Step, steps: &mut mpsc::Receiver<Step>) {
    let windows_of = |step: &Step| -> usize {
        let messages = step.emitted.messages.iter();
        messages.map(|message| message.aggregates.len()).sum()
    };
    let mut windows = windows_of(step);
    while windows < WINDOWS_PER_PART
        && let Ok(next) = steps.try_recv()
    {
        windows += windows_of(&next);
        step.emitted.messages.extend(next.emitted.messages);
        step.emitted.quarantined.extend(next.emitted.quarantined);
        step.position = next.position;
        step.partitions = next.partitions;
        step.new_sensors.extend(next.new_sensors);
    }
}

/// Waits for confirmations in publishing order, and saves the position that they confirm.
pub(crate) async fn save_checkpoints(
    mut outstanding: mpsc::Receiver<Outstanding>,
    mut checkpoint: Checkpoint,
    stats: Arc<Stats>,
) -> Result<(), ProducerError> {
    let mut save_next = Instant::now() + CHECKPOINT_EVERY;
    let mut unsaved: Option<(Position, Arc<[String]>)> = None;
    while let Some(Outstanding {
        confirmations,
        position,
        partitions,
        new_sensors,
    }) = outstanding.recv().await
    {
        for confirmation in confirmations {
            confirmation.wait().await?;
            stats.confirmed.inc();
        }
        checkpoint.add_sensors(new_sensors);
        unsaved = Some((position, partitions));
        let begun = Instant::now();
        if begun >= save_next
            && let Some((position, partitions)) = unsaved.take()
        {
            checkpoint.save(&partitions, &position).await?;
            stats.checkpoints.inc();
            save_next = Instant::now() + CHECKPOINT_EVERY.max(begun.elapsed() * PAUSES_PER_SAVE);
        }
    }
    if let Some((position, partitions)) = unsaved {
        checkpoint.save(&partitions, &position).await?;
        stats.checkpoints.inc();
    }
    Ok(())
}
