//! What the broker does with the messages that are being published: it confirms or refuses them, or is silent.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use windrow_common::InFlight;

use super::AmqpError;

/// A broker that confirms nothing for this long is silent. A majority of the queue's nodes is away, or a disk is slow.
pub(super) const SILENT_AFTER: Duration = Duration::from_secs(10);
/// How often the log tells of refusals.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// The progress of publishing on one link.
#[derive(Debug)]
pub(super) struct Progress {
    origin: Instant,
    /// Number of messages that are being published.
    publishing: AtomicUsize,
    /// When a message was last confirmed, or else when publishing began, in milliseconds since `origin`.
    moved_ms: AtomicU64,
    /// Whether the log says that the broker is silent.
    is_told: AtomicBool,
    /// Attempts that the broker has refused since it last confirmed a message.
    refused: AtomicU64,
    /// When the log last told of that, in milliseconds since `origin`; 0 for never.
    refusal_told_ms: AtomicU64,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self {
            origin: Instant::now(),
            publishing: AtomicUsize::new(0),
            moved_ms: AtomicU64::new(0),
            is_told: AtomicBool::new(false),
            refused: AtomicU64::new(0),
            refusal_told_ms: AtomicU64::new(0),
        }
    }

    /// Notes that a message is being published, until the returned guard is dropped.
    pub(super) fn publishing(&self) -> InFlight<'_> {
        let publishing = InFlight::among(&self.publishing);
        if publishing.is_first() {
            self.moved_ms.store(self.now_ms(), Relaxed);
        }
        publishing
    }

    /// Notes that the broker has confirmed a message.
    pub(super) fn confirmed(&self) {
        self.moved_ms.store(self.now_ms(), Relaxed);
        if self.is_told.load(Relaxed) && self.is_told.swap(false, Relaxed) {
            tracing::info!("RabbitMQ confirms messages again");
        }
        if self.refused.load(Relaxed) > 0 {
            self.refused.store(0, Relaxed);
        }
    }

    /// Records that the broker has refused a message for a reason that a person has to fix. The broker refuses all
    /// messages in flight alike, on every retry. So this logs the first refusal, and then their number once a minute.
    pub(super) fn refused(&self, id: &str, error: &AmqpError) {
        let attempts = self.refused.fetch_add(1, Relaxed) + 1;
        if self.must_tell_refusal(self.now_ms()) {
            tracing::warn!(id, attempts, %error, "RabbitMQ refuses messages; publishing them again until it works");
        }
    }

    fn must_tell_refusal(&self, now_ms: u64) -> bool {
        let told = self.refusal_told_ms.load(Relaxed);
        let is_due = told == 0 || u128::from(now_ms.saturating_sub(told)) >= TELL_EVERY.as_millis();
        // If several tasks find a line due, one of them logs it.
        is_due
            && self
                .refusal_told_ms
                .compare_exchange(told, now_ms.max(1), Relaxed, Relaxed)
                .is_ok()
    }

    /// Returns for how long messages have waited without a confirmation of any; `None` if that is not long.
    pub(super) fn silence(&self) -> Option<Duration> {
        (self.publishing.load(Relaxed) > 0)
            .then(|| self.since_moved())
            .filter(|silence| *silence >= SILENT_AFTER)
    }

    /// Logs that the broker is silent, once for each silence.
    pub(super) fn tell_silence(&self, endpoint: &str) {
        if let Some(silence) = self.silence()
            && !self.is_told.swap(true, Relaxed)
        {
            tracing::warn!(endpoint, ?silence, "RabbitMQ takes messages and confirms none");
        }
    }

    /// Waits until nothing has been confirmed for `patience`.
    pub(super) async fn silent_for(&self, patience: Duration) {
        loop {
            let left = patience.saturating_sub(self.since_moved());
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left).await;
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn since_moved(&self) -> Duration {
        Duration::from_millis(self.now_ms().saturating_sub(self.moved_ms.load(Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_of_many_messages_are_one_line_and_then_one_a_minute() {
        let progress = Progress::new();
        let seconds = (1..150).filter(|second| {
            let told = (0..1_000)
                .filter(|_| progress.must_tell_refusal(second * 1_000))
                .count();
            assert!(told <= 1, "{told} lines in one second");
            told == 1
        });
        assert_eq!(seconds.collect::<Vec<_>>(), [1, 61, 121]);
    }
}
