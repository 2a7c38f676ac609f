//! What a test has asked to go wrong and that links look up as they work.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What a test has asked to go wrong and that links look up as they work.
#[derive(Default)]
pub(crate) struct Faults {
    wanted: Mutex<Wanted>,
}

#[derive(Default)]
struct Wanted {
    busy_until: Option<Instant>,
    delay: Duration,
    answer_delay: Duration,
}

impl Faults {
    /// Refuses events and links for so long from now.
    pub(crate) fn throttle(&self, duration: Duration) {
        // A duration past the end of time means no throttling ever again ends; nobody waits for that either.
        self.lock().busy_until = Instant::now().checked_add(duration);
    }

    /// Whether events and links are to be refused now.
    pub(crate) fn busy(&self) -> bool {
        self.lock().busy_until.is_some_and(|until| Instant::now() < until)
    }

    /// Holds back every burst of events for so long.
    pub(crate) fn set_delay(&self, delay: Duration) {
        self.lock().delay = delay;
    }

    /// How long to hold back a burst of events.
    pub(crate) fn delay(&self) -> Duration {
        self.lock().delay
    }

    /// Holds back every answer about the hub and its partitions for so long.
    pub(crate) fn set_answer_delay(&self, delay: Duration) {
        self.lock().answer_delay = delay;
    }

    /// How long to hold back an answer.
    pub(crate) fn answer_delay(&self) -> Duration {
        self.lock().answer_delay
    }

    fn lock(&self) -> MutexGuard<'_, Wanted> {
        // Plain values are whole at any time, so what a panic left is as good as any.
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
