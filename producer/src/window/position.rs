//! How far a group of partitions has been processed.

use std::sync::Arc;

use windrow_common::EventTime;

use super::{Dispatched, Judged, Ledger, SetAside};
use crate::source::Offset;

/// The position of a group of partitions, as saved in a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The end of the last interval that is dispatched, of any sensor.
    pub dispatched_through: EventTime,
    /// How far each sensor's intervals are dispatched.
    pub dispatched: Arc<Dispatched>,
    /// What became of the readings that were put in windows.
    pub ledger: Ledger,
    /// The position of each partition, in order.
    pub partitions: Vec<PartitionPosition>,
}

impl Position {
    /// Returns the start position of `partitions` unread partitions.
    pub fn start(partitions: usize) -> Self {
        Self {
            dispatched_through: EventTime::MIN,
            dispatched: Arc::default(),
            ledger: Ledger::default(),
            partitions: vec![PartitionPosition::default(); partitions],
        }
    }
}

/// The position of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionPosition {
    /// Where a new run starts to read: the lowest offset that an undispatched interval needs.
    pub resume: Offset,
    /// Every reading below this offset was put in an interval or in quarantine.
    pub judged: Offset,
    /// The readings from `resume` to `judged` that are in quarantine although their sensor's interval is not dispatched.
    pub set_aside: SetAside,
    /// What became of the readings below `judged`.
    pub counts: Judged,
}

impl PartitionPosition {
    /// Returns the position of a partition that is to be read from `start` on.
    pub fn start(start: Offset) -> Self {
        Self {
            resume: start,
            judged: start,
            ..Self::default()
        }
    }
}
