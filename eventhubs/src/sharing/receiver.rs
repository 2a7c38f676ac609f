//! Feeds a partition's events from the client's receiver to the partition's pipeline.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use azure_messaging_eventhubs::EventHubsError;
use azure_messaging_eventhubs::error::ErrorKind;
use azure_messaging_eventhubs::processor::PartitionClient;
use windrow_service::{Shutdown, ShutdownTrigger};

use super::EventHubSource;
use super::fetch::{Fetch, FetchError};
use crate::SharingError;
use crate::client::part_with;
use windrow_producer::ProducerError;
use windrow_producer::checkpoint::CheckpointError;

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

/// A receiver that hands a partition's events to its pipeline.
pub(crate) struct Receiver {
    pub(crate) client: Arc<PartitionClient>,
    /// Set once the partition has been handed out again, with a new client.
    pub(crate) superseded: Rc<Cell<bool>>,
    pub(crate) fetch: Fetch,
    pub(crate) source: EventHubSource,
    /// Stops the pipeline.
    pub(crate) trigger: Arc<ShutdownTrigger>,
    pub(crate) stop: Shutdown,
}

type Pipeline = tokio::task::JoinHandle<Result<(), ProducerError>>;

/// Why a receiver stopped.
enum Stopped {
    Stop,
    /// The pipeline ended on its own.
    Pipeline(Result<Result<(), ProducerError>, tokio::task::JoinError>),
    Fetching(FetchError),
}

impl Receiver {
    /// Feeds the pipeline until the receiver or the pipeline ends, or a stop is requested.
    pub(crate) async fn feed(mut self, mut pipeline: Pipeline) -> Ended {
        let stop = &mut self.stop;
        let ended = async {
            tokio::select! {
                ran = &mut pipeline => Stopped::Pipeline(ran),
                () = stop.stopping() => Stopped::Stop,
            }
        };
        let cause = self.fetch.run(ended).await.unwrap_or_else(Stopped::Fetching);
        // Request the stop before closing the channel, so that open windows stay open.
        let by_itself = matches!(cause, Stopped::Pipeline(_)) && !self.stop.is_stopping();
        self.trigger.stop();
        drop(self.fetch);
        let (lost, broken, ran) = match cause {
            Stopped::Pipeline(ran) => (None, None, ran),
            Stopped::Stop => (None, None, pipeline.await),
            Stopped::Fetching(FetchError::Opening(error)) => (None, Some(error), pipeline.await),
            Stopped::Fetching(FetchError::Receiving(error)) => {
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
        // Until the client is closed, the processor believes that the partition is being read. It identifies clients by
        // partition, so closing a superseded client would close its successor.
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
