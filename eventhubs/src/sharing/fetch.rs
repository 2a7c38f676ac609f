//! Fetches a partition's events ahead, as many as fit into memory.

use std::pin::pin;
use std::sync::Arc;

use azure_messaging_eventhubs::error::ErrorKind;
use azure_messaging_eventhubs::models::ReceivedEventData;
use azure_messaging_eventhubs::{
    ConsumerClient, EventHubsError, OpenReceiverOptions, StartLocation, StartPosition,
};
use futures::{Stream, StreamExt};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::timeout;

use super::OPEN_WITHIN;
use super::credit::Credit;
use crate::client::part_with;
use crate::event::Event;
use crate::partition::{Incoming, Room};
use crate::{EventHub, EventHubError};
use windrow_producer::Stats;

/// Bytes of bodies and application properties that may wait to be decoded, over all partitions.
const BODY_BYTES_AHEAD: usize = 64 << 20;
/// The epoch of all producers' receivers, as that of the client's processor: the service lets the newest of them read.
const EPOCH: i64 = 0;

/// Creates the room, shared by all partitions, for the bodies of events that are received and not yet decoded.
pub(crate) fn room_for_bodies() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(BODY_BYTES_AHEAD))
}

/// Fetches a partition's events and hands them to its pipeline.
///
/// The client's processor also creates a receiver for each partition, but with one fixed credit for all of them. Those
/// receivers are never attached. This one is reopened whenever the credit has to change. It has its own connection,
/// because the client's library (0.16) drops a connection on which events arrive for a receiver that it has just
/// closed.
pub(crate) struct Fetch {
    pub(crate) hub: EventHub,
    pub(crate) consumer_group: String,
    pub(crate) partition: String,
    /// Where the next receiver begins.
    pub(crate) position: StartPosition,
    pub(crate) credit: Credit,
    /// How many partitions share the memory.
    pub(crate) partitions: watch::Receiver<usize>,
    pub(crate) events: mpsc::Sender<Incoming>,
    pub(crate) room: Arc<Semaphore>,
    pub(crate) stats: Arc<Stats>,
}

/// Why no more events are received.
#[derive(Debug)]
pub(crate) enum FetchError {
    Opening(EventHubError),
    Receiving(EventHubsError),
}

impl Fetch {
    /// Hands on events until `ended` is ready, and returns its output, or until receiving them fails.
    pub(crate) async fn run<T>(&mut self, ended: impl Future<Output = T>) -> Result<T, FetchError> {
        let mut ended = pin!(ended);
        loop {
            let consumer = tokio::select! {
                output = &mut ended => return Ok(output),
                opened = timeout(OPEN_WITHIN, self.hub.consumer(&self.consumer_group)) => opened
                    .unwrap_or_else(|_| Err(self.hub.silent(OPEN_WITHIN)))
                    .map_err(FetchError::Opening)?,
            };
            let credit = self.credit.open(*self.partitions.borrow_and_update());
            self.stats.set_prefetch(&self.partition, self.credit.bytes());
            let outcome = tokio::select! {
                output = &mut ended => Some(Ok(output)),
                handed = self.receive(&consumer, credit) => handed.err().map(Err),
            };
            // Drops the events that the client still holds; the next client receives them again.
            part_with("receiving connection", consumer.close()).await;
            if let Some(outcome) = outcome {
                self.stats.forget_prefetch(&self.partition);
                return outcome;
            }
            tracing::debug!(partition = self.partition, credit, "changing the prefetch");
        }
    }

    /// Hands on events with this credit, until another one is needed.
    async fn receive(&mut self, consumer: &ConsumerClient, credit: u32) -> Result<(), FetchError> {
        let options = OpenReceiverOptions {
            owner_level: Some(EPOCH),
            prefetch: Some(credit),
            start_position: Some(self.position.clone()),
            ..OpenReceiverOptions::default()
        };
        let partition = self.partition.clone();
        let opening = consumer.open_receiver_on_partition(partition, Some(options));
        let opened = timeout(OPEN_WITHIN, opening).await;
        let opened = opened.map_err(|_| FetchError::Opening(self.hub.silent(OPEN_WITHIN)))?;
        let receiver = opened.map_err(FetchError::Receiving)?;
        let mut stream = pin!(receiver.stream_events());
        self.hand_on(&mut stream).await.map_err(FetchError::Receiving)
    }

    async fn hand_on<S>(&mut self, stream: &mut S) -> Result<(), EventHubsError>
    where
        S: Stream<Item = Result<ReceivedEventData, EventHubsError>> + Unpin,
    {
        loop {
            let received = tokio::select! {
                received = stream.next() => match received {
                    Some(received) => received?,
                    None => return Err(ErrorKind::ConsumerDisconnected(None).into()),
                },
                Ok(()) = self.partitions.changed() => {
                    if self.is_due() {
                        return Ok(());
                    }
                    continue;
                }
            };
            let Some(event) = Event::of(received) else {
                // The service numbers every event, so this event comes from something else.
                if self.stats.count_unnumbered_event() == 1 {
                    let partition = &self.partition;
                    tracing::warn!(
                        partition,
                        "an event without a sequence number is dropped; more of them are only counted"
                    );
                }
                continue;
            };
            let bytes = event.bytes();
            self.credit.note(bytes);
            // Stop now, even if events wait for room: every further event may be as large as this one.
            if self.is_due() {
                return Ok(());
            }
            let next = after(&event);
            let room = Room::new(Arc::clone(&self.stats), bytes);
            let mut handing = pin!(hand_over(event, room, &self.room, &self.events));
            loop {
                tokio::select! {
                    () = &mut handing => break,
                    Ok(()) = self.partitions.changed() => {
                        let partitions = *self.partitions.borrow_and_update();
                        if self.credit.is_due(partitions) {
                            return Ok(());
                        }
                    }
                }
            }
            self.position = next;
        }
    }

    fn is_due(&mut self) -> bool {
        let partitions = *self.partitions.borrow_and_update();
        self.credit.is_due(partitions)
    }
}

/// Returns the position after an event.
fn after(event: &Event) -> StartPosition {
    StartPosition {
        location: StartLocation::SequenceNumber(i64::try_from(event.offset.0).unwrap_or(i64::MAX)),
        inclusive: false,
    }
}

/// Hands an event to the pipeline once there is room for it. Waits forever if the pipeline has ended: its result says why.
async fn hand_over(event: Event, mut room: Room, rooms: &Arc<Semaphore>, events: &mpsc::Sender<Incoming>) {
    let bytes = room.bytes.clamp(1, BODY_BYTES_AHEAD) as u32;
    room.permit = Arc::clone(rooms).acquire_many_owned(bytes).await.ok();
    if room.permit.is_none() || events.send(Incoming { event, room }).await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests;
