//! Running counts of a producer, read by progress bars, summaries and metrics.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use crate::quarantine::QuarantineReason;

/// Counts since the start of the run; the gauges among them say so.
#[derive(Debug, Default)]
pub struct Stats {
    pub(crate) accepted: AtomicU64,
    pub(crate) replayed: AtomicU64,
    pub(crate) quarantined: [AtomicU64; QuarantineReason::ALL.len()],
    pub(crate) open_windows: AtomicU64,
    pub(crate) windows: AtomicU64,
    pub(crate) messages: AtomicU64,
    pub(crate) confirmed: AtomicU64,
    pub(crate) checkpoints: AtomicU64,
    pub(crate) source_done: AtomicU64,
    pub(crate) source_total: AtomicU64,
}

/// A look at [`Stats`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Readings put in windows.
    pub accepted: u64,
    /// Readings skipped because an earlier run had dealt with them.
    pub replayed: u64,
    /// Readings quarantined, along [`QuarantineReason::ALL`].
    pub quarantined: [u64; QuarantineReason::ALL.len()],
    /// Gauge: windows open now.
    pub open_windows: u64,
    /// Windows dispatched.
    pub windows: u64,
    /// Messages published.
    pub messages: u64,
    /// Messages confirmed.
    pub confirmed: u64,
    /// Checkpoints saved.
    pub checkpoints: u64,
    /// Gauge: how much of the source is read, in its own unit.
    pub source_done: u64,
    /// Gauge: all of the source in the same unit; 0 when unknown.
    pub source_total: u64,
}

impl Counts {
    /// Readings quarantined for any reason.
    pub fn quarantined_in_all(&self) -> u64 {
        self.quarantined.iter().sum()
    }
}

impl Stats {
    /// All counts as they are now.
    pub fn counts(&self) -> Counts {
        Counts {
            accepted: self.accepted.load(Relaxed),
            replayed: self.replayed.load(Relaxed),
            quarantined: std::array::from_fn(|reason| self.quarantined[reason].load(Relaxed)),
            open_windows: self.open_windows.load(Relaxed),
            windows: self.windows.load(Relaxed),
            messages: self.messages.load(Relaxed),
            confirmed: self.confirmed.load(Relaxed),
            checkpoints: self.checkpoints.load(Relaxed),
            source_done: self.source_done.load(Relaxed),
            source_total: self.source_total.load(Relaxed),
        }
    }
}
