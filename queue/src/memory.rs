//! The queue inside one process.
//!
//! It has no disk, so a crash of the process empties it. It therefore confirms a message only when the work is safe:
//! when a consumer has acked the message, or its dead letter is in the store. A producer that checkpoints only what is
//! confirmed then replays exactly what the crash lost.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};

use super::{
    Announcement, Confirmation, Consumer, DeadLettering, Delivery, Depth, Message, Prefetch, Queue,
    QueueError, Reason, Receipt,
};
use crate::{DeadLetter, StoredDeadLetters};
use windrow_common::EventTime;
use windrow_store::{Store, wait_out};

/// The limits of a [`Memory`] queue.
#[derive(Clone, Copy, Debug)]
pub struct MemoryLimits {
    /// Bytes of messages, ready and unsettled together. Publishing waits while there is no room.
    pub bytes: usize,
    /// How often a message is delivered again before it becomes a dead letter, counted as in RabbitMQ. Without a limit,
    /// a message that kills workers would do so forever.
    pub redeliveries: u32,
}

impl Default for MemoryLimits {
    /// Returns 128 MiB and 20 redeliveries, as in RabbitMQ 4's quorum queues.
    fn default() -> Self {
        Self {
            bytes: 128 << 20,
            redeliveries: 20,
        }
    }
}

/// Size of a message besides its body: the entry, its id and the confirmation.
const OVERHEAD_BYTES: usize = 256;

/// A queue in this process's memory; clones are the same queue.
#[derive(Clone, Debug)]
pub struct Memory {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Wakes one consumer that waits for a message.
    arrived: Notify,
    /// One permit for each byte of room.
    room: Arc<Semaphore>,
    limits: MemoryLimits,
    dead_letters: StoredDeadLetters,
    closed: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    ready: VecDeque<Entry>,
    unacked: u64,
}

#[derive(Debug)]
struct Entry {
    message: Arc<Message>,
    confirm: oneshot::Sender<Result<(), QueueError>>,
    /// Number of consumers that ended while they held the message.
    failures: u32,
    _room: OwnedSemaphorePermit,
}

impl Memory {
    /// Creates an empty queue that stores its dead letters in `dead_letters`.
    pub fn new(limits: MemoryLimits, dead_letters: &Store) -> Self {
        Self {
            shared: Arc::new(Shared {
                state: Mutex::default(),
                arrived: Notify::new(),
                room: Arc::new(Semaphore::new(limits.bytes.min(Semaphore::MAX_PERMITS))),
                limits,
                dead_letters: StoredDeadLetters::of(dead_letters),
                closed: AtomicBool::new(false),
            }),
        }
    }

    /// Ends publishing. Consumers still receive the messages that are ready, then 0.
    pub fn close(&self) {
        self.shared.closed.store(true, Ordering::Release);
        self.shared.room.close();
        self.shared.arrived.notify_waiters();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock, so the queue is consistent even if the lock is poisoned.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn keep_dead_letter(
        &self,
        message: &Message,
        failures: u32,
        reason: Reason,
    ) -> Result<(), QueueError> {
        let dead_letter = DeadLetter {
            message: message.clone(),
            reason,
            dead_at: EventTime::now(),
            deliveries: failures + 1,
        };
        wait_out("storing a dead letter", || self.dead_letters.put(&dead_letter))
            .await
            .map_err(|source| QueueError::DeadLetter {
                id: message.id.clone(),
                source,
            })
    }
}

impl Queue for Memory {
    type Consumer = MemoryConsumer;

    async fn publish(&self, message: Message) -> Result<Confirmation, QueueError> {
        let bytes = message.body.len() + OVERHEAD_BYTES;
        let capacity = self.shared.limits.bytes;
        let (confirm, confirmed) = oneshot::channel();
        let confirmation = Confirmation { confirmed };
        let Some(permits) = u32::try_from(bytes).ok().filter(|_| bytes <= capacity) else {
            let why = format!(
                "message {} has {bytes} bytes, but the whole queue holds only {capacity}",
                message.id
            );
            _ = confirm.send(Err(QueueError::TooLarge {
                message: Box::new(message),
                limit: capacity.saturating_sub(OVERHEAD_BYTES),
                why,
            }));
            return Ok(confirmation);
        };
        let room = Arc::clone(&self.shared.room).acquire_many_owned(permits).await;
        let room = room.map_err(|_| QueueError::Closed)?;
        let entry = Entry {
            message: Arc::new(message),
            confirm,
            failures: 0,
            _room: room,
        };
        self.shared.state().ready.push_back(entry);
        self.shared.arrived.notify_one();
        Ok(confirmation)
    }

    async fn consume(&self, prefetch: impl Into<Prefetch> + Send) -> Result<MemoryConsumer, QueueError> {
        Ok(MemoryConsumer {
            shared: Arc::clone(&self.shared),
            prefetch: usize::from(prefetch.into().messages.get()),
            unsettled: HashMap::new(),
            exhausted: Vec::new(),
            next_tag: 0,
            stopped: false,
        })
    }

    async fn depth(&self) -> Result<Depth, QueueError> {
        let state = self.shared.state();
        Ok(Depth {
            ready: state.ready.len() as u64,
            unacked: Some(state.unacked),
        })
    }

    async fn announce(&self, _: Announcement) -> Result<(), QueueError> {
        // Nobody can subscribe to an in-memory queue.
        Ok(())
    }
}

/// A consumer of a [`Memory`] queue.
#[derive(Debug)]
pub struct MemoryConsumer {
    shared: Arc<Shared>,
    prefetch: usize,
    /// By receipt tag.
    unsettled: HashMap<u64, Entry>,
    /// Entries past the delivery limit, which become dead letters next.
    exhausted: Vec<Entry>,
    next_tag: u64,
    stopped: bool,
}

impl MemoryConsumer {
    /// Takes ready messages, up to `limit` and the prefetch. Moves entries past the delivery limit to `exhausted`.
    fn take_ready(&mut self, into: &mut Vec<Delivery>, limit: usize) -> usize {
        let limit = limit.min(self.prefetch.saturating_sub(self.unsettled.len()));
        let mut state = self.shared.state();
        let mut taken = 0;
        while taken < limit {
            let Some(entry) = state.ready.pop_front() else {
                break;
            };
            state.unacked += 1;
            if entry.failures > self.shared.limits.redeliveries {
                self.exhausted.push(entry);
                continue;
            }
            let tag = self.next_tag;
            self.next_tag += 1;
            into.push(Delivery {
                message: Arc::clone(&entry.message),
                redelivered: entry.failures > 0,
                failures: entry.failures,
                receipt: Receipt { epoch: 0, tag },
            });
            self.unsettled.insert(tag, entry);
            taken += 1;
        }
        if !state.ready.is_empty() {
            // One wake-up may stand for several messages: pass it on.
            self.shared.arrived.notify_one();
        }
        taken
    }

    fn take_unsettled(&mut self, receipt: &Receipt) -> Option<Entry> {
        self.unsettled.remove(&receipt.tag)
    }

    /// Puts entries back at the head of the queue, oldest first.
    fn requeue(&self, mut entries: Vec<(u64, Entry)>) {
        entries.sort_unstable_by_key(|(tag, _)| *tag);
        let mut state = self.shared.state();
        for (_, entry) in entries.into_iter().rev() {
            state.unacked -= 1;
            state.ready.push_front(entry);
        }
        drop(state);
        self.shared.arrived.notify_one();
    }

    async fn dead_letter_exhausted(&mut self) -> Result<(), QueueError> {
        while let Some(entry) = self.exhausted.last() {
            let reason = Reason {
                code: "delivery-limit".to_owned(),
                detail: format!("{} workers ended before settling this message", entry.failures),
                worker: String::new(),
            };
            self.shared
                .keep_dead_letter(&entry.message, entry.failures, reason)
                .await?;
            if let Some(entry) = self.exhausted.pop() {
                self.shared.state().unacked -= 1;
                _ = entry.confirm.send(Ok(()));
            }
        }
        Ok(())
    }
}

impl Consumer for MemoryConsumer {
    async fn receive(&mut self, into: &mut Vec<Delivery>, limit: usize) -> Result<usize, QueueError> {
        loop {
            if self.stopped {
                return Ok(0);
            }
            if self.unsettled.len() >= self.prefetch || limit == 0 {
                // Only settling changes this, and settling needs `self`, so the caller has to cancel.
                std::future::pending::<()>().await;
            }
            let shared = Arc::clone(&self.shared);
            // Registered before looking, so that a message that arrives in between is not missed.
            let arrived = shared.arrived.notified();
            let closed = shared.closed.load(Ordering::Acquire);
            let taken = self.take_ready(into, limit);
            let has_exhausted = !self.exhausted.is_empty();
            self.dead_letter_exhausted().await?;
            if taken > 0 || (closed && !has_exhausted) {
                return Ok(taken);
            }
            if !has_exhausted {
                arrived.await;
            }
        }
    }

    async fn ack(&mut self, receipts: Vec<Receipt>) -> Result<(), QueueError> {
        let mut settled = 0;
        for receipt in &receipts {
            if let Some(entry) = self.take_unsettled(receipt) {
                settled += 1;
                // A producer that has dropped the confirmation does not need the result.
                _ = entry.confirm.send(Ok(()));
            }
        }
        self.shared.state().unacked -= settled;
        Ok(())
    }

    fn dead_letter(&mut self, receipt: Receipt, reason: Reason) -> DeadLettering {
        let entry = self.unsettled.get(&receipt.tag);
        let dead = entry.map(|entry| (Arc::clone(&entry.message), entry.failures));
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            if let Some((message, failures)) = dead {
                shared.keep_dead_letter(&message, failures, reason).await?;
            }
            Ok(Some(receipt))
        })
    }

    async fn stop_intake(&mut self) {
        self.stopped = true;
    }
}

impl Drop for MemoryConsumer {
    fn drop(&mut self) {
        let mut entries: Vec<_> = self.unsettled.drain().collect();
        entries.extend(self.exhausted.drain(..).map(|entry| (u64::MAX, entry)));
        for (_, entry) in &mut entries {
            entry.failures += 1;
        }
        self.requeue(entries);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::LIMIT;

    fn in_memory(_: &str) -> (Memory, impl AsyncFn() -> Vec<DeadLetter>) {
        let store = Store::create("memory:///").unwrap();
        let limits = MemoryLimits {
            redeliveries: LIMIT,
            ..MemoryLimits::default()
        };
        let queue = Memory::new(limits, &store);
        let dead_letters = StoredDeadLetters::of(&store);
        (queue, async move || dead_letters.list().await.unwrap())
    }

    crate::conformance!(in_memory);
}
