//! The AMQP errors that clients receive, with the conditions that the real service uses.

use fe2o3_amqp::types::definitions::{Error, ErrorCondition};
use fe2o3_amqp::types::primitives::Symbol;

/// Returns an AMQP error with any condition of the protocol or the service.
pub(crate) fn error(condition: &str, description: impl Into<String>) -> Error {
    // The protocol's conditions are symbols too, so `Custom` writes the same bytes as their own variants.
    Error::new(
        ErrorCondition::Custom(Symbol::from(condition)),
        description.into(),
        None,
    )
}

/// Returns the error for a node that does not exist.
pub(crate) fn not_found(description: impl Into<String>) -> Error {
    error("amqp:not-found", description)
}

/// Returns the error for a partition that another receiver owns.
pub(crate) fn stolen(description: impl Into<String>) -> Error {
    error("amqp:link:stolen", description)
}

/// Returns the error for work that the hub refuses while it throttles.
pub(crate) fn server_busy() -> Error {
    error(
        "com.microsoft:server-busy",
        "The request was terminated because the entity is being throttled.",
    )
}

/// Returns the error for a transfer that is larger than the link's limit.
pub(crate) fn too_large(size: usize, limit: usize) -> Error {
    error(
        "amqp:link:message-size-exceeded",
        format!(
            "The received message (size: {size} bytes) exceeds the limit ({limit} bytes) currently allowed on the link."
        ),
    )
}

/// Returns the error for bytes that are not an AMQP message.
pub(crate) fn undecodable(description: impl Into<String>) -> Error {
    error("amqp:decode-error", description)
}

/// Returns the error for an invalid argument of a request, such as a position to start from.
pub(crate) fn argument(description: impl Into<String>) -> Error {
    error("com.microsoft:argument-error", description)
}

/// Returns the error for too many receivers of a partition.
pub(crate) fn too_many(description: impl Into<String>) -> Error {
    error("amqp:resource-limit-exceeded", description)
}
