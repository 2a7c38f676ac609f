//! Turns readings into scoring messages: sources, windows, dispatch, checkpoints.
//!
//! ```text
//! source ──batch──▶ window ──step──▶ dispatch ──confirmations──▶ checkpoint
//!   └─ one blocking thread ─┘          └──────── async tasks ────────┘
//! ```
//!
//! A [`Pipeline`] connects the four for one group of partitions. One producer alone reads each [`source`] of this
//! crate; a source whose partitions are shared among producers runs one pipeline per partition.

pub mod args;
pub mod checkpoint;
mod dispatch;
mod error;
mod history;
mod ingest;
mod journal;
mod oversize;
pub mod pace;
mod pipeline;
pub mod quarantine;
mod rejects;
pub mod sensors;
mod set_aside;
pub mod source;
mod stats;
pub mod window;

pub use checkpoint::CheckpointError;
pub use error::ProducerError;
pub use history::{HistoryCounts, read_history};
pub use ingest::AtEnd;
pub use pipeline::{Pipeline, ProducerOptions};
pub use rejects::{Reject, Unusable};
pub use stats::{Counts, Stats};
