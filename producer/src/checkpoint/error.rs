//! Errors of checkpoints.

use windrow_common::{HasRemedy, Remedy};
use windrow_store::StoreError;

/// An error of a checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The blob is not a checkpoint of this program.
    #[error("{path} is damaged: {why}; {way_on}")]
    Damaged {
        /// The blob.
        path: String,
        /// What is wrong.
        why: String,
        /// What to do.
        way_on: &'static str,
    },
    /// An earlier run cut other windows.
    #[error("{path} was written with windows of {then}; this run has windows of {now}: {way_on}")]
    OtherWindows {
        /// The blob.
        path: String,
        /// `window / interval` of the earlier run.
        then: String,
        /// `window / interval` of this one.
        now: String,
        /// What to do.
        way_on: &'static str,
    },
    /// The checkpoint belongs to another source.
    #[error("{path} was written by a producer that reads {then}; this one reads {now}: {way_on}")]
    OtherSource {
        /// The blob.
        path: String,
        /// What the earlier run read.
        then: String,
        /// What this one reads.
        now: String,
        /// What to do.
        way_on: &'static str,
    },
    /// An earlier run read other columns of the source.
    #[error("{path} was written with {then}; this run has {now}: {way_on}")]
    OtherColumns {
        /// The blob.
        path: String,
        /// Column options of the earlier run.
        then: String,
        /// Column options of this one.
        now: String,
        /// What to do.
        way_on: &'static str,
    },
    /// The hub has fewer events than were read from it.
    #[error(
        "{path} says that partition {partition} was read up to event {judged}, but it ends at event {end}: the hub was \
         recreated; choose another --source-name, or delete the checkpoint to read the source from its start"
    )]
    BeyondEnd {
        /// The blob.
        path: String,
        /// The partition.
        partition: String,
        /// Sequence number of the first event that was not read.
        judged: u64,
        /// Sequence number of the next event that the hub will receive.
        end: u64,
    },
    /// Another producer has saved the checkpoint since this one last did.
    #[error("another producer has taken over {path}: this one stops, and no readings are lost")]
    TakenOver {
        /// The blob.
        path: String,
    },
}

impl HasRemedy for CheckpointError {
    fn remedy(&self) -> Remedy {
        match self {
            Self::Store(error) => error.remedy(),
            Self::OtherWindows { .. }
            | Self::OtherSource { .. }
            | Self::OtherColumns { .. }
            | Self::BeyondEnd { .. } => Remedy::FixConfig,
            Self::Damaged { .. } | Self::TakenOver { .. } => Remedy::GiveUp,
        }
    }
}
