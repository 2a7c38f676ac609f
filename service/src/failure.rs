//! What ends a service, and the exit code that says so.

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use windrow_common::{HasRemedy, Remedy, sentence};

/// What ends a service.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The configuration, or what it names, is wrong: starting again without a change will not help.
    #[error("{}", sentence(.0.as_ref()))]
    Usage(Box<dyn Error + Send + Sync>),
    /// Something failed for good.
    #[error("{}", sentence(.0.as_ref()))]
    Failed(Box<dyn Error + Send + Sync>),
    /// A run to an end was stopped before it.
    #[error("stopped before it was caught up; started again it goes on from there")]
    Interrupted,
    /// Work in hand could not be finished in time; it is delivered again elsewhere.
    #[error("what was in hand could not be finished within {0:?}; it will be delivered again")]
    DrainTimeout(Duration),
}

impl Failure {
    /// A wrong configuration.
    pub fn usage(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Usage(error.into())
    }

    /// A failure of the world.
    pub fn failed(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Failed(error.into())
    }

    /// The failure of an error that knows its remedy.
    pub fn of(error: impl HasRemedy + Send + Sync + 'static) -> Self {
        match error.remedy() {
            Remedy::FixConfig => Self::usage(error),
            Remedy::Wait | Remedy::GiveUp => Self::failed(error),
        }
    }

    /// Says what happened on the standard error, and gives the exit code.
    pub fn end(&self, program: &str) -> ExitCode {
        eprintln!("{program}: {self}");
        ExitCode::from(self.exit_code())
    }

    fn exit_code(&self) -> u8 {
        match self {
            Self::Failed(_) => Remedy::GiveUp.exit_code(),
            Self::Usage(_) => Remedy::FixConfig.exit_code(),
            Self::DrainTimeout(_) => 4,
            Self::Interrupted => 5,
        }
    }
}
