//! The remedy for an error, decided once per error type.

use std::error::Error;

/// What to do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// The dependency is unavailable, slow or full: wait and retry.
    Wait,
    /// A person has to change an option, or what it names. Retrying does not help.
    FixConfig,
    /// A person has to grant access (a password, a role or a permission), which may take minutes to apply. The error
    /// ends a program at startup. A service that has had access waits instead, because credentials are rotated.
    GrantAccess,
    /// Nothing helps: this blob, message or run has failed.
    GiveUp,
}

impl Remedy {
    /// Returns whether the error may pass while a program with work in flight waits.
    pub fn may_pass(self) -> bool {
        matches!(self, Self::Wait | Self::GrantAccess)
    }

    /// Returns the exit code of a program that ends with such an error: 2 if the configuration is wrong, 6 if access is
    /// refused, otherwise 1.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::FixConfig => 2,
            Self::GrantAccess => 6,
            Self::Wait | Self::GiveUp => 1,
        }
    }
}

/// An error that knows its remedy.
pub trait HasRemedy: Error {
    /// Returns what to do about this error.
    fn remedy(&self) -> Remedy;
}
