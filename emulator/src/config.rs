//! The configuration of a hub.

use std::net::{Ipv4Addr, SocketAddr};

/// A hub's configuration; the default listens on a free port of the loopback interface.
#[derive(Clone, Debug)]
pub struct HubConfig {
    /// Address to listen on; port 0 picks a free one, which [`crate::Hub::endpoint`] then names.
    pub listen: SocketAddr,
    /// Name of the one event hub.
    pub hub: String,
    /// Number of partitions.
    pub partitions: u16,
    /// Consumer groups to accept; an empty list accepts any group.
    pub consumer_groups: Vec<String>,
    /// Bytes of events that each partition keeps. The oldest are evicted first, which moves the begin sequence number.
    pub retain_bytes: usize,
    /// Sequence number and offset of each partition's first event. A hub that restarts without its events should not
    /// start at the same number again: positions stored before the restart would then name other events.
    pub first_sequence_number: i64,
    /// How many milliseconds the hub's clock, which stamps the events, is ahead of this machine's; negative if behind.
    pub clock_ahead_ms: i64,
}

impl Default for HubConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            hub: "readings".to_owned(),
            partitions: 8,
            consumer_groups: Vec::new(),
            retain_bytes: 256 << 20,
            first_sequence_number: 0,
            clock_ahead_ms: 0,
        }
    }
}
