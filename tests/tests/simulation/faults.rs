//! What goes wrong: how often requests and answers are lost, and how long they take.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use windrow_common::random;

/// The faults of this phase of a simulation, shared by everything that can fail.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    /// How many of a thousand requests are lost, and as many answers.
    per_thousand: Arc<AtomicU64>,
    longest_ms: Arc<AtomicU64>,
}

impl Faults {
    pub(crate) fn set(&self, per_thousand: u64, longest_ms: u64) {
        self.per_thousand.store(per_thousand, Relaxed);
        self.longest_ms.store(longest_ms, Relaxed);
    }

    /// Returns whether something goes wrong now.
    pub(crate) fn strike(&self) -> bool {
        random() % 1_000 < self.per_thousand.load(Relaxed)
    }

    /// Takes some time.
    pub(crate) async fn delay(&self) {
        let longest = self.longest_ms.load(Relaxed);
        if longest > 0 && random().is_multiple_of(4) {
            tokio::time::sleep(Duration::from_millis(random() % longest)).await;
        } else {
            tokio::task::yield_now().await;
        }
    }
}
