//! A source that one producer reads alone or shares with others.

use clap::Args;
use windrow_producer::args::SourceArgs;
use windrow_producer::source::{Source, Until};
use windrow_producer::{Pipeline, ProducerError};
use windrow_queue::Queue;
use windrow_service::Shutdown;

use crate::{EventHubSource, ReadHubArgs, SharingError, sharing};

/// Options that name a source, which may be an Event Hub.
#[derive(Args, Clone, Debug)]
pub struct InputArgs {
    /// The options of every source.
    #[command(flatten)]
    pub source: SourceArgs,
    #[command(flatten)]
    event_hub: ReadHubArgs,
}

/// An opened source.
pub enum Input {
    /// This producer reads all its partitions.
    Own(Box<dyn Source>),
    /// Several producers share its partitions.
    Shared(Box<EventHubSource>),
}

impl InputArgs {
    /// Opens the source and checks its columns and files. A shared source connects only when it runs.
    pub fn open(&self, until: Until) -> Result<Input, SharingError> {
        if self.source.is_event_hub() {
            let mapping = self.source.checked_mapping().map_err(ProducerError::from)?;
            mapping
                .check_for_events(&self.source.source)
                .map_err(ProducerError::from)?;
            let source = self.event_hub.source(&self.source.source, mapping, until)?;
            return Ok(Input::Shared(Box::new(source)));
        }
        let source = self.source.open(until).map_err(ProducerError::from)?;
        Ok(Input::Own(source))
    }
}

impl Input {
    /// Runs `pipeline` on the source until it ends or a stop is requested. When it returns `Ok`, every published
    /// message is confirmed and the checkpoints are saved.
    pub async fn run<Q: Queue>(self, pipeline: Pipeline<Q>, shutdown: Shutdown) -> Result<(), SharingError> {
        match self {
            Self::Own(source) => Ok(pipeline.run(source, shutdown).await?),
            Self::Shared(source) => sharing::run(*source, pipeline, shutdown).await,
        }
    }
}
