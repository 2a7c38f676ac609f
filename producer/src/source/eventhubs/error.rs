//! What can go wrong with a hub, and what the client's errors mean.

use std::error::Error;
use std::time::Duration;

use azure_core::http::StatusCode;
use azure_core_amqp::error::{AmqpErrorCondition, AmqpErrorKind};
use azure_core_amqp::{AmqpDescribedError, AmqpError};
use azure_messaging_eventhubs::EventHubsError;
use azure_messaging_eventhubs::error::ErrorKind;

use super::EventHub;

/// What the service asks a client to wait when it is busy
/// (<https://learn.microsoft.com/azure/event-hubs/event-hubs-messaging-exceptions>).
const BUSY_WAIT: Duration = Duration::from_secs(4);
/// Errors are not followed further down than this.
const DEPTH: usize = 16;

/// What can go wrong with a hub.
#[derive(Debug, thiserror::Error)]
pub enum EventHubError {
    /// The options contradict each other or cannot be used.
    #[error("`{0}` cannot be read: {1}")]
    Config(String, String),
    /// The service refused for good: credentials, or names that are not there.
    #[error("Event Hub {hub} refuses: {why}")]
    Refused {
        /// The hub.
        hub: String,
        /// What it said.
        why: String,
    },
    /// The service is away, busy or cut the connection.
    #[error("Event Hub {hub} cannot be used at the moment: {why}")]
    Away {
        /// The hub.
        hub: String,
        /// What it said, or the network.
        why: String,
        /// Whether it asked to be left alone for a while.
        busy: bool,
    },
}

impl EventHubError {
    /// Whether waiting may mend it.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Away { .. })
    }

    /// How long to wait at least before trying again.
    pub fn least_wait(&self) -> Duration {
        match self {
            Self::Away { busy: true, .. } => BUSY_WAIT,
            _ => Duration::ZERO,
        }
    }
}

impl EventHub {
    /// What the client said, as something to act on.
    pub fn error(&self, error: &EventHubsError) -> EventHubError {
        let hub = self.to_string();
        match said(error) {
            Some((Said::No, why)) => EventHubError::Refused { hub, why },
            Some((said, why)) => EventHubError::Away {
                hub,
                why,
                busy: matches!(said, Said::Busy),
            },
            None => EventHubError::Away {
                hub,
                // The innermost says most, as that a connection was refused.
                why: causes(error).last().map_or_else(String::new, ToString::to_string),
                busy: false,
            },
        }
    }
}

/// What the service meant by an error.
enum Said {
    /// It will say the same again.
    No,
    Busy,
    /// Something that passes.
    Other,
}

/// What the service said and in which words, wherever in the chain of errors it is.
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
                    400 | 401 | 403 | 404 | 410 => Said::No,
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

/// An error and what caused it, from the outside in.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source()).take(DEPTH)
}

/// No token was to be had: whoever gives them refused, or could not be asked.
fn of_credential(error: &azure_core::Error) -> (Said, String) {
    let status = causes(error).find_map(|cause| cause.downcast_ref::<azure_core::Error>()?.http_status());
    let said = match status {
        Some(StatusCode::BadRequest | StatusCode::Unauthorized | StatusCode::Forbidden) => Said::No,
        _ => Said::Other,
    };
    // The lines after it say where to read on.
    let why = error.to_string();
    (said, why.lines().next().unwrap_or_default().to_owned())
}

fn of_described(described: &AmqpDescribedError) -> (Said, String) {
    use AmqpErrorCondition as C;
    let condition = &described.condition;
    let said = match condition {
        C::UnauthorizedAccess | C::NotFound | C::NotAllowed | C::ArgumentError => Said::No,
        C::ServerBusyError => Said::Busy,
        _ => Said::Other,
    };
    let why = match &described.description {
        Some(description) => format!("{condition:?}: {description}"),
        None => format!("{condition:?}"),
    };
    (said, why)
}
