//! Writes a scored batch: predictions to the store, and a report for each message that could not be scored.

use serde::Serialize;
use windrow_common::EventTime;
use windrow_queue::{Announcement, Reason, Receipt};
use windrow_store::PartWriter;

use crate::WorkerError;
use crate::score::{Scored, Unsettled};
use crate::stats::{DeadFor, Stats};

/// A written batch, whose messages may now be settled.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) done: Vec<Unsettled>,
    pub(crate) dead: Vec<(Receipt, Reason)>,
    pub(crate) announcements: Vec<Announcement>,
    /// The span that it was written in, to settle it in.
    pub(crate) span: tracing::Span,
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

/// Writes predictions and error reports, and waits out an outage of the store.
pub(crate) async fn write(
    batch: Scored,
    writer: &PartWriter,
    worker: &str,
    stats: &Stats,
) -> Result<Written, WorkerError> {
    let Scored {
        predictions,
        done,
        unscorable,
        announcements,
    } = batch;
    let anomalies = predictions.iter().filter(|prediction| prediction.anomaly).count();
    for rows in writer.write_rows(predictions).await? {
        stats.predictions.inc_by(rows as u64);
        stats.parts.inc();
        stats.part_rows.observe(rows as f64);
    }
    stats.anomalies.inc_by(anomalies as u64);
    let now = EventTime::now();
    let reports = unscorable.iter().map(|dead| ErrorReport {
        at: now.to_string(),
        worker,
        message: &dead.unsettled.message.id,
        reason: dead.code,
        detail: &dead.detail,
        traceparent: dead.unsettled.message.traceparent.as_deref(),
    });
    writer.write_lines("errors", reports).await?;
    for unsettled in &done {
        let waited_ms = now.as_millis() - unsettled.message.enqueued_at.as_millis();
        // The producer's clock may be ahead of ours.
        stats.latency.observe(waited_ms.max(0) as f64 / 1_000.0);
    }
    let dead = unscorable.into_iter().map(|dead| {
        let reason = DeadFor { reason: dead.code };
        stats.dead_letters.get_or_create(&reason).inc();
        let reason = Reason {
            code: dead.code.to_owned(),
            detail: dead.detail,
            worker: worker.to_owned(),
        };
        (dead.unsettled.receipt, reason)
    });
    Ok(Written {
        done,
        dead: dead.collect(),
        announcements,
        span: tracing::Span::current(),
    })
}
