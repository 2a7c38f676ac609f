//! Turns scoring messages into predictions: consume, load the model, score, persist, ack.
//!
//! A worker keeps no state of its own. Messages that it holds when it dies are delivered again, and the keys of the
//! predictions make the duplicates harmless.

mod announce;
mod cache;
mod consume;
mod group;
mod persist;
mod progress;
mod score;
mod sensor;
mod shadows;
mod stats;
mod subscribed;
mod suspects;

use std::num::{NonZeroU16, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use windrow_common::{HasRemedy, Remedy};
use windrow_models::RepositoryError;
use windrow_queue::{Prefetch, QueueError};
use windrow_store::StoreError;

pub use cache::{CacheOptions, ModelCache};
pub use consume::run;
pub use stats::{Counts, Stats};

/// Options for how many messages a worker holds and when it writes.
#[derive(Clone, Debug)]
pub struct WorkerOptions {
    /// Its name in error reports and dead letters.
    pub name: String,
    /// How many unsettled messages it may hold, and how many bytes of them.
    pub prefetch: Prefetch,
    /// How many predictions it gathers before it writes.
    pub flush_rows: usize,
    /// Longest time that it keeps a prediction before it writes.
    pub flush_age: Duration,
    /// Whether it announces anomalies. The in-memory queue has no listeners.
    pub announce: bool,
}

/// Default prefetch. A worker flushes at half of it, so this also bounds the messages of a flush.
pub const PREFETCH: NonZeroU16 = NonZeroU16::new(10_000).expect("10,000 is not zero");
/// Default number of predictions that a worker gathers before it writes.
pub const FLUSH_ROWS: NonZeroUsize = NonZeroUsize::new(100_000).expect("100,000 is not zero");
/// Default age at which a prediction is written.
pub const FLUSH_AGE: Duration = Duration::from_secs(1);

impl WorkerOptions {
    /// Creates the default options of a worker: [`PREFETCH`], [`FLUSH_ROWS`], [`FLUSH_AGE`], no announcements.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            prefetch: PREFETCH.into(),
            flush_rows: FLUSH_ROWS.get(),
            flush_age: FLUSH_AGE,
            announce: false,
        }
    }
}

/// An error that ends a worker. The queue delivers its unsettled messages again.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The queue failed for good.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The store failed for good.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The models cannot be read, for a reason that affects more than one of them.
    #[error("{0}")]
    Models(Arc<RepositoryError>),
    /// A scoring thread panicked.
    #[error("a worker thread died: {0}")]
    Panicked(String),
}

impl HasRemedy for WorkerError {
    fn remedy(&self) -> Remedy {
        match self {
            Self::Queue(error) => error.remedy(),
            Self::Store(error) => error.remedy(),
            Self::Models(error) => error.remedy(),
            Self::Panicked(_) => Remedy::GiveUp,
        }
    }
}
