//! The queue between producer and workers: the few operations the rest of the code needs of it.
//!
//! [`Memory`] carries messages inside one process, [`Amqp`] between machines. Whatever implements [`Queue`] promises the
//! same:
//!
//! - a message published is delivered at least once, to one consumer at a time;
//! - its [`Confirmation`] resolves only when a crash of this process can no longer lose it;
//! - a delivery not settled when its consumer goes is delivered again, marked `redelivered`;
//! - a message given to [`Consumer::dead_letter`] is kept, with its reason, until someone replays or purges it.

mod amqp;
mod dead_letter;
mod memory;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod trace;

use std::borrow::Cow;
use std::future::Future;
use std::num::NonZeroU16;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

pub use amqp::{
    Amqp, AmqpArgs, AmqpArgsError, AmqpConfig, AmqpConsumer, AmqpError, AmqpUrl, DeadLetters, Management,
    ManagementError, QueueNames, QueueState, Reconnect, Tls,
};
pub use dead_letter::{DeadLetter, StoredDeadLetters};
pub use memory::{Memory, MemoryLimits};
pub use trace::Trace;

use windrow_common::{EventTime, HasRemedy, Remedy};
use windrow_store::StoreError;

/// Something the queue carries: a body, and what a broker's tools show of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Deterministic name of the work, the same in every replay.
    pub id: String,
    /// What the body is: [`windrow_common::ScoringMessage::KIND`].
    pub kind: Cow<'static, str>,
    /// How the body is written: [`windrow_common::ScoringMessage::CONTENT_TYPE`].
    pub content_type: Cow<'static, str>,
    /// When the producer first handed it over.
    pub enqueued_at: EventTime,
    /// W3C trace context of the span that published it.
    pub traceparent: Option<String>,
    /// The encoded [`windrow_common::ScoringMessage`].
    pub body: Bytes,
}

/// A message in a consumer's hands, to be settled through its receipt.
#[derive(Debug)]
pub struct Delivery {
    /// What was published; shared with the consumer, which keeps it for the dead letter it may become.
    pub message: Arc<Message>,
    /// Whether it may have been delivered before.
    pub redelivered: bool,
    /// Consumers that had it before and went away holding it, as far as the queue counts them.
    pub failures: u32,
    /// The right to settle it, once.
    pub receipt: Receipt,
}

/// The right to settle one delivery. Settling consumes it, so that it cannot happen twice; dropping it leaves the
/// delivery with the consumer until the consumer goes.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Receipt {
    /// Which of the consumer's subscriptions delivered it; always 0 in memory.
    epoch: u64,
    tag: u64,
}

/// Why a message was set aside, as it travels with the dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// A short, countable name: `no-model`, `undecodable`, …
    pub code: String,
    /// What a person needs to know.
    pub detail: String,
    /// Which worker gave up.
    pub worker: String,
}

/// Something worth telling whoever listens, besides the work: an anomaly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// What it is about, in words separated by dots: `device.tag`.
    pub topic: String,
    /// JSON.
    pub body: Bytes,
}

/// Resolves when a published message is safe.
#[derive(Debug)]
pub struct Confirmation {
    confirmed: oneshot::Receiver<Result<(), QueueError>>,
}

impl Confirmation {
    /// Waits until the message is safe. An error means the queue is gone and the message with it: publish it again
    /// after a restart, under the same id.
    pub async fn wait(self) -> Result<(), QueueError> {
        self.confirmed.await.unwrap_or(Err(QueueError::Closed))
    }
}

/// How full the queue is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Messages waiting for a consumer.
    pub ready: u64,
    /// Messages with a consumer, not settled; `None` where only the broker's management API knows.
    pub unacked: Option<u64>,
}

/// What can go wrong with a queue.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The queue is closed; nothing more can be published.
    #[error("the queue is closed")]
    Closed,
    /// A message larger than the whole queue may be.
    #[error("message {id} has {bytes} bytes; the queue holds {capacity} in all")]
    TooLarge {
        /// The message.
        id: String,
        /// Its size.
        bytes: usize,
        /// What would fit.
        capacity: usize,
    },
    /// RabbitMQ failed for good.
    #[error(transparent)]
    Amqp(#[from] AmqpError),
    /// A dead letter could not be written.
    #[error("cannot keep the dead letter of message {id}")]
    DeadLetter {
        /// The message.
        id: String,
        /// What the store said.
        #[source]
        source: StoreError,
    },
}

impl HasRemedy for QueueError {
    fn remedy(&self) -> Remedy {
        match self {
            Self::Amqp(error) => error.remedy(),
            Self::Closed | Self::TooLarge { .. } | Self::DeadLetter { .. } => Remedy::GiveUp,
        }
    }
}

/// A durable queue of scoring messages: the publishing side, and the way to the consuming side.
pub trait Queue: Clone + Send + Sync + 'static {
    /// What [`Queue::consume`] gives.
    type Consumer: Consumer;

    /// Hands a message over, waiting while the queue has no room. The result resolves once it is safe, so that many can
    /// be under way at once.
    fn publish(&self, message: Message) -> impl Future<Output = Result<Confirmation, QueueError>> + Send;

    /// Starts a consumer that holds at most `prefetch` unsettled deliveries.
    fn consume(
        &self,
        prefetch: NonZeroU16,
    ) -> impl Future<Output = Result<Self::Consumer, QueueError>> + Send;

    /// How full the queue is now.
    fn depth(&self) -> impl Future<Output = Result<Depth, QueueError>> + Send;

    /// Tells whoever listens; returns once they have been told. With nobody listening it is forgotten.
    fn announce(
        &self,
        announcements: Vec<Announcement>,
    ) -> impl Future<Output = Result<(), QueueError>> + Send;
}

/// The consuming side. Dropping it gives back what it has not settled.
pub trait Consumer: Send + 'static {
    /// Waits for at least one delivery and appends what is at hand to `into`, at most `limit`. Gives the number
    /// appended; 0 means that the queue is closed and drained. While `prefetch` deliveries are unsettled it waits.
    /// Cancelling it loses nothing.
    fn receive(
        &mut self,
        into: &mut Vec<Delivery>,
        limit: usize,
    ) -> impl Future<Output = Result<usize, QueueError>> + Send;

    /// Says that the messages' work is done and durable. A channel that has gone meanwhile is no error: the messages
    /// come again.
    fn ack(&mut self, receipts: Vec<Receipt>) -> impl Future<Output = Result<(), QueueError>> + Send;

    /// Sets messages aside with their reasons; when this returns, the dead letters are durable and the deliveries
    /// settled.
    fn dead_letter(
        &mut self,
        dead: Vec<(Receipt, Reason)>,
    ) -> impl Future<Output = Result<(), QueueError>> + Send;

    /// Asks for no more deliveries. [`Consumer::receive`] still hands out what is on its way to this consumer, then 0:
    /// a worker that drains finishes that too, so that nothing has to be delivered again.
    fn stop_intake(&mut self) -> impl Future<Output = ()> + Send;
}
