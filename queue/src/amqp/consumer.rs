//! Receives messages from RabbitMQ and settles them.

use std::collections::VecDeque;
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
use super::window::Window;
use super::{AmqpError, properties};
use crate::{Consumer, DeadLetter, DeadLettering, Delivery, Message, Prefetch, QueueError, Reason, Receipt};
use windrow_common::EventTime;

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
    prefetch: Prefetch,
    window: Window,
    subscription: Option<Subscription>,
    /// Cancelled subscriptions of other windows, whose deliveries are not all settled.
    retiring: Vec<Subscription>,
    /// The window of the next subscription; at first, what fits.
    next_window: Option<u16>,
    /// The subscription that is being started. [`Consumer::receive`] may be cancelled meanwhile; the next call waits on
    /// for it. Giving it up would spend a delivery of every message that the broker has sent to it already. It is a
    /// task, so that it holds no lock while nobody polls it.
    starting: Option<AbortOnDropHandle<Result<Subscription, AmqpError>>>,
    /// Counts the subscriptions, so that a receipt of a lost one settles nothing.
    epoch: u64,
    /// When to give up a subscription that is being started; set by a stop.
    stop_by: Option<Instant>,
    last_look: Option<Instant>,
}

/// One consumer on one channel.
#[derive(Debug)]
struct Subscription {
    /// Which of the consumer's subscriptions it is.
    epoch: u64,
    /// Number of messages that the broker may send before the first is acked.
    window: u16,
    channel: Channel,
    deliveries: lapin::Consumer,
    /// When to cancel at the latest; set by a stop, and by a change of the window.
    cancel_by: Option<Instant>,
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
    pub(super) fn new(link: Arc<Link>, publisher: Arc<Publisher>, prefetch: Prefetch) -> Self {
        Self {
            link,
            publisher,
            prefetch,
            window: Window::new(prefetch),
            subscription: None,
            retiring: Vec::new(),
            next_window: None,
            starting: None,
            epoch: 0,
            stop_by: None,
            last_look: None,
        }
    }

    /// Starts consuming. Cancelling it loses nothing: the next call goes on where this one was.
    pub(super) async fn subscribe(&mut self) -> Result<(), AmqpError> {
        let link = &self.link;
        let window = *self.next_window.get_or_insert(self.window.fitting());
        let starting = self.starting.get_or_insert_with(|| {
            let starting = subscribe(Arc::clone(link), window).in_current_span();
            AbortOnDropHandle::new(tokio::spawn(starting))
        });
        let started = starting.await;
        self.starting = None;
        self.epoch += 1;
        self.subscription = Some(Subscription {
            epoch: self.epoch,
            cancel_by: self.stop_by,
            ..started.unwrap_or_else(|ended| self.not_started(ended))?
        });
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
        let Some(stop_by) = self.stop_by else {
            self.subscribe().await?;
            return Ok(true);
        };
        if self.starting.is_none() {
            return Ok(false);
        }
        match timeout_at(stop_by, self.subscribe()).await {
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
        self.window.note(message.body.len());
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
                epoch: subscription.epoch,
                tag,
            },
        });
    }

    /// Begins to replace the subscription if messages have become so large or so small that another window is due.
    fn adapt_window(&mut self) {
        let retiring: usize = self
            .retiring
            .iter()
            .map(|retiring| retiring.unsettled.len())
            .sum();
        if let Some(subscription) = &mut self.subscription
            && subscription.cancel_by.is_none()
            && let Some(wanted) =
                self.window
                    .wanted(subscription.window, subscription.unsettled.len(), retiring)
        {
            tracing::debug!(from = subscription.window, to = wanted, "changing the prefetch");
            self.next_window = Some(wanted);
            subscription.cancel_by = Some(Instant::now() + FILL_UP_WITHIN);
        }
    }

    /// Returns `taken` after it has looked whether the sizes of what was taken call for another window.
    fn taken(&mut self, taken: usize) -> usize {
        self.adapt_window();
        taken
    }

    /// Returns the number of deliveries that are not acked yet.
    fn held(&self) -> usize {
        let subscriptions = self.subscription.iter().chain(&self.retiring);
        subscriptions
            .map(|subscription| subscription.unsettled.len())
            .sum()
    }

    /// Returns a live subscription's entry for a receipt.
    fn unsettled(&mut self, receipt: &Receipt) -> Option<&mut Unsettled> {
        let mut subscriptions = self.subscription.iter_mut().chain(&mut self.retiring);
        subscriptions
            .find(|subscription| subscription.epoch == receipt.epoch)?
            .entry(receipt.tag)
    }
}

/// Starts consuming. Waits for the end of an outage of the broker, and declares a missing queue again.
async fn subscribe(link: Arc<Link>, window: u16) -> Result<Subscription, AmqpError> {
    let mut backoff = super::connection::backoff();
    loop {
        let error = match subscribe_once(&link, window).await {
            Ok(subscription) => return Ok(subscription),
            Err(error) => error,
        };
        if !link.waits_out(&error) {
            return Err(error);
        }
        tracing::warn!(%error, "cannot consume; retrying");
        let waiting = link.waits_for(error.to_string());
        tokio::time::sleep(backoff.next_wait()).await;
        drop(waiting);
        if matches!(error, AmqpError::Missing { .. }) {
            link.declare_again().await?;
        }
    }
}

async fn subscribe_once(link: &Link, window: u16) -> Result<Subscription, AmqpError> {
    let channel = link.channel().await?;
    let queue = link.config().names.score.as_str();
    let qos = channel.basic_qos(window, BasicQosOptions::default());
    link.answer("setting the prefetch for", Some(queue), qos).await?;
    let consume = channel.basic_consume(
        queue.into(),
        "".into(),
        BasicConsumeOptions::default(),
        FieldTable::default(),
    );
    let deliveries = link.answer("consuming from", Some(queue), consume).await?;
    Ok(Subscription {
        // The consumer numbers it.
        epoch: 0,
        window,
        channel,
        deliveries,
        cancel_by: None,
        cancelled: false,
        ended: false,
        unsettled: VecDeque::new(),
    })
}

impl Subscription {
    /// Returns the next delivery, an error, or the end.
    ///
    /// Before it cancels, it fills up. A cancel overtakes deliveries that the queue has sent and the channel has not.
    /// They arrive after `basic.cancel-ok`, when the client library no longer knows their consumer, and would have to
    /// be delivered again. No such deliveries exist once `window` messages are unsettled, or none is left to send.
    /// Until then, nothing is acked and nothing is cancelled.
    async fn next(&mut self) -> Option<Result<Delivered, lapin::Error>> {
        if let Some(cancel_by) = self.cancel_by.filter(|_| !self.cancelled) {
            if self.unsettled.len() < usize::from(self.window) {
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

    /// Returns whether it is of no more use: everything is acked, or the channel is lost.
    fn has_retired(&self) -> bool {
        self.unsettled.is_empty() || !self.channel.status().connected()
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
        // A subscription that fills up acks nothing until it is cancelled, so it must not wait for room.
        let filling_up = self
            .subscription
            .as_ref()
            .is_some_and(|subscription| subscription.cancel_by.is_some());
        let is_full = self.held() >= usize::from(self.prefetch.messages.get());
        if limit == 0 || (is_full && !filling_up) {
            // As in the in-memory queue, the caller has to cancel: only settling makes room.
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
            let mut next = subscription.next().await;
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
                            None => return Ok(self.taken(taken)),
                        }
                    }
                    _ => return Ok(self.taken(taken)),
                };
            };
            // After our own cancel, this is the end of the deliveries in flight. The channel can still settle them.
            if let Some(subscription) = &mut self.subscription
                && (subscription.cancelled || self.stop_by.is_some())
            {
                subscription.ended = true;
                let taken = into.len() - before;
                if self.stop_by.is_none() {
                    self.retiring.extend(self.subscription.take());
                }
                self.ack(Vec::new()).await?;
                if taken > 0 || self.stop_by.is_some() {
                    return Ok(taken);
                }
                continue;
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
        for subscription in self.subscription.iter_mut().chain(&mut self.retiring) {
            let filling_up = subscription.cancel_by.is_some() && !subscription.ended;
            if !filling_up && let Err(error) = subscription.ack_settled().await {
                tracing::debug!(%error, "cannot ack; the messages are delivered again");
            }
        }
        for retired in self
            .retiring
            .extract_if(.., |subscription| subscription.has_retired())
        {
            // What the cancel has overtaken goes back to the queue.
            tokio::spawn(async move { retired.channel.close(200, "done".into()).await });
        }
        Ok(())
    }

    fn dead_letter(&mut self, receipt: Receipt, reason: Reason) -> DeadLettering {
        let dead_letter = self.unsettled(&receipt).map(|entry| DeadLetter {
            message: Message::clone(&entry.message),
            deliveries: entry.failures + 1,
            reason,
            dead_at: EventTime::now(),
        });
        let publisher = Arc::clone(&self.publisher);
        Box::pin(async move {
            // The message of a lost channel is delivered again.
            if let Some(dead_letter) = dead_letter {
                publisher.publish_dead_letter(&dead_letter).await?;
            }
            Ok(receipt)
        })
    }

    async fn stop_intake(&mut self) {
        let stop_by = Instant::now() + FILL_UP_WITHIN;
        self.stop_by.get_or_insert(stop_by);
        if let Some(subscription) = &mut self.subscription {
            subscription.cancel_by.get_or_insert(stop_by);
        }
    }
}
