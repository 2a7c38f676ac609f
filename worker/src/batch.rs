//! What a worker holds until it is durable: predictions, receipts, and what could not be scored.

use std::collections::HashMap;

use serde::Serialize;
use windrow_common::queue::{Announcement, Reason, Receipt};
use windrow_common::store::{PartNames, Store, StoreError, encode_predictions};
use windrow_common::{EventTime, Prediction, retry_while_transient};

use crate::WorkerError;
use crate::score::{Envelope, Scored, Unscorable};
use crate::stats::{DeadFor, Stats};

/// Gathered work, to be written and settled together.
pub(crate) type Batch = Scored;

/// A written batch: what may be settled now.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) done: Vec<Envelope>,
    pub(crate) dead: Vec<(Receipt, Reason)>,
    pub(crate) announcements: Vec<Announcement>,
}

/// One line of `errors/date=…/hour=…/<part>.ndjson`.
#[derive(Serialize)]
struct ErrorReport<'a> {
    at: String,
    worker: &'a str,
    message: &'a str,
    reason: &'a str,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<&'a str>,
}

impl Batch {
    /// Messages in it.
    pub(crate) fn messages(&self) -> usize {
        self.done.len() + self.unscorable.len()
    }

    pub(crate) fn take_in(&mut self, scored: Scored) {
        self.predictions.extend(scored.predictions);
        self.done.extend(scored.done);
        self.unscorable.extend(scored.unscorable);
        self.announcements.extend(scored.announcements);
    }

    /// Writes predictions and error reports, waiting out an outage of the store.
    pub(crate) async fn write(
        self,
        store: &Store,
        names: &mut PartNames,
        worker: &str,
        stats: &Stats,
    ) -> Result<Written, WorkerError> {
        write_predictions(self.predictions, store, names, stats).await?;
        write_errors(&self.unscorable, store, names, worker).await?;
        let now = EventTime::now();
        for envelope in &self.done {
            let waited_ms = now.as_millis() - envelope.message.enqueued_at.as_millis();
            // The producer's clock may be ahead of ours.
            stats.latency.observe(waited_ms.max(0) as f64 / 1_000.0);
        }
        let dead = self.unscorable.into_iter().map(|dead| {
            let reason = DeadFor { reason: dead.code };
            stats.dead_letters.get_or_create(&reason).inc();
            let reason = Reason {
                code: dead.code.to_owned(),
                detail: dead.detail,
                worker: worker.to_owned(),
            };
            (dead.envelope.receipt, reason)
        });
        Ok(Written {
            done: self.done,
            dead: dead.collect(),
            announcements: self.announcements,
        })
    }
}

/// One part for each hour of event time.
async fn write_predictions(
    predictions: Vec<Prediction>,
    store: &Store,
    names: &mut PartNames,
    stats: &Stats,
) -> Result<(), WorkerError> {
    const HOUR_MS: i64 = 3_600_000;
    let mut hours: HashMap<EventTime, Vec<Prediction>> = HashMap::new();
    for prediction in predictions {
        hours
            .entry(prediction.aggregate.window_start.floor(HOUR_MS))
            .or_default()
            .push(prediction);
    }
    for (hour, predictions) in hours {
        let path = names.next("predictions", &hour.hive_partition(), "parquet");
        let rows = predictions.len() as u64;
        let anomalies = predictions.iter().filter(|prediction| prediction.anomaly).count() as u64;
        let encoded = tokio::task::spawn_blocking(move || encode_predictions(&predictions)).await;
        let bytes = encoded
            .map_err(|error| WorkerError::Panicked(error.to_string()))?
            .map_err(|source| WorkerError::Encode {
                path: path.clone(),
                source,
            })?;
        retry_while_transient("writing predictions", StoreError::is_transient, || {
            store.put(&path, bytes.clone())
        })
        .await?;
        stats.predictions.inc_by(rows);
        stats.anomalies.inc_by(anomalies);
        stats.parts.inc();
        stats.part_rows.observe(rows as f64);
    }
    Ok(())
}

async fn write_errors(
    unscorable: &[Unscorable],
    store: &Store,
    names: &mut PartNames,
    worker: &str,
) -> Result<(), StoreError> {
    if unscorable.is_empty() {
        return Ok(());
    }
    let now = EventTime::now();
    let path = names.next("errors", &now.hive_partition(), "ndjson");
    let mut lines = Vec::new();
    for Unscorable {
        envelope,
        code,
        detail,
    } in unscorable
    {
        let report = ErrorReport {
            at: now.to_string(),
            worker,
            message: &envelope.message.id,
            reason: code,
            detail,
            traceparent: envelope.message.traceparent.as_deref(),
        };
        serde_json::to_writer(&mut lines, &report).map_err(|error| StoreError::Damaged {
            path: path.clone(),
            why: error.to_string(),
        })?;
        lines.push(b'\n');
    }
    retry_while_transient("writing error reports", StoreError::is_transient, || {
        store.put(&path, lines.clone())
    })
    .await
}
