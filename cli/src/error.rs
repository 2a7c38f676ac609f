//! The errors that end a command, and their exit codes.

use std::path::PathBuf;
use std::time::Duration;

use windrow_common::{HasRemedy, Remedy};

use windrow_alerter::AlerterError;
use windrow_grouper::GrouperError;
use windrow_models::RepositoryError;
use windrow_producer::Unusable;
use windrow_producer::checkpoint::CheckpointError;
use windrow_producer::source::SourceError;
use windrow_producer::window::WindowConfigError;
use windrow_service::Failure;
use windrow_store::{StoreError, TableError};
use windrow_worker::WorkerError;

use crate::broker::BrokerError;
use crate::cost::CostError;
use crate::input::InputError;
use crate::scale::ScaleError;

/// An error that ends a command.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The command line is invalid, or names something that does not exist.
    #[error("{0}")]
    Usage(String),
    /// The source failed.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The source was read to its end, and little of it could be used.
    #[error(transparent)]
    Unusable(#[from] Unusable),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The producer failed.
    #[error(transparent)]
    Input(#[from] InputError),
    /// A checkpoint cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A worker failed.
    #[error(transparent)]
    Worker(#[from] WorkerError),
    /// A model cannot be read or stored.
    #[error(transparent)]
    Models(#[from] RepositoryError),
    /// Incidents cannot be brought up to date.
    #[error(transparent)]
    Alerter(#[from] AlerterError),
    /// The tags of devices cannot be brought together.
    #[error(transparent)]
    Grouper(#[from] GrouperError),
    /// A table cannot be encoded.
    #[error("cannot encode the table: {0}")]
    Table(#[from] TableError),
    /// A file or standard output cannot be written.
    #[error("cannot write {}: {source}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The process cannot listen for signals.
    #[error("cannot listen for signals: {0}")]
    Signals(std::io::Error),
    /// Work in flight did not finish in time after a stop.
    #[error(
        "work in flight did not finish within {waited:?} of the stop{outage}; it is done again by the next run"
    )]
    DrainTimeout {
        /// The drain timeout.
        waited: Duration,
        /// What the store lacks, if anything.
        outage: String,
    },
    /// The window options are invalid.
    #[error(transparent)]
    Windows(#[from] WindowConfigError),
    /// RabbitMQ failed, or the options for it are invalid.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// No bill can be made.
    #[error(transparent)]
    Cost(#[from] CostError),
    /// Nothing can be simulated.
    #[error(transparent)]
    Scale(#[from] ScaleError),
    /// Logging cannot be set up.
    #[error(transparent)]
    Logs(#[from] Failure),
    /// Part of the work failed; the details are already on standard error.
    #[error("{0}")]
    Partial(String),
    /// The audit failed: it found windows that are lost, unexpected or different.
    #[error("{0}")]
    Lost(String),
    /// The audit found windows without a prediction, and messages that wait and may hold all of them.
    #[error("{0}")]
    Unfinished(String),
    /// A task panicked, or the async runtime did not start.
    #[error("internal error: {0}")]
    Panicked(String),
}

impl CliError {
    /// Returns 3 when the audit failed, 5 when it is not finished, 4 when the drain timed out, 2 when the caller has to change
    /// something, 6 when access is refused, and 1 otherwise.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Lost(_) => 3,
            Self::Unfinished(_) => 5,
            Self::DrainTimeout { .. } => 4,
            error => error.remedy().exit_code(),
        }
    }

    /// Returns whether the reader closed the pipe (`windrow … | head`), which is not a failure.
    pub(crate) fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Write { source, .. } if source.kind() == std::io::ErrorKind::BrokenPipe)
    }
}

impl HasRemedy for CliError {
    fn remedy(&self) -> Remedy {
        match self {
            Self::Usage(_) | Self::Windows(_) => Remedy::FixConfig,
            Self::Logs(error) => error.remedy(),
            Self::Worker(error) => error.remedy(),
            Self::Broker(error) => error.remedy(),
            Self::Cost(error) => error.remedy(),
            Self::Scale(error) => error.remedy(),
            Self::Source(error) => error.remedy(),
            Self::Unusable(error) => error.remedy(),
            Self::Input(error) => error.remedy(),
            Self::Checkpoint(error) => error.remedy(),
            Self::Store(error) => error.remedy(),
            Self::Alerter(error) => error.remedy(),
            Self::Models(error) => error.remedy(),
            Self::Grouper(error) => error.remedy(),
            Self::Table(_)
            | Self::Write { .. }
            | Self::Signals(_)
            | Self::DrainTimeout { .. }
            | Self::Partial(_)
            | Self::Lost(_)
            | Self::Unfinished(_)
            | Self::Panicked(_) => Remedy::GiveUp,
        }
    }
}
