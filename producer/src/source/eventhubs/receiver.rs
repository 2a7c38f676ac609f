//! What stands between the client's receiver of a partition and the partition's pipeline.

use std::pin::pin;
use std::sync::Arc;

use azure_messaging_eventhubs::EventHubsError;
use azure_messaging_eventhubs::error::ErrorKind;
use azure_messaging_eventhubs::models::ReceivedEventData;
use azure_messaging_eventhubs::processor::PartitionClient;
use futures::{Stream, StreamExt};
use tokio::sync::mpsc;
use windrow_common::{Shutdown, ShutdownTrigger};

use super::event::Event;
use super::{EventHubSource, part_with};
use crate::ProducerError;
use crate::checkpoint::CheckpointError;

/// How a partition's pipeline came to its end.
pub(super) enum Ended {
    /// The partition is another producer's now.
    Lost,
    /// It is read to where it ended when the session began.
    CaughtUp(Arc<PartitionClient>),
    /// As it was told to.
    Stopped,
    Failed(ProducerError),
}

/// Hands a partition's events to its pipeline.
pub(super) struct Receiver {
    pub(super) client: Arc<PartitionClient>,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) source: EventHubSource,
    /// Stops the pipeline.
    pub(super) trigger: Arc<ShutdownTrigger>,
    pub(super) stop: Shutdown,
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
    pub(super) async fn feed(mut self, mut pipeline: Pipeline) -> Ended {
        let cause = {
            let mut stream = pin!(self.client.stream_events());
            loop {
                tokio::select! {
                    ran = &mut pipeline => break Cause::Pipeline(ran),
                    () = self.stop.stopping() => break Cause::Stop,
                    passed = pass_on(&mut stream, &self.events, &self.source) => {
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
            Err(error) => Ended::Failed(ProducerError::Panicked(error.to_string())),
            Ok(Err(ProducerError::Checkpoint(CheckpointError::TakenOver { .. }))) => Ended::Lost,
            Ok(Err(error)) => Ended::Failed(error),
            Ok(Ok(())) if by_itself => return Ended::CaughtUp(self.client),
            Ok(Ok(())) if lost => Ended::Lost,
            Ok(Ok(())) => match broken {
                Some(error) => Ended::Failed(error.into()),
                None => Ended::Stopped,
            },
        };
        // Without this the processor would think that it is still being read.
        if let Some(client) = Arc::into_inner(self.client) {
            part_with("partition", client.close()).await;
        }
        ended
    }
}

/// Waits for the next event and hands it on. Nothing is lost when it is cancelled: room comes first.
async fn pass_on<S>(
    stream: &mut S,
    events: &mpsc::Sender<Event>,
    source: &EventHubSource,
) -> Result<(), EventHubsError>
where
    S: Stream<Item = Result<ReceivedEventData, EventHubsError>> + Unpin,
{
    let Ok(room) = events.reserve().await else {
        // The pipeline has ended and says why.
        return std::future::pending().await;
    };
    match stream.next().await {
        Some(Ok(received)) => {
            if let Some(event) = Event::of(&received, &source.mapping) {
                room.send(event);
            }
            Ok(())
        }
        Some(Err(error)) => Err(error),
        None => Err(ErrorKind::ConsumerDisconnected(None).into()),
    }
}
