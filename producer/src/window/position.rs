//! How far a group of partitions has been processed.

use std::sync::Arc;

use windrow_common::EventTime;

use super::{Claim, DispatchedThrough, Judged, Ledger, SetAside};
use crate::source::{Content, Offset};

/// The position of a group of partitions, as saved in a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The end of the last interval that is dispatched, of any sensor.
    pub dispatched_through: EventTime,
    /// How far each sensor's intervals are dispatched.
    pub dispatched: Arc<DispatchedThrough>,
    /// How far they may be dispatched already: further readings of these intervals are late. `None` if not beyond
    /// `dispatched`.
    pub claimed: Option<Arc<DispatchedThrough>>,
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
            claimed: None,
            ledger: Ledger::default(),
            partitions: vec![PartitionPosition::default(); partitions],
        }
    }
}

impl Position {
    /// Returns this durable position with a claim to everything done up to `ahead`, which is not durable yet. `news`
    /// says what was set aside in between, by partition.
    pub fn claiming(&self, ahead: &Self, news: &[Claim]) -> Self {
        let mut claimed = DispatchedThrough::clone(&ahead.dispatched);
        for earlier in [&self.claimed, &ahead.claimed].into_iter().flatten() {
            claimed.raise(earlier);
        }
        let mut position = self.clone();
        position
            .partitions
            .resize_with(ahead.partitions.len(), Default::default);
        for (index, partition) in position.partitions.iter_mut().enumerate() {
            let mut claim = news.get(index).cloned().unwrap_or_default();
            claim.judged = ahead.partitions[index].judged;
            if let Some(earlier) = &partition.claim {
                let later = std::mem::replace(&mut claim, earlier.clone());
                claim.extend(&later);
            }
            if claim.judged > partition.judged {
                partition.claim = Some(claim);
            }
            partition.content = ahead.partitions[index].content.or(partition.content);
        }
        position.claimed = (claimed != *self.dispatched).then(|| Arc::new(claimed));
        position
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
    /// What the partition held when it was read, if it can be renamed or replaced.
    pub content: Option<Content>,
    /// What may have been judged beyond this position.
    pub claim: Option<Claim>,
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
