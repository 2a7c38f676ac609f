//! Errors of a hub, apart from those that clients receive.

use std::net::SocketAddr;

/// An error of a hub, apart from those that clients receive.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// The hub's name is empty, or contains a slash; the name is a segment of every address.
    #[error("{0:?} is not a name for an event hub: use one without slashes")]
    Name(String),
    /// The hub would have no partitions.
    #[error("an event hub needs at least one partition")]
    NoPartitions,
    /// The hub cannot listen on the address.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// Why it was refused.
        source: std::io::Error,
    },
    /// The hub's threads cannot be started.
    #[error("cannot start the hub's threads: {0}")]
    Runtime(std::io::Error),
    /// The partition asked for does not exist.
    #[error("partition {0} does not exist")]
    NoSuchPartition(u16),
    /// A reader with a higher epoch has the partition.
    #[error("a reader with a higher epoch has partition {0}")]
    HigherEpoch(u16),
    /// The event cannot be written as an AMQP message.
    #[error("cannot encode the event: {0}")]
    Encode(#[from] serde_amqp::Error),
}
