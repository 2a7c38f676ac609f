//! Publishing until it is confirmed.

use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use deadpool::managed::{self, Metrics, Pool, PoolError, RecycleError, RecycleResult};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Confirmation};

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::connection::Link;
use super::{AmqpError, Reconnect, properties};
use crate::{Announcement, DeadLetter, Message, QueueError};
use windrow_common::{Backoff, HasRemedy, Remedy};

/// Channels in the pool. One would do for speed; a channel that an error has closed is not waited for with two.
const CHANNELS: usize = 2;
/// How long the first order after a pause waits for company.
const GATHER: Duration = Duration::from_millis(2);
/// Dead letters or announcements of one worker that wait for their confirmation together.
const SIDE_BY_SIDE: usize = 256;
/// Waits between tries of one message; the connection has waits of its own.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// A broker that takes longer to confirm is in trouble: a majority of its nodes is away, or its disk.
const USUAL_CONFIRM: Duration = Duration::from_secs(30);
/// Tries of a message before the broker is in trouble: it refuses what it has no room for.
const USUAL_TRIES: u32 = 5;
/// Tries of a message whose queue or exchange is not there though it was declared just before.
const UNDECLARED_TRIES: u32 = 5;

/// Publishes over pooled channels of one connection.
pub(super) struct Publisher {
    link: Arc<Link>,
    channels: Pool<Channels>,
    /// Held while a message gets its number.
    turn: Mutex<()>,
}

/// Where a message goes.
struct Route<'a> {
    exchange: &'a str,
    routing_key: &'a str,
    /// Whether it is an error that no queue takes it.
    mandatory: bool,
}

/// A message to publish.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) message: Message,
    /// Told once it is safe.
    pub(super) confirm: oneshot::Sender<Result<(), QueueError>>,
    /// Of the messages that may be unconfirmed at a time; this bounds the orders too.
    pub(super) permit: OwnedSemaphorePermit,
}

/// Opens channels for the pool.
struct Channels {
    link: Arc<Link>,
}

impl managed::Manager for Channels {
    type Type = Channel;
    type Error = AmqpError;

    async fn create(&self) -> Result<Channel, AmqpError> {
        let channel = self.link.channel().await?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await
            .map_err(|error| self.link.error(&error))?;
        Ok(channel)
    }

    async fn recycle(&self, channel: &mut Channel, _: &Metrics) -> RecycleResult<AmqpError> {
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
        let manager = Channels {
            link: Arc::clone(&link),
        };
        #[allow(clippy::expect_used)]
        let channels = Pool::builder(manager)
            .max_size(CHANNELS)
            .build()
            .expect("a pool without timeouts needs no runtime, which is all that can be missing");
        Self {
            link,
            channels,
            turn: Mutex::default(),
        }
    }

    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    /// Publishes what is ordered, side by side, until nobody is left to order. One task for all: one for each message
    /// costs more than publishing it, and one message after the other a third of the rate.
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
            // A producer that no longer listens does not need to know.
            _ = order.confirm.send(published.map_err(QueueError::from));
        };
        orders.for_each_concurrent(None, publish).await;
    }

    /// Publishes a scoring message; returns once the broker has it on disk, in a majority of its nodes.
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

    /// Publishes scoring messages side by side; returns once all are confirmed.
    pub(super) async fn publish_all(&self, messages: &[Message]) -> Result<(), AmqpError> {
        all_of(
            messages
                .iter()
                .map(|message| self.publish(message).boxed())
                .collect(),
        )
        .await
    }

    /// Publishes dead letters; returns once the broker has all of them.
    pub(super) async fn publish_dead_letters(&self, letters: &[DeadLetter]) -> Result<(), AmqpError> {
        let route = Route {
            exchange: "",
            routing_key: &self.link.config().names.dead,
            mandatory: true,
        };
        let buried = letters.iter().map(|letter| {
            let properties = || properties::of_dead_letter(letter);
            self.until_confirmed(&route, &letter.message.id, &letter.message.body, properties)
                .boxed()
        });
        all_of(buried.collect()).await
    }

    /// Publishes anomalies; returns once the broker has passed them on to whoever subscribed.
    pub(super) async fn announce(&self, announcements: Vec<Announcement>) -> Result<(), AmqpError> {
        let exchange = &self.link.config().names.anomalies;
        let announced = announcements.iter().map(|Announcement { topic, body }| {
            let publish = async move {
                let route = Route {
                    exchange,
                    routing_key: topic,
                    mandatory: false,
                };
                self.until_confirmed(&route, topic, body, properties::of_announcement)
                    .await
            };
            publish.boxed()
        });
        all_of(announced.collect()).await
    }

    async fn until_confirmed(
        &self,
        route: &Route<'_>,
        id: &str,
        body: &Bytes,
        properties: impl Fn() -> BasicProperties,
    ) -> Result<(), AmqpError> {
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        let mut undeclared = 0;
        let mut stalled = None;
        loop {
            let error = match self.once(route, id, body, properties()).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            // Someone deleted the queue or the exchange under the live connection.
            let is_undeclared = matches!(error, AmqpError::Unroutable { .. } | AmqpError::Missing { .. });
            undeclared += u32::from(is_undeclared);
            let hopeless = error.remedy() != Remedy::Wait || undeclared > UNDECLARED_TRIES;
            if hopeless || self.link.config().reconnect == Reconnect::Never {
                return Err(error);
            }
            tracing::debug!(message = id, %error, "publishing again");
            if backoff.attempts() >= USUAL_TRIES {
                // Readiness tells, for as long as it lasts.
                stalled.get_or_insert_with(|| self.link.stalls());
            }
            tokio::time::sleep(backoff.next_wait()).await;
            if is_undeclared {
                tracing::error!(%error, "declaring the queues again");
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
        let endpoint = || link.config().url.endpoint();
        let pooled = self.channels.get().await.map_err(|error| match error {
            PoolError::Backend(error) => error,
            other => AmqpError::Away {
                endpoint: endpoint(),
                why: other.to_string(),
            },
        })?;
        // Given back at once: a channel takes any number of publishes, and waits for each frame to be written.
        let channel = Channel::clone(&pooled);
        drop(pooled);
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
        // The library numbers a message and then puts it in line: another thread in between would get the confirmation
        // meant for this one.
        let published = poll_fn(|context| {
            let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
            publish.as_mut().poll(context)
        });
        let mut confirm = published.await.map_err(|error| link.error(&error))?;
        let confirmed = match tokio::time::timeout(USUAL_CONFIRM, &mut confirm).await {
            Ok(confirmed) => confirmed,
            Err(_) => {
                let _stalled = link.stalls();
                confirm.await
            }
        };
        match confirmed.map_err(|error| link.error(&error))? {
            Confirmation::Ack(None) | Confirmation::NotRequested => Ok(()),
            Confirmation::Ack(Some(_)) => Err(AmqpError::Unroutable {
                endpoint: endpoint(),
                queue: route.routing_key.to_owned(),
                id: id.to_owned(),
            }),
            Confirmation::Nack(_) => Err(AmqpError::Nacked {
                endpoint: endpoint(),
                id: id.to_owned(),
            }),
        }
    }
}

async fn all_of(publishing: Vec<BoxFuture<'_, Result<(), AmqpError>>>) -> Result<(), AmqpError> {
    futures::stream::iter(publishing)
        .buffer_unordered(SIDE_BY_SIDE)
        .try_collect()
        .await
}
