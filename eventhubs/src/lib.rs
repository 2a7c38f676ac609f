//! Azure Event Hubs as a source, by the official client.
//!
//! Producers of one source share the hub's partitions (`sharing`). Each partition is a source of its own (`partition`), with
//! windows, watermark and checkpoint of its own, so that it can move to another producer alone. That needs the readings of
//! a sensor to be in one partition: publish with the device as partition key.

mod args;
mod client;
mod error;
mod event;
mod input;
mod partition;
mod sharing;

pub use args::{HubArgs, ReadHubArgs};
pub use client::{EntraLogin, EventHub, Login};
pub use error::{EventHubError, SharingError};
pub use input::{Input, InputArgs};
pub use sharing::{EventHubSource, Start};
