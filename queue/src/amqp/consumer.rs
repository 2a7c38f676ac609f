//! Receives messages from RabbitMQ and settles them.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use lapin::message::Delivery as Delivered;
use tokio::task::JoinError;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use super::connection::Link;
use super::prefetch_window::{Held, PrefetchWindow};
use super::publisher::Publisher;
use super::subscription::{Subscription, Unsettled, subscribe};
use super::{AmqpError, properties};
use crate::{Consumer, DeadLetter, DeadLettering, Delivery, Message, Prefetch, QueueError, Reason, Receipt};
use windrow_common::EventTime;

/// How long to wait, after a stop or a change of the window, until nothing is in flight.
const FILL_UP_WITHIN: Duration = Duration::from_secs(2);

/// Minimum time between two looks at the deliveries, so that those that arrive meanwhile are received together. Without
/// it, a busy consumer is woken for each message, which costs more than scoring it.
const BETWEEN_LOOKS: Duration = Duration::from_millis(2);

/// Maximum number of cancelled subscriptions. One that only waits for dead letters stays until the broker takes them.
const MOST_RETIRING: usize = 8;

/// A consumer of the scoring queue. It outlives its channel: a new channel replaces a lost one.
#[derive(Debug)]
pub struct AmqpConsumer {
    link: Arc<Link>,
    publisher: Arc<Publisher>,
    prefetch: Prefetch,
    window: PrefetchWindow,
    subscription: Option<Subscription>,
    /// Cancelled subscriptions of other windows, whose deliveries are not all settled.
    retiring: Vec<Subscription>,
    /// The window of the next subscription; at first, what fits.
    next_window: Option<u16>,
    /// The subscription that is being started. If [`Consumer::receive`] is cancelled, the next call continues to wait
    /// for it: dropping it would use up one delivery attempt of every message already sent to it. It runs as a task, so
    /// that it holds no lock while nobody polls it.
    starting: Option<AbortOnDropHandle<Result<Subscription, AmqpError>>>,
    /// Counts the subscriptions, so that a receipt of a lost one settles nothing.
    epoch: u64,
    /// When to give up a subscription that is being started; set by a stop.
    stop_by: Option<Instant>,
    last_look: Option<Instant>,
}

impl AmqpConsumer {
    pub(super) fn new(link: Arc<Link>, publisher: Arc<Publisher>, prefetch: Prefetch) -> Self {
        Self {
            link,
            publisher,
            prefetch,
            window: PrefetchWindow::new(prefetch),
            subscription: None,
            retiring: Vec::new(),
            next_window: None,
            starting: None,
            epoch: 0,
            stop_by: None,
            last_look: None,
        }
    }

    /// Starts consuming. Cancelling it loses nothing: the next call continues where this one stopped.
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
        let mut subscription = started.unwrap_or_else(|ended| self.not_started(ended))?;
        subscription.epoch = self.epoch;
        subscription.cancel_by = self.stop_by;
        self.subscription = Some(subscription);
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

    /// Subscribes, and returns whether there is a subscription. After a stop, starts none, but waits until the deadline
    /// of the stop for one that is being started: the broker may have sent it messages.
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
            is_dead: false,
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
        let waiting: usize = self.retiring.iter().map(Subscription::dead).sum();
        if let Some(subscription) = &mut self.subscription
            && subscription.cancel_by.is_none()
            && let Some(wanted) = self.window.wanted(
                subscription.window,
                Held {
                    here: subscription.unsettled.len(),
                    retiring: retiring - waiting,
                    waiting,
                },
            )
        {
            tracing::debug!(from = subscription.window, to = wanted, "changing the prefetch");
            self.next_window = Some(wanted);
            subscription.cancel_by = Some(Instant::now() + FILL_UP_WITHIN);
        }
    }

    /// Adds a cancelled subscription to those whose deliveries are not all settled.
    fn retire(&mut self, subscription: Subscription) {
        let only_dead = |retiring: &Subscription| retiring.dead() == retiring.unsettled.len();
        if let Some(oldest) = given_up(self.retiring.iter().map(only_dead)) {
            let oldest = self.retiring.remove(oldest);
            let messages = oldest.unsettled.len();
            tracing::info!(
                messages,
                "returning messages to the queue whose dead letters the broker does not take"
            );
            oldest.close();
        }
        self.retiring.push(subscription);
    }

    /// Waits until a channel is lost, and forgets its deliveries: the broker delivers them again.
    async fn lose_one(&mut self) {
        let subscriptions = self.subscription.iter().chain(&self.retiring);
        let mut lost: FuturesUnordered<_> = subscriptions
            .map(|subscription| subscription.lost().cancelled())
            .collect();
        if lost.next().await.is_none() {
            // There is no channel.
            std::future::pending::<()>().await;
        }
        drop(lost);
        self.retiring.retain(|retiring| !retiring.lost().is_cancelled());
        if self
            .subscription
            .as_ref()
            .is_some_and(|subscription| subscription.lost().is_cancelled())
        {
            self.lose("the channel is lost");
        }
    }

    fn lose(&mut self, ended: &str) {
        tracing::warn!(%ended, "subscribing again; unacked messages are delivered again");
        self.subscription = None;
    }

    /// Returns `taken`, after checking whether the sizes of the messages call for another window.
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

    /// Returns the live subscription of a receipt.
    fn subscription_of(&mut self, receipt: &Receipt) -> Option<&mut Subscription> {
        let mut subscriptions = self.subscription.iter_mut().chain(&mut self.retiring);
        subscriptions.find(|subscription| subscription.epoch == receipt.epoch)
    }
}

/// Returns which cancelled subscription to give up before another is added: once there are [`MOST_RETIRING`], the
/// oldest one whose `only_dead` is true, because it only waits for dead letters. Others soon end by themselves, and are
/// never given up.
fn given_up(only_dead: impl ExactSizeIterator<Item = bool>) -> Option<usize> {
    let are_too_many = only_dead.len() >= MOST_RETIRING;
    let oldest = only_dead.into_iter().position(|only_dead| only_dead);
    oldest.filter(|_| are_too_many)
}

impl Consumer for AmqpConsumer {
    async fn receive(&mut self, into: &mut Vec<Delivery>, limit: usize) -> Result<usize, QueueError> {
        if limit == 0 {
            std::future::pending::<()>().await;
        }
        loop {
            // A subscription that fills up acks nothing until it is cancelled, so it must not wait for room.
            let filling_up = self
                .subscription
                .as_ref()
                .is_some_and(|subscription| subscription.cancel_by.is_some());
            let room = usize::from(self.prefetch.messages.get()).saturating_sub(self.held());
            if room == 0 && !filling_up {
                // As in the in-memory queue, the caller has to cancel: only settling makes room. But what came on a channel
                // that is lost cannot be settled.
                self.lose_one().await;
                continue;
            }
            self.retiring.retain(|retiring| !retiring.lost().is_cancelled());
            // A whole new window, on top of what earlier windows still hold, would exceed the limit.
            let limit = if filling_up { limit } else { limit.min(room) };
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
                && (subscription.is_cancelled() || self.stop_by.is_some())
            {
                subscription.ended = true;
                let taken = into.len() - before;
                if self.stop_by.is_none()
                    && let Some(retired) = self.subscription.take()
                {
                    self.retire(retired);
                }
                self.ack(Vec::new()).await?;
                if taken > 0 || self.stop_by.is_some() {
                    return Ok(taken);
                }
                continue;
            }
            self.lose(&ended);
            if into.len() > before {
                return Ok(into.len() - before);
            }
        }
    }

    async fn ack(&mut self, receipts: Vec<Receipt>) -> Result<(), QueueError> {
        for receipt in &receipts {
            if let Some(entry) = self
                .subscription_of(receipt)
                .and_then(|subscription| subscription.entry(receipt.tag))
            {
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
            retired.close();
        }
        Ok(())
    }

    fn dead_letter(&mut self, receipt: Receipt, reason: Reason) -> DeadLettering {
        let found = self.subscription_of(&receipt).and_then(|subscription| {
            let lost = subscription.lost().clone();
            let entry = subscription.entry(receipt.tag)?;
            entry.is_dead = true;
            let dead_letter = DeadLetter {
                message: Message::clone(&entry.message),
                deliveries: entry.failures + 1,
                reason,
                dead_at: EventTime::now(),
            };
            Some((dead_letter, lost))
        });
        let publisher = Arc::clone(&self.publisher);
        Box::pin(async move {
            let Some((dead_letter, lost)) = found else {
                return Ok(None);
            };
            tokio::select! {
                biased;
                published = publisher.publish_dead_letter(&dead_letter) => Ok(published.map(|()| Some(receipt))?),
                // The broker delivers the message again, and it is set aside then. Holding it for longer would keep it
                // in memory twice.
                () = lost.cancelled() => Ok(None),
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_eight_cancelled_subscriptions_the_oldest_with_only_dead_letters_is_given_up() {
        let given_up = |only_dead: &[bool]| given_up(only_dead.iter().copied());
        assert_eq!(given_up(&[true; 7]), None);
        assert_eq!(given_up(&[true; 8]), Some(0));
        let mut mixed = [false, false, true, true, false, true, true, true];
        assert_eq!(given_up(&mixed), Some(2));
        mixed[2] = false;
        assert_eq!(given_up(&mixed), Some(3));
        assert_eq!(given_up(&[false; 20]), None);
    }
}
