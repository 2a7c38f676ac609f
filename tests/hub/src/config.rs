//! What a hub is started with.

use std::net::{Ipv4Addr, SocketAddr};

/// What a hub is started with; the default listens on a free port of the loopback interface.
#[derive(Clone, Debug)]
pub struct HubConfig {
    /// Address to listen on; port 0 takes a free one, which [`crate::Hub::endpoint`] then names.
    pub listen: SocketAddr,
    /// Name of the only event hub there is.
    pub hub: String,
    /// How many partitions it has.
    pub partitions: u16,
    /// Its consumer groups; any when there are none.
    pub consumer_groups: Vec<String>,
    /// Bytes of events a partition keeps; the oldest go first, so its begin sequence number moves.
    pub retain_bytes: usize,
    /// Sequence number and offset of each partition's first event. A hub that forgets its events should not begin again
    /// where it began before: positions kept from then would mean other events.
    pub first_sequence_number: i64,
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
        }
    }
}
