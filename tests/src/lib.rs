//! Shared by the integration tests: runs Windrow's programs and servers as processes, and generates readings for them.
//!
//! Everything here is for tests, so it panics on failure and says why.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc
)]

mod alertmanager;
pub mod arm;
mod azurite;
mod broker;
mod bystanders;
mod cluster;
mod compose;
mod entra;
mod flaky;
mod fleet;
mod gateway;
mod metadata;
mod page;
mod plant;
mod program;
mod proxy;
mod s3;
mod server;
mod service;
mod stage;
mod wait;

pub use alertmanager::Alertmanager;
pub use azurite::Azurite;
pub use broker::{Broker, Encryption, signal};
pub use bystanders::Bystanders;
pub use cluster::Cluster;
pub use compose::{Compose, Container};
pub use entra::EntraId;
pub use flaky::FlakyStore;
pub use fleet::{Draws, Row, fleet, scoring_message, write_csv};
pub use gateway::Gateway;
pub use metadata::MetadataService;
pub use page::block;
pub use plant::Plant;
pub use program::{Program, built, models_for, windrow};
pub use proxy::Proxy;
pub use s3::S3Server;
pub use service::Service;
pub use stage::{Stage, copy_models, exported, rows};
pub use wait::{eventually, free_port};
