//! The source of a run: any kind of source that this build can read.

#[cfg(feature = "cluster")]
pub(crate) use windrow_eventhubs::{Input, InputArgs, SharingError as InputError};

#[cfg(not(feature = "cluster"))]
pub(crate) use own::{Input, InputArgs, InputError};

/// Sources of a build without Event Hubs; each belongs to one producer.
#[cfg(not(feature = "cluster"))]
mod own {
    use clap::Args;
    use windrow_producer::args::SourceArgs;
    use windrow_producer::source::{Source, Until};
    use windrow_producer::{Pipeline, ProducerError};
    use windrow_queue::Queue;
    use windrow_service::Shutdown;

    pub(crate) use windrow_producer::ProducerError as InputError;

    /// The options that name the source.
    #[derive(Args, Clone, Debug)]
    pub(crate) struct InputArgs {
        #[command(flatten)]
        pub(crate) source: SourceArgs,
    }

    /// An opened source.
    pub(crate) enum Input {
        Own(Box<dyn Source>),
    }

    impl InputArgs {
        pub(crate) fn open(&self, until: Until) -> Result<Input, ProducerError> {
            Ok(Input::Own(self.source.open(until)?))
        }
    }

    impl Input {
        pub(crate) async fn run<Q: Queue>(
            self,
            pipeline: Pipeline<Q>,
            shutdown: Shutdown,
        ) -> Result<(), ProducerError> {
            let Self::Own(source) = self;
            pipeline.run(source, shutdown).await
        }
    }
}
