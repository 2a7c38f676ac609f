//! The queue between producer and workers, with the few operations that the rest of the code needs.
//!
//! [`Memory`] carries messages inside one process, [`Amqp`] between machines. Every implementation of [`Queue`] makes
//! the same promises:
//!
//! - a published message is delivered at least once, to one consumer at a time;
//! - its [`Confirmation`] resolves only when a crash of this process can no longer lose it;
//! - a delivery that is unsettled when its consumer ends is delivered again, marked `redelivered`;
//! - a message passed to [`Consumer::dead_letter`] is kept, with its reason, until someone replays or purges it.
//!
//! ```
//! use std::num::NonZeroU16;
//!
//! use windrow_common::EventTime;
//! use windrow_queue::{Consumer, Memory, MemoryLimits, Message, Queue};
//! use windrow_store::Store;
//!
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! let queue = Memory::new(MemoryLimits::default(), &Store::create("memory:///")?);
//! let confirmation = queue
//!     .publish(Message {
//!         id: "pump-7/temp@1".to_owned(),
//!         kind: "example".into(),
//!         content_type: "text/plain".into(),
//!         enqueued_at: EventTime::now(),
//!         traceparent: None,
//!         body: "hello".into(),
//!     })
//!     .await?;
//! let mut consumer = queue.consume(NonZeroU16::MIN).await?;
//! let mut deliveries = Vec::new();
//! consumer.receive(&mut deliveries, 1).await?;
//! // The work is done and durable: now the message may be forgotten, and its publisher learns that it is safe.
//! consumer.ack(deliveries.into_iter().map(|delivery| delivery.receipt).collect()).await?;
//! confirmation.wait().await?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(feature = "amqp")]
mod amqp;
mod dead_letter;
mod memory;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod trace;

use std::borrow::Cow;
use std::future::Future;
use std::num::{NonZeroU16, NonZeroUsize};
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

#[cfg(feature = "amqp")]
pub use amqp::{
    Access, AccessSources, Amqp, AmqpArgs, AmqpArgsError, AmqpConfig, AmqpConsumer, AmqpError, AmqpUrl,
    DeadLetters, EffectivePolicy, Login, Management, ManagementError, QueueLook, QueueNames, QueueState,
    Reconnect, Risk, Tls, UrlSource,
};
pub use dead_letter::{DeadLetter, StoredDeadLetters};
pub use memory::{Memory, MemoryLimits};
pub use trace::Trace;

use windrow_common::{EventTime, HasRemedy, Remedy};
use windrow_store::StoreError;

/// A message on the queue: a body, and the properties that a broker's tools show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Deterministic id of the work, the same in every replay.
    pub id: String,
    /// Type of the body: [`windrow_common::ScoringMessage::KIND`].
    pub kind: Cow<'static, str>,
    /// Encoding of the body: [`windrow_common::ScoringMessage::CONTENT_TYPE`].
    pub content_type: Cow<'static, str>,
    /// When the producer first published it.
    pub enqueued_at: EventTime,
    /// W3C trace context of the span that published it.
    pub traceparent: Option<String>,
    /// The encoded [`windrow_common::ScoringMessage`] or [`windrow_common::GroupMessage`].
    pub body: Bytes,
}

/// A message that was delivered to a consumer, which settles it with the receipt.
#[derive(Debug)]
pub struct Delivery {
    /// The message as published. The queue's consumer shares it, because it may become a dead letter.
    pub message: Arc<Message>,
    /// Whether it may have been delivered before.
    pub redelivered: bool,
    /// Number of consumers that ended while they held the message, as far as the queue counts them.
    pub failures: u32,
    /// The right to settle the delivery, once.
    pub receipt: Receipt,
}

/// The right to settle one delivery. Settling consumes it, so that it cannot happen twice. If the receipt is dropped,
/// the delivery stays with the consumer until the consumer ends.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Receipt {
    /// Which of the consumer's subscriptions delivered it; always 0 in memory.
    epoch: u64,
    tag: u64,
}

impl Receipt {
    /// Creates the receipt of a delivery, for another implementation of [`Consumer`].
    pub fn new(epoch: u64, tag: u64) -> Self {
        Self { epoch, tag }
    }

    /// Returns the number of the delivery, counted by its consumer.
    pub fn tag(&self) -> u64 {
        self.tag
    }
}

/// The reason why a message was set aside, kept with the dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// A short, countable name: `no-model`, `undecodable`, …
    pub code: String,
    /// The details that a person needs.
    pub detail: String,
    /// The worker that gave up.
    pub worker: String,
}

/// An announcement to subscribers, apart from the work itself: an anomaly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// The topic, in words separated by dots: `device.tag`.
    pub topic: String,
    /// The anomaly as JSON.
    pub body: Bytes,
}

/// The confirmation of a published message, which resolves when the message is safe.
#[derive(Debug)]
pub struct Confirmation {
    confirmed: oneshot::Receiver<Result<(), QueueError>>,
}

impl Confirmation {
    /// Creates a confirmation, and the sender that resolves it, for another implementation of [`Queue`].
    pub fn pair() -> (oneshot::Sender<Result<(), QueueError>>, Self) {
        let (sender, confirmed) = oneshot::channel();
        (sender, Self { confirmed })
    }

    /// Waits until the message is safe. An error means that the queue is closed and the message is lost: publish it
    /// again after a restart, with the same id.
    pub async fn wait(self) -> Result<(), QueueError> {
        self.confirmed.await.unwrap_or(Err(QueueError::Closed))
    }
}

/// The depth of a queue: how full it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Number of messages that wait for a consumer.
    pub ready: u64,
    /// Number of messages delivered and not yet settled; `None` if only the broker's management API knows.
    pub unacked: Option<u64>,
}

/// An error of a queue.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The queue is closed; nothing more can be published.
    #[error("the queue is closed")]
    Closed,
    /// The queue takes no message of this size. The message comes back, so that its publisher can split it.
    #[error("{why}")]
    TooLarge {
        /// The message.
        message: Box<Message>,
        /// Size in bytes of the largest body that the queue takes.
        limit: usize,
        /// Names the message, its size, and the limit.
        why: String,
    },
    /// RabbitMQ failed.
    #[cfg(feature = "amqp")]
    #[error(transparent)]
    Amqp(#[from] AmqpError),
    /// A dead letter could not be written.
    #[error("cannot store the dead letter of message {id}")]
    DeadLetter {
        /// The message.
        id: String,
        /// The store's error.
        #[source]
        source: StoreError,
    },
}

impl HasRemedy for QueueError {
    fn remedy(&self) -> Remedy {
        match self {
            #[cfg(feature = "amqp")]
            Self::Amqp(error) => error.remedy(),
            Self::Closed | Self::TooLarge { .. } | Self::DeadLetter { .. } => Remedy::GiveUp,
        }
    }
}

/// What a consumer may hold unsettled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefetch {
    /// Number of messages.
    pub messages: NonZeroU16,
    /// Bytes of their bodies. The bound is approximate: one message is always allowed, and after a sudden change in
    /// sizes the bodies may exceed it for a while. The in-memory queue has its own bound.
    pub bytes: NonZeroUsize,
}

impl From<NonZeroU16> for Prefetch {
    /// Returns a prefetch of this many messages, of up to 128 MiB.
    fn from(messages: NonZeroU16) -> Self {
        Self {
            messages,
            bytes: const { NonZeroUsize::new(128 << 20).expect("128 MiB is not zero") },
        }
    }
}

/// A durable queue of scoring messages: the publishing side, and the access to the consuming side.
pub trait Queue: Clone + Send + Sync + 'static {
    /// The consumer that [`Queue::consume`] returns.
    type Consumer: Consumer;

    /// Publishes a message, waiting while the queue has no room. The confirmation resolves later, once the message is
    /// safe, so that many messages can be in flight.
    fn publish(&self, message: Message) -> impl Future<Output = Result<Confirmation, QueueError>> + Send;

    /// Starts a consumer that holds at most `prefetch` unsettled deliveries. Dropping the future may use up one
    /// delivery attempt of each message that was already sent to it.
    fn consume(
        &self,
        prefetch: impl Into<Prefetch> + Send,
    ) -> impl Future<Output = Result<Self::Consumer, QueueError>> + Send;

    /// Returns how full the queue is.
    fn depth(&self) -> impl Future<Output = Result<Depth, QueueError>> + Send;

    /// Publishes an announcement and returns once all subscribers have it. Without subscribers, it is dropped. Waits for as
    /// long as the queue takes nothing, so the caller sets a deadline.
    fn announce(&self, announcement: Announcement) -> impl Future<Output = Result<(), QueueError>> + Send;
}

/// A dead letter that is being made durable; see [`Consumer::dead_letter`].
pub type DeadLettering = Pin<Box<dyn Future<Output = Result<Option<Receipt>, QueueError>> + Send>>;

/// The consuming side of a queue. Dropping it returns unsettled deliveries to the queue.
pub trait Consumer: Send + 'static {
    /// Waits for at least one delivery and appends the available ones to `into`, at most `limit`. Returns the number
    /// appended; 0 means that the queue is closed and drained. Waits while `prefetch` deliveries are unsettled.
    /// Cancelling it loses nothing.
    fn receive(
        &mut self,
        into: &mut Vec<Delivery>,
        limit: usize,
    ) -> impl Future<Output = Result<usize, QueueError>> + Send;

    /// Acks messages whose work is done and durable. A channel that was lost meanwhile is not an error: the messages
    /// are delivered again.
    fn ack(&mut self, receipts: Vec<Receipt>) -> impl Future<Output = Result<(), QueueError>> + Send;

    /// Sets a message aside with its reason. Once the dead letter is durable, the future returns the receipt, to ack the
    /// delivery with. It returns `None` if the delivery's channel is lost first; the message is then delivered again.
    /// The future does not borrow the consumer, so a dead letter that has to wait holds up no other delivery.
    fn dead_letter(&mut self, receipt: Receipt, reason: Reason) -> DeadLettering;

    /// Stops asking for deliveries. [`Consumer::receive`] still returns those in flight to this consumer, then 0. A
    /// worker that drains finishes those too, so that nothing has to be delivered again.
    fn stop_intake(&mut self) -> impl Future<Output = ()> + Send;
}
