//! Feeds a partition's events from the client's receiver to the partition's pipeline.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use azure_messaging_eventhubs::EventHubsError;
use azure_messaging_eventhubs::error::ErrorKind;
use azure_messaging_eventhubs::models::ReceivedEventData;
use azure_messaging_eventhubs::processor::PartitionClient;
use futures::{Stream, StreamExt};
use tokio::sync::{Semaphore, mpsc};
use windrow_service::{Shutdown, ShutdownTrigger};

use super::EventHubSource;
use crate::SharingError;
use crate::client::part_with;
use crate::event::Event;
use crate::partition::Incoming;
use windrow_producer::checkpoint::CheckpointError;
use windrow_producer::{ProducerError, Stats};

/// Bytes of bodies and application properties that may wait to be decoded, over all partitions. A bound on the number
/// of events is not enough: an event may have a hundred bytes or a million.
const BODY_BYTES_AHEAD: usize = 64 << 20;

/// How a partition's pipeline ended.
pub(crate) enum Ended {
    /// Another reader has taken over the partition; with the service's words, if it detached the receiver.
    Lost(Option<String>),
    /// The partition is read to the end that it had when the session began.
    CaughtUp(Arc<PartitionClient>),
    /// A stop was requested.
    Stopped,
    Failed(SharingError),
}

/// Creates the room, shared by all partitions, for the bodies of events that are received and not yet decoded.
pub(crate) fn room_for_bodies() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(BODY_BYTES_AHEAD))
}

/// A receiver that hands a partition's events to its pipeline.
pub(crate) struct Receiver {
    pub(crate) client: Arc<PartitionClient>,
    /// Set once the partition has been handed out again, with a new client.
    pub(crate) superseded: Rc<Cell<bool>>,
    pub(crate) events: mpsc::Sender<Incoming>,
    pub(crate) room: Arc<Semaphore>,
    pub(crate) source: EventHubSource,
    pub(crate) stats: Arc<Stats>,
    /// Stops the pipeline.
    pub(crate) trigger: Arc<ShutdownTrigger>,
    pub(crate) stop: Shutdown,
}

type Pipeline = tokio::task::JoinHandle<Result<(), ProducerError>>;

/// Why a receiver stopped.
enum Cause {
    Stop,
    /// The pipeline ended on its own.
    Pipeline(Result<Result<(), ProducerError>, tokio::task::JoinError>),
    Receiving(EventHubsError),
}

impl Receiver {
    /// Feeds the pipeline until the receiver or the pipeline ends, or a stop is requested.
    pub(crate) async fn feed(mut self, mut pipeline: Pipeline) -> Ended {
        let cause = {
            let partition = self.client.get_partition_id().to_owned();
            let mut stream = pin!(self.client.stream_events());
            loop {
                tokio::select! {
                    ran = &mut pipeline => break Cause::Pipeline(ran),
                    () = self.stop.stopping() => break Cause::Stop,
                    passed = pass_on(&partition, &self.stats, &mut stream, &self.events, &self.room) => {
                        if let Err(error) = passed {
                            break Cause::Receiving(error);
                        }
                    }
                }
            }
        };
        // Request the stop before closing the channel, so that open windows stay open.
        let by_itself = matches!(cause, Cause::Pipeline(_)) && !self.stop.is_stopping();
        self.trigger.stop();
        drop(self.events);
        let (lost, broken, ran) = match cause {
            Cause::Pipeline(ran) => (None, None, ran),
            Cause::Stop => (None, None, pipeline.await),
            Cause::Receiving(error) => {
                let lost = displaced_by(&error);
                let broken = lost.is_none().then(|| self.source.hub.error(&error));
                (lost, broken, pipeline.await)
            }
        };
        let ended = match ran {
            Err(error) => Ended::Failed(ProducerError::Panicked(error.to_string()).into()),
            Ok(Err(ProducerError::Checkpoint(CheckpointError::TakenOver { .. }))) => Ended::Lost(None),
            Ok(Err(error)) => Ended::Failed(error.into()),
            Ok(Ok(())) if by_itself => return Ended::CaughtUp(self.client),
            Ok(Ok(())) => match (lost, broken) {
                (Some(why), _) => Ended::Lost(why),
                (None, Some(error)) => Ended::Failed(error.into()),
                (None, None) => Ended::Stopped,
            },
        };
        // Until the client is closed, the processor takes the partition for one that is being read. It identifies
        // clients by partition, so closing a superseded client would close its successor.
        if !self.superseded.get()
            && let Some(client) = Arc::into_inner(self.client)
        {
            part_with("partition", client.close()).await;
        }
        ended
    }
}

/// Returns the service's words if it detached the receiver in favour of another one.
fn displaced_by(error: &EventHubsError) -> Option<Option<String>> {
    match &error.kind {
        ErrorKind::ConsumerDisconnected(described) => Some(
            described
                .as_ref()
                .and_then(|described| described.description.clone()),
        ),
        _ => None,
    }
}

/// Waits for the next event and hands it to the pipeline. Cancelling it loses the event it holds, so cancel it only to
/// end the receiver.
async fn pass_on<S>(
    partition: &str,
    stats: &Stats,
    stream: &mut S,
    events: &mpsc::Sender<Incoming>,
    room: &Arc<Semaphore>,
) -> Result<(), EventHubsError>
where
    S: Stream<Item = Result<ReceivedEventData, EventHubsError>> + Unpin,
{
    match stream.next().await {
        Some(Ok(received)) => {
            let Some(event) = Event::of(received) else {
                // The service numbers every event, so whatever sent this is no such service.
                if stats.count_unnumbered_event() == 1 {
                    tracing::warn!(
                        partition,
                        "an event without a sequence number is dropped; more of them are only counted"
                    );
                }
                return Ok(());
            };
            let bytes = event.bytes().clamp(1, BODY_BYTES_AHEAD) as u32;
            let room = Arc::clone(room).acquire_many_owned(bytes).await;
            if let Ok(room) = room
                && events.send(Incoming { event, room }).await.is_ok()
            {
                return Ok(());
            }
            // The pipeline has ended; its result says why.
            std::future::pending().await
        }
        Some(Err(error)) => Err(error),
        None => Err(ErrorKind::ConsumerDisconnected(None).into()),
    }
}
