//! The queue on RabbitMQ (AMQP 0-9-1): one producer and any number of workers, on any machines.
//!
//! A message stays in a quorum queue, persistent and confirmed by a majority of brokers, until a worker acks it. Every
//! failure of the broker or the network is handled in the same way. The connection is reopened, with capped and
//! jittered waits, and the queues are declared again. Unconfirmed messages are published again, and unacked ones are
//! delivered again. What a person has to fix (credentials, arguments of a foreign queue) is an error before the first
//! success, and is waited for after it.

mod access;
mod alarm;
mod answer;
mod args;
mod channels;
mod config;
mod connection;
mod consumer;
mod dead_letters;
mod declare;
mod error;
mod management;
mod policies;
mod prefetch_window;
mod progress;
mod properties;
mod publisher;
mod queue_state;
mod subscription;
#[cfg(feature = "testing")]
pub mod testing;
mod url;

use std::sync::{Arc, OnceLock};

use tokio::sync::{Semaphore, mpsc, oneshot};

pub use access::{Access, AccessSources, Login, UrlSource};
pub use args::{AmqpArgs, AmqpArgsError};
pub use config::{AmqpConfig, QueueNames, Reconnect, Tls};
pub use consumer::AmqpConsumer;
pub use dead_letters::DeadLetters;
pub use declare::QueueLook;
pub use error::AmqpError;
pub use management::{Management, ManagementError};
pub use policies::{EffectivePolicy, Risk};
pub use queue_state::QueueState;
pub use url::AmqpUrl;

use super::{Announcement, Confirmation, Depth, Message, Prefetch, Queue, QueueError};
use connection::Link;
use publisher::{Order, Publisher};

/// A queue on RabbitMQ. Clones share its connections.
#[derive(Clone, Debug)]
pub struct Amqp {
    publisher: Arc<Publisher>,
    /// Separate from the publishing connection: a broker short of memory stops reading from connections that publish,
    /// and acks have to get through even then.
    consuming: Arc<Link>,
    /// Has one permit for each message that may be published and not yet confirmed.
    confirm_window: Arc<Semaphore>,
    /// Sends to the task that publishes, which the first message starts.
    orders: Arc<OnceLock<mpsc::UnboundedSender<Order>>>,
}

impl Amqp {
    /// Creates a queue that connects on first use.
    pub fn new(config: AmqpConfig) -> Self {
        let config = Arc::new(config);
        Self {
            confirm_window: Arc::new(Semaphore::new(config.confirm_window)),
            publisher: Arc::new(Publisher::new(Arc::new(Link::new(
                Arc::clone(&config),
                "publishing",
            )))),
            consuming: Arc::new(Link::new(config, "consuming")),
            orders: Arc::default(),
        }
    }

    /// Connects now, so that a mistake shows at startup. A service creates the queues and the exchange that are missing,
    /// warns of policies that can lose messages, and opens the connection again each time it is lost, until
    /// [`Amqp::close`]. A command fails if the scoring queue is missing.
    pub async fn connect(&self) -> Result<(), AmqpError> {
        let link = self.publisher.link();
        link.connection().await?;
        match link.config().reconnect {
            Reconnect::Forever => {
                tokio::spawn(policies::warn_of_risks(link.config().clone()));
                tokio::spawn(Link::keep_open(Arc::downgrade(link)));
            }
            Reconnect::Never => {
                link.look_at(&self.names().score).await?;
            }
        }
        Ok(())
    }

    /// Returns why the broker cannot be used at the moment; `None` if no reason is known. Before [`Amqp::connect`], the
    /// reason is that it is not connected yet.
    pub fn outage(&self) -> Option<String> {
        let publishing = self.publisher.link();
        let unused = || publishing.is_unused().then(|| publishing.not_connected());
        publishing
            .outage()
            .or_else(unused)
            .or_else(|| self.consuming.outage())
    }

    /// Returns the dead letters, to list, replay or purge.
    pub fn dead_letters(&self) -> DeadLetters {
        DeadLetters::new(Arc::clone(&self.publisher), Arc::clone(&self.consuming))
    }

    /// Returns how many messages wait in one of the queues, and for how many consumers.
    pub async fn look_at(&self, queue: &str) -> Result<QueueLook, AmqpError> {
        self.consuming.look_at(queue).await
    }

    /// Returns the names of the queues and the exchange.
    pub fn names(&self) -> &QueueNames {
        &self.publisher.link().config().names
    }

    /// Closes the connections. Unsettled messages are delivered to other consumers.
    pub async fn close(&self) {
        // A broker that takes no messages does not answer on the publishing connection, and must not hold up the acks.
        tokio::join!(self.consuming.close(), self.publisher.link().close());
    }
}

impl Queue for Amqp {
    type Consumer = AmqpConsumer;

    async fn publish(&self, message: Message) -> Result<Confirmation, QueueError> {
        let permit = Arc::clone(&self.confirm_window).acquire_owned().await;
        let permit = permit.map_err(|_| QueueError::Closed)?;
        let (confirm, confirmed) = oneshot::channel();
        let orders = self.orders.get_or_init(|| {
            let (orders, to_publish) = mpsc::unbounded_channel();
            tokio::spawn(Arc::clone(&self.publisher).carry_out(to_publish));
            orders
        });
        let order = Order {
            message,
            confirm,
            permit,
        };
        orders.send(order).map_err(|_| QueueError::Closed)?;
        Ok(Confirmation { confirmed })
    }

    async fn consume(&self, prefetch: impl Into<Prefetch> + Send) -> Result<AmqpConsumer, QueueError> {
        let prefetch = prefetch.into();
        let mut consumer =
            AmqpConsumer::new(Arc::clone(&self.consuming), Arc::clone(&self.publisher), prefetch);
        consumer.subscribe().await?;
        Ok(consumer)
    }

    async fn depth(&self) -> Result<Depth, QueueError> {
        Ok(Depth {
            ready: self.consuming.look_at(&self.names().score).await?.ready,
            unacked: None,
        })
    }

    async fn announce(&self, announcement: Announcement) -> Result<(), QueueError> {
        Ok(self.publisher.announce(&announcement).await?)
    }
}
