//! Taking messages from RabbitMQ and settling them.

use std::collections::VecDeque;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, message::Delivery as Delivered};
use tokio::time::{Instant, timeout, timeout_at};

use super::connection::Link;
use super::publisher::Publisher;
use super::{AmqpError, Reconnect, properties};
use crate::{Consumer, DeadLetter, Delivery, Message, QueueError, Reason, Receipt};
use windrow_common::{EventTime, HasRemedy, Remedy};

/// After a stop: how long the queue has to have been silent for nothing to be on its way, and how long that may take.
const QUIET: Duration = Duration::from_millis(250);
const FILL_UP_WITHIN: Duration = Duration::from_secs(2);

/// A channel that does not close within this goes with its connection.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// A look at the deliveries is at least so long after the one before: what arrives meanwhile is taken at once. Without,
/// a busy consumer is woken for each message, which costs more than scoring it.
const BETWEEN_LOOKS: Duration = Duration::from_millis(2);

/// A consumer of the scoring queue. It outlives its channel: when that is lost, a new one takes over.
#[derive(Debug)]
pub struct AmqpConsumer {
    link: Arc<Link>,
    publisher: Arc<Publisher>,
    prefetch: NonZeroU16,
    subscription: Option<Subscription>,
    /// Where a subscription begins, until it has begun: [`Consumer::receive`] may be cancelled in between, and the broker
    /// would go on to send messages there.
    beginning: Option<Channel>,
    /// Counts subscriptions, so that a receipt of a lost one settles nothing.
    epoch: u64,
    /// Set by a stop: when to cancel at the latest.
    cancel_by: Option<Instant>,
    looked_at: Option<Instant>,
}

/// One consumer on one channel.
#[derive(Debug)]
struct Subscription {
    channel: Channel,
    deliveries: lapin::Consumer,
    cancelled: bool,
    /// Whether the deliveries have ended; asking an ended stream again waits for ever.
    ended: bool,
    /// What was handed out and is not acked, by delivery tag.
    unsettled: VecDeque<Unsettled>,
}

#[derive(Debug)]
struct Unsettled {
    tag: u64,
    settled: bool,
    /// Kept for the dead letter it may become; shared with the delivery.
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
            beginning: None,
            epoch: 0,
            cancel_by: None,
            looked_at: None,
        }
    }

    /// Begins to consume, waiting out an outage of the broker; a queue that is gone is declared again.
    pub(super) async fn subscribe(&mut self) -> Result<(), AmqpError> {
        let mut backoff = super::connection::backoff();
        loop {
            let error = match self.subscribe_once().await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if error.remedy() != Remedy::Wait || self.link.config().reconnect == Reconnect::Never {
                return Err(error);
            }
            tracing::warn!(%error, "cannot consume; trying again");
            tokio::time::sleep(backoff.next_wait()).await;
            if matches!(error, AmqpError::Missing { .. }) {
                self.link.declare_again().await?;
            }
        }
    }

    async fn subscribe_once(&mut self) -> Result<(), AmqpError> {
        if let Some(left_over) = self.beginning.take() {
            _ = timeout(CLOSE_WITHIN, left_over.close(200, "not begun".into())).await;
        }
        let channel = self.link.channel().await?;
        self.beginning = Some(channel.clone());
        let error = |error: lapin::Error| self.link.error(&error);
        channel
            .basic_qos(self.prefetch.get(), BasicQosOptions::default())
            .await
            .map_err(error)?;
        let queue = self.link.config().names.score.as_str();
        let deliveries = channel
            .basic_consume(
                queue.into(),
                "".into(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            )
            .await
            .map_err(error)?;
        self.beginning = None;
        self.epoch += 1;
        self.subscription = Some(Subscription {
            channel,
            deliveries,
            cancelled: false,
            ended: false,
            unsettled: VecDeque::new(),
        });
        Ok(())
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

    /// The live subscription's entry of a receipt.
    fn unsettled(&mut self, receipt: &Receipt) -> Option<&mut Unsettled> {
        if receipt.epoch != self.epoch {
            return None;
        }
        self.subscription.as_mut()?.entry(receipt.tag)
    }
}

impl Subscription {
    /// The next delivery, error or end.
    ///
    /// After a stop it first fills up. A cancel overtakes deliveries that the queue has sent and the channel has not:
    /// they come after `basic.cancel-ok`, when the client library no longer knows whose they are, and would have to be
    /// delivered again. With `prefetch` messages out, or none left to send, there are no such deliveries; so until
    /// then nothing is acked and nothing cancelled.
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

    /// Acks what is settled: all up to the first that is not with a single frame, then those that lie behind it.
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
            // As in memory: the caller cancels.
            std::future::pending::<()>().await;
        }
        loop {
            let Some(subscription) = &mut self.subscription else {
                if self.cancel_by.is_some() {
                    return Ok(0);
                }
                self.subscribe().await?;
                continue;
            };
            if subscription.ended {
                return Ok(0);
            }
            if let Some(looked_at) = self.looked_at {
                tokio::time::sleep_until(looked_at + BETWEEN_LOOKS).await;
            }
            let before = into.len();
            let mut next = subscription.next(self.prefetch, self.cancel_by).await;
            self.looked_at = Some(Instant::now());
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
            // After our own cancel this is the end of what was under way; the channel still settles it.
            if self.cancel_by.is_some()
                && let Some(subscription) = &mut self.subscription
            {
                subscription.ended = true;
                let taken = into.len() - before;
                self.ack(Vec::new()).await?;
                return Ok(taken);
            }
            tracing::warn!(%ended, "subscribing again; what was delivered and not acked comes again");
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
            tracing::debug!(%error, "not acked; the messages come again");
        }
        Ok(())
    }

    async fn dead_letter(&mut self, dead: Vec<(Receipt, Reason)>) -> Result<(), QueueError> {
        let dead_at = EventTime::now();
        let mut letters = Vec::with_capacity(dead.len());
        let mut receipts = Vec::with_capacity(dead.len());
        for (receipt, reason) in dead {
            if let Some(Unsettled {
                message, failures, ..
            }) = self.unsettled(&receipt)
            {
                letters.push(DeadLetter {
                    message: Message::clone(message),
                    deliveries: *failures + 1,
                    reason,
                    dead_at,
                });
                receipts.push(receipt);
            }
        }
        self.publisher.publish_dead_letters(&letters).await?;
        self.ack(receipts).await
    }

    async fn stop_intake(&mut self) {
        self.cancel_by
            .get_or_insert_with(|| Instant::now() + FILL_UP_WITHIN);
    }
}
