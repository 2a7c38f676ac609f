//! Isolates suspects: messages whose workers died repeatedly while holding them.
//!
//! One of them may kill the workers, and then every message held with it also counts a failure. Suspects are therefore
//! scored apart from the rest, in groups that shrink as the failures grow, down to one message at a time. A single
//! killer then reaches the delivery limit alone; [`Suspects::next_group`] explains why no innocent message does.
//!
//! The broker counts a failure for every message that it has sent to a worker, not only for those the worker has looked
//! at. So the worker first gathers everything that is sent, and only then begins with the first group.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use windrow_queue::Delivery;

/// Number of failures that makes a message a suspect. The worker or the broker may well have caused the first two.
const SUSPECT_FROM: u32 = 3;
/// Group size at the first suspicion.
const FIRST_GROUP: usize = 256;
/// Each pair of lives divides the group size by two to this power: 256, 32, 4, then 1. A life is one run of a worker.
const SHRINK_BITS: u32 = 3;

/// Deliveries that wait to be scored apart from the rest.
#[derive(Debug, Default)]
pub(crate) struct Suspects {
    /// In reverse order of scoring: the next one is last.
    waiting: Vec<Delivery>,
    group_size: usize,
    /// Whether all have been gathered and put in order.
    arranged: bool,
}

impl Suspects {
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Returns whether there are suspects that are not in order yet: more may arrive before the first is scored.
    pub(crate) fn is_gathering(&self) -> bool {
        !self.waiting.is_empty() && !self.arranged
    }

    /// Moves the suspects out of `deliveries`.
    pub(crate) fn take_from(&mut self, deliveries: &mut Vec<Delivery>) {
        let is_suspect = |delivery: &Delivery| delivery.failures >= SUSPECT_FROM;
        if deliveries.iter().any(is_suspect) {
            let suspects = deliveries.extract_if(.., |delivery| is_suspect(delivery));
            self.waiting.extend(suspects);
            self.arranged = false;
        }
    }

    /// Ends the gathering: sets the group size and orders the suspects by a hash of their ids: ascending in one life,
    /// descending in the next. The highest failure count numbers the lives, because every message that waits when a
    /// worker dies counts one more failure.
    pub(crate) fn arrange(&mut self) {
        self.arranged = true;
        let most = self.waiting.iter().map(|suspect| suspect.failures).max();
        let life = most.unwrap_or_default().saturating_sub(SUSPECT_FROM);
        let (pair, is_second) = (life / 2, life % 2 == 1);
        self.group_size = (FIRST_GROUP >> (pair * SHRINK_BITS).min(20)).max(1);
        // Each pair gets a new order. Two killers, each met from one end, shield the messages between them from being
        // settled: on average, a third of the rest.
        let hasher = FixedState::with_seed(u64::from(pair));
        self.waiting
            .sort_by_cached_key(|suspect| hasher.hash_one(suspect.message.id.as_str()));
        if !is_second {
            self.waiting.reverse();
        }
    }

    /// Removes and returns the next suspects to score together; none while they are being gathered.
    ///
    /// Everything ahead of the killer's group is settled before the worker dies. The next life goes through the same
    /// order from the other end, so that after two lives only the killer's last two groups are left. Four such pairs
    /// shrink the groups to one message. The killer is alone after at most eleven failures; the default delivery limit
    /// allows twenty.
    pub(crate) fn next_group(&mut self) -> Vec<Delivery> {
        if self.is_gathering() {
            return Vec::new();
        }
        let rest = self.waiting.len().saturating_sub(self.group_size);
        self.waiting.split_off(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use std::collections::HashSet;
    use std::num::NonZeroU16;
    use windrow_common::EventTime;
    use windrow_queue::{Consumer, Memory, MemoryLimits, Message, Queue, StoredDeadLetters};
    use windrow_store::Store;

    const MESSAGES: usize = 600;

    /// Publishes messages whose ids differ from round to round, restarts a worker that `killer` kills until no message
    /// is left, and returns the ids of the dead letters.
    async fn dead_of(round: usize, killer: &str) -> Vec<String> {
        let store = Store::create("memory:///").unwrap();
        let queue = Memory::new(MemoryLimits::default(), &store);
        for number in 0..MESSAGES {
            let message = Message {
                id: id(round, number),
                kind: "".into(),
                content_type: "".into(),
                enqueued_at: EventTime::from_millis(0),
                traceparent: None,
                body: Vec::new().into(),
            };
            drop(queue.publish(message).await.unwrap());
        }
        queue.close();
        let mut settled = HashSet::new();
        for _life in 0..100 {
            let mut consumer = queue.consume(NonZeroU16::new(10_000).unwrap()).await.unwrap();
            if live(&mut consumer, killer, &mut settled).await {
                let dead = StoredDeadLetters::of(&store).list().await.unwrap();
                assert_eq!(settled.len() + dead.len(), MESSAGES);
                assert!(dead.iter().all(|dead| dead.reason.code == "delivery-limit"));
                return dead.into_iter().map(|dead| dead.message.id).collect();
            }
        }
        panic!("the killer never reached the limit");
    }

    fn id(round: usize, number: usize) -> String {
        format!("{round}-{number}")
    }

    #[tokio::test]
    async fn only_the_killer_reaches_the_delivery_limit() {
        // The killer takes every place in the queue once.
        for round in 0..MESSAGES {
            let killer = id(round, round);
            let dead = dead_of(round, &killer).await;
            assert_eq!(dead, [killer], "innocents died too");
        }
    }

    /// Runs one life of a worker, to which everything is sent at once and which receives one message at a time: a killer
    /// at the head of the queue would be scored before the worker looks at any other.
    /// Returns false when it died of the killer.
    async fn live(consumer: &mut impl Consumer, killer: &str, settled: &mut HashSet<String>) -> bool {
        const RECEIVED_AT_ONCE: usize = 1;
        let is_deadly = |group: &[Delivery]| group.iter().any(|delivery| delivery.message.id == killer);
        let mut suspects = Suspects::default();
        let mut all = false;
        while !all {
            let mut group = Vec::new();
            match consumer.receive(&mut group, RECEIVED_AT_ONCE).now_or_never() {
                Some(received) => all = received.unwrap() == 0,
                None => break,
            }
            suspects.take_from(&mut group);
            // The worker asks after every receive.
            group.extend(suspects.next_group());
            if is_deadly(&group) {
                // What was sent and not looked at counts a failure too.
                while let Some(Ok(1..)) = consumer.receive(&mut group, 1_000).now_or_never() {}
                return false;
            }
            settle(consumer, group, settled).await;
        }
        suspects.arrange();
        while !suspects.is_empty() {
            let group = suspects.next_group();
            if is_deadly(&group) {
                return false;
            }
            settle(consumer, group, settled).await;
        }
        true
    }

    async fn settle(consumer: &mut impl Consumer, group: Vec<Delivery>, settled: &mut HashSet<String>) {
        settled.extend(group.iter().map(|delivery| delivery.message.id.clone()));
        let receipts = group.into_iter().map(|delivery| delivery.receipt).collect();
        consumer.ack(receipts).await.unwrap();
    }
}
