//! What can go wrong with a checkpoint.

use windrow_common::{HasRemedy, Remedy};
use windrow_store::StoreError;

/// What can go wrong with a checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is not a checkpoint of this program.
    #[error("{path} is damaged: {why}; delete it to read the source from its start")]
    Damaged {
        /// The blob.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// The windows were other ones when the source was left.
    #[error(
        "{path} was written with windows of {then}; this run has windows of {now}: give it another --source-name, or \
         delete the checkpoint to read the source from its start"
    )]
    OtherWindows {
        /// The blob.
        path: String,
        /// `window / interval` of the earlier run.
        then: String,
        /// `window / interval` of this one.
        now: String,
    },
    /// It is another hub's.
    #[error(
        "{path} was written by a producer that reads {then}; this one reads {now}: give it another --source-name, or \
         delete the checkpoint to read the source from its start"
    )]
    OtherHub {
        /// The blob.
        path: String,
        /// What the earlier run read.
        then: String,
        /// What this one reads.
        now: String,
    },
    /// The hub has fewer events than were read of it.
    #[error(
        "{path} says that partition {partition} was read up to event {judged}, but it ends at event {end}: the hub was \
         made anew; give it another --source-name, or delete the checkpoint to read the source from its start"
    )]
    BeyondEnd {
        /// The blob.
        path: String,
        /// The partition.
        partition: String,
        /// Sequence number of the first event that was not read.
        judged: u64,
        /// Sequence number of the next event that the hub will take in.
        end: u64,
    },
    /// Someone else moved it on.
    #[error("another producer has taken over {path}: this one stops, and loses nothing by it")]
    TakenOver {
        /// The blob.
        path: String,
    },
}

impl HasRemedy for CheckpointError {
    fn remedy(&self) -> Remedy {
        match self {
            Self::Store(error) => error.remedy(),
            Self::OtherWindows { .. } | Self::OtherHub { .. } | Self::BeyondEnd { .. } => Remedy::FixConfig,
            Self::Damaged { .. } | Self::TakenOver { .. } => Remedy::GiveUp,
        }
    }
}
