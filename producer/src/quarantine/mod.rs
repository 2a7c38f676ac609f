//! The quarantine: readings that cannot be used, stored with the reason.
//!
//! The files are `quarantine/date=YYYY-MM-DD/hour=HH/<part>.ndjson`, by the time at which the readings were set aside.
//! `record.rs` alone knows the format of a line, and `table.rs` reads the table.

mod count;
mod record;
mod table;

use std::fmt;

use serde::{Deserialize, Serialize};
use windrow_common::{EventTime, Length};

use crate::sensors::SensorTable;
use crate::source::{PartitionIndex, Reading, Unreadable};

pub use count::{SetAsideCounts, count};
use record::Line;
pub use record::{Content, Record, Stored};
pub use table::{Purged, purge, read};

/// Why a reading was set aside.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum QuarantineReason {
    /// It could not be decoded.
    Unreadable,
    /// Its value is NaN or infinite.
    NonFinite,
    /// Its value is so large that its square overflows.
    OutOfRange,
    /// Its event time is further ahead of its arrival than the allowed skew.
    FarFuture,
    /// Its interval was dispatched before it arrived.
    Late,
}

impl QuarantineReason {
    /// Every reason, in the order they are reported.
    pub const ALL: [Self; 5] = [
        Self::Unreadable,
        Self::NonFinite,
        Self::OutOfRange,
        Self::FarFuture,
        Self::Late,
    ];
}

impl fmt::Display for QuarantineReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreadable => "unreadable",
            Self::NonFinite => "non-finite",
            Self::OutOfRange => "out-of-range",
            Self::FarFuture => "far-future",
            Self::Late => "late",
        })
    }
}

/// Something of a partition that was set aside, before it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Quarantined {
    /// The partition it came from.
    pub partition: PartitionIndex,
    /// The rest.
    pub record: Record,
}

impl Quarantined {
    pub(crate) fn unreadable(partition: PartitionIndex, unreadable: Unreadable) -> Self {
        let Unreadable {
            offset,
            index,
            line,
            detail,
            readings,
            raw,
            envelope,
        } = unreadable;
        let record = Record {
            reason: QuarantineReason::Unreadable,
            offset: offset.0,
            index,
            readings,
            detail: detail.into(),
            content: Content::Item { line, raw, envelope },
        };
        Self { partition, record }
    }

    /// Creates the record of the `index`-th reading of its offset, which belongs to an interval of the length
    /// `interval`.
    pub(crate) fn reading(
        partition: PartitionIndex,
        reason: QuarantineReason,
        reading: &Reading,
        index: u32,
        interval: Length,
        sensors: &SensorTable,
    ) -> Self {
        let detail = match reason {
            QuarantineReason::Late => "its interval was dispatched before the reading arrived".into(),
            QuarantineReason::FarFuture => {
                let arrival = reading.arrival;
                format!("its event time is ahead of its arrival at {arrival} by more than the allowed skew")
                    .into()
            }
            _ => format!("the value {} cannot be aggregated", reading.value).into(),
        };
        let record = Record {
            reason,
            offset: reading.offset.0,
            index,
            readings: 1,
            detail,
            content: Content::Reading {
                sensor: sensors.id(reading.sensor).clone(),
                time: reading.time,
                value: reading.value,
                interval: (reason == QuarantineReason::Late).then_some(interval),
            },
        };
        Self { partition, record }
    }
}

impl fmt::Display for Quarantined {
    /// Writes the reason, the offset and the detail on one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Record {
            reason,
            offset,
            detail,
            ..
        } = &self.record;
        write!(f, "{reason} at offset {offset}: {detail}")
    }
}

/// The table's folder in the store.
pub(crate) const TABLE: &str = "quarantine";

/// Returns one line for each item that was set aside; `partitions` holds the names.
pub(crate) fn lines<'a>(
    source: &'a str,
    partitions: &'a [String],
    quarantined: &'a [Quarantined],
) -> impl Iterator<Item = impl Serialize + 'a> {
    let at = EventTime::now();
    quarantined.iter().map(move |entry| {
        let partition = partitions.get(entry.partition).map_or("", String::as_str);
        Line::new(source, partition, at, &entry.record)
    })
}
