//! Announces anomalies, and drops announcements that the broker does not accept in time.
//!
//! Predictions are durable before their anomalies are announced, so an announcement is only a convenience. No ack may
//! wait for one indefinitely: a broker that is short of memory accepts no messages, and only acks free its memory.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::Instrument;
use windrow_queue::{Announcement, Queue};

use crate::stats::Stats;

/// How long the acks of a batch wait for its announcements.
const ANNOUNCE_WITHIN: Duration = Duration::from_secs(5);
/// Maximum number of announcements that await confirmation at the same time.
const SIDE_BY_SIDE: usize = 256;

/// A worker's announcer. At most one batch is late; while it is, newer announcements are dropped.
pub(crate) struct Announcer<Q> {
    queue: Q,
    stats: Arc<Stats>,
    /// The batch that is being announced. If the broker does not confirm it in time, it stays here; its end shows that
    /// the broker accepts announcements again.
    late: JoinSet<()>,
    /// Number of announcements dropped while `late` is late.
    dropped: u64,
}

impl<Q: Queue> Announcer<Q> {
    pub(crate) fn new(queue: Q, stats: Arc<Stats>) -> Self {
        Self {
            queue,
            stats,
            late: JoinSet::new(),
            dropped: 0,
        }
    }

    /// Announces a batch, or drops it. Returns within [`ANNOUNCE_WITHIN`], and at once while an earlier batch is late.
    pub(crate) async fn announce(&mut self, announcements: Vec<Announcement>) {
        if announcements.is_empty() {
            return;
        }
        if !self.late.is_empty() {
            if self.late.try_join_next().is_none() {
                let count = announcements.len() as u64;
                self.dropped += count;
                self.stats.dropped_announcements.inc_by(count);
                return;
            }
            tracing::info!(dropped = self.dropped, "announcing anomalies again");
            self.dropped = 0;
        }
        let publish = publish(self.queue.clone(), Arc::clone(&self.stats), announcements);
        self.late.spawn(publish.in_current_span());
        if timeout(ANNOUNCE_WITHIN, self.late.join_next()).await.is_err() {
            tracing::warn!(
                waited = ?ANNOUNCE_WITHIN,
                "the broker does not take announcements of anomalies; scoring goes on, and announcements are dropped until \
                 it does"
            );
        }
    }
}

impl<Q> Drop for Announcer<Q> {
    fn drop(&mut self) {
        if !self.late.is_empty() && self.late.try_join_next().is_none() {
            tracing::warn!(
                dropped = self.dropped,
                "ending while the broker does not take announcements of anomalies; the last batch is dropped as well"
            );
        }
    }
}

/// Announces a batch. Counts an announcement that fails, and goes on with the others.
async fn publish<Q: Queue>(queue: Q, stats: Arc<Stats>, announcements: Vec<Announcement>) {
    let mut announced = futures::stream::iter(announcements)
        .map(|announcement| {
            let queue = &queue;
            async move {
                let topic = announcement.topic.clone();
                queue.announce(announcement).await.map_err(|error| (topic, error))
            }
        })
        .buffer_unordered(SIDE_BY_SIDE);
    let mut is_told = false;
    while let Some(announced) = announced.next().await {
        match announced {
            Ok(()) => {
                stats.announcements.inc();
            }
            Err((topic, error)) => {
                stats.dropped_announcements.inc();
                if !is_told {
                    tracing::warn!(topic, %error, "cannot announce anomalies");
                }
                is_told = true;
            }
        }
    }
}
