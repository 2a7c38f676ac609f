//! Tells whether the workers of a process make progress, for its readiness check.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use windrow_common::InFlight;

/// What the workers of a process wait for, and when they last settled a message.
#[derive(Debug)]
pub(crate) struct Progress {
    origin: Instant,
    /// When a message was last settled, or else when the first one was received, in milliseconds since `origin`.
    moved_ms: AtomicU64,
    is_subscribed: AtomicBool,
    /// Number of workers that wait for models.
    loading: AtomicUsize,
    /// Number of batches that are being written.
    writing: AtomicUsize,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            origin: Instant::now(),
            moved_ms: AtomicU64::new(0),
            is_subscribed: AtomicBool::new(false),
            loading: AtomicUsize::new(0),
            writing: AtomicUsize::new(0),
        }
    }
}

impl Progress {
    pub(crate) fn subscribed(&self) {
        self.is_subscribed.store(true, Relaxed);
    }

    /// Notes that messages were settled, or that the first ones were received.
    pub(crate) fn moved(&self) {
        let now_ms = u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved_ms.store(now_ms, Relaxed);
    }

    pub(crate) fn loads(&self) -> InFlight<'_> {
        InFlight::among(&self.loading)
    }

    pub(crate) fn writes(&self) -> InFlight<'_> {
        InFlight::among(&self.writing)
    }

    /// Returns why the workers make no progress, or `None` if they do or have nothing to do. They make none if nobody
    /// has subscribed to the queue, or if they hold `held` messages and have settled none for `patience`. `dead` of
    /// these messages wait for their dead letters.
    pub(crate) fn outage(&self, held: i64, dead: i64, patience: Duration) -> Option<String> {
        if !self.is_subscribed.load(Relaxed) {
            return Some("not subscribed to the queue yet".to_owned());
        }
        let moved = Duration::from_millis(self.moved_ms.load(Relaxed));
        let since = self.origin.elapsed().saturating_sub(moved);
        if held <= 0 || since < patience {
            return None;
        }
        let mut waits = Vec::new();
        if self.writing.load(Relaxed) > 0 {
            waits.push("the store to take predictions".to_owned());
        }
        if self.loading.load(Relaxed) > 0 {
            waits.push("models from the store".to_owned());
        }
        if dead > 0 {
            waits.push(format!("the broker to confirm {dead} dead letters"));
        }
        if waits.is_empty() {
            waits.push("a batch to be scored".to_owned());
        }
        Some(format!(
            "holds {held} messages and has settled none for {}s; it waits for {}",
            since.as_secs(),
            waits.join(" and ")
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_holds_messages_and_settles_none_is_not_ready_and_says_what_it_waits_for() {
        let progress = Progress::default();
        let outage = |held, dead| progress.outage(held, dead, Duration::ZERO);
        assert_eq!(outage(0, 0).as_deref(), Some("not subscribed to the queue yet"));
        progress.subscribed();
        progress.moved();
        assert_eq!(outage(0, 0), None);
        assert_eq!(progress.outage(5, 0, Duration::from_secs(60)), None);
        let waits = |held, dead, what: &str| {
            let said = outage(held, dead).unwrap();
            assert!(
                said.starts_with(&format!("holds {held} messages and has settled none for 0s")),
                "{said}"
            );
            assert!(said.ends_with(&format!("; it waits for {what}")), "{said}");
        };
        waits(7, 0, "a batch to be scored");
        waits(7, 3, "the broker to confirm 3 dead letters");
        let _writing = progress.writes();
        waits(
            7,
            3,
            "the store to take predictions and the broker to confirm 3 dead letters",
        );
        let _loading = progress.loads();
        waits(1, 0, "the store to take predictions and models from the store");
    }
}
