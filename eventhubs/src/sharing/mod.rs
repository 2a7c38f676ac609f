//! Shares the hub's partitions among the producers of one source.
//!
//! The client's event processor decides which partitions this process reads (`session`). Claims are in the store
//! (`ownership`), positions in the checkpoints. `opening` begins a session, `receiver` feeds each partition's pipeline with
//! what `fetch` gets, as far ahead as `credit` allows. `lag` measures how far behind the partitions are, and `foreign`
//! notes who else takes them.

mod credit;
mod fetch;
mod foreign;
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

/// First and longest wait between attempts to reach an unavailable hub.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Longest wait for a session or a connection to open.
const OPEN_WITHIN: Duration = Duration::from_secs(60);
/// How many times a claim is renewed within its expiry.
const RENEWALS: u32 = 3;

/// An Event Hub as a source, with the options for reading it.
#[derive(Clone, Debug)]
pub struct EventHubSource {
    /// The hub.
    pub hub: EventHub,
    /// The consumer group.
    pub consumer_group: String,
    /// Where to start in a partition without a checkpoint.
    pub start: Start,
    /// Most events to prefetch per partition.
    pub prefetch: u32,
    /// Bytes for the prefetched events of all partitions: fewer events are prefetched if the largest recent ones would not
    /// fit.
    pub prefetch_bytes: usize,
    /// How long a producer may be silent before the others take over its partitions.
    pub ownership_expiry: Duration,
    /// Which fields of an event hold the time, device, tag and value.
    pub mapping: ColumnMapping,
    /// Whether to stop at the end that each partition has when the session begins.
    pub until: Until,
}

/// Where to start in a partition without a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the oldest event that the hub still has.
    Earliest,
    /// After the last event that the hub has when the producer first starts.
    Latest,
    /// At the first event enqueued at this time or later.
    At(EventTime),
}
