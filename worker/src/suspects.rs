//! Messages that workers went away holding, again and again.
//!
//! One of them may be what kills workers, and every message held beside it then counts a failure too. So suspects are
//! scored apart from the rest, in groups that shrink as their failures grow, down to one at a time: what kills is
//! alone when it reaches the delivery limit, and what is innocent is settled long before.

use std::hash::{BuildHasher, RandomState};

use windrow_common::queue::Delivery;

/// Failures from which on a message is a suspect. The first two may well have been the worker's or the broker's.
const SUSPECT_FROM: u32 = 3;
/// Group size at the first suspicion; halves with each failure more.
const FIRST_GROUP: usize = 256;

/// Deliveries that wait to be scored apart.
#[derive(Debug, Default)]
pub(crate) struct Suspects {
    waiting: Vec<Delivery>,
}

impl Suspects {
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes the suspects out of `deliveries`.
    pub(crate) fn take_from(&mut self, deliveries: &mut Vec<Delivery>) {
        if deliveries
            .iter()
            .any(|delivery| delivery.failures >= SUSPECT_FROM)
        {
            let suspects = deliveries.extract_if(.., |delivery| delivery.failures >= SUSPECT_FROM);
            self.waiting.extend(suspects);
        }
    }

    /// The next suspects to score together. Which ones is chance: the same order each time would let the same
    /// innocents wait behind the killer until they die with it.
    pub(crate) fn next_group(&mut self) -> Vec<Delivery> {
        let mut group = Vec::new();
        let mut most = FIRST_GROUP;
        while group.len() < most && !self.waiting.is_empty() {
            let chance = RandomState::new().hash_one(self.waiting.len());
            let delivery = self.waiting.swap_remove(chance as usize % self.waiting.len());
            most = most.min(group_of(delivery.failures));
            group.push(delivery);
        }
        // The last one taken may have asked for a smaller group.
        while group.len() > most {
            self.waiting.extend(group.pop());
        }
        group
    }
}

fn group_of(failures: u32) -> usize {
    (FIRST_GROUP >> failures.saturating_sub(SUSPECT_FROM).min(20)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use std::num::NonZeroU16;
    use windrow_common::EventTime;
    use windrow_common::queue::{Consumer, Memory, MemoryLimits, Message, Queue};
    use windrow_common::store::Store;

    /// A worker that dies of message 0, restarted until nothing is left.
    #[tokio::test]
    async fn only_the_killer_reaches_the_delivery_limit() {
        const MESSAGES: usize = 2_000;
        let store = Store::create("memory:///").unwrap();
        let queue = Memory::new(MemoryLimits::default(), store.clone());
        for number in 0..MESSAGES {
            let message = Message {
                id: number.to_string(),
                kind: "".into(),
                content_type: "".into(),
                enqueued_at: EventTime::from_millis(0),
                traceparent: None,
                body: Vec::new().into(),
            };
            drop(queue.publish(message).await.unwrap());
        }
        queue.close();
        let mut settled: HashMap<String, u32> = HashMap::new();
        for _life in 0..100 {
            let mut consumer = queue.consume(NonZeroU16::new(10_000).unwrap()).await.unwrap();
            if live(&mut consumer, &mut settled).await {
                let dead = store.dead_letters().await.unwrap();
                assert_eq!(dead.len(), 1, "innocents died too");
                assert_eq!(
                    (dead[0].message.id.as_str(), dead[0].reason.code.as_str()),
                    ("0", "delivery-limit")
                );
                assert_eq!(settled.len(), MESSAGES - 1);
                return;
            }
        }
        panic!("the killer never reached the limit");
    }

    /// One life of a worker: false when it died of message 0.
    async fn live(consumer: &mut impl Consumer, settled: &mut HashMap<String, u32>) -> bool {
        let (mut deliveries, mut suspects) = (Vec::new(), Suspects::default());
        loop {
            if consumer.receive(&mut deliveries, 10_000).await.unwrap() == 0 {
                return true;
            }
            suspects.take_from(&mut deliveries);
            let mut group = std::mem::take(&mut deliveries);
            loop {
                if group.iter().any(|delivery| delivery.message.id == "0") {
                    return false;
                }
                let mut receipts = Vec::new();
                for delivery in group.drain(..) {
                    *settled.entry(delivery.message.id.clone()).or_default() += 1;
                    receipts.push(delivery.receipt);
                }
                consumer.ack(receipts).await.unwrap();
                group = suspects.next_group();
                if group.is_empty() {
                    break;
                }
            }
        }
    }
}
