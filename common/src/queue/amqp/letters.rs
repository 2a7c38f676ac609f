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
    channel: Channel,
    deliveries: Consumer,
    left: u64,
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
        mut deal: impl AsyncFnMut(Vec<(DeadLetter, u64)>, &Reading) -> Result<(), AmqpError>,
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
                deal(together, &reading).await?;
            }
        };
        let dealt = dealt.await;
        reading.end().await;
        dealt
    }

    async fn read(&self, limit: usize) -> Result<Reading, AmqpError> {
        let names = &self.link.config().names;
        let there = self.link.ready_in(&names.dead).await?;
        let channel = self.link.channel().await?;
        let error = |error: lapin::Error| self.link.error(&error);
        let left = there.min(u64::try_from(limit).unwrap_or(u64::MAX));
        if left < u64::from(u16::MAX) && left > 0 {
            // Not more than will be looked at, so that they are with us no longer than need be.
            let prefetch = u16::try_from(left).unwrap_or(u16::MAX);
            channel
                .basic_qos(prefetch, BasicQosOptions::default())
                .await
                .map_err(error)?;
        }
        let deliveries = channel
            .basic_consume(
                names.dead.as_str().into(),
                "".into(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            )
            .await
            .map_err(error)?;
        Ok(Reading {
            channel,
            deliveries,
            left,
        })
    }
}

impl Reading {
    /// The next letter and the tag to ack it with.
    async fn next(&mut self, link: &Link) -> Result<Option<(DeadLetter, u64)>, AmqpError> {
        if self.left == 0 {
            return Ok(None);
        }
        let Ok(next) = tokio::time::timeout(SILENCE, self.deliveries.next()).await else {
            return Ok(None);
        };
        self.left -= 1;
        match next {
            Some(Ok(mut delivered)) => {
                let tag = delivered.delivery_tag;
                Ok(Some((properties::dead_letter_of(&mut delivered), tag)))
            }
            Some(Err(error)) => Err(link.error(&error)),
            None => Ok(None),
        }
    }

    async fn ack(&self, link: &Link, tags: Vec<u64>) -> Result<(), AmqpError> {
        for tag in tags {
            let ack = self.channel.basic_ack(tag, BasicAckOptions::default());
            ack.await.map_err(|error| link.error(&error))?;
        }
        Ok(())
    }

    /// Gives back what was only looked at.
    async fn end(self) {
        // A channel that is gone has given everything back already.
        _ = self.channel.close(200, "done".into()).await;
    }
}
