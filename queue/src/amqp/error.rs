//! What can go wrong with RabbitMQ, and what it means.

use lapin::ErrorKind;
use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};

use super::AmqpConfig;
use windrow_common::{HasRemedy, Remedy};

/// What can go wrong with RabbitMQ. No password is in any of its sentences.
#[derive(Debug, thiserror::Error)]
pub enum AmqpError {
    /// The URL cannot be used; it is not repeated, since a password may be in it.
    #[error("the AMQP URL cannot be used: {why} (write amqp://user:password@host:5672/vhost, or amqps://…)")]
    Url {
        /// What is wrong with it.
        why: String,
    },
    /// Wrong user or password, or no right to do this.
    #[error("RabbitMQ at {endpoint} refuses user `{user}`: {why}")]
    Refused {
        /// Where.
        endpoint: String,
        /// Who.
        user: String,
        /// What the broker said.
        why: String,
    },
    /// There is no such virtual host, or the user may not use it.
    #[error("RabbitMQ at {endpoint} does not let `{user}` in: {why}")]
    NoVhost {
        /// Where.
        endpoint: String,
        /// Who.
        user: String,
        /// What the broker said.
        why: String,
    },
    /// A queue or exchange of this name is there, with other arguments.
    #[error(
        "RabbitMQ at {endpoint} has something else under one of our names: {why}; give the option that is meant the \
         value it has there, name another with --queue-prefix, or delete it there once it is empty"
    )]
    OtherArguments {
        /// Where.
        endpoint: String,
        /// What the broker said; names the queue and the argument.
        why: String,
    },
    /// The broker's certificate or ours is not accepted.
    #[error("no encrypted connection to RabbitMQ at {endpoint}: {why}")]
    Tls {
        /// Where.
        endpoint: String,
        /// What the handshake said.
        why: String,
    },
    /// No queue takes the message, although they have just been declared.
    #[error("RabbitMQ at {endpoint} has no queue {queue} for message {id}")]
    Unroutable {
        /// Where.
        endpoint: String,
        /// The queue.
        queue: String,
        /// The message.
        id: String,
    },
    /// A queue or exchange that was declared is gone.
    #[error("RabbitMQ at {endpoint} no longer has something of ours: {why}")]
    Missing {
        /// Where.
        endpoint: String,
        /// What the broker said; names it.
        why: String,
    },
    /// Dead letters are in someone else's hands.
    #[error(
        "{left} of the dead letters on RabbitMQ at {endpoint} are being looked at by someone else; try again in a moment"
    )]
    DeadLettersHeld {
        /// Where.
        endpoint: String,
        /// How many did not come.
        left: u64,
    },
    /// The broker would not take the message.
    #[error("RabbitMQ at {endpoint} did not take message {id}")]
    Nacked {
        /// Where.
        endpoint: String,
        /// The message.
        id: String,
    },
    /// The broker cannot be reached, went away, or is not ready.
    #[error("RabbitMQ at {endpoint} is away: {why}")]
    Away {
        /// Where.
        endpoint: String,
        /// What happened.
        why: String,
    },
}

impl AmqpError {
    /// What an error of the client library means.
    pub(super) fn from_lapin(config: &AmqpConfig, error: &lapin::Error) -> Self {
        let endpoint = config.url.endpoint();
        let user = config.url.user().to_owned();
        match error.kind() {
            ErrorKind::ProtocolError(said) => {
                let why = said.get_message().to_string();
                match said.kind() {
                    AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => {
                        Self::Refused { endpoint, user, why }
                    }
                    AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND) => Self::Missing { endpoint, why },
                    // "NOT_ALLOWED - vhost x not found" and "… access to vhost refused"; other refusals with this
                    // code, such as a connection limit, pass.
                    AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED) if !why.contains("limit") => {
                        Self::NoVhost { endpoint, user, why }
                    }
                    AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED)
                        if why.contains("inequivalent") || why.contains("invalid") =>
                    {
                        Self::OtherArguments { endpoint, why }
                    }
                    _ => Self::Away { endpoint, why },
                }
            }
            ErrorKind::IOError(io) if is_certificate_error(io) => Self::Tls {
                endpoint,
                why: io.to_string(),
            },
            ErrorKind::IOError(io) => Self::Away {
                endpoint,
                why: io.to_string(),
            },
            _ => Self::Away {
                endpoint,
                why: error.to_string(),
            },
        }
    }
}

impl HasRemedy for AmqpError {
    fn remedy(&self) -> Remedy {
        match self {
            Self::Away { .. }
            | Self::Missing { .. }
            | Self::DeadLettersHeld { .. }
            | Self::Nacked { .. }
            | Self::Unroutable { .. } => Remedy::Wait,
            Self::Url { .. }
            | Self::Refused { .. }
            | Self::NoVhost { .. }
            | Self::OtherArguments { .. }
            | Self::Tls { .. } => Remedy::FixConfig,
        }
    }
}

/// A handshake that ends like this ends like this again.
fn is_certificate_error(error: &std::io::Error) -> bool {
    use std::io::ErrorKind as E;
    matches!(error.kind(), E::InvalidData | E::InvalidInput)
}
