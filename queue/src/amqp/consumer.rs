//! Receives messages from RabbitMQ and settles them.

use std::collections::VecDeque;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, message::Delivery as Delivered};
use tokio::task::JoinError;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use super::connection::Link;
use super::publisher::Publisher;
use super::{AmqpError, Reconnect, properties};
use crate::{Consumer, DeadLetter, Delivery, Message, QueueError, Reason, Receipt};
use windrow_common::{EventTime, HasRemedy, Remedy};

/// After a stop: how long the queue must be silent before nothing counts as in flight, and how long to wait for that.
const QUIET: Duration = Duration::from_millis(250);
const FILL_UP_WITHIN: Duration = Duration::from_secs(2);

/// Minimum time between two looks at the deliveries, so that those that arrive meanwhile are received together. Without
/// it, a busy consumer is woken for each message, which costs more than scoring it.
const BETWEEN_LOOKS: Duration = Duration::from_millis(2);

/// A consumer of the scoring queue. It outlives its channel: a new channel replaces a lost one.
#[derive(Debug)]
pub struct AmqpConsumer {
    link: Arc<Link>,
    publisher: Arc<Publisher>,
    prefetch: NonZeroU16,
    subscription: Option<Subscription>,
    /// The subscription that is being started. [`Consumer::receive`] may be cancelled meanwhile; the next call waits on
    /// for it. Giving it up would spend a delivery of every message that the broker has sent to it already. It is a
    /// task, so that it holds no lock while nobody polls it.
    starting: Option<AbortOnDropHandle<Result<Subscription, AmqpError>>>,
    /// Counts the subscriptions, so that a receipt of a lost one settles nothing.
    epoch: u64,
    /// When to cancel at the latest; set by a stop.
    cancel_by: Option<Instant>,
    last_look: Option<Instant>,
}

/// One consumer on one channel.
#[derive(Debug)]
struct Subscription {
    channel: Channel,
    deliveries: lapin::Consumer,
    cancelled: bool,
    /// Whether the deliveries have ended. Polling an ended stream again waits forever.
    ended: bool,
    /// Deliveries that were handed out and are not acked yet, ordered by delivery tag.
    unsettled: VecDeque<Unsettled>,
}

#[derive(Debug)]
struct Unsettled {
    tag: u64,
    settled: bool,
    /// Kept because it may become a dead letter; shared with the delivery.
    message: Arc<Message>,
    failures: u32,
}

impl AmqpConsumer {
    pub(super) fn new(link: Arc<Link>, publisher: Arc<Publisher>, prefetch: NonZeroU16) -> Self {
        Self {
            link,
            publisher,
            prefetch,
            subscription: None,
            starting: None,
            epoch: 0,
            cancel_by: None,
            last_look: None,
        }
    }

    /// Starts consuming. Cancelling it loses nothing: the next call goes on where this one was.
    pub(super) async fn subscribe(&mut self) -> Result<(), AmqpError> {
        let (link, prefetch) = (&self.link, self.prefetch);
        let starting = self.starting.get_or_insert_with(|| {
            let starting = subscribe(Arc::clone(link), prefetch).in_current_span();
            AbortOnDropHandle::new(tokio::spawn(starting))
        });
        let started = starting.await;
        self.starting = None;
        self.subscription = Some(started.unwrap_or_else(|ended| self.not_started(ended))?);
        self.epoch += 1;
        Ok(())
    }

    /// Explains a start that ended without a result: it panicked, or the runtime is shutting down.
    fn not_started(&self, ended: JoinError) -> Result<Subscription, AmqpError> {
        match ended.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(AmqpError::Away {
                endpoint: self.link.endpoint(),
                why: "this program is ending".to_owned(),
            }),
        }
    }

    /// Subscribes, and returns whether there is a subscription. After a stop, none is started, and one that is being
    /// started is waited for as long as a stop waits for anything: the broker may have sent it messages.
    async fn subscribe_unless_stopped(&mut self) -> Result<bool, AmqpError> {
        let Some(cancel_by) = self.cancel_by else {
            self.subscribe().await?;
            return Ok(true);
        };
        if self.starting.is_none() {
            return Ok(false);
        }
        match timeout_at(cancel_by, self.subscribe()).await {
            Ok(started) => started.map(|()| true),
            Err(_) => {
                self.starting = None;
                Ok(false)
            }
        }
    }

    fn accept(&mut self, mut delivered: Delivered, into: &mut Vec<Delivery>) {
        let Some(subscription) = &mut self.subscription else {
            return;
        };
        let (message, failures) = properties::message_of(&mut delivered);
        let message = Arc::new(message);
        let tag = delivered.delivery_tag;
        subscription.unsettled.push_back(Unsettled {
            tag,
            settled: false,
            message: Arc::clone(&message),
            failures,
        });
        into.push(Delivery {
            message,
            redelivered: delivered.redelivered,
            failures,
            receipt: Receipt {
                epoch: self.epoch,
                tag,
            },
        });
    }

    /// Returns the live subscription's entry for a receipt.
    fn unsettled(&mut self, receipt: &Receipt) -> Option<&mut Unsettled> {
        if receipt.epoch != self.epoch {
            return None;
        }
        self.subscription.as_mut()?.entry(receipt.tag)
    }
}

/// Starts consuming. Waits for the end of an outage of the broker, and declares a missing queue again.
async fn subscribe(link: Arc<Link>, prefetch: NonZeroU16) -> Result<Subscription, AmqpError> {
    let mut backoff = super::connection::backoff();
    loop {
        let error = match subscribe_once(&link, prefetch).await {
            Ok(subscription) => return Ok(subscription),
            Err(error) => error,
        };
        if error.remedy() != Remedy::Wait || link.config().reconnect == Reconnect::Never {
            return Err(error);
        }
        tracing::warn!(%error, "cannot consume; retrying");
        tokio::time::sleep(backoff.next_wait()).await;
        if matches!(error, AmqpError::Missing { .. }) {
            link.declare_again().await?;
        }
    }
}

async fn subscribe_once(link: &Link, prefetch: NonZeroU16) -> Result<Subscription, AmqpError> {
    let channel = link.channel().await?;
    let queue = link.config().names.score.as_str();
    let qos = channel.basic_qos(prefetch.get(), BasicQosOptions::default());
    link.answer("setting the prefetch for", Some(queue), qos).await?;
    let consume = channel.basic_consume(
        queue.into(),
        "".into(),
        BasicConsumeOptions::default(),
        FieldTable::default(),
    );
    let deliveries = link.answer("consuming from", Some(queue), consume).await?;
    Ok(Subscription {
        channel,
        deliveries,
        cancelled: false,
        ended: false,
        unsettled: VecDeque::new(),
    })
}

impl Subscription {
    /// Returns the next delivery, an error, or the end.
    ///
    /// After a stop, it first fills up. A cancel overtakes deliveries that the queue has sent and the channel has not.
    /// They arrive after `basic.cancel-ok`, when the client library no longer knows their consumer, and would have to
    /// be delivered again. No such deliveries exist once `prefetch` messages are unsettled, or none is left to send.
    /// Until then, nothing is acked and nothing is cancelled.
    async fn next(
        &mut self,
        prefetch: NonZeroU16,
        cancel_by: Option<Instant>,
    ) -> Option<Result<Delivered, lapin::Error>> {
        if let Some(cancel_by) = cancel_by.filter(|_| !self.cancelled) {
            if self.unsettled.len() < usize::from(prefetch.get()) {
                let quiet = cancel_by.min(Instant::now() + QUIET);
                if let Ok(next) = timeout_at(quiet, self.deliveries.next()).await {
                    return next;
                }
            }
            self.cancelled = true;
            let cancel = self
                .channel
                .basic_cancel(self.deliveries.tag(), BasicCancelOptions::default());
            if let Err(error) = cancel.await {
                return Some(Err(error));
            }
        }
        self.deliveries.next().await
    }

    fn entry(&mut self, tag: u64) -> Option<&mut Unsettled> {
        let at = self
            .unsettled
            .binary_search_by_key(&tag, |entry| entry.tag)
            .ok()?;
        self.unsettled.get_mut(at)
    }

    /// Acks the settled deliveries: those before the first unsettled one with a single frame, then the others singly.
    async fn ack_settled(&mut self) -> Result<(), lapin::Error> {
        let mut last = None;
        while let Some(entry) = self.unsettled.front().filter(|entry| entry.settled) {
            last = Some(entry.tag);
            self.unsettled.pop_front();
        }
        if let Some(tag) = last {
            self.channel
                .basic_ack(tag, BasicAckOptions { multiple: true })
                .await?;
        }
        let behind: Vec<u64> = self
            .unsettled
            .iter()
            .filter(|entry| entry.settled)
            .map(|entry| entry.tag)
            .collect();
        if behind.is_empty() {
            return Ok(());
        }
        self.unsettled.retain(|entry| !entry.settled);
        let acks = behind
            .into_iter()
            .map(|tag| self.channel.basic_ack(tag, BasicAckOptions::default()));
        futures::future::try_join_all(acks).await?;
        Ok(())
    }
}

impl Consumer for AmqpConsumer {
    async fn receive(&mut self, into: &mut Vec<Delivery>, limit: usize) -> Result<usize, QueueError> {
        if limit == 0 {
            // As in the in-memory queue, the caller has to cancel.
            std::future::pending::<()>().await;
        }
        loop {
            let Some(subscription) = &mut self.subscription else {
                if !self.subscribe_unless_stopped().await? {
                    return Ok(0);
                }
                continue;
            };
            if subscription.ended {
                return Ok(0);
            }
            if let Some(last_look) = self.last_look {
                tokio::time::sleep_until(last_look + BETWEEN_LOOKS).await;
            }
            let before = into.len();
            let mut next = subscription.next(self.prefetch, self.cancel_by).await;
            self.last_look = Some(Instant::now());
            let ended = loop {
                let delivered = match next {
                    Some(Ok(delivered)) => delivered,
                    Some(Err(error)) => break self.link.error(&error).to_string(),
                    None => break "the broker cancelled the consumer".to_owned(),
                };
                self.accept(delivered, into);
                let taken = into.len() - before;
                next = match &mut self.subscription {
                    Some(subscription) if taken < limit => {
                        match subscription.deliveries.next().now_or_never() {
                            Some(next) => next,
                            None => return Ok(taken),
                        }
                    }
                    _ => return Ok(taken),
                };
            };
            // After our own cancel, this is the end of the deliveries in flight. The channel can still settle them.
            if self.cancel_by.is_some()
                && let Some(subscription) = &mut self.subscription
            {
                subscription.ended = true;
                let taken = into.len() - before;
                self.ack(Vec::new()).await?;
                return Ok(taken);
            }
            tracing::warn!(%ended, "subscribing again; unacked messages are delivered again");
            self.subscription = None;
            if into.len() > before {
                return Ok(into.len() - before);
            }
        }
    }

    async fn ack(&mut self, receipts: Vec<Receipt>) -> Result<(), QueueError> {
        for receipt in &receipts {
            if let Some(entry) = self.unsettled(receipt) {
                entry.settled = true;
            }
        }
        let filling_up = self.cancel_by.is_some();
        if let Some(subscription) = &mut self.subscription
            && (subscription.ended || !filling_up)
            && let Err(error) = subscription.ack_settled().await
        {
            tracing::debug!(%error, "cannot ack; the messages are delivered again");
        }
        Ok(())
    }

    async fn dead_letter(&mut self, dead: Vec<(Receipt, Reason)>) -> Result<(), QueueError> {
        let dead_at = EventTime::now();
        let mut dead_letters = Vec::with_capacity(dead.len());
        let mut receipts = Vec::with_capacity(dead.len());
        for (receipt, reason) in dead {
            if let Some(Unsettled {
                message, failures, ..
            }) = self.unsettled(&receipt)
            {
                dead_letters.push(DeadLetter {
                    message: Message::clone(message),
                    deliveries: *failures + 1,
                    reason,
                    dead_at,
                });
                receipts.push(receipt);
            }
        }
        self.publisher.publish_dead_letters(&dead_letters).await?;
        self.ack(receipts).await
    }

    async fn stop_intake(&mut self) {
        self.cancel_by
            .get_or_insert_with(|| Instant::now() + FILL_UP_WITHIN);
    }
}
