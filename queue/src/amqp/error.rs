//! The errors of RabbitMQ, and what they mean.

use std::time::Duration;

use lapin::ErrorKind;
use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};

use windrow_common::{HasRemedy, Remedy};
use windrow_store::SecretFileError;

/// An error of RabbitMQ. Its text never contains a password.
#[derive(Debug, thiserror::Error)]
pub enum AmqpError {
    /// The URL cannot be used. The error does not repeat it, because it may contain a password.
    #[error("the AMQP URL cannot be used: {why} (write amqp://user:password@host:5672/vhost, or amqps://…)")]
    Url {
        /// What is wrong with it.
        why: String,
    },
    /// The URL names a user, and so does a file.
    #[error("the AMQP URL names a user, and so does --amqp-user-file: remove one of them")]
    TwoUsers,
    /// A file with the URL or a certificate cannot be read.
    #[error(transparent)]
    Unreadable(#[from] SecretFileError),
    /// The user or password is wrong, or the user lacks a permission.
    #[error("RabbitMQ at {endpoint} refuses user `{user}`: {why}")]
    Refused {
        /// The broker's address.
        endpoint: String,
        /// The user.
        user: String,
        /// The broker's error.
        why: String,
    },
    /// The virtual host does not exist, or the user may not use it.
    #[error("RabbitMQ at {endpoint} refuses user `{user}` on this virtual host: {why}")]
    NoVhost {
        /// The broker's address.
        endpoint: String,
        /// The user.
        user: String,
        /// The broker's error.
        why: String,
    },
    /// A queue or exchange of this name exists with other arguments.
    #[error(
        "RabbitMQ at {endpoint} has a queue or exchange with one of these names but other arguments: {why}; set the \
         option to the value in RabbitMQ, choose other names with --queue-prefix, or delete it once it is empty"
    )]
    OtherArguments {
        /// The broker's address.
        endpoint: String,
        /// The broker's error, which names the queue and the argument.
        why: String,
    },
    /// A queue or exchange is missing, and the user may not create it.
    #[error(
        "RabbitMQ at {endpoint} has no {what}, and user `{user}` lacks the right `configure` to create it: {why}; grant it \
         (rabbitmqctl set_permissions), or start a service once as a user who has it"
    )]
    MayNotCreate {
        /// The broker's address.
        endpoint: String,
        /// The user.
        user: String,
        /// The queue or exchange.
        what: String,
        /// The broker's error.
        why: String,
    },
    /// The queue that a command needs does not exist. Commands create none.
    #[error(
        "RabbitMQ at {endpoint} has no queue `{queue}`: either no producer or worker has connected yet, or the queues have \
         other names (--queue-prefix) or are in another virtual host (at the end of the AMQP URL)"
    )]
    NoQueue {
        /// The broker's address.
        endpoint: String,
        /// The queue.
        queue: String,
    },
    /// The broker has not answered in time.
    #[error("RabbitMQ at {endpoint} has not answered for {seconds}s: {asked}: {why}")]
    NoAnswer {
        /// The broker's address.
        endpoint: String,
        /// How long it was waited for.
        seconds: u64,
        /// What it was asked.
        asked: String,
        /// Why it may not answer.
        why: String,
    },
    /// None of several hosts can be reached.
    #[error("none of the hosts in the AMQP URL can be used: {}", list(.failed))]
    NoHost {
        /// What each says.
        failed: Vec<AmqpError>,
    },
    /// The broker's certificate or the client's is not accepted.
    #[error("cannot open an encrypted connection to RabbitMQ at {endpoint}: {why}")]
    Tls {
        /// The broker's address.
        endpoint: String,
        /// The error of the handshake.
        why: String,
    },
    /// No queue takes the message, although the queues have just been declared.
    #[error("RabbitMQ at {endpoint} has no queue {queue} for message {id}")]
    Unroutable {
        /// The broker's address.
        endpoint: String,
        /// The queue.
        queue: String,
        /// The message.
        id: String,
    },
    /// A queue or exchange that was declared no longer exists.
    #[error("RabbitMQ at {endpoint} has lost a queue or exchange: {why}")]
    Missing {
        /// The broker's address.
        endpoint: String,
        /// The broker's error, which names the queue or exchange.
        why: String,
    },
    /// Another consumer holds dead letters.
    #[error(
        "another consumer holds {left} of the dead letters on RabbitMQ at {endpoint}; try again in a moment"
    )]
    DeadLettersHeld {
        /// The broker's address.
        endpoint: String,
        /// How many it holds.
        left: u64,
    },
    /// The broker rejected the message.
    #[error("RabbitMQ at {endpoint} rejected message {id}")]
    Nacked {
        /// The broker's address.
        endpoint: String,
        /// The message.
        id: String,
    },
    /// The message is larger than the broker takes.
    #[error(
        "RabbitMQ at {endpoint} takes messages of at most {limit} bytes, and message {id} has {bytes}: raise \
         max_message_size in rabbitmq.conf"
    )]
    TooLarge {
        /// The broker's address.
        endpoint: String,
        /// The message.
        id: String,
        /// Its size.
        bytes: usize,
        /// The broker's limit.
        limit: usize,
    },
    /// The broker takes no messages, because it is short of memory or disk.
    #[error("RabbitMQ at {endpoint} is out of {lacks} and takes nothing")]
    Blocked {
        /// The broker's address.
        endpoint: String,
        /// What it lacks.
        lacks: &'static str,
    },
    /// The broker has closed the channel because another message on it is too large.
    #[error("RabbitMQ at {endpoint} has closed the channel because of another message, which is too large")]
    Disturbed {
        /// The broker's address.
        endpoint: String,
    },
    /// The broker has taken messages and has not confirmed any of them.
    #[error("RabbitMQ at {endpoint} has confirmed nothing for {waited:?}")]
    Silent {
        /// The broker's address.
        endpoint: String,
        /// For how long.
        waited: Duration,
    },
    /// The broker cannot be reached, closed the connection, or is not ready.
    #[error("RabbitMQ at {endpoint} is away: {why}")]
    Away {
        /// The broker's address.
        endpoint: String,
        /// What happened.
        why: String,
    },
}

impl AmqpError {
    /// Returns what an error of the client library means.
    pub(super) fn from_lapin(endpoint: String, user: &str, error: &lapin::Error) -> Self {
        let user = user.to_owned();
        match error.kind() {
            ErrorKind::ProtocolError(said) => {
                let why = said.get_message().to_string();
                match said.kind() {
                    AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => {
                        Self::Refused { endpoint, user, why }
                    }
                    AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND) => Self::Missing { endpoint, why },
                    // "NOT_ALLOWED - vhost x not found" and "… access to vhost refused". Other refusals with this
                    // code, such as a connection limit, are temporary.
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
            | Self::Blocked { .. }
            | Self::Silent { .. }
            | Self::Disturbed { .. }
            | Self::Missing { .. }
            | Self::NoAnswer { .. }
            | Self::NoHost { .. }
            | Self::DeadLettersHeld { .. }
            | Self::Nacked { .. }
            | Self::Unroutable { .. } => Remedy::Wait,
            Self::Refused { .. } | Self::NoVhost { .. } | Self::MayNotCreate { .. } => Remedy::GrantAccess,
            Self::TooLarge { .. } | Self::NoQueue { .. } => Remedy::GiveUp,
            Self::Url { .. }
            | Self::TwoUsers
            | Self::Unreadable(_)
            | Self::OtherArguments { .. }
            | Self::Tls { .. } => Remedy::FixConfig,
        }
    }
}

/// Returns the broker's limit if it closed the channel because a message is larger. The error goes to every message that
/// is in flight on the channel, not only to the one that is too large.
pub(super) fn size_limit(error: &lapin::Error) -> Option<usize> {
    let ErrorKind::ProtocolError(said) = error.kind() else {
        return None;
    };
    let AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED) = said.kind() else {
        return None;
    };
    // "PRECONDITION_FAILED - message size 3000 is larger than configured max size 2000".
    let (_, limit) = said.get_message().as_str().split_once("max size ")?;
    limit
        .split(|digit: char| !digit.is_ascii_digit())
        .next()?
        .parse()
        .ok()
}

fn list(errors: &[AmqpError]) -> String {
    let errors: Vec<_> = errors.iter().map(AmqpError::to_string).collect();
    errors.join("; ")
}

/// Returns whether the handshake failed over a certificate, which a retry does not change.
fn is_certificate_error(error: &std::io::Error) -> bool {
    use std::io::ErrorKind as E;
    matches!(error.kind(), E::InvalidData | E::InvalidInput)
}
