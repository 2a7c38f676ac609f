//! Turns steps into messages on the queue, and confirmations into checkpoints.
//!
//! The order is the guarantee: claim in the checkpoint what is about to be done, write the quarantine, record the
//! dispatched windows, publish the messages, wait for all confirmations. Only then save the checkpoint that no longer
//! needs their readings. A producer that continues after a crash repeats the step
//! with the same readings, even if its clock or options have changed.

use std::sync::Arc;

use tokio::sync::mpsc;
use tracing::{Instrument, Span};
use windrow_common::{EventTime, ScoringMessage};
use windrow_queue::{Confirmation, Message, Queue, Trace};
use windrow_store::{DispatchedWindow, PartWriter, Store, StoreError};

use crate::ingest::{QUARANTINE_BYTES_HELD, Step};
use crate::journal::{Ahead, Journal, add_news};
use crate::oversize::Confirmer;
use crate::stats::Stats;
use crate::{ProducerError, quarantine};

/// Steps are merged up to about this many windows, so that a replay at full speed writes few, large parts.
const WINDOWS_PER_PART: usize = 200_000;
/// Steps are merged up to about this many quarantined items.
const QUARANTINED_PER_PART: usize = 50_000;

/// Published messages. Once they are confirmed, the position of their step is durable.
#[derive(Debug)]
pub(crate) struct Outstanding {
    confirmations: Vec<Confirmation>,
    /// The span of their step.
    span: Span,
}

/// A dispatcher that publishes the ingest thread's messages.
pub(crate) struct Dispatcher<Q> {
    queue: Q,
    writer: PartWriter,
    source_name: Arc<str>,
    journal: Arc<Journal>,
    stats: Arc<Stats>,
}

impl<Q: Queue> Dispatcher<Q> {
    pub(crate) fn new(
        queue: Q,
        store: &Store,
        source_name: &str,
        journal: Arc<Journal>,
        stats: Arc<Stats>,
    ) -> Self {
        Self {
            queue,
            journal,
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
            let span = span_of(&step, &trace);
            let confirmations = self.dispatch(step, trace).instrument(span.clone()).await?;
            let published = Outstanding { confirmations, span };
            if outstanding.send(published).await.is_err() {
                // Saving checkpoints has failed; that task returns the error.
                return Ok(());
            }
        }
        Ok(())
    }

    /// Claims the step, writes the quarantine and the list of dispatched windows, then publishes the messages.
    async fn dispatch(&self, step: Step, trace: Trace) -> Result<Vec<Confirmation>, ProducerError> {
        let Step {
            emitted,
            position,
            news,
            partitions,
            new_sensors,
        } = step;
        let leaves_traces = !emitted.messages.is_empty() || !emitted.quarantined.is_empty();
        let ahead = Ahead {
            position,
            news,
            partitions: Arc::clone(&partitions),
        };
        self.journal.claim(ahead, new_sensors, leaves_traces).await?;
        let lines = quarantine::lines(&self.source_name, &partitions, &emitted.quarantined);
        self.writer.write_lines(quarantine::TABLE, lines).await?;
        self.note_dispatched(&emitted.messages).await?;
        self.publish(&emitted.messages, trace).await
    }

    /// Writes the list of dispatched windows, which the audit compares with the predictions.
    async fn note_dispatched(&self, messages: &[ScoringMessage]) -> Result<(), StoreError> {
        let windows = messages.iter().flat_map(|message| {
            message.aggregates.iter().map(|aggregate| DispatchedWindow {
                sensor: message.sensor.clone(),
                window_start: aggregate.window_start,
                window_length: message.window_length,
                count: aggregate.count,
                source: Arc::clone(&self.source_name),
            })
        });
        let windows: Vec<DispatchedWindow> = windows.collect();
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
            tracing::debug!(id, "publishing");
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
            tracing::info!(messages = messages.len(), "published");
        }
        Ok(confirmations)
    }
}

/// Returns the span of a step. Workers find its trace id in each message, and each message id names its sensor.
fn span_of(step: &Step, trace: &Trace) -> Span {
    let messages = &step.emitted.messages;
    tracing::info_span!(
        "step",
        trace_id = trace.id(),
        messages = messages.len(),
        first = messages.first().map(ScoringMessage::id),
        last = messages.last().map(ScoringMessage::id),
    )
}

/// Merges waiting steps, up to one part's worth of windows and of quarantined items. The newest position replaces the
/// older ones.
fn merge_waiting(step: &mut Step, steps: &mut mpsc::Receiver<Step>) {
    let windows_of = |step: &Step| -> usize {
        let messages = step.emitted.messages.iter();
        messages.map(|message| message.aggregates.len()).sum()
    };
    let mut windows = windows_of(step);
    while windows < WINDOWS_PER_PART
        && step.emitted.quarantined.len() < QUARANTINED_PER_PART
        && step.emitted.raw_bytes < QUARANTINE_BYTES_HELD
        && let Ok(next) = steps.try_recv()
    {
        windows += windows_of(&next);
        step.emitted.messages.extend(next.emitted.messages);
        step.emitted.quarantined.extend(next.emitted.quarantined);
        step.emitted.raw_bytes += next.emitted.raw_bytes;
        step.position = next.position;
        add_news(&mut step.news, &next.news);
        step.partitions = next.partitions;
        step.new_sensors.extend(next.new_sensors);
    }
}

/// Waits for confirmations in publishing order, and saves the positions that they confirm.
pub(crate) async fn save_checkpoints<Q: Queue>(
    mut outstanding: mpsc::Receiver<Outstanding>,
    journal: Arc<Journal>,
    confirmer: Confirmer<Q>,
) -> Result<(), ProducerError> {
    while let Some(Outstanding { confirmations, span }) = outstanding.recv().await {
        let confirmed = async {
            for confirmation in confirmations {
                confirmer.confirm(confirmation).await?;
            }
            Ok::<_, ProducerError>(())
        };
        confirmed.instrument(span).await?;
        journal.confirm().await?;
    }
    journal.save_last().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::{Emitted, Position};

    #[tokio::test]
    async fn steps_are_merged_up_to_a_number_of_quarantined_bytes() {
        let step = || Step {
            emitted: Emitted {
                raw_bytes: QUARANTINE_BYTES_HELD - 1,
                ..Emitted::default()
            },
            position: Position::start(0),
            news: Vec::new(),
            partitions: [].into(),
            new_sensors: Vec::new(),
        };
        let (steps, mut to_dispatch) = mpsc::channel(4);
        for _ in 0..4 {
            steps.try_send(step()).unwrap();
        }
        let mut merged = to_dispatch.recv().await.unwrap();
        merge_waiting(&mut merged, &mut to_dispatch);
        assert_eq!(merged.emitted.raw_bytes, 2 * (QUARANTINE_BYTES_HELD - 1));
        assert_eq!(to_dispatch.len(), 2, "the others are another part");
    }
}
