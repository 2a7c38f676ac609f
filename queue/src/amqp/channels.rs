//! The channels that a publisher uses: a pool that replaces those which are closed, or on which the broker rejects messages.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use deadpool::managed::{self, Metrics, Pool, PoolError, RecycleError, RecycleResult};
use lapin::Channel;
use lapin::options::ConfirmSelectOptions;
use tokio::time::Instant;

use super::AmqpError;
use super::connection::Link;

/// Number of channels in the pool. One is fast enough. With two, nothing waits for a channel that an error has closed.
const CHANNELS: usize = 2;
/// Shortest time between replacements of channels on which the broker rejects messages: a full queue rejects many at
/// once.
const REPLACE_EVERY: Duration = Duration::from_secs(1);

/// The channels of a publisher, opened when they are needed.
pub(super) struct Channels {
    pool: Pool<Manager>,
    refused: Refused,
}

/// Opens channels for the pool.
struct Manager {
    link: Arc<Link>,
    refused: Refused,
}

/// The channels on which the broker has rejected a message. A full quorum queue keeps rejecting messages from such a
/// channel until enough messages have left the queue, even if the policy that limits the queue is deleted. New channels
/// are not affected.
#[derive(Clone, Default)]
struct Refused(Arc<Mutex<RefusedChannels>>);

#[derive(Default)]
struct RefusedChannels {
    numbers: HashSet<u16>,
    replaced_at: Option<Instant>,
}

impl Channels {
    pub(super) fn new(link: &Arc<Link>) -> Self {
        let refused = Refused::default();
        let manager = Manager {
            link: Arc::clone(link),
            refused: refused.clone(),
        };
        #[allow(clippy::expect_used)]
        let pool = Pool::builder(manager)
            .max_size(CHANNELS)
            .build()
            .expect("a pool without timeouts needs no runtime, which is all that can be missing");
        Self { pool, refused }
    }

    /// Returns a channel. It stays in the pool: a channel takes any number of publishes, and each waits for its frame to be
    /// written.
    pub(super) async fn one(&self) -> Result<Channel, AmqpError> {
        let pooled = self.pool.get().await.map_err(|error| match error {
            PoolError::Backend(error) => error,
            other => AmqpError::Away {
                endpoint: self.pool.manager().link.endpoint(),
                why: other.to_string(),
            },
        })?;
        Ok(Channel::clone(&pooled))
    }

    /// Notes that the broker has rejected a message on a channel, so that another one replaces it.
    pub(super) fn refused_on(&self, channel: &Channel) {
        self.refused.insert(channel);
    }
}

impl Refused {
    fn insert(&self, channel: &Channel) {
        self.channels().numbers.insert(channel.id());
    }

    /// Returns whether to replace the channel now. If so, forgets its number, because a new channel will reuse it.
    fn remove(&self, channel: &Channel) -> bool {
        let mut channels = self.channels();
        let is_due = |at: Instant| at.elapsed() >= REPLACE_EVERY;
        let removed = channels.replaced_at.is_none_or(is_due) && channels.numbers.remove(&channel.id());
        if removed {
            channels.replaced_at = Some(Instant::now());
        }
        removed
    }

    fn channels(&self) -> MutexGuard<'_, RefusedChannels> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl managed::Manager for Manager {
    type Type = Channel;
    type Error = AmqpError;

    async fn create(&self) -> Result<Channel, AmqpError> {
        let channel = self.link.channel().await?;
        let select = channel.confirm_select(ConfirmSelectOptions::default());
        self.link.answer("asking for confirmations", None, select).await?;
        Ok(channel)
    }

    async fn recycle(&self, channel: &mut Channel, _: &Metrics) -> RecycleResult<AmqpError> {
        if self.refused.remove(channel) {
            return Err(RecycleError::message("the broker has rejected a message on it"));
        }
        if channel.status().connected() {
            Ok(())
        } else {
            Err(RecycleError::message("the channel is closed"))
        }
    }
}
