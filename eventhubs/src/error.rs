//! Errors of a hub, and the meaning of the client's errors.

use std::error::Error;
use std::time::Duration;

use azure_core_amqp::error::{AmqpErrorCondition, AmqpErrorKind};
use azure_core_amqp::{AmqpDescribedError, AmqpError};
use azure_messaging_eventhubs::EventHubsError;
use azure_messaging_eventhubs::error::ErrorKind;
use windrow_common::{HasRemedy, Remedy};
use windrow_identity::NoToken;
use windrow_producer::{CheckpointError, ProducerError};
use windrow_store::StoreError;

use crate::EventHub;

/// How long the service asks a client to wait when it is busy
/// (<https://learn.microsoft.com/azure/event-hubs/event-hubs-messaging-exceptions>).
const BUSY_WAIT: Duration = Duration::from_secs(4);
/// Longest chain of causes that is followed.
const DEPTH: usize = 16;

/// An error of a hub.
#[derive(Debug, thiserror::Error)]
pub enum EventHubError {
    /// The options contradict each other or cannot be used.
    #[error("cannot use `{0}`: {1}")]
    Config(String, String),
    /// The service refuses: a name does not exist, or an argument is wrong.
    #[error("Event Hub {hub} refuses: {why}")]
    Refused {
        /// The hub.
        hub: String,
        /// The reason it gave.
        why: String,
    },
    /// The service refuses this identity or key, or what it asks for.
    #[error(
        "Event Hub {hub} refuses this login: {why}; reading takes the right Listen or the role Azure Event Hubs Data \
         Receiver, and sending Send or Azure Event Hubs Data Sender"
    )]
    NoAccess {
        /// The hub.
        hub: String,
        /// The reason it gave.
        why: String,
    },
    /// The service is unavailable or busy, or it cut the connection.
    #[error("Event Hub {hub} is unavailable: {why}")]
    Away {
        /// The hub.
        hub: String,
        /// The reason that the service or the network gave.
        why: String,
        /// Whether the service asked the client to slow down.
        busy: bool,
    },
}

impl HasRemedy for EventHubError {
    fn remedy(&self) -> Remedy {
        match self {
            Self::Away { .. } => Remedy::Wait,
            Self::Config(..) | Self::Refused { .. } => Remedy::FixConfig,
            Self::NoAccess { .. } => Remedy::GrantAccess,
        }
    }
}

/// An error that ends a producer whose source may be shared.
#[derive(Debug, thiserror::Error)]
pub enum SharingError {
    /// The Event Hub refused, or the options for it are wrong.
    #[error(transparent)]
    Hub(#[from] EventHubError),
    /// The producer failed.
    #[error(transparent)]
    Producer(#[from] ProducerError),
}

impl From<StoreError> for SharingError {
    fn from(error: StoreError) -> Self {
        Self::Producer(error.into())
    }
}

impl From<CheckpointError> for SharingError {
    fn from(error: CheckpointError) -> Self {
        Self::Producer(error.into())
    }
}

impl HasRemedy for SharingError {
    fn remedy(&self) -> Remedy {
        match self {
            Self::Hub(error) => error.remedy(),
            Self::Producer(error) => error.remedy(),
        }
    }
}

impl EventHubError {
    /// Returns the shortest wait before a retry.
    pub fn least_wait(&self) -> Duration {
        match self {
            Self::Away { busy: true, .. } => BUSY_WAIT,
            _ => Duration::ZERO,
        }
    }
}

impl EventHub {
    /// Converts a client error into one that says what to do: retry, or fix the configuration.
    pub fn error(&self, error: &EventHubsError) -> EventHubError {
        let hub = self.to_string();
        match said(error) {
            Some((Said::No, why)) => EventHubError::Refused { hub, why },
            Some((Said::NoAccess, why)) => EventHubError::NoAccess { hub, why },
            Some((said, why)) => EventHubError::Away {
                hub,
                why,
                busy: matches!(said, Said::Busy),
            },
            None => EventHubError::Away {
                hub,
                // The innermost cause is the most specific, such as a refused connection.
                why: match causes(error).last() {
                    Some(cause) => format!("{}: {cause}", self.address()),
                    None => self.address(),
                },
                busy: false,
            },
        }
    }
}

/// The meaning of an error from the service.
enum Said {
    /// A retry gets the same answer.
    No,
    /// A retry gets the same answer until somebody grants access.
    NoAccess,
    Busy,
    /// A retry may succeed.
    Other,
}

/// Finds the service's answer in the chain of causes, and returns its meaning and its text.
fn said(error: &EventHubsError) -> Option<(Said, String)> {
    if let ErrorKind::SendRejected(Some(described)) | ErrorKind::ConsumerDisconnected(Some(described)) =
        &error.kind
    {
        return Some(of_described(described));
    }
    causes(error).find_map(|cause| {
        if let Some(error) = cause.downcast_ref::<azure_core::Error>()
            && matches!(error.kind(), azure_core::error::ErrorKind::Credential)
        {
            return Some(of_credential(error));
        }
        match cause.downcast_ref::<AmqpError>()?.kind() {
            AmqpErrorKind::AmqpDescribedError(described) => Some(of_described(described)),
            AmqpErrorKind::ManagementStatusCode(status, description) => {
                let said = match u16::from(*status) {
                    401 | 403 => Said::NoAccess,
                    400 | 404 | 410 => Said::No,
                    503 => Said::Busy,
                    _ => Said::Other,
                };
                let why = description.clone().unwrap_or_else(|| format!("status {status}"));
                Some((said, why))
            }
            _ => None,
        }
    })
}

/// Returns an error and its causes, outermost first.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source()).take(DEPTH)
}

/// Classifies a failure to get a token: the issuer refused, or could not be reached.
fn of_credential(error: &azure_core::Error) -> (Said, String) {
    let NoToken { refused, why } = NoToken::of(error);
    (if refused { Said::NoAccess } else { Said::Other }, why)
}

fn of_described(described: &AmqpDescribedError) -> (Said, String) {
    use AmqpErrorCondition as C;
    let condition = &described.condition;
    let said = match condition {
        C::UnauthorizedAccess => Said::NoAccess,
        C::NotFound | C::NotAllowed | C::ArgumentError => Said::No,
        C::ServerBusyError => Said::Busy,
        _ => Said::Other,
    };
    let why = match &described.description {
        Some(description) => format!("{condition:?}: {description}"),
        None => format!("{condition:?}"),
    };
    (said, why)
}
