//! What the broker does with the messages that are being published: it confirms them, is silent, or takes none.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt;
use lapin::{Connection, Event};

/// A broker that confirms nothing for this long is silent. A majority of the queue's nodes is away, or a disk is slow.
pub(super) const SILENT_AFTER: Duration = Duration::from_secs(10);

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
    /// What the broker lacks, in its own words, while it takes no messages.
    lacks: Arc<Mutex<String>>,
}

/// A message that is being published, until this is dropped.
pub(super) struct Publishing<'a>(&'a AtomicUsize);

impl Drop for Publishing<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Progress {
    pub(super) fn new() -> Self {
        Self {
            origin: Instant::now(),
            publishing: AtomicUsize::new(0),
            moved_ms: AtomicU64::new(0),
            is_told: AtomicBool::new(false),
            lacks: Arc::default(),
        }
    }

    /// Notes that a message is being published, until the returned guard is dropped.
    pub(super) fn publishing(&self) -> Publishing<'_> {
        if self.publishing.fetch_add(1, Relaxed) == 0 {
            self.moved_ms.store(self.now_ms(), Relaxed);
        }
        Publishing(&self.publishing)
    }

    /// Notes that the broker has confirmed a message.
    pub(super) fn confirmed(&self) {
        self.moved_ms.store(self.now_ms(), Relaxed);
        if self.is_told.load(Relaxed) && self.is_told.swap(false, Relaxed) {
            tracing::info!("RabbitMQ confirms messages again");
        }
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

    /// Watches a connection for the broker's word that it takes no messages.
    pub(super) fn watch(&self, connection: &Connection, endpoint: String) {
        let lacks = Arc::clone(&self.lacks);
        let mut events = connection.events_listener();
        tokio::spawn(async move {
            while let Some(event) = events.next().await {
                match event {
                    Event::ConnectionBlocked(reason) => {
                        tracing::warn!(
                            endpoint,
                            reason,
                            "RabbitMQ takes no messages; waiting until it does"
                        );
                        *lacks.lock().unwrap_or_else(PoisonError::into_inner) = reason;
                    }
                    Event::ConnectionUnblocked => tracing::info!(endpoint, "RabbitMQ takes messages again"),
                    _ => {}
                }
            }
        });
    }

    /// Returns what the broker lacks while it takes no messages.
    pub(super) fn lacks(&self) -> &'static str {
        let reason = self.lacks.lock().unwrap_or_else(PoisonError::into_inner);
        // "low on memory", "low on disk", "low on memory & disk".
        match (reason.contains("memory"), reason.contains("disk")) {
            (true, false) => "memory",
            (false, true) => "disk",
            _ => "memory or disk",
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn since_moved(&self) -> Duration {
        Duration::from_millis(self.now_ms().saturating_sub(self.moved_ms.load(Relaxed)))
    }
}
