//! The AMQP errors a client is told, with the conditions the real service uses.

use fe2o3_amqp::types::definitions::{Error, ErrorCondition};
use fe2o3_amqp::types::primitives::Symbol;

/// An AMQP error with any condition, of the protocol's own or of the service.
pub(crate) fn error(condition: &str, description: impl Into<String>) -> Error {
    // The protocol's own conditions are symbols too, so `Custom` writes the same bytes as their own variants do.
    Error::new(
        ErrorCondition::Custom(Symbol::from(condition)),
        description.into(),
        None,
    )
}

/// The node the link names does not exist.
pub(crate) fn not_found(description: impl Into<String>) -> Error {
    error("amqp:not-found", description)
}

/// Another receiver owns the partition.
pub(crate) fn stolen(description: impl Into<String>) -> Error {
    error("amqp:link:stolen", description)
}

/// The hub is told to refuse work for a while.
pub(crate) fn server_busy() -> Error {
    error(
        "com.microsoft:server-busy",
        "The request was terminated because the entity is being throttled.",
    )
}

/// The transfer is larger than the link takes.
pub(crate) fn too_large(size: usize, limit: usize) -> Error {
    error(
        "amqp:link:message-size-exceeded",
        format!(
            "The received message (size: {size} bytes) exceeds the limit ({limit} bytes) currently allowed on the link."
        ),
    )
}

/// What was sent is no AMQP message.
pub(crate) fn undecodable(description: impl Into<String>) -> Error {
    error("amqp:decode-error", description)
}

/// An argument of the request, such as a position to start from, makes no sense.
pub(crate) fn argument(description: impl Into<String>) -> Error {
    error("com.microsoft:argument-error", description)
}

/// Too many receivers share a partition.
pub(crate) fn too_many(description: impl Into<String>) -> Error {
    error("amqp:resource-limit-exceeded", description)
}
