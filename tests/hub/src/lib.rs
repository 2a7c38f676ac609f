//! A local Azure Event Hub: what the official client needs of the service, in memory and on loopback.
//!
//! [`Hub`] listens for AMQP 1.0 over plain TCP. The official client connects with [`Hub::connection_string`] and, as its
//! custom endpoint, [`Hub::endpoint`]. Keys and tokens are taken unread: this is for tests, never for a network.
//!
//! A connection is followed from `server` (sockets, sessions) to `attach` (which node a link names, and whether it may
//! have it), and from there to one task a link: `intake` for events sent here, `delivery` for events read from here,
//! `request` for the `$cbs` and `$management` nodes. What they share is in `state`: a `partition` is a log of events,
//! `consumers` knows who reads which and whom an epoch displaces, `faults` is what a test has asked to go wrong.

mod address;
mod attach;
mod conditions;
mod config;
mod connections;
mod consumers;
mod delivery;
mod error;
mod event;
mod faults;
mod hub;
mod intake;
mod management;
mod partition;
mod position;
mod request;
mod server;
mod socket;
mod state;

pub use config::HubConfig;
pub use error::HubError;
pub use fe2o3_amqp::types::primitives::SimpleValue;
pub use hub::{HUB_THREADS, Hub};
pub use state::Token;
