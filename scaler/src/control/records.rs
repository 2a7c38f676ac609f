//! The record of every step in the store, so that a bill can be explained afterwards.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use windrow_store::{PartWriter, Store, StoreError};

use crate::fleet::Capacity;
use crate::policy::{Decision, Load};

/// The folder of the records.
const TABLE: &str = "scaling";
/// How long records are gathered, as long as nothing changes.
const GATHER: Duration = Duration::from_secs(300);
/// Maximum number of records kept while the store is unavailable: more than half a day, at one every five seconds.
const MOST: usize = 10_000;
/// How long a stop waits for the last records to be written.
const LAST: Duration = Duration::from_secs(5);

/// One step.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Record {
    pub(super) at: Timestamp,
    /// The queue whose messages the workers score.
    pub(super) queue: String,
    #[serde(flatten)]
    pub(super) decision: Decision,
    /// The reason in words.
    pub(super) text: String,
    /// The fleet; `null` if it could not be observed.
    pub(super) fleet: Option<Capacity>,
    /// The queue; `null` if it could not be observed.
    pub(super) load: Option<Load>,
    /// Worker-seconds since the record before.
    pub(super) worker_seconds: f64,
    /// What these cost, if the price is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cost: Option<f64>,
    /// Why the fleet could not be observed or resized.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
}

/// The records that are not written yet.
pub(super) struct Records {
    writer: PartWriter,
    waiting: Vec<Record>,
    since: Instant,
    writing: Option<JoinHandle<Result<(), StoreError>>>,
}

impl Records {
    pub(super) fn new(store: &Store) -> Self {
        Self {
            writer: PartWriter::new(store, "scaler"),
            waiting: Vec::new(),
            since: Instant::now(),
            writing: None,
        }
    }

    /// Adds a record. Starts to write the waiting records if this one `is_news`, or if they have waited long enough.
    /// Does not wait for the store.
    pub(super) async fn add(&mut self, record: Record, is_news: bool) {
        if self.waiting.len() >= MOST {
            tracing::warn!(
                lost = MOST / 2,
                "the store has been unavailable for too long: the records of the oldest steps are lost"
            );
            self.waiting.drain(..MOST / 2);
        }
        self.waiting.push(record);
        if is_news || self.since.elapsed() >= GATHER {
            self.write().await;
        }
    }

    /// Writes what is left, unless that takes long.
    pub(super) async fn end(mut self) {
        let written = async {
            while !self.waiting.is_empty() || self.writing.is_some() {
                if let Some(writing) = self.writing.take() {
                    told(writing.await);
                }
                self.write().await;
            }
        };
        if tokio::time::timeout(LAST, written).await.is_err() {
            tracing::warn!("the store does not answer: the last records of the scaler are lost");
        }
    }

    /// Writes all records that wait, unless others are being written. Does not wait for the store.
    pub(super) async fn write(&mut self) {
        match self.writing.take() {
            Some(writing) if !writing.is_finished() => self.writing = Some(writing),
            before => {
                if let Some(before) = before {
                    told(before.await);
                }
                let records = std::mem::take(&mut self.waiting);
                if records.is_empty() {
                    return;
                }
                self.since = Instant::now();
                let writer = self.writer.clone();
                self.writing = Some(tokio::spawn(
                    async move { writer.write_lines(TABLE, records).await },
                ));
            }
        }
    }
}

fn told(written: Result<Result<(), StoreError>, tokio::task::JoinError>) {
    let error = match written {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(panic) => panic.to_string(),
    };
    tracing::error!(error, "records of the scaler are lost");
}
