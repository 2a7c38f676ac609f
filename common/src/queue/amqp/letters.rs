//! The dead-letter queue, read without losing a letter.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Consumer};

use super::connection::Link;
use super::publisher::Publisher;
use super::{AmqpError, properties};
use crate::store::DeadLetter;

/// The broker says how many letters there are and then sends them; one that keeps us waiting this long is with
/// someone else.
const SILENCE: Duration = Duration::from_secs(2);

/// Letters a channel may have in hand: the largest prefetch there is. (None at all means 2,000 to a quorum queue.)
const MOST_IN_HAND: u16 = u16::MAX;

/// Letters that are dealt with together.
const TOGETHER: usize = 256;

/// The dead letters of an [`super::Amqp`] queue.
#[derive(Debug)]
pub struct Letters {
    publisher: Arc<Publisher>,
    link: Arc<Link>,
}

/// The letters that are there now, each in hand until it is acked or the reading ends.
struct Reading {
    /// One channel after the other: each is sent at most [`MOST_IN_HAND`] letters that are not acked.
    channels: Vec<Channel>,
    /// Of the last channel.
    deliveries: Consumer,
    /// How many letters may still come on it.
    room: u64,
    left: u64,
}

/// Which letter it is, to ack it with.
#[derive(Clone, Copy)]
struct Tag {
    channel: usize,
    delivery: u64,
}

impl Letters {
    pub(super) fn new(publisher: Arc<Publisher>, link: Arc<Link>) -> Self {
        Self { publisher, link }
    }

    /// The oldest `limit` dead letters. They stay where they are.
    pub async fn list(&self, limit: usize) -> Result<Vec<DeadLetter>, AmqpError> {
        let mut letters = Vec::new();
        self.each(limit, async |together, _| {
            letters.extend(together.into_iter().map(|(letter, _)| letter));
            Ok(())
        })
        .await?;
        Ok(letters)
    }

    /// Publishes the letters that `wants` wants to the scoring queue, and deletes each once that is confirmed; gives
    /// their number. Dying in between repeats a message and loses none.
    pub async fn replay(&self, wants: impl Fn(&DeadLetter) -> bool) -> Result<u64, AmqpError> {
        let mut replayed = 0;
        self.each(usize::MAX, async |mut together, reading| {
            together.retain(|(letter, _)| wants(letter));
            let (messages, tags): (Vec<_>, Vec<_>) = together
                .into_iter()
                .map(|(letter, tag)| (letter.message, tag))
                .unzip();
            self.publisher.publish_all(&messages).await?;
            replayed += tags.len() as u64;
            reading.ack(&self.link, tags).await
        })
        .await?;
        Ok(replayed)
    }

    /// Deletes the letters that `wants` wants for good; gives their number.
    pub async fn purge(&self, wants: impl Fn(&DeadLetter) -> bool) -> Result<u64, AmqpError> {
        let mut purged = 0;
        self.each(usize::MAX, async |mut together, reading| {
            together.retain(|(letter, _)| wants(letter));
            purged += together.len() as u64;
            let tags = together.into_iter().map(|(_, tag)| tag).collect();
            reading.ack(&self.link, tags).await
        })
        .await?;
        Ok(purged)
    }

    /// Hands the letters to `deal`, some at a time; those it does not ack go back in the end, whatever happened.
    async fn each(
        &self,
        limit: usize,
        mut deal: impl AsyncFnMut(Vec<(DeadLetter, Tag)>, &mut Reading) -> Result<(), AmqpError>,
    ) -> Result<(), AmqpError> {
        let mut reading = self.read(limit).await?;
        let dealt = async {
            loop {
                let mut together = Vec::new();
                while together.len() < TOGETHER
                    && let Some(letter) = reading.next(&self.link).await?
                {
                    together.push(letter);
                }
                if together.is_empty() {
                    return Ok(());
                }
                deal(together, &mut reading).await?;
            }
        };
        let dealt = dealt.await;
        reading.end().await;
        dealt
    }

    async fn read(&self, limit: usize) -> Result<Reading, AmqpError> {
        let there = self.link.ready_in(&self.link.config().names.dead).await?;
        let left = there.min(u64::try_from(limit).unwrap_or(u64::MAX));
        let (channel, deliveries, room) = consume(&self.link, left).await?;
        Ok(Reading {
            channels: vec![channel],
            deliveries,
            room,
            left,
        })
    }
}

/// Begins to consume the dead letters, no more than `left` of them, so that they are with us no longer than need be.
async fn consume(link: &Link, left: u64) -> Result<(Channel, Consumer, u64), AmqpError> {
    let error = |error: lapin::Error| link.error(&error);
    let channel = link.channel().await?;
    let prefetch = u16::try_from(left.max(1)).unwrap_or(MOST_IN_HAND);
    channel
        .basic_qos(prefetch, BasicQosOptions::default())
        .await
        .map_err(error)?;
    let deliveries = channel
        .basic_consume(
            link.config().names.dead.as_str().into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await
        .map_err(error)?;
    Ok((channel, deliveries, u64::from(prefetch)))
}

impl Reading {
    /// The next letter and the tag to ack it with.
    async fn next(&mut self, link: &Link) -> Result<Option<(DeadLetter, Tag)>, AmqpError> {
        if self.left == 0 {
            return Ok(None);
        }
        if self.room == 0 {
            let (channel, deliveries, room) = consume(link, self.left).await?;
            self.channels.push(channel);
            (self.deliveries, self.room) = (deliveries, room);
        }
        let Ok(next) = tokio::time::timeout(SILENCE, self.deliveries.next()).await else {
            return Err(AmqpError::LettersInHand {
                endpoint: link.config().url.endpoint(),
                left: self.left,
            });
        };
        self.left -= 1;
        self.room -= 1;
        match next {
            Some(Ok(mut delivered)) => {
                let tag = Tag {
                    channel: self.channels.len() - 1,
                    delivery: delivered.delivery_tag,
                };
                Ok(Some((properties::dead_letter_of(&mut delivered), tag)))
            }
            Some(Err(error)) => Err(link.error(&error)),
            None => Ok(None),
        }
    }

    async fn ack(&mut self, link: &Link, tags: Vec<Tag>) -> Result<(), AmqpError> {
        for Tag { channel, delivery } in tags {
            let ack = self.channels[channel].basic_ack(delivery, BasicAckOptions::default());
            ack.await.map_err(|error| link.error(&error))?;
            self.room += u64::from(channel + 1 == self.channels.len());
        }
        Ok(())
    }

    /// Gives back what was only looked at.
    async fn end(self) {
        for channel in self.channels {
            // A channel that is gone has given everything back already.
            _ = channel.close(200, "done".into()).await;
        }
    }
}
