//! Publishes messages until the broker confirms them.

use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use lapin::options::BasicPublishOptions;
use lapin::{BasicProperties, Confirmation};

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::channels::Channels;
use super::connection::Link;
use super::error::size_limit;
use super::progress::SILENT_AFTER;
use super::{AmqpError, Reconnect, properties};
use crate::{Announcement, DeadLetter, Message, QueueError};
use windrow_common::{Backoff, HasRemedy, Remedy};

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
/// Wait between attempts to publish a dead letter that is larger than the broker takes.
const TOO_LARGE_WAIT: Duration = Duration::from_secs(60);
/// Maximum number of attempts of a command if a queue or exchange is missing although it has just been declared. A
/// service keeps retrying, and is not ready: whatever keeps deleting it may stop.
const UNDECLARED_TRIES: u32 = 5;

/// A publisher that uses pooled channels of one connection.
pub(super) struct Publisher {
    link: Arc<Link>,
    channels: Channels,
    to_score: Gate,
    to_dead: Gate,
    to_subscribers: Gate,
    /// Held while the client library numbers a message.
    turn: Mutex<()>,
}

/// A gate that all messages to one destination pass. While the broker refuses them, for example after a permission was
/// revoked, one message retries and the others wait, because each refusal costs a channel.
#[derive(Default)]
struct Gate {
    refuses: AtomicBool,
    turn: tokio::sync::Mutex<()>,
}

impl Gate {
    /// Waits for a turn to try, while the broker refuses messages.
    async fn pass(&self) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        if !self.refuses.load(Relaxed) {
            return None;
        }
        let turn = self.turn.lock().await;
        self.refuses.load(Relaxed).then_some(turn)
    }

    fn set_refuses(&self, refuses: bool) {
        if self.refuses.load(Relaxed) != refuses {
            self.refuses.store(refuses, Relaxed);
        }
    }
}

/// The destination of a message.
struct Route<'a> {
    gate: &'a Gate,
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

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").field("link", &self.link).finish()
    }
}

impl Publisher {
    pub(super) fn new(link: Arc<Link>) -> Self {
        Self {
            channels: Channels::new(&link),
            to_score: Gate::default(),
            to_dead: Gate::default(),
            to_subscribers: Gate::default(),
            link,
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
            gate: &self.to_score,
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
            gate: &self.to_dead,
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
                        id = message.id,
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
            gate: &self.to_subscribers,
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
        let mut turn = None;
        loop {
            if turn.is_none() {
                turn = route.gate.pass().await;
            }
            let error = match self.once(route, id, body, properties()).await {
                Ok(()) => {
                    route.gate.set_refuses(false);
                    return Ok(());
                }
                Err(error) => error,
            };
            // Someone deleted the queue or the exchange under the live connection.
            let is_undeclared = matches!(error, AmqpError::Unroutable { .. } | AmqpError::Missing { .. });
            undeclared += u32::from(is_undeclared);
            // The next attempt knows the size limit, so the retries end, and a command may retry, too.
            let is_disturbed = matches!(error, AmqpError::Disturbed { .. });
            let is_command = self.link.config().reconnect == Reconnect::Never;
            if (is_command && undeclared > UNDECLARED_TRIES) || !(is_disturbed || self.link.waits_out(&error))
            {
                return Err(error);
            }
            match error.remedy() {
                Remedy::Wait => tracing::debug!(id, %error, "publishing again"),
                _ => {
                    route.gate.set_refuses(true);
                    self.link.progress().refused(id, &error);
                }
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
        let channel = self.channels.one().await?;
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
                self.channels.refused_on(&channel);
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
