//! The hub's partitions, shared among the producers of one source.
//!
//! The client's event processor decides which partitions are this process's (`session`); claims are in the store
//! (`ownership`), positions in the checkpoints. `opening` begins a session, `receiver` feeds each partition's pipeline, and
//! `lag` measures how far behind the partitions are.

mod lag;
mod opening;
mod ownership;
mod receiver;
mod session;

use std::time::Duration;

use windrow_common::EventTime;
use windrow_producer::source::Until;
use windrow_producer::source::decode::ColumnMapping;

use crate::EventHub;
pub(crate) use session::run;

/// Waits between tries to reach a hub that is away.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Claims are renewed so often within their expiry.
const RENEWALS: u32 = 3;

/// How a hub is read.
#[derive(Clone, Debug)]
pub struct EventHubSource {
    /// The hub.
    pub hub: EventHub,
    /// The consumer group.
    pub consumer_group: String,
    /// Where a partition without a checkpoint begins.
    pub start: Start,
    /// Events asked for ahead, in each partition.
    pub prefetch: u32,
    /// After how long without a sign of life a producer's partitions go to others.
    pub ownership_expiry: Duration,
    /// Which field of an event is what.
    pub mapping: ColumnMapping,
    /// Whether to stop at the end that the partitions have at the start.
    pub until: Until,
}

/// Where a partition without a checkpoint begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the oldest event that is kept.
    Earliest,
    /// At what comes after the producer's first start.
    Latest,
    /// At what was enqueued then or later.
    At(EventTime),
}
