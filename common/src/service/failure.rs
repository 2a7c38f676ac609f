//! What ends a service, and the exit code that says so.

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

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

    /// Says what happened on the standard error, and gives the exit code.
    pub fn end(&self, program: &str) -> ExitCode {
        eprintln!("{program}: {self}");
        ExitCode::from(self.exit_code())
    }

    fn exit_code(&self) -> u8 {
        match self {
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::DrainTimeout(_) => 4,
            Self::Interrupted => 5,
        }
    }
}

/// An error and its causes on one line; a cause the sentence already tells is not told twice.
pub fn sentence(error: &dyn Error) -> String {
    let mut text = one_line(&error.to_string());
    let mut cause = error.source();
    while let Some(error) = cause {
        let why = one_line(&error.to_string());
        if !text.contains(&why) {
            text = format!("{text}: {why}");
        }
        cause = error.source();
    }
    text
}

/// A text that may have several lines, as the XML that clouds answer with.
pub(crate) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
