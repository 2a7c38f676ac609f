//! Publishes messages until the broker confirms them.

use std::collections::HashSet;
use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use deadpool::managed::{self, Metrics, Pool, PoolError, RecycleError, RecycleResult};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Confirmation};

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::Instant;

use super::connection::Link;
use super::error::size_limit;
use super::progress::SILENT_AFTER;
use super::{AmqpError, Reconnect, properties};
use crate::{Announcement, DeadLetter, Message, QueueError};
use windrow_common::{Backoff, HasRemedy, Remedy};

/// Number of channels in the pool. One is fast enough. With two, nothing waits for a channel that an error has closed.
const CHANNELS: usize = 2;
/// How long the first order after a pause waits for others, to be published together.
const GATHER: Duration = Duration::from_millis(2);
/// Maximum number of messages of one call that wait for their confirmations concurrently.
const SIDE_BY_SIDE: usize = 256;
/// Waits between attempts to publish one message. The connection has its own.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// Number of attempts until readiness says that messages are refused: a queue without room rejects them.
const REFUSED_TRIES: u32 = 5;
/// How long a command waits for a broker that confirms nothing. Opening a connection has a deadline of its own.
const COMMAND_WAITS: Duration = Duration::from_secs(11);
/// How often a dead letter that is larger than the broker takes is tried again.
const TOO_LARGE_WAIT: Duration = Duration::from_secs(60);
/// How often a channel is replaced on which the broker rejects messages: a full queue rejects many at once.
const REPLACE_EVERY: Duration = Duration::from_secs(1);
/// Maximum number of attempts if a queue or exchange is missing although it has just been declared.
const UNDECLARED_TRIES: u32 = 5;

/// A publisher that uses pooled channels of one connection.
pub(super) struct Publisher {
    link: Arc<Link>,
    channels: Pool<Channels>,
    refused: Refused,
    /// Held while the client library numbers a message.
    turn: Mutex<()>,
}

/// The destination of a message.
struct Route<'a> {
    exchange: &'a str,
    routing_key: &'a str,
    /// Whether it is an error if no queue takes the message.
    mandatory: bool,
}

impl Route<'_> {
    /// Returns the name of the queue or of the exchange.
    fn name(&self) -> &str {
        match self.exchange {
            "" => self.routing_key,
            exchange => exchange,
        }
    }
}

/// A message to publish.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) message: Message,
    /// Resolves the confirmation once the message is safe.
    pub(super) confirm: oneshot::Sender<Result<(), QueueError>>,
    /// One of the permits that bound the number of unconfirmed messages, and so the number of orders.
    pub(super) permit: OwnedSemaphorePermit,
}

/// A manager that opens channels for the pool.
struct Channels {
    link: Arc<Link>,
    refused: Refused,
}

/// The channels on which the broker has rejected a message. A full quorum queue rejects what comes on such a channel until
/// enough messages have left it, even if the policy that limits it is deleted. New channels are free of that.
#[derive(Clone, Default)]
struct Refused(Arc<Mutex<RefusedChannels>>);

#[derive(Default)]
struct RefusedChannels {
    numbers: HashSet<u16>,
    replaced_at: Option<Instant>,
}

impl Refused {
    fn insert(&self, channel: &Channel) {
        self.channels().numbers.insert(channel.id());
    }

    /// Returns whether the channel is to be replaced now. Its number is then forgotten, because it will be given again.
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

impl managed::Manager for Channels {
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

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").field("link", &self.link).finish()
    }
}

impl Publisher {
    pub(super) fn new(link: Arc<Link>) -> Self {
        let refused = Refused::default();
        let manager = Channels {
            link: Arc::clone(&link),
            refused: refused.clone(),
        };
        #[allow(clippy::expect_used)]
        let channels = Pool::builder(manager)
            .max_size(CHANNELS)
            .build()
            .expect("a pool without timeouts needs no runtime, which is all that can be missing");
        Self {
            link,
            channels,
            refused,
            turn: Mutex::default(),
        }
    }

    pub(super) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// Publishes orders concurrently until all senders are dropped. A single task does it, because a task for each
    /// message costs more than publishing it. Publishing one message at a time would cost a third of the rate.
    pub(super) async fn carry_out(self: Arc<Self>, orders: mpsc::UnboundedReceiver<Order>) {
        let orders = futures::stream::unfold(orders, async |mut orders| {
            if let Ok(order) = orders.try_recv() {
                return Some((order, orders));
            }
            let order = orders.recv().await?;
            tokio::time::sleep(GATHER).await;
            Some((order, orders))
        });
        let publish = async |order: Order| {
            let published = self.publish(&order.message).await;
            drop(order.permit);
            let published = published.map_err(|error| match error {
                AmqpError::TooLarge { limit, .. } => QueueError::TooLarge {
                    message: Box::new(order.message),
                    limit,
                    why: error.to_string(),
                },
                error => error.into(),
            });
            // A producer that has dropped the confirmation does not need the result.
            _ = order.confirm.send(published);
        };
        orders.for_each_concurrent(None, publish).await;
    }

    /// Publishes a scoring message. Returns once a majority of the broker's nodes has it on disk.
    pub(super) async fn publish(&self, message: &Message) -> Result<(), AmqpError> {
        let route = Route {
            exchange: "",
            routing_key: &self.link.config().names.score,
            mandatory: true,
        };
        let properties = || properties::of_message(message);
        self.until_confirmed(&route, &message.id, &message.body, properties)
            .await
    }

    /// Publishes scoring messages concurrently. Returns once all are confirmed.
    pub(super) async fn publish_all(&self, messages: &[Message]) -> Result<(), AmqpError> {
        all_of(
            messages
                .iter()
                .map(|message| self.publish(message).boxed())
                .collect(),
        )
        .await
    }

    /// Publishes a dead letter. Returns once it is confirmed. One that is larger than the broker takes is held until the
    /// broker takes it.
    pub(super) async fn publish_dead_letter(&self, dead_letter: &DeadLetter) -> Result<(), AmqpError> {
        let route = Route {
            exchange: "",
            routing_key: &self.link.config().names.dead,
            mandatory: true,
        };
        let DeadLetter { message, .. } = dead_letter;
        let properties = || properties::of_dead_letter(dead_letter);
        loop {
            let published = self.until_confirmed(&route, &message.id, &message.body, properties);
            match published.await {
                Err(error @ AmqpError::TooLarge { .. }) => {
                    tracing::warn!(
                        message = message.id,
                        reason = dead_letter.reason.code,
                        %error,
                        "cannot set the message aside; holding it"
                    );
                    tokio::time::sleep(TOO_LARGE_WAIT).await;
                }
                published => return published,
            }
        }
    }

    /// Publishes an anomaly. Returns once the broker has routed it to the subscribers.
    pub(super) async fn announce(
        &self,
        Announcement { topic, body }: &Announcement,
    ) -> Result<(), AmqpError> {
        let route = Route {
            exchange: &self.link.config().names.anomalies,
            routing_key: topic,
            mandatory: false,
        };
        self.until_confirmed(&route, topic, body, properties::of_announcement)
            .await
    }

    /// Publishes a message until the broker confirms it. A command gives up if the broker confirms nothing for a while.
    async fn until_confirmed(
        &self,
        route: &Route<'_>,
        id: &str,
        body: &Bytes,
        properties: impl Fn() -> BasicProperties,
    ) -> Result<(), AmqpError> {
        let progress = self.link.progress();
        let _publishing = progress.publishing();
        let attempts = self.attempts(route, id, body, properties);
        if self.link.config().reconnect == Reconnect::Forever {
            return attempts.await;
        }
        tokio::select! {
            biased;
            published = attempts => published,
            () = progress.silent_for(COMMAND_WAITS) => {
                Err(self.link.silence("publishing to", Some(route.name()), COMMAND_WAITS).await)
            }
        }
    }

    async fn attempts(
        &self,
        route: &Route<'_>,
        id: &str,
        body: &Bytes,
        properties: impl Fn() -> BasicProperties,
    ) -> Result<(), AmqpError> {
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        let mut undeclared = 0;
        let mut refused = None;
        loop {
            let error = match self.once(route, id, body, properties()).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            // Someone deleted the queue or the exchange under the live connection.
            let is_undeclared = matches!(error, AmqpError::Unroutable { .. } | AmqpError::Missing { .. });
            undeclared += u32::from(is_undeclared);
            // The next attempt knows the limit, so this ends, for a command too.
            let is_disturbed = matches!(error, AmqpError::Disturbed { .. });
            if undeclared > UNDECLARED_TRIES || !(is_disturbed || self.link.waits_out(&error)) {
                return Err(error);
            }
            match error.remedy() {
                Remedy::Wait => tracing::debug!(message = id, %error, "publishing again"),
                _ if backoff.attempts() > 0 => {}
                // A right was taken away.
                _ => tracing::warn!(message = id, %error, "publishing again until it works"),
            }
            if backoff.attempts() >= REFUSED_TRIES {
                // Readiness reports the outage until this guard is dropped.
                refused.get_or_insert_with(|| self.link.refuses());
            }
            tokio::time::sleep(backoff.next_wait()).await;
            if is_undeclared {
                self.link.declare_again().await?;
            }
        }
    }

    async fn once(
        &self,
        route: &Route<'_>,
        id: &str,
        body: &[u8],
        properties: BasicProperties,
    ) -> Result<(), AmqpError> {
        let link = &self.link;
        let endpoint = || link.endpoint();
        let pooled = self.channels.get().await.map_err(|error| match error {
            PoolError::Backend(error) => error,
            other => AmqpError::Away {
                endpoint: endpoint(),
                why: other.to_string(),
            },
        })?;
        // Returned to the pool at once: a channel takes any number of publishes, and each waits for its frame to be
        // written.
        let channel = Channel::clone(&pooled);
        drop(pooled);
        if body.len() > link.largest() {
            return Err(self.too_large(id, body.len()));
        }
        let failed = |error: lapin::Error| match size_limit(&error) {
            Some(limit) => {
                link.note_largest(limit);
                match body.len() > limit {
                    true => self.too_large(id, body.len()),
                    false => AmqpError::Disturbed { endpoint: endpoint() },
                }
            }
            None => link.error(&error),
        };
        let options = BasicPublishOptions {
            mandatory: route.mandatory,
            immediate: false,
        };
        let mut publish = pin!(channel.basic_publish(
            route.exchange.into(),
            route.routing_key.into(),
            options,
            body,
            properties,
        ));
        // The library numbers a message and then queues it. Another thread that publishes in between would get the
        // confirmation meant for this message.
        let published = poll_fn(|context| {
            let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
            publish.as_mut().poll(context)
        });
        let mut confirm = published.await.map_err(failed)?;
        let confirmed = match tokio::time::timeout(SILENT_AFTER, &mut confirm).await {
            Ok(confirmed) => confirmed,
            Err(_) => {
                link.progress().tell_silence(&endpoint());
                confirm.await
            }
        };
        match confirmed.map_err(failed)? {
            Confirmation::Ack(None) | Confirmation::NotRequested => {
                link.progress().confirmed();
                Ok(())
            }
            Confirmation::Ack(Some(_)) => Err(AmqpError::Unroutable {
                endpoint: endpoint(),
                queue: route.routing_key.to_owned(),
                id: id.to_owned(),
            }),
            Confirmation::Nack(_) => {
                self.refused.insert(&channel);
                Err(AmqpError::Nacked {
                    endpoint: endpoint(),
                    id: id.to_owned(),
                })
            }
        }
    }

    fn too_large(&self, id: &str, bytes: usize) -> AmqpError {
        AmqpError::TooLarge {
            endpoint: self.link.endpoint(),
            id: id.to_owned(),
            bytes,
            limit: self.link.largest(),
        }
    }
}

async fn all_of(publishing: Vec<BoxFuture<'_, Result<(), AmqpError>>>) -> Result<(), AmqpError> {
    futures::stream::iter(publishing)
        .buffer_unordered(SIDE_BY_SIDE)
        .try_collect()
        .await
}
