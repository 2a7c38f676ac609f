//! The simulated broker: a queue that outlives processes, delays, reorders and repeats messages, and loses channels.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use windrow_common::random;
use windrow_queue::{
    Announcement, Confirmation, Consumer, DeadLettering, Delivery, Depth, Message, Prefetch, Queue,
    QueueError, Reason, Receipt,
};

use crate::faults::Faults;

/// A broker; clones are connections to the same one.
#[derive(Clone, Debug)]
pub(crate) struct SimBroker {
    state: Arc<Mutex<State>>,
    arrived: Arc<Notify>,
    faults: Faults,
}

#[derive(Debug, Default)]
struct State {
    ready: Vec<Entry>,
    dead: Vec<Arc<Message>>,
    consumers: u64,
    is_closed: bool,
}

#[derive(Clone, Debug)]
struct Entry {
    message: Arc<Message>,
    redelivered: bool,
    failures: u32,
    visible: Instant,
}

impl SimBroker {
    pub(crate) fn new(faults: &Faults) -> Self {
        Self {
            state: Arc::default(),
            arrived: Arc::default(),
            faults: faults.clone(),
        }
    }

    /// Ends consumers once nothing is left.
    pub(crate) fn close(&self) {
        self.state().is_closed = true;
        self.arrived.notify_waiters();
    }

    /// Returns the messages that were set aside.
    pub(crate) fn dead(&self) -> Vec<Arc<Message>> {
        self.state().dead.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enqueue(&self, entry: Entry) {
        self.state().ready.push(entry);
        self.arrived.notify_waiters();
    }
}

impl Queue for SimBroker {
    type Consumer = SimConsumer;

    async fn publish(&self, message: Message) -> Result<Confirmation, QueueError> {
        self.faults.delay().await;
        let entry = Entry {
            message: Arc::new(message),
            redelivered: false,
            failures: 0,
            visible: Instant::now() + Duration::from_millis(random() % 50),
        };
        // The confirmation was lost, and the client published once more.
        if self.faults.strike() {
            self.enqueue(entry.clone());
        }
        let (confirm, confirmation) = Confirmation::pair();
        let (broker, faults) = (self.clone(), self.faults.clone());
        // What is on its way reaches the broker after a crash of the publisher too, or does not.
        let is_lost = self.faults.strike();
        if !is_lost {
            broker.enqueue(entry.clone());
        }
        tokio::spawn(async move {
            faults.delay().await;
            if is_lost {
                tokio::time::sleep(Duration::from_millis(200)).await;
                if confirm.is_closed() {
                    return;
                }
                broker.enqueue(entry);
            }
            _ = confirm.send(Ok(()));
        });
        Ok(confirmation)
    }

    async fn consume(&self, prefetch: impl Into<Prefetch> + Send) -> Result<SimConsumer, QueueError> {
        self.faults.delay().await;
        self.state().consumers += 1;
        Ok(SimConsumer {
            broker: self.clone(),
            prefetch: usize::from(prefetch.into().messages.get()),
            epoch: 0,
            next: 0,
            unacked: BTreeMap::new(),
            is_stopped: false,
        })
    }

    async fn depth(&self) -> Result<Depth, QueueError> {
        Ok(Depth::default())
    }

    async fn announce(&self, _: Announcement) -> Result<(), QueueError> {
        self.faults.delay().await;
        Ok(())
    }
}

/// A consumer, which dies with its process.
pub(crate) struct SimConsumer {
    broker: SimBroker,
    prefetch: usize,
    /// Counts the channels that were lost.
    epoch: u64,
    next: u64,
    unacked: BTreeMap<u64, Entry>,
    is_stopped: bool,
}

impl SimConsumer {
    /// Takes what is visible, in any order.
    fn take(&mut self, into: &mut Vec<Delivery>, limit: usize) -> usize {
        let room = limit.min(self.prefetch - self.unacked.len().min(self.prefetch));
        let mut taken = 0;
        let mut state = self.broker.state.lock().unwrap_or_else(PoisonError::into_inner);
        while taken < room {
            let now = Instant::now();
            let visible: Vec<usize> = (0..state.ready.len())
                .filter(|index| state.ready[*index].visible <= now)
                .collect();
            if visible.is_empty() || (taken > 0 && random().is_multiple_of(3)) {
                break;
            }
            let entry = state
                .ready
                .swap_remove(visible[random() as usize % visible.len()]);
            into.push(Delivery {
                message: Arc::clone(&entry.message),
                redelivered: entry.redelivered,
                failures: entry.failures,
                receipt: Receipt::new(self.epoch, self.next),
            });
            self.unacked.insert(self.next, entry);
            self.next += 1;
            taken += 1;
        }
        taken
    }

    /// Returns everything unsettled to the queue.
    fn lose_channel(&mut self, failures: u32) {
        let unacked = std::mem::take(&mut self.unacked);
        for entry in unacked.into_values() {
            self.broker.enqueue(Entry {
                redelivered: true,
                failures: entry.failures + failures,
                visible: Instant::now() + Duration::from_millis(random() % 50),
                ..entry
            });
        }
        self.epoch += 1;
    }

    fn settle(&mut self, receipts: impl Iterator<Item = Receipt>) -> Vec<Entry> {
        receipts
            .filter_map(|receipt| self.unacked.remove(&receipt.tag()))
            .collect()
    }
}

impl Consumer for SimConsumer {
    async fn receive(&mut self, into: &mut Vec<Delivery>, limit: usize) -> Result<usize, QueueError> {
        loop {
            if self.is_stopped {
                return Ok(0);
            }
            let taken = self.take(into, limit);
            if taken > 0 {
                return Ok(taken);
            }
            {
                let state = self.broker.state();
                if state.is_closed && state.ready.is_empty() && self.unacked.is_empty() {
                    return Ok(0);
                }
            }
            let arrived = Arc::clone(&self.broker.arrived);
            tokio::select! {
                () = arrived.notified() => {}
                () = tokio::time::sleep(Duration::from_millis(20)) => {}
            }
        }
    }

    async fn ack(&mut self, receipts: Vec<Receipt>) -> Result<(), QueueError> {
        if receipts.is_empty() {
            return Ok(());
        }
        self.broker.faults.delay().await;
        if self.broker.faults.strike() {
            self.lose_channel(0);
            return Ok(());
        }
        self.settle(receipts.into_iter());
        Ok(())
    }

    fn dead_letter(&mut self, receipt: Receipt, _: Reason) -> DeadLettering {
        let entry = self.unacked.get(&receipt.tag());
        let message = entry.map(|entry| Arc::clone(&entry.message));
        let broker = self.broker.clone();
        Box::pin(async move {
            broker.faults.delay().await;
            // Without the message, its channel is lost.
            Ok(message.map(|message| {
                broker.state().dead.push(message);
                receipt
            }))
        })
    }

    async fn stop_intake(&mut self) {
        self.is_stopped = true;
    }
}

impl Drop for SimConsumer {
    fn drop(&mut self) {
        self.lose_channel(1);
    }
}
