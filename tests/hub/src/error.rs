//! What can go wrong with a hub, apart from what a client is told.

use std::net::SocketAddr;

/// What can go wrong with a hub, apart from what a client is told.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// A hub needs a name, and one without a slash, since it is a segment of every address.
    #[error("{0:?} is no name for an event hub")]
    Name(String),
    /// A hub needs partitions.
    #[error("an event hub needs at least one partition")]
    NoPartitions,
    /// The address could not be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// Why it was refused.
        source: std::io::Error,
    },
    /// The threads of the hub could not be started.
    #[error("cannot start the hub's threads: {0}")]
    Runtime(std::io::Error),
    /// The partition asked for does not exist.
    #[error("there is no partition {0}")]
    NoSuchPartition(u16),
    /// The event cannot be written as an AMQP message.
    #[error("cannot encode the event: {0}")]
    Encode(#[from] serde_amqp::Error),
}
