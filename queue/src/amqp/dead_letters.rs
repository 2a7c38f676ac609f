//! The dead-letter queue, read without losing a dead letter.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions,
};
use lapin::types::FieldTable;
use lapin::{Channel, Consumer};
use tokio::time::timeout;

use super::connection::Link;
use super::declare::QueueLook;
use super::publisher::Publisher;
use super::{AmqpError, properties};
use crate::DeadLetter;

/// How long to wait for a dead letter. The broker has said how many there are, so another consumer holds one that does
/// not arrive. A busy broker takes a while for the first of many.
const SILENCE: Duration = Duration::from_secs(5);

/// How long nothing may move while the broker settles what was acked and requeues the rest.
const STALLED_AFTER: Duration = Duration::from_secs(10);
/// How long a channel may take to close.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Maximum number of unsettled dead letters per channel: the largest prefetch. (To a quorum queue, 0 means 2,000.)
const MOST_UNSETTLED: u16 = u16::MAX;

/// Number of dead letters that are handled together.
const BATCH: usize = 256;

/// The dead letters of an [`super::Amqp`] queue.
#[derive(Debug)]
pub struct DeadLetters {
    publisher: Arc<Publisher>,
    link: Arc<Link>,
}

/// A pass over the dead letters that are in the queue when it begins. Each stays unsettled until it is acked or the
/// pass ends.
struct Pass<'a> {
    link: &'a Link,
    /// The subscriptions in order. Each receives at most [`MOST_UNSETTLED`]; only the last one still receives.
    subscriptions: Vec<(Channel, Consumer)>,
    /// How many more the last subscription may receive.
    room: u64,
    /// Number of dead letters still to be received.
    left: u64,
    /// Number of consumers of the queue before the pass began.
    other_consumers: u64,
}

/// Identifies a dead letter to ack.
#[derive(Clone, Copy)]
struct Tag {
    subscription: usize,
    delivery: u64,
}

impl DeadLetters {
    pub(super) fn new(publisher: Arc<Publisher>, link: Arc<Link>) -> Self {
        Self { publisher, link }
    }

    /// Returns the oldest `limit` dead letters. They stay in the queue.
    pub async fn list(&self, limit: usize) -> Result<Vec<DeadLetter>, AmqpError> {
        let mut dead_letters = Vec::new();
        self.each(limit, async |batch, _| {
            dead_letters.extend(batch.into_iter().map(|(dead_letter, _)| dead_letter));
            Ok(())
        })
        .await?;
        Ok(dead_letters)
    }

    /// Publishes the dead letters that `selects` selects to the scoring queue and deletes each once that is confirmed.
    /// Returns their number. A crash in between duplicates messages and loses none.
    pub async fn replay(&self, selects: impl Fn(&DeadLetter) -> bool) -> Result<u64, AmqpError> {
        let mut replayed = 0;
        self.each(usize::MAX, async |mut batch, pass| {
            batch.retain(|(dead_letter, _)| selects(dead_letter));
            let (messages, tags): (Vec<_>, Vec<_>) = batch
                .into_iter()
                .map(|(dead_letter, tag)| (dead_letter.message, tag))
                .unzip();
            self.publisher.publish_all(&messages).await?;
            replayed += tags.len() as u64;
            pass.ack(tags).await
        })
        .await?;
        Ok(replayed)
    }

    /// Deletes the dead letters that `selects` selects. Returns their number.
    pub async fn purge(&self, selects: impl Fn(&DeadLetter) -> bool) -> Result<u64, AmqpError> {
        let mut purged = 0;
        self.each(usize::MAX, async |mut batch, pass| {
            batch.retain(|(dead_letter, _)| selects(dead_letter));
            purged += batch.len() as u64;
            pass.ack(batch.into_iter().map(|(_, tag)| tag).collect()).await
        })
        .await?;
        Ok(purged)
    }

    /// Passes the dead letters to `handle` in batches. Those that it does not ack return to the queue at the end, even
    /// after an error.
    async fn each(
        &self,
        limit: usize,
        mut handle: impl AsyncFnMut(Vec<(DeadLetter, Tag)>, &mut Pass<'_>) -> Result<(), AmqpError>,
    ) -> Result<(), AmqpError> {
        let mut pass = Pass::begin(&self.link, limit).await?;
        let handled = async {
            loop {
                let mut batch = Vec::new();
                while batch.len() < BATCH
                    && let Some(dead_letter) = pass.next().await?
                {
                    batch.push(dead_letter);
                }
                if batch.is_empty() {
                    return Ok(());
                }
                handle(batch, &mut pass).await?;
            }
        };
        let handled = handled.await;
        pass.end().await;
        handled
    }
}

impl<'a> Pass<'a> {
    async fn begin(link: &'a Link, limit: usize) -> Result<Self, AmqpError> {
        let queue = link.look_at(&link.config().names.dead).await?;
        let mut pass = Self {
            link,
            subscriptions: Vec::new(),
            room: 0,
            left: queue.ready.min(u64::try_from(limit).unwrap_or(u64::MAX)),
            other_consumers: queue.consumers,
        };
        pass.subscribe().await?;
        Ok(pass)
    }

    /// Consumes on another channel. The prefetch is the number still to be received, so that no more are held.
    async fn subscribe(&mut self) -> Result<(), AmqpError> {
        let queue = Some(self.link.config().names.dead.as_str());
        if let Some((channel, consumer)) = self.subscriptions.last() {
            // This subscription has its share. If it stayed active, it would receive more as soon as one of its dead
            // letters is acked.
            let cancel = channel.basic_cancel(consumer.tag(), BasicCancelOptions::default());
            self.link
                .answer("cancelling the consumer of", queue, cancel)
                .await?;
        }
        let channel = self.link.channel().await?;
        let prefetch = u16::try_from(self.left.max(1)).unwrap_or(MOST_UNSETTLED);
        let qos = channel.basic_qos(prefetch, BasicQosOptions::default());
        self.link.answer("setting the prefetch for", queue, qos).await?;
        let consume = channel.basic_consume(
            self.link.config().names.dead.as_str().into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        let consumer = self.link.answer("consuming from", queue, consume).await?;
        self.subscriptions.push((channel, consumer));
        self.room = u64::from(prefetch);
        Ok(())
    }

    /// Returns the next dead letter and the tag to ack it with.
    async fn next(&mut self) -> Result<Option<(DeadLetter, Tag)>, AmqpError> {
        if self.left == 0 {
            return Ok(None);
        }
        if self.room == 0 {
            self.subscribe().await?;
        }
        let subscription = self.subscriptions.len() - 1;
        let (_, consumer) = &mut self.subscriptions[subscription];
        let Ok(next) = timeout(SILENCE, consumer.next()).await else {
            return Err(AmqpError::DeadLettersHeld {
                endpoint: self.link.endpoint(),
                left: self.left,
            });
        };
        self.left -= 1;
        self.room -= 1;
        match next {
            Some(Ok(mut delivered)) => {
                let tag = Tag {
                    subscription,
                    delivery: delivered.delivery_tag,
                };
                Ok(Some((properties::dead_letter_of(&mut delivered), tag)))
            }
            Some(Err(error)) => Err(self.link.error(&error)),
            None => Ok(None),
        }
    }

    async fn ack(&mut self, tags: Vec<Tag>) -> Result<(), AmqpError> {
        for Tag {
            subscription,
            delivery,
        } in tags
        {
            let (channel, _) = &self.subscriptions[subscription];
            let ack = channel.basic_ack(delivery, BasicAckOptions::default());
            ack.await.map_err(|error| self.link.error(&error))?;
            self.room += u64::from(subscription + 1 == self.subscriptions.len());
        }
        Ok(())
    }

    /// Returns the unacked dead letters to the queue, and waits until the broker has settled everything.
    ///
    /// RabbitMQ does not confirm acks, and a channel with many of them outstanding holds back the later ones
    /// (`quorum_commands_soft_limit`, 32). Those are lost when the channel closes: dead letters that were counted as
    /// deleted come back. A cancelled consumer counts as a consumer of the queue until everything it received is
    /// settled, which shows when closing is safe.
    async fn end(self) {
        if !self.settle().await {
            tracing::warn!(
                "RabbitMQ has not said that all dead letters are settled, and nothing moved for {STALLED_AFTER:?}; list \
                 them again to be sure"
            );
        }
        for (channel, _) in self.subscriptions {
            // A channel that is closed already has returned everything.
            _ = timeout(CLOSE_WITHIN, channel.close(200, "done".into())).await;
        }
    }

    /// Returns whether everything is known to be settled. Waits as long as the broker makes progress: returning tens of
    /// thousands of dead letters takes it a while.
    async fn settle(&self) -> bool {
        let cancelled = timeout(STALLED_AFTER, self.cancel());
        if !matches!(cancelled.await, Ok(Ok(()))) {
            return false;
        }
        let (mut seen, mut moved) = (None, Instant::now());
        while moved.elapsed() < STALLED_AFTER {
            // Returned again in each round: a delivery can overtake the answer to the cancel.
            let Ok(Ok(queue)) = timeout(STALLED_AFTER, self.return_all()).await else {
                return false;
            };
            if queue.consumers <= self.other_consumers {
                return true;
            }
            let state = Some((queue.ready, queue.consumers));
            if seen != state {
                (seen, moved) = (state, Instant::now());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        false
    }

    async fn cancel(&self) -> Result<(), lapin::Error> {
        for (channel, consumer) in &self.subscriptions {
            let options = BasicCancelOptions::default();
            channel.basic_cancel(consumer.tag(), options).await?;
        }
        Ok(())
    }

    /// Returns to the queue what is unacked, and then the state of the queue.
    async fn return_all(&self) -> Result<QueueLook, AmqpError> {
        let everything = BasicNackOptions {
            multiple: true,
            requeue: true,
        };
        for (channel, _) in &self.subscriptions {
            let returned = channel.basic_nack(0, everything).await;
            returned.map_err(|error| self.link.error(&error))?;
        }
        self.link.look_at(&self.link.config().names.dead).await
    }
}
