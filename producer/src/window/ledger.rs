//! Where the readings are: the accounts that `windrow audit` checks.
//!
//! At every position, the readings that were put in windows are those of dispatched windows and those of open ones. Both
//! sides are counted where it happens, so a reading that was put in a window and then lost shows as a difference.

use std::collections::BTreeMap;

use windrow_common::{EventTime, Length, ScoringMessage};

use super::partition::Partition;

/// What became of the readings of one partition below [`judged`](super::PartitionPosition::judged). Each counts once,
/// however often it is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// Readings that were put in windows.
    pub windowed: u64,
    /// Readings that were put in quarantine, with those that unreadable items hold, as far as can be told.
    pub quarantined: u64,
    /// Whether the counts begin in the middle of the partition, because an older version did not count.
    pub is_partial: bool,
}

/// What became of the readings that were put in windows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Readings in windows that were dispatched, by the day that the windows start on.
    pub dispatched: BTreeMap<EventTime, u64>,
    /// Readings in windows that are not dispatched yet.
    pub open: u64,
}

impl Ledger {
    /// Returns the number of readings in windows that were dispatched.
    pub fn readings_dispatched(&self) -> u64 {
        self.dispatched.values().sum()
    }
}

/// The accounts of a windower.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    dispatched: BTreeMap<EventTime, u64>,
    /// Readings in open windows.
    pub(super) open: u64,
    /// Readings that were left to another pass.
    pub(super) left: u64,
    /// Readings in open windows at the position where this run or pass began, minus those read again since. Negative if
    /// more were read again, as when a missing file has come back.
    pub(super) to_read_again: i64,
}

impl Accounts {
    /// Continues the accounts of an earlier run or pass.
    pub(super) fn continued(ledger: &Ledger) -> Self {
        Self {
            dispatched: ledger.dispatched.clone(),
            open: 0,
            left: 0,
            to_read_again: i64::try_from(ledger.open).unwrap_or(i64::MAX),
        }
    }

    /// Notes that these messages are dispatched.
    pub(super) fn dispatch(&mut self, messages: &[ScoringMessage]) {
        for aggregate in messages.iter().flat_map(|message| &message.aggregates) {
            let day = aggregate.window_start.floor(Length::DAY);
            *self.dispatched.entry(day).or_default() += aggregate.count;
            self.open = self.open.saturating_sub(aggregate.count);
        }
    }

    /// Leaves `readings` of open windows to another pass.
    pub(super) fn leave(&mut self, readings: u64) {
        self.open = self.open.saturating_sub(readings);
        self.left += readings;
    }

    /// Returns the ledger to save.
    pub(super) fn ledger(&self, partitions: &[Partition]) -> Ledger {
        // Once all partitions are read, readings that did not come again are lost and no longer count as open.
        let awaited = match partitions.iter().any(Partition::is_replaying) {
            true => u64::try_from(self.to_read_again).unwrap_or(0),
            false => 0,
        };
        Ledger {
            dispatched: self.dispatched.clone(),
            open: self.open + self.left + awaited,
        }
    }
}
