//! Splits messages that are larger than the queue takes, and sets aside what cannot be split.
//!
//! The queue's limit is the broker's `max_message_size`, which is known only once the broker has refused a message. The
//! interval of such a message is halved until each part fits. A part is a scoring message like any other: its id
//! follows from its own interval, and the audit counts windows, not messages.

use std::collections::VecDeque;
use std::sync::Arc;

use windrow_common::{EventTime, ScoringMessage};
use windrow_queue::{Confirmation, DeadLetter, Message, Queue, QueueError, Reason, StoredDeadLetters};
use windrow_store::{Store, wait_out};

use crate::ProducerError;
use crate::stats::Stats;

/// Waits for confirmations, and handles the messages that are too large.
pub(crate) struct Confirmer<Q> {
    queue: Q,
    dead_letters: StoredDeadLetters,
    stats: Arc<Stats>,
}

impl<Q: Queue> Confirmer<Q> {
    pub(crate) fn new(queue: Q, store: &Store, stats: Arc<Stats>) -> Self {
        Self {
            queue,
            dead_letters: StoredDeadLetters::of(store),
            stats,
        }
    }

    /// Waits until a message is safe: on the queue, whole or in parts, or set aside in the store.
    pub(crate) async fn confirm(&self, confirmation: Confirmation) -> Result<(), ProducerError> {
        let mut outstanding = VecDeque::from([confirmation]);
        while let Some(confirmation) = outstanding.pop_front() {
            match confirmation.wait().await {
                Ok(()) => self.stats.confirmed.inc(),
                Err(QueueError::TooLarge { message, limit, why }) => {
                    outstanding.extend(self.split(*message, limit, why).await?);
                    0
                }
                Err(error) => return Err(error.into()),
            };
        }
        Ok(())
    }

    /// Publishes a message in parts that fit `limit`. Sets it aside if even a single window does not fit.
    async fn split(
        &self,
        message: Message,
        limit: usize,
        why: String,
    ) -> Result<Vec<Confirmation>, ProducerError> {
        let parts = match ScoringMessage::decode(&message.body) {
            Ok(scoring) => parts(scoring, limit).map_err(|source| ProducerError::Encode {
                id: message.id.clone(),
                source,
            })?,
            // Only scoring messages are published.
            Err(_) => None,
        };
        let Some(parts) = parts else {
            self.set_aside(message, why).await?;
            return Ok(Vec::new());
        };
        tracing::debug!(id = message.id, parts = parts.len(), why, "splitting the message");
        self.stats.split_messages.inc();
        let mut confirmations = Vec::with_capacity(parts.len());
        for (id, body) in parts {
            let part = Message {
                id,
                body: body.into(),
                ..message.clone()
            };
            confirmations.push(self.queue.publish(part).await?);
            self.stats.messages.inc();
        }
        Ok(confirmations)
    }

    /// Stores a message as a dead letter: the dead-letter queue would not take it either.
    async fn set_aside(&self, message: Message, why: String) -> Result<(), ProducerError> {
        tracing::error!(
            id = message.id,
            why,
            "setting the message aside in the store, as a dead letter"
        );
        let dead_letter = DeadLetter {
            message,
            reason: Reason {
                code: "too-large".to_owned(),
                detail: why,
                worker: "producer".to_owned(),
            },
            dead_at: EventTime::now(),
            deliveries: 0,
        };
        wait_out("storing a dead letter", || self.dead_letters.put(&dead_letter)).await?;
        self.stats.messages_set_aside.inc();
        Ok(())
    }
}

/// The id and the body of a part of a message.
type Part = (String, Vec<u8>);

/// Returns the ids and bodies of the parts of a message, each of at most `limit` bytes, in time order; `None` if a single
/// window is larger.
fn parts(message: ScoringMessage, limit: usize) -> Result<Option<Vec<Part>>, windrow_common::CodecError> {
    let mut whole = vec![message];
    let mut parts = Vec::new();
    while let Some(message) = whole.pop() {
        let body = message.encode()?;
        if body.len() <= limit {
            parts.push((message.id(), body));
            continue;
        }
        match message.halves() {
            Some(halves) => whole.extend(halves.into_iter().flatten().rev()),
            None => return Ok(None),
        }
    }
    Ok(Some(parts))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU16;
    use windrow_common::{Aggregate, Interval, Length, SensorId};
    use windrow_queue::{Consumer, Memory, MemoryLimits};

    /// The windows of an hour of which readings are known.
    const MINUTES: [i64; 7] = [0, 1, 2, 29, 30, 31, 59];

    fn hour() -> ScoringMessage {
        let aggregate = |minute: i64| Aggregate {
            window_start: EventTime::from_millis(minute * 60_000),
            count: 1,
            mean: 1.0,
            std: 0.0,
            min: 1.0,
            max: 1.0,
            first: 1.0,
            last: 1.0,
        };
        ScoringMessage {
            sensor: SensorId::new("pump-7", "temp").unwrap(),
            interval: Interval {
                start: EventTime::from_millis(0),
                length: Length::HOUR,
            },
            window_length: Length::from_millis(60_000),
            aggregates: MINUTES.map(aggregate).to_vec(),
        }
    }

    fn message(scoring: &ScoringMessage) -> Message {
        Message {
            id: scoring.id(),
            kind: ScoringMessage::KIND.into(),
            content_type: ScoringMessage::CONTENT_TYPE.into(),
            enqueued_at: EventTime::from_millis(7),
            traceparent: Some("00-aa-bb-01".to_owned()),
            body: scoring.encode().unwrap().into(),
        }
    }

    /// A queue whose messages, one at a time, have at most `limit` bytes.
    fn queue(limit: usize, store: &Store) -> Memory {
        let limits = MemoryLimits {
            bytes: limit + 256,
            ..MemoryLimits::default()
        };
        Memory::new(limits, store)
    }

    #[tokio::test]
    async fn a_message_larger_than_the_queue_takes_arrives_in_parts_with_all_its_windows() {
        let whole = hour();
        let bytes = whole.encode().unwrap().len();
        let store = Store::create("memory:///").unwrap();
        let queue = queue(bytes - 1, &store);
        let mut consumer = queue.consume(NonZeroU16::new(10).unwrap()).await.unwrap();
        let stats = Arc::new(Stats::default());
        let confirmer = Confirmer::new(queue.clone(), &store, Arc::clone(&stats));
        let confirmation = queue.publish(message(&whole)).await.unwrap();
        let confirming = tokio::spawn(async move { confirmer.confirm(confirmation).await });
        let (mut ids, mut windows) = (Vec::new(), Vec::new());
        while windows.len() < MINUTES.len() {
            let mut deliveries = Vec::new();
            consumer.receive(&mut deliveries, 10).await.unwrap();
            for delivery in deliveries {
                let part = ScoringMessage::decode(&delivery.message.body).unwrap();
                assert_eq!(part.id(), delivery.message.id);
                assert_eq!(delivery.message.traceparent, message(&whole).traceparent);
                ids.push(part.id());
                windows.extend(part.aggregates);
                consumer.ack(vec![delivery.receipt]).await.unwrap();
            }
        }
        confirming.await.unwrap().unwrap();
        assert_eq!(windows, whole.aggregates);
        let expected = [
            "pump-7/temp@1970-01-01T00:00:00Z+30m/1m",
            "pump-7/temp@1970-01-01T00:30:00Z+30m/1m",
        ];
        assert_eq!(ids, expected);
        assert_eq!((stats.split_messages.get(), stats.counts().confirmed), (1, 2));
    }

    #[tokio::test]
    async fn a_window_larger_than_the_queue_takes_is_set_aside_whole_with_the_limit() {
        let store = Store::create("memory:///").unwrap();
        let queue = queue(40, &store);
        let stats = Arc::new(Stats::default());
        let confirmer = Confirmer::new(queue.clone(), &store, Arc::clone(&stats));
        let confirmation = queue.publish(message(&hour())).await.unwrap();
        confirmer.confirm(confirmation).await.unwrap();
        let dead = StoredDeadLetters::of(&store).list().await.unwrap();
        assert_eq!(dead.len(), 1);
        assert_eq!(dead[0].message, message(&hour()));
        assert_eq!(dead[0].reason.code, "too-large");
        assert!(
            dead[0].reason.detail.contains(&hour().id()),
            "{}",
            dead[0].reason.detail
        );
        assert_eq!((stats.messages_set_aside.get(), stats.counts().confirmed), (1, 0));
    }

    #[test]
    fn parts_never_depend_on_anything_but_the_message_and_the_limit_and_lose_no_window() {
        let whole = hour();
        let bytes = whole.encode().unwrap().len();
        let window = bytes - 64 * (MINUTES.len() - 1);
        for limit in window..=bytes {
            let parts = parts(hour(), limit).unwrap().unwrap();
            let decoded: Vec<_> = parts
                .iter()
                .map(|(_, body)| ScoringMessage::decode(body).unwrap())
                .collect();
            let windows: Vec<_> = decoded.iter().flat_map(|part| part.aggregates.clone()).collect();
            assert_eq!(windows, whole.aggregates, "limit {limit}");
            assert!(parts.iter().all(|(_, body)| body.len() <= limit));
        }
        assert!(parts(hour(), window - 1).unwrap().is_none());
    }
}
