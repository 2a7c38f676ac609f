//! Joins the windows of a device's tags into scoring messages.
//!
//! The tags of a device may be in different partitions, so no windower sees all of them. A grouper therefore follows
//! the predictions in the store, which hold the aggregates of every tag, and publishes scoring messages for several
//! tags to the same queue. Its messages depend only on the predictions. Their order of arrival, late parts, restarts
//! and kills do not change the predictions that count, because a window requested again with more readings replaces the
//! earlier one.

mod device;
mod grouper;
mod lead;
mod models;
mod state;
mod stats;

use std::time::Duration;

use windrow_common::{CodecError, HasRemedy, Remedy};
use windrow_models::RepositoryError;
use windrow_queue::QueueError;
use windrow_store::StoreError;

pub use grouper::{Grouper, Incomplete};
pub use lead::Outage;
pub use models::Groups;
pub use state::State;
pub use stats::Stats;

/// How a grouper follows the predictions.
#[derive(Clone, Copy, Debug)]
pub struct GrouperOptions {
    /// How often new predictions are looked for.
    pub look_every: Duration,
    /// How long a window waits for the tags that it lacks, once a later window has come.
    pub grace: Duration,
    /// Event time for which windows are held, so that later ones can still be joined.
    pub hold: Duration,
    /// An hour is settled once it has had no news for this long.
    pub calm: Duration,
    /// How far back to look for parts that arrive even later. The first grouper of a store begins this long before the
    /// newest day of predictions.
    pub look_back: Duration,
    /// How often they are looked for.
    pub look_back_every: Duration,
    /// How often the models are listed again.
    pub model_refresh: Duration,
}

impl Default for GrouperOptions {
    fn default() -> Self {
        Self {
            look_every: Duration::from_secs(2),
            grace: Duration::from_secs(60),
            hold: Duration::from_secs(3_600),
            calm: Duration::from_secs(60),
            look_back: Duration::from_secs(86_400),
            look_back_every: Duration::from_secs(600),
            model_refresh: Duration::from_secs(300),
        }
    }
}

/// An error that ends a step of a grouper. The next step begins again from what is in the store.
#[derive(Debug, thiserror::Error)]
pub enum GrouperError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The queue failed.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The models cannot be listed.
    #[error(transparent)]
    Models(#[from] RepositoryError),
    /// A message cannot be encoded, which does not happen for the plain structs used here.
    #[error("cannot encode message {id}")]
    Encode {
        /// The message.
        id: String,
        /// What failed.
        #[source]
        source: CodecError,
    },
}

impl HasRemedy for GrouperError {
    fn remedy(&self) -> Remedy {
        match self {
            Self::Store(error) => error.remedy(),
            Self::Queue(error) => error.remedy(),
            Self::Models(error) => error.remedy(),
            Self::Encode { .. } => Remedy::GiveUp,
        }
    }
}
