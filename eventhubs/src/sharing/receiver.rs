//! What stands between the client's receiver of a partition and the partition's pipeline.

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
use windrow_producer::ProducerError;
use windrow_producer::checkpoint::CheckpointError;

/// How many bytes of bodies may wait to be decoded, in all partitions together; events are counted, too, but one may have
/// a hundred bytes or a million.
const BODY_BYTES_AHEAD: usize = 64 << 20;

/// How a partition's pipeline came to its end.
pub(crate) enum Ended {
    /// The partition is another producer's now.
    Lost,
    /// It is read to where it ended when the session began.
    CaughtUp(Arc<PartitionClient>),
    /// As it was told to.
    Stopped,
    Failed(SharingError),
}

/// Room for the bodies of events that are received and not yet decoded, of all partitions together.
pub(crate) fn room_for_bodies() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(BODY_BYTES_AHEAD))
}

/// Hands a partition's events to its pipeline.
pub(crate) struct Receiver {
    pub(crate) client: Arc<PartitionClient>,
    /// Set once the partition has been handed out again, to a client of its own.
    pub(crate) superseded: Rc<Cell<bool>>,
    pub(crate) events: mpsc::Sender<Incoming>,
    pub(crate) room: Arc<Semaphore>,
    pub(crate) source: EventHubSource,
    /// Stops the pipeline.
    pub(crate) trigger: Arc<ShutdownTrigger>,
    pub(crate) stop: Shutdown,
}

type Pipeline = tokio::task::JoinHandle<Result<(), ProducerError>>;

/// Why a receiver has stopped.
enum Cause {
    Stop,
    /// The pipeline ended by itself.
    Pipeline(Result<Result<(), ProducerError>, tokio::task::JoinError>),
    Receiving(EventHubsError),
}

impl Receiver {
    /// Feeds the pipeline until either ends or a stop is asked for.
    pub(crate) async fn feed(mut self, mut pipeline: Pipeline) -> Ended {
        let cause = {
            let mut stream = pin!(self.client.stream_events());
            loop {
                tokio::select! {
                    ran = &mut pipeline => break Cause::Pipeline(ran),
                    () = self.stop.stopping() => break Cause::Stop,
                    passed = pass_on(&mut stream, &self.events, &self.room, &self.source) => {
                        if let Err(error) = passed {
                            break Cause::Receiving(error);
                        }
                    }
                }
            }
        };
        // First the stop, then the end of events: windows that are open stay so.
        let by_itself = matches!(cause, Cause::Pipeline(_)) && !self.stop.is_stopping();
        self.trigger.stop();
        drop(self.events);
        let (lost, broken, ran) = match cause {
            Cause::Pipeline(ran) => (false, None, ran),
            Cause::Stop => (false, None, pipeline.await),
            Cause::Receiving(error) => {
                let lost = matches!(error.kind, ErrorKind::ConsumerDisconnected(_));
                (
                    lost,
                    (!lost).then(|| self.source.hub.error(&error)),
                    pipeline.await,
                )
            }
        };
        let ended = match ran {
            Err(error) => Ended::Failed(ProducerError::Panicked(error.to_string()).into()),
            Ok(Err(ProducerError::Checkpoint(CheckpointError::TakenOver { .. }))) => Ended::Lost,
            Ok(Err(error)) => Ended::Failed(error.into()),
            Ok(Ok(())) if by_itself => return Ended::CaughtUp(self.client),
            Ok(Ok(())) if lost => Ended::Lost,
            Ok(Ok(())) => match broken {
                Some(error) => Ended::Failed(error.into()),
                None => Ended::Stopped,
            },
        };
        // Without this the processor would think that it is still being read. It knows a receiver by its partition's name,
        // however, and would close the one that came after.
        if !self.superseded.get()
            && let Some(client) = Arc::into_inner(self.client)
        {
            part_with("partition", client.close()).await;
        }
        ended
    }
}

/// Waits for the next event and hands it on. What it holds when it is cancelled is lost, so that must be the end.
async fn pass_on<S>(
    stream: &mut S,
    events: &mpsc::Sender<Incoming>,
    room: &Arc<Semaphore>,
    source: &EventHubSource,
) -> Result<(), EventHubsError>
where
    S: Stream<Item = Result<ReceivedEventData, EventHubsError>> + Unpin,
{
    match stream.next().await {
        Some(Ok(received)) => {
            let Some(event) = Event::of(&received, &source.mapping) else {
                return Ok(());
            };
            let bytes = event.body_bytes().clamp(1, BODY_BYTES_AHEAD) as u32;
            let room = Arc::clone(room).acquire_many_owned(bytes).await;
            if let Ok(room) = room
                && events.send(Incoming { event, room }).await.is_ok()
            {
                return Ok(());
            }
            // The pipeline has ended and says why.
            std::future::pending().await
        }
        Some(Err(error)) => Err(error),
        None => Err(ErrorKind::ConsumerDisconnected(None).into()),
    }
}
