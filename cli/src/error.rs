//! What can end a command, and the exit code that says so.

use std::path::PathBuf;

use windrow_common::args::AmqpArgsError;
use windrow_common::queue::{AmqpError, ManagementError};
use windrow_common::service::Failure;
use windrow_common::store::{StoreError, TableError};
use windrow_model::RepositoryError;
use windrow_producer::ProducerError;
use windrow_producer::source::SourceError;
use windrow_producer::window::WindowConfigError;
use windrow_worker::WorkerError;

/// What ends a command.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The command line asks for something that makes no sense, or that is not there.
    #[error("{0}")]
    Usage(String),
    /// The source failed.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The producing half failed.
    #[error(transparent)]
    Producer(#[from] ProducerError),
    /// The Event Hub refused.
    #[cfg(feature = "eventhubs")]
    #[error(transparent)]
    EventHub(#[from] windrow_producer::source::eventhubs::EventHubError),
    /// A worker failed.
    #[error(transparent)]
    Worker(#[from] WorkerError),
    /// A model cannot be read or stored.
    #[error(transparent)]
    Models(#[from] RepositoryError),
    /// A table cannot be encoded.
    #[error("the table cannot be written: {0}")]
    Table(#[from] TableError),
    /// A file or the standard output cannot be written.
    #[error("cannot write {}: {source}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Signals cannot be listened to.
    #[error("cannot listen to signals: {0}")]
    Signals(std::io::Error),
    /// The windows make no sense.
    #[error(transparent)]
    Windows(#[from] WindowConfigError),
    /// RabbitMQ is not named well.
    #[error(transparent)]
    AmqpArgs(#[from] AmqpArgsError),
    /// RabbitMQ failed.
    #[error(transparent)]
    Amqp(#[from] AmqpError),
    /// RabbitMQ's management API cannot be asked.
    #[error(transparent)]
    Management(#[from] ManagementError),
    /// Logging cannot be set up.
    #[error(transparent)]
    Logs(#[from] Failure),
    /// Part of what was asked for failed; the details are on the standard error already.
    #[error("{0}")]
    Partial(String),
    /// The audit found windows that were dispatched and are nowhere.
    #[error("{0}")]
    Lost(String),
    /// A task of this program panicked.
    #[error("a task died: {0}")]
    Panicked(String),
}

impl CliError {
    /// 2 for what the caller has to change, 3 for what the audit found lost, 1 for the rest.
    pub(crate) fn exit_code(&self) -> u8 {
        let usage = match self {
            Self::Usage(_) | Self::Windows(_) | Self::AmqpArgs(_) | Self::Logs(_) => true,
            Self::Amqp(error) => !error.is_transient(),
            Self::Source(error) => error.is_usage(),
            Self::Producer(error) => error.is_usage(),
            Self::Store(error) => error.is_usage(),
            #[cfg(feature = "eventhubs")]
            Self::EventHub(error) => !error.is_transient(),
            _ => false,
        };
        match self {
            _ if usage => 2,
            Self::Lost(_) => 3,
            _ => 1,
        }
    }

    /// Whether nobody reads what is written any more (`windrow … | head`), which is no failure.
    pub(crate) fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Write { source, .. } if source.kind() == std::io::ErrorKind::BrokenPipe)
    }
}
