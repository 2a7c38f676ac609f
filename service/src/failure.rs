//! The failures that end a service, and their exit codes.

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use windrow_common::{HasRemedy, Remedy, sentence};

/// A failure that ends a service.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The configuration, or something that it names, is wrong. A restart without a change does not help.
    #[error("{}", sentence(.0.as_ref()))]
    Usage(Box<dyn Error + Send + Sync>),
    /// A login or a right is refused. A restart may help, once somebody has granted it.
    #[error("{}", sentence(.0.as_ref()))]
    Refused(Box<dyn Error + Send + Sync>),
    /// Something failed permanently.
    #[error("{}", sentence(.0.as_ref()))]
    Failed(Box<dyn Error + Send + Sync>),
    /// A run that ends once it is caught up was stopped before that.
    #[error("stopped before it was caught up; the next start continues from there")]
    Interrupted,
    /// Work in flight did not finish in time. It is delivered again elsewhere.
    #[error("work in flight did not finish within {0:?}; it will be delivered again")]
    DrainTimeout(Duration),
}

impl Failure {
    /// Creates the failure for a wrong configuration.
    pub fn usage(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Usage(error.into())
    }

    /// Creates the failure for anything but a wrong configuration.
    pub fn failed(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Failed(error.into())
    }

    /// Creates the failure for an error, depending on its remedy.
    pub fn of(error: impl HasRemedy + Send + Sync + 'static) -> Self {
        match error.remedy() {
            Remedy::FixConfig => Self::usage(error),
            Remedy::GrantAccess => Self::Refused(Box::new(error)),
            Remedy::Wait | Remedy::GiveUp => Self::failed(error),
        }
    }

    /// Writes the failure to standard error and returns the exit code.
    pub fn end(&self, program: &str) -> ExitCode {
        eprintln!("{program}: {self}");
        ExitCode::from(self.exit_code())
    }

    fn exit_code(&self) -> u8 {
        match self {
            Self::DrainTimeout(_) => 4,
            Self::Interrupted => 5,
            other => other.remedy().exit_code(),
        }
    }
}

impl HasRemedy for Failure {
    fn remedy(&self) -> Remedy {
        match self {
            Self::Usage(_) => Remedy::FixConfig,
            Self::Refused(_) => Remedy::GrantAccess,
            Self::Failed(_) | Self::DrainTimeout(_) | Self::Interrupted => Remedy::GiveUp,
        }
    }
}
