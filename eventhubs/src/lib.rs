//! Azure Event Hubs as a source, read with the official client.
//!
//! The producers of one source share the hub's partitions (`sharing`). Each partition is a separate source
//! (`partition`) with its own windows, watermark and checkpoint, so that it can move to another producer independently.
//! All readings of a sensor must therefore be in one partition: publish with the device as partition key.

mod args;
mod body;
mod client;
mod decode;
mod emulator;
mod error;
mod event;
mod hub_clock;
mod input;
mod partition;
mod sharing;
mod stretches;
#[cfg(feature = "testing")]
pub mod testing;

pub use args::{HubArgs, ReadHubArgs};
pub use client::{EventHub, Login};
pub use error::{EventHubError, SharingError};
pub use input::{Input, InputArgs};
pub use sharing::{EventHubSource, Start};
