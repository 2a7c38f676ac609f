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

/// Letters that are published together in a replay.
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
        let mut reading = self.read(limit).await?;
        let mut letters = Vec::new();
        while let Some((letter, _)) = reading.next(&self.link).await? {
            letters.push(letter);
        }
        reading.end().await;
        Ok(letters)
    }

    /// Publishes the letters that `wants` wants to the scoring queue, and deletes each once that is confirmed; gives
    /// their number. Dying in between repeats a message and loses none.
    pub async fn replay(&self, wants: impl Fn(&DeadLetter) -> bool) -> Result<u64, AmqpError> {
        let mut reading = self.read(usize::MAX).await?;
        let mut replayed = 0;
        loop {
            let (mut messages, mut tags) = (Vec::new(), Vec::new());
            while messages.len() < TOGETHER
                && let Some((letter, tag)) = reading.next(&self.link).await?
            {
                if wants(&letter) {
                    messages.push(letter.message);
                    tags.push(tag);
                }
            }
            if messages.is_empty() {
                break;
            }
            self.publisher.publish_all(&messages).await?;
            for tag in tags {
                reading.ack(&self.link, tag).await?;
                replayed += 1;
            }
        }
        reading.end().await;
        Ok(replayed)
    }

    /// Deletes the letters that `wants` wants for good; gives their number.
    pub async fn purge(&self, wants: impl Fn(&DeadLetter) -> bool) -> Result<u64, AmqpError> {
        let mut reading = self.read(usize::MAX).await?;
        let mut purged = 0;
        while let Some((letter, tag)) = reading.next(&self.link).await? {
            if wants(&letter) {
                reading.ack(&self.link, tag).await?;
                purged += 1;
            }
        }
        reading.end().await;
        Ok(purged)
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

    async fn ack(&self, link: &Link, tag: u64) -> Result<(), AmqpError> {
        self.channel
            .basic_ack(tag, BasicAckOptions::default())
            .await
            .map_err(|error| link.error(&error))
    }

    /// Gives back what was only looked at.
    async fn end(self) {
        // A channel that is gone has given everything back already.
        _ = self.channel.close(200, "done".into()).await;
    }
}
