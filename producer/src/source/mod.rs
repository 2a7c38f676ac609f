//! Sources of readings: a source has a few partitions, and each partition is an ordered run of readings with offsets.

mod content;
pub mod decode;
pub mod file;
mod paced;
mod selected;
pub mod simulator;
mod suggest;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod unreadable;

use std::collections::BTreeMap;
use std::path::PathBuf;

use windrow_common::{EventTime, HasRemedy, Remedy};

use crate::sensors::{SensorIndex, SensorTable};

/// The scheme that starts the URL of an Event Hub.
pub const EVENT_HUBS: &str = "eventhubs://";

pub use content::Content;
pub use paced::Paced;
pub use selected::{Selected, Selection};
pub use suggest::{Suggestion, suggest};
pub use unreadable::{Envelope, MAX_RAW_BYTES, RAW_BYTES_PER_BATCH, Raw, Unreadable};

/// A position within a partition: a byte of the (decompressed) text, the number of a Parquet row or an Avro event, or a
/// sequence number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Offset(pub u64);

/// The index of a partition in [`Source::partitions`]; it does not change while the source lives.
pub type PartitionIndex = usize;

/// One measurement, as a source returns it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// The sensor, as an index into the [`SensorTable`] it was read with.
    pub sensor: SensorIndex,
    /// When it was measured.
    pub time: EventTime,
    /// When it reached the source (a broker's enqueue time); the time of the read if the source keeps no such time.
    pub arrival: EventTime,
    /// The measured value. The windower quarantines a non-finite one.
    pub value: f64,
    /// Its position in its partition.
    pub offset: Offset,
}

/// A run of items of one partition, which [`Source::read`] fills. Reused from call to call.
#[derive(Debug, Default)]
pub struct Batch {
    /// The partition that the items come from.
    pub partition: PartitionIndex,
    /// The readings, in offset order.
    pub readings: Vec<Reading>,
    /// The items that could not be read, in offset order.
    pub unreadable: Vec<Unreadable>,
    /// How many rows a condition (`--where`) has left out. They are neither readings nor unreadable.
    pub left_out: u64,
    /// How many of the unreadable items were refused for their time.
    pub bad_times: usize,
    /// How many bytes of these items are kept. A source ends a batch with more than [`RAW_BYTES_PER_BATCH`].
    pub raw_bytes: usize,
    /// Where the partition continues: every item below this offset is in this batch or an earlier one.
    pub next: Offset,
    /// Whether the partition ends here for good: with [`Until::CaughtUp`], or because the file cannot grow.
    pub ended: bool,
    /// The clock that [`Reading::arrival`] comes from.
    pub arrivals: Arrivals,
    /// For each partition, whether it has more readings that only wait for their turn. Such a partition is silent, but
    /// not idle.
    pub waiting: Vec<bool>,
    /// For a source that ends and knows its contents: no later batch has a reading before this time. A source sets it
    /// for every batch or for none. If it is set, no reading is late, whatever the order.
    pub complete_before: Option<EventTime>,
}

/// The clock that [`Reading::arrival`] comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Arrivals {
    /// The reader's clock: the time differs when the same reading is read again.
    #[default]
    OfReader,
    /// The source's own clock: the time is the same on every read.
    OfSource,
}

impl Batch {
    /// Empties the batch for a run of `partition`.
    pub fn clear(&mut self, partition: PartitionIndex) {
        self.partition = partition;
        self.readings.clear();
        self.unreadable.clear();
        self.left_out = 0;
        self.bad_times = 0;
        self.raw_bytes = 0;
        self.next = Offset(0);
        self.ended = false;
        self.arrivals = Arrivals::OfReader;
        self.waiting.clear();
        self.complete_before = None;
    }
}

/// The result of a call to [`Source::read`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// The batch holds the next run of a partition.
    Batch,
    /// Nothing is new at the moment; call again later.
    Idle {
        /// Everything that arrived before this time has been read; `None` if the source does not know. It is a time of
        /// the clock that [`Reading::arrival`] comes from, because the two are compared.
        complete_until: Option<EventTime>,
    },
    /// Every partition has ended.
    End {
        /// As for [`Read::Idle`].
        complete_until: Option<EventTime>,
    },
}

/// How far to read a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// To the end that each partition had when it was opened.
    CaughtUp,
    /// Without an end: appended readings are read too.
    Stopped,
}

/// How much of a source has been read, for a progress bar. The unit (bytes, readings) depends on the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The amount read so far, including what earlier runs read.
    pub done: u64,
    /// The whole amount, if it is known.
    pub total: Option<u64>,
}

/// What an earlier run has saved of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Where it is to be read from.
    pub resume: Offset,
    /// What was read; `None` if it was not saved.
    pub content: Option<Content>,
}

/// A stream of readings in partitions. Its calls block, so it runs on a thread of its own.
///
/// Reading a partition again from any offset returns the same readings with the same offsets.
pub trait Source: Send {
    /// Returns the names of the partitions, under which checkpoints are stored. A followed source may append names.
    fn partitions(&self) -> &[String];

    /// Receives what earlier runs have read, by partition name. If partitions may have been renamed or replaced since
    /// then, the source recognises them by their content. It continues a partition that appears later where the earlier
    /// run stopped. Called once, before anything is read.
    fn recognise(&mut self, _known: BTreeMap<String, Known>) {}

    /// Returns a fingerprint of what has been read of a partition, if the partition can be renamed or replaced.
    fn content(&mut self, _partition: PartitionIndex) -> Option<Content> {
        None
    }

    /// Moves a partition to the offset where an earlier run stopped. Called before it is read.
    fn seek(&mut self, partition: PartitionIndex, to: Offset) -> Result<(), SourceError>;

    /// Returns the event time of the partition's next reading, if the source has looked ahead. Called when a partition
    /// is added.
    fn next_time(&self, _partition: PartitionIndex) -> Option<EventTime> {
        None
    }

    /// Reads the next run of a partition into `batch`. Prefers the partition furthest behind in event time, so that no
    /// more windows are open at once than needed.
    fn read(&mut self, sensors: &mut SensorTable, batch: &mut Batch) -> Result<Read, SourceError>;

    /// Returns how much has been read.
    fn progress(&self) -> Progress;
}

/// An error of a source as a whole; a bad reading is an [`Unreadable`] instead.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The path does not exist, or holds no file of a known kind.
    #[error("{}: {why}", .path.display())]
    NoInput {
        /// The path given.
        path: PathBuf,
        /// What was looked for.
        why: String,
    },
    /// A file lacks a required column.
    #[error("{}: no column `{wanted}` for the {role}; the file has {found}", .path.display())]
    MissingColumn {
        /// The file.
        path: PathBuf,
        /// What the column holds: timestamp, device, tag or value.
        role: &'static str,
        /// The name looked for.
        wanted: String,
        /// The names found.
        found: String,
    },
    /// A file has two columns that one role could mean.
    #[error("{}: both `{one}` and `{other}` could be the {role}; say which with {option} {one} or {option} {other}", .path.display())]
    TwoColumns {
        /// The file.
        path: PathBuf,
        /// What the column holds: timestamp, device, tag or value.
        role: &'static str,
        /// The first of them.
        one: String,
        /// The second.
        other: String,
        /// The option that decides.
        option: &'static str,
    },
    /// The options do not fit a file.
    #[error("{}: {why}", .path.display())]
    Options {
        /// The file.
        path: PathBuf,
        /// What does not fit, and which option would.
        why: String,
    },
    /// The options do not fit, and others do.
    #[error("{error}; this reads it: {options}")]
    Suggested {
        /// What does not fit.
        error: Box<SourceError>,
        /// Options that find readings.
        options: String,
    },
    /// A file cannot be read, or not to its end.
    #[error("{}: cannot read at offset {offset}: {source}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The offset at which the read failed.
        offset: u64,
        /// The error of the system or the decompressor.
        source: std::io::Error,
    },
    /// The content of a file does not match its name.
    #[error("{}: {why}", .path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A checkpoint points past the end: the file is not the one that an earlier run read.
    #[error(
        "{}: the checkpoint says byte or row {offset} was read, but the file ends at {end}, \
         so it was replaced; give the new data another --source-name, or --restart", .path.display()
    )]
    Shrunk {
        /// The file.
        path: PathBuf,
        /// Where the checkpoint points.
        offset: u64,
        /// Where the file ends.
        end: u64,
    },
    /// A source specification such as `sim:…` is not valid.
    #[error("`{spec}`: {why}")]
    Spec {
        /// The specification as given.
        spec: String,
        /// What is wrong with it.
        why: String,
    },
}

impl HasRemedy for SourceError {
    fn remedy(&self) -> Remedy {
        match self {
            Self::NoInput { .. }
            | Self::MissingColumn { .. }
            | Self::TwoColumns { .. }
            | Self::Options { .. }
            | Self::Suggested { .. }
            | Self::Spec { .. } => Remedy::FixConfig,
            Self::Read { .. } | Self::Format { .. } | Self::Shrunk { .. } => Remedy::GiveUp,
        }
    }
}
