//! One consumer on one channel, its deliveries, and which of them are settled.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, ChannelStatus, message::Delivery as Delivered};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::AbortOnDropHandle;

use super::AmqpError;
use super::connection::Link;
use crate::Message;
use windrow_common::Reminder;

/// After a stop: how long the queue must be silent before nothing counts as in flight.
const QUIET: Duration = Duration::from_millis(250);
/// How long the broker may take to answer a cancel, before its deliveries are left to be delivered again.
const CANCEL_WITHIN: Duration = Duration::from_secs(10);
/// How soon the loss of a channel is noticed while nobody receives from it.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a channel stays open after its last ack. The broker may hold acks back for a moment, and would deliver those
/// messages again if the channel were closed meanwhile.
const SETTLES_WITHIN: Duration = Duration::from_secs(5);

/// One consumer on one channel.
#[derive(Debug)]
pub(super) struct Subscription {
    /// Which of the consumer's subscriptions it is.
    pub(super) epoch: u64,
    /// Number of messages that the broker may send before the first is acked.
    pub(super) window: u16,
    channel: Channel,
    pub(super) deliveries: lapin::Consumer,
    /// When to cancel at the latest; set by a stop, and by a change of the window.
    pub(super) cancel_by: Option<Instant>,
    /// When it was cancelled.
    cancelled_at: Option<Instant>,
    /// Whether the deliveries have ended. Polling an ended stream again waits forever.
    pub(super) ended: bool,
    /// Deliveries that were handed out and are not acked yet, ordered by delivery tag.
    pub(super) unsettled: VecDeque<Unsettled>,
    /// Cancelled once the channel is lost or closed: its receipts settle nothing any more.
    lost: CancellationToken,
    _lost_when_dropped: DropGuard,
    _watch: AbortOnDropHandle<()>,
}

#[derive(Debug)]
pub(super) struct Unsettled {
    pub(super) tag: u64,
    pub(super) settled: bool,
    /// Whether it waits for its dead letter to be durable.
    pub(super) is_dead: bool,
    /// Kept because it may become a dead letter; shared with the delivery.
    pub(super) message: Arc<Message>,
    pub(super) failures: u32,
}

/// Starts consuming. Waits for the end of an outage of the broker, and declares a missing queue again.
pub(super) async fn subscribe(link: Arc<Link>, window: u16) -> Result<Subscription, AmqpError> {
    let mut backoff = super::connection::backoff();
    let mut reminder = Reminder::default();
    loop {
        let error = match subscribe_once(&link, window).await {
            Ok(subscription) => {
                link.consumes();
                return Ok(subscription);
            }
            Err(error) => error,
        };
        if !link.waits_to_consume(&error) {
            return Err(error);
        }
        if reminder.is_due_for(&error.to_string(), Instant::now().into_std()) {
            let tries = backoff.attempts() + 1;
            tracing::warn!(%error, tries, "cannot consume; retrying");
        }
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
    let lost = CancellationToken::new();
    let watch = watch(channel.status().clone(), lost.clone());
    Ok(Subscription {
        // The consumer numbers it.
        epoch: 0,
        window,
        channel,
        deliveries,
        cancel_by: None,
        cancelled_at: None,
        ended: false,
        unsettled: VecDeque::new(),
        _lost_when_dropped: lost.clone().drop_guard(),
        _watch: AbortOnDropHandle::new(tokio::spawn(watch)),
        lost,
    })
}

/// Cancels `lost` once the channel is lost. A worker that is full receives nothing, and would not notice.
async fn watch(status: ChannelStatus, lost: CancellationToken) {
    while status.connected() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    lost.cancel();
}

/// Waits for the broker after a cancel. Returns `None`, which ends the deliveries, if it takes too long.
async fn answered<T>(cancelled_at: Instant, answer: impl Future<Output = T>) -> Option<T> {
    let answered = timeout_at(cancelled_at + CANCEL_WITHIN, answer).await.ok();
    if answered.is_none() {
        tracing::warn!(
            waited = ?CANCEL_WITHIN,
            "RabbitMQ does not answer the cancel of a consumer; what it sends from now on is delivered again"
        );
    }
    answered
}

/// Gives the broker time to take the acks before a channel with nothing left to ack is closed.
async fn acks_are_taken(all_acked: bool) {
    if all_acked {
        tokio::time::sleep(SETTLES_WITHIN).await;
    }
}

impl Subscription {
    /// Returns the next delivery, an error, or the end.
    ///
    /// Before it cancels, it fills up. A cancel overtakes deliveries that the queue has sent and the channel has not.
    /// They arrive after `basic.cancel-ok`, when the client library no longer knows their consumer, and would have to
    /// be delivered again. No such deliveries exist once `window` messages are unsettled, or none is left to send.
    /// Until then, nothing is acked and nothing is cancelled.
    pub(super) async fn next(&mut self) -> Option<Result<Delivered, lapin::Error>> {
        if let Some(cancel_by) = self.cancel_by
            && !self.is_cancelled()
        {
            if self.unsettled.len() < usize::from(self.window) {
                let quiet = cancel_by.min(Instant::now() + QUIET);
                if let Ok(next) = timeout_at(quiet, self.deliveries.next()).await {
                    return next;
                }
            }
            let now = *self.cancelled_at.insert(Instant::now());
            let tag = self.deliveries.tag();
            let cancel = self.channel.basic_cancel(tag, BasicCancelOptions::default());
            match answered(now, cancel).await {
                Some(Ok(())) => {}
                Some(Err(error)) => return Some(Err(error)),
                None => return None,
            }
        }
        let Some(cancelled_at) = self.cancelled_at else {
            return self.deliveries.next().await;
        };
        answered(cancelled_at, self.deliveries.next()).await.flatten()
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled_at.is_some()
    }

    /// Returns the token that is cancelled once the channel is lost or closed.
    pub(super) fn lost(&self) -> &CancellationToken {
        &self.lost
    }

    /// Returns how many of its deliveries only wait until their dead letters are durable.
    pub(super) fn dead(&self) -> usize {
        self.unsettled.iter().filter(|entry| entry.is_dead).count()
    }

    /// Closes the channel of a cancelled subscription. What is not settled is delivered again.
    pub(super) fn close(self) {
        tokio::spawn(async move {
            acks_are_taken(self.unsettled.is_empty()).await;
            // Deliveries that the cancel has overtaken return to the queue.
            self.channel.close(200, "done".into()).await
        });
    }

    /// Returns whether it can be dropped: everything is acked, or the channel is lost.
    pub(super) fn has_retired(&self) -> bool {
        self.unsettled.is_empty() || !self.channel.status().connected()
    }

    pub(super) fn entry(&mut self, tag: u64) -> Option<&mut Unsettled> {
        let at = self
            .unsettled
            .binary_search_by_key(&tag, |entry| entry.tag)
            .ok()?;
        self.unsettled.get_mut(at)
    }

    /// Acks the settled deliveries: those before the first unsettled one with a single frame, then the others singly.
    pub(super) async fn ack_settled(&mut self) -> Result<(), lapin::Error> {
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

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_cancel_is_waited_for_for_ten_seconds_together_with_what_arrives_after_it() {
        let cancelled_at = Instant::now();
        assert_eq!(answered(cancelled_at, ready(7)).await, Some(7));
        let late = async {
            tokio::time::sleep(Duration::from_secs(9)).await;
            8
        };
        assert_eq!(answered(cancelled_at, late).await, Some(8));
        assert_eq!(cancelled_at.elapsed(), Duration::from_secs(9));
        assert_eq!(answered(cancelled_at, pending::<u8>()).await, None);
        assert_eq!(cancelled_at.elapsed(), Duration::from_secs(10));
    }

    #[tokio::test(start_paused = true)]
    async fn a_channel_stays_open_for_five_seconds_after_its_last_ack_and_not_for_what_goes_back() {
        let began = Instant::now();
        acks_are_taken(false).await;
        assert_eq!(began.elapsed(), Duration::ZERO);
        acks_are_taken(true).await;
        assert_eq!(began.elapsed(), Duration::from_secs(5));
    }
}
