//! From scoring messages to predictions: consume, load the model, score, persist, ack.
//!
//! A worker keeps nothing of its own: whatever it holds when it dies is delivered again, and its predictions' keys make
//! the repeat harmless.

mod batch;
mod consume;
mod models;
mod score;
mod stats;
mod suspects;

use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use windrow_common::queue::QueueError;
use windrow_common::store::{StoreError, TableError};
use windrow_model::RepositoryError;

pub use consume::run;
pub use models::{CacheOptions, ModelCache};
pub use stats::{Counts, Stats};

/// How a worker holds and writes.
#[derive(Clone, Debug)]
pub struct WorkerOptions {
    /// Its name in error reports and dead letters.
    pub name: String,
    /// Unsettled messages it may hold.
    pub prefetch: NonZeroU16,
    /// Predictions it gathers before it writes.
    pub flush_rows: usize,
    /// Longest it keeps a prediction before it writes.
    pub flush_age: Duration,
    /// Whether anomalies are announced; in memory nobody listens.
    pub announce: bool,
}

impl WorkerOptions {
    /// The defaults: 20,000 messages, 100,000 predictions, one second, no announcements.
    pub fn new(name: &str) -> Self {
        const PREFETCH: NonZeroU16 = NonZeroU16::new(20_000).expect("20,000 is not zero");
        Self {
            name: name.to_owned(),
            prefetch: PREFETCH,
            flush_rows: 100_000,
            flush_age: Duration::from_secs(1),
            announce: false,
        }
    }
}

/// What ends a worker. What it held is delivered again elsewhere.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The queue failed for good.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The store failed for good.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The models cannot be read, for a reason that concerns more than one of them.
    #[error("{0}")]
    Models(Arc<RepositoryError>),
    /// Predictions cannot be encoded.
    #[error("{path} cannot be encoded")]
    Encode {
        /// The part.
        path: String,
        /// Why.
        source: TableError,
    },
    /// A scoring or encoding thread panicked.
    #[error("a worker thread died: {0}")]
    Panicked(String),
}

impl WorkerError {
    /// Whether a person has to change what the program was told, as opposed to the world it met.
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Store(error) => error.is_usage(),
            Self::Queue(QueueError::Amqp(error)) => !error.is_transient(),
            _ => false,
        }
    }
}
