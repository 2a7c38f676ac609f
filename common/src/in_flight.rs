//! Counts things in flight.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// A guard that adds one to a counter until it is dropped.
#[derive(Debug)]
pub struct InFlight<'a> {
    count: &'a AtomicUsize,
    is_first: bool,
}

impl<'a> InFlight<'a> {
    /// Counts one more.
    pub fn among(count: &'a AtomicUsize) -> Self {
        let is_first = count.fetch_add(1, Relaxed) == 0;
        Self { count, is_first }
    }

    /// Returns whether nothing else was in flight when this began.
    pub fn is_first(&self) -> bool {
        self.is_first
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Relaxed);
    }
}
