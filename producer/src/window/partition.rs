//! One partition, as the windower sees it.

use super::verdicts::Verdicts;
use super::watermark::Watermark;
use super::{Judged, PartitionPosition};
use crate::source::Offset;

#[derive(Clone, Debug)]
pub(super) struct Partition {
    pub(super) watermark: Watermark,
    /// Where the next batch starts.
    pub(super) next: Offset,
    /// Where this run began to read.
    pub(super) start: Offset,
    /// Everything below has been judged, by an earlier run or by this one.
    pub(super) judged: Offset,
    /// Whether a reading of it has ever been put in a window.
    pub(super) is_usable: bool,
    /// The lowest offset of a reading that is left to another pass.
    pub(super) left: Option<Offset>,
    pub(super) verdicts: Verdicts,
    pub(super) counts: Judged,
}

impl Partition {
    /// Creates a partition that continues at a position.
    pub(super) fn new(position: PartitionPosition, watermark: Watermark) -> Self {
        Self {
            watermark,
            next: position.resume,
            start: position.resume,
            judged: position.judged,
            is_usable: position.judged > Offset(0) || position.claim.is_some(),
            left: None,
            counts: position.counts,
            verdicts: Verdicts::new(position.judged, position.set_aside, position.claim),
        }
    }

    /// Returns whether readings that an earlier run has judged are still to be read again.
    pub(super) fn is_replaying(&self) -> bool {
        self.verdicts.cover(self.next) && !self.watermark.has_ended()
    }
}
