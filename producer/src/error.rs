//! Errors that end a producer.

use windrow_common::{CodecError, HasRemedy, Remedy};
use windrow_queue::QueueError;
use windrow_store::StoreError;

use crate::CheckpointError;
use crate::source::SourceError;

/// An error that ends a producer before the end of its source.
#[derive(Debug, thiserror::Error)]
pub enum ProducerError {
    /// The source failed.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The store failed for good.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The queue failed for good.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The checkpoint cannot be used.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A scoring message cannot be encoded.
    #[error("cannot encode message {id}")]
    Encode {
        /// The message.
        id: String,
        /// Why.
        source: CodecError,
    },
    /// The ingest thread cannot be started.
    #[error("cannot start the ingest thread: {0}")]
    Thread(std::io::Error),
    /// The ingest thread panicked.
    #[error("the ingest thread died: {0}")]
    Panicked(String),
}

impl HasRemedy for ProducerError {
    fn remedy(&self) -> Remedy {
        match self {
            Self::Source(error) => error.remedy(),
            Self::Store(error) => error.remedy(),
            Self::Queue(error) => error.remedy(),
            Self::Checkpoint(error) => error.remedy(),
            Self::Encode { .. } | Self::Thread(_) | Self::Panicked(_) => Remedy::GiveUp,
        }
    }
}
