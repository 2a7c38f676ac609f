//! A local Azure Event Hub: the part of the service that the official client needs, in memory and on loopback.
//!
//! [`Hub`] listens for AMQP 1.0 over plain TCP. The official client connects with [`Hub::connection_string`] and, as
//! its custom endpoint, [`Hub::endpoint`]; those for Python and Node connect with [`Hub::development_connection_string`].
//! Keys and tokens are not checked: this is for tests, never for a network.
//!
//! A connection starts in `server` (sockets, sessions) and goes on to `attach` (which node a link names, and whether
//! the link is allowed). From there each link has its own task: `intake` for events sent to the hub, `delivery` for
//! events read from it, `request` for the `$cbs` and `$management` nodes. The tasks share a `state`: a `partition` is a
//! log of events, `consumers` tracks which receivers read which partition and which of them an epoch displaces, and
//! `faults` holds the faults that a test asks for.

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
mod frames;
mod hub;
mod intake;
mod management;
mod partition;
mod request;
mod server;
mod socket;
mod start_at;
mod state;

pub use config::HubConfig;
pub use error::HubError;
pub use event::EventBody;
pub use fe2o3_amqp::types::primitives::{SimpleValue, Value};
pub use hub::{Elsewhere, HUB_THREADS, Hub};
pub use state::Token;
