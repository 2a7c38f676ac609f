//! Where readings come from: a few partitions, each an ordered run of readings with offsets.

#[cfg(feature = "eventhubs")]
pub mod eventhubs;
pub mod file;
pub mod simulator;

use std::path::PathBuf;

use windrow_common::EventTime;

use crate::sensors::{SensorIndex, SensorTable};

/// How the URL of an Event Hub begins.
pub const EVENT_HUBS: &str = "eventhubs://";

/// Position within a partition: bytes of the (decompressed) file, rows of a Parquet file, a sequence number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Offset(pub u64);

/// A partition's place in [`Source::partitions`]; it stays the same while the source lives.
pub type PartitionIndex = usize;

/// One measurement, as sources hand it over.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// Who and what, by index into the [`SensorTable`] it was read with.
    pub sensor: SensorIndex,
    /// When it was measured.
    pub time: EventTime,
    /// When it reached the source (a broker's enqueue time), or when it was read where the source keeps no such time.
    pub arrival: EventTime,
    /// What was measured; may be non-finite, which the windower quarantines.
    pub value: f64,
    /// Where it lies in its partition.
    pub offset: Offset,
}

/// Something in a partition that is not a reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Where it lies.
    pub offset: Offset,
    /// Its line, counted from 1, where the source counts lines and has read from the first.
    pub line: Option<u64>,
    /// What is wrong with it, for a person.
    pub detail: String,
    /// The raw text, cut to [`MAX_RAW_BYTES`].
    pub raw: String,
}

/// How much of something unreadable is kept.
pub const MAX_RAW_BYTES: usize = 512;

/// A run of one partition: what [`Source::read`] fills. Reused from call to call.
#[derive(Debug, Default)]
pub struct Batch {
    /// Which partition.
    pub partition: PartitionIndex,
    /// Its readings, by offset.
    pub readings: Vec<Reading>,
    /// What could not be read, by offset.
    pub unreadable: Vec<Unreadable>,
    /// Where the partition goes on: everything below is in this batch or an earlier one.
    pub next: Offset,
    /// Whether the partition ends here for good: with [`Until::CaughtUp`], or a file that cannot grow.
    pub ended: bool,
}

impl Batch {
    /// Empties the batch for a run of `partition`.
    pub fn clear(&mut self, partition: PartitionIndex) {
        self.partition = partition;
        self.readings.clear();
        self.unreadable.clear();
        self.next = Offset(0);
        self.ended = false;
    }
}

/// What a call of [`Source::read`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// The batch holds the next run of a partition.
    Batch,
    /// Nothing new at the moment; ask again in a while.
    Idle,
    /// Every partition has ended.
    End,
}

/// How far a source is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// To the end each partition had when it was opened.
    CaughtUp,
    /// For ever: what is appended is read too.
    Stopped,
}

/// How much of a source has been read, for a progress bar, in a unit of its own (bytes, readings).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Read so far, what earlier runs read included.
    pub done: u64,
    /// All there is, when that is known.
    pub total: Option<u64>,
}

/// A stream of readings in partitions. It blocks, so it has a thread of its own.
///
/// Reading a partition again from any offset gives the same readings with the same offsets.
pub trait Source: Send {
    /// The partitions' names, which checkpoints are kept under; a source that runs on may append to them.
    fn partitions(&self) -> &[String];

    /// Moves a partition to where an earlier run left it. Called before the first [`Source::read`].
    fn seek(&mut self, partition: PartitionIndex, to: Offset) -> Result<(), SourceError>;

    /// Event time of the partition's next reading, where the source has looked ahead. Asked after the seeks.
    fn look_ahead(&self, _partition: PartitionIndex) -> Option<EventTime> {
        None
    }

    /// Whether the partition has readings at hand that only wait for their turn: then its silence does not mean that it
    /// is idle.
    fn has_more_at_hand(&self, partition: PartitionIndex) -> bool;

    /// Whether [`Reading::arrival`] is the source's own, the same whenever it is read again.
    fn keeps_arrivals(&self) -> bool {
        false
    }

    /// The time before which nothing has arrived in the partition that has not been read; `None` where the source does
    /// not know.
    fn complete_until(&self, _partition: PartitionIndex) -> Option<EventTime> {
        None
    }

    /// Reads the next run of some partition into `batch`, at best the one furthest behind in event time, so that no
    /// more windows are open at once than need be.
    fn read(&mut self, sensors: &mut SensorTable, batch: &mut Batch) -> Result<Read, SourceError>;

    /// How far it is.
    fn progress(&self) -> Progress;
}

/// What can go wrong with a source as a whole; bad readings are [`Unreadable`] instead.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The path is not there, or holds no file of a known kind.
    #[error("{}: {why}", .path.display())]
    NoInput {
        /// The path given.
        path: PathBuf,
        /// What was looked for.
        why: String,
    },
    /// A file lacks a column that is needed.
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
    /// A file cannot be read (any further).
    #[error("{}: cannot read at offset {offset}: {source}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// What the system or the decompressor said.
        source: std::io::Error,
    },
    /// A file is not what its name says.
    #[error("{}: {why}", .path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A checkpoint points past the end: the file is not the one an earlier run read.
    #[error(
        "{}: the checkpoint says byte or row {offset} was read, but the file ends at {end}: it was replaced; \
         give the new data another --source-name", .path.display()
    )]
    Shrunk {
        /// The file.
        path: PathBuf,
        /// Where the checkpoint points.
        offset: u64,
        /// Where the file ends.
        end: u64,
    },
    /// A source description such as `sim:…` cannot be used.
    #[error("`{spec}`: {why}")]
    Spec {
        /// As given.
        spec: String,
        /// What is wrong with it.
        why: String,
    },
}

impl SourceError {
    /// Whether a person has to change what the program was told, as opposed to the world it met.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::NoInput { .. } | Self::MissingColumn { .. } | Self::Spec { .. }
        )
    }
}
