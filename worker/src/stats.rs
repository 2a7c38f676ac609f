//! Running counts of the workers of a process.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// Counts since the start of the run.
#[derive(Debug, Default)]
pub struct Stats {
    pub(crate) messages: AtomicU64,
    pub(crate) redelivered: AtomicU64,
    pub(crate) predictions: AtomicU64,
    pub(crate) anomalies: AtomicU64,
    pub(crate) dead_letters: AtomicU64,
    pub(crate) parts: AtomicU64,
    pub(crate) models_loaded: AtomicU64,
}

/// A look at [`Stats`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages received.
    pub messages: u64,
    /// Those among them that may have been delivered before.
    pub redelivered: u64,
    /// Predictions persisted.
    pub predictions: u64,
    /// Those among them that are anomalies.
    pub anomalies: u64,
    /// Messages set aside.
    pub dead_letters: u64,
    /// Parts of predictions written.
    pub parts: u64,
    /// Models read from the store.
    pub models_loaded: u64,
}

impl Stats {
    /// All counts as they are now.
    pub fn counts(&self) -> Counts {
        Counts {
            messages: self.messages.load(Relaxed),
            redelivered: self.redelivered.load(Relaxed),
            predictions: self.predictions.load(Relaxed),
            anomalies: self.anomalies.load(Relaxed),
            dead_letters: self.dead_letters.load(Relaxed),
            parts: self.parts.load(Relaxed),
            models_loaded: self.models_loaded.load(Relaxed),
        }
    }
}
