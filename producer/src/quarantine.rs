//! The quarantine: readings that cannot be used, stored with the reason.
//!
//! The files are `quarantine/date=YYYY-MM-DD/hour=HH/<part>.ndjson`, by the time at which the readings were set aside.

use std::fmt;

use serde::Serialize;

use crate::sensors::SensorTable;
use crate::source::{PartitionIndex, Reading, Unreadable};

/// Why a reading was set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
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

/// An item that was set aside.
#[derive(Clone, Debug, PartialEq)]
pub struct Quarantined {
    /// The partition it came from.
    pub partition: PartitionIndex,
    /// Why it was set aside.
    pub reason: QuarantineReason,
    /// The rest of the record, as it is stored.
    record: Record,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
struct Record {
    offset: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    /// As text, because JSON has no number for NaN and infinity.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<String>,
}

impl Quarantined {
    pub(crate) fn unreadable(partition: PartitionIndex, unreadable: Unreadable) -> Self {
        let Unreadable {
            offset,
            line,
            detail,
            raw,
        } = unreadable;
        let record = Record {
            offset: offset.0,
            line,
            detail,
            raw: Some(raw),
            ..Record::default()
        };
        Self {
            partition,
            reason: QuarantineReason::Unreadable,
            record,
        }
    }

    pub(crate) fn reading(
        partition: PartitionIndex,
        reason: QuarantineReason,
        reading: &Reading,
        sensors: &SensorTable,
    ) -> Self {
        let sensor = sensors.id(reading.sensor);
        let detail = match reason {
            QuarantineReason::Late => "its interval was dispatched before the reading arrived".to_owned(),
            QuarantineReason::FarFuture => {
                format!(
                    "its event time is ahead of its arrival at {} by more than the allowed skew",
                    reading.arrival
                )
            }
            _ => format!("the value {} cannot be aggregated", reading.value),
        };
        let record = Record {
            offset: reading.offset.0,
            detail,
            device: Some(sensor.device.to_string()),
            tag: Some(sensor.tag.to_string()),
            time: Some(reading.time.to_string()),
            value: Some(reading.value.to_string()),
            ..Record::default()
        };
        Self {
            partition,
            reason,
            record,
        }
    }
}

impl Quarantined {
    /// Returns what is wrong, without the values that are: equal for items of the same kind.
    pub(crate) fn kind(&self) -> String {
        // Values are in quotes, or numbers.
        let mut quote = None;
        let outside = self.record.detail.chars().filter(|&char| match quote {
            Some(opened) => {
                if char == opened {
                    quote = None;
                }
                false
            }
            None => {
                if matches!(char, '`' | '"') {
                    quote = Some(char);
                }
                !char.is_ascii_digit()
            }
        });
        match self.reason {
            QuarantineReason::Unreadable => outside.collect(),
            _ => String::new(),
        }
    }

    /// Returns where it is in `partition` and what is wrong, on one line.
    pub(crate) fn at(&self, partition: &str) -> String {
        let Record {
            offset,
            line,
            detail,
            device,
            tag,
            time,
            ..
        } = &self.record;
        let place = match line {
            Some(line) => format!("{partition}, line {line}"),
            None => format!("{partition}, offset {offset}"),
        };
        match (device, tag, time) {
            (Some(device), Some(tag), Some(time)) => format!("{place}: {device}/{tag} at {time}: {detail}"),
            _ => format!("{place}: {detail}"),
        }
    }
}

impl fmt::Display for Quarantined {
    /// Writes the reason, the offset and the detail on one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} at offset {}: {}",
            self.reason, self.record.offset, self.record.detail
        )
    }
}

/// The table's folder in the store.
pub(crate) const TABLE: &str = "quarantine";

/// One line of the table.
#[derive(Serialize)]
pub(crate) struct Line<'a> {
    source: &'a str,
    partition: &'a str,
    reason: QuarantineReason,
    #[serde(flatten)]
    record: &'a Record,
}

/// Returns one line for each item that was set aside; `partitions` holds the names. Duplicates after a crash have the
/// same partition and offset.
pub(crate) fn lines<'a>(
    source: &'a str,
    partitions: &'a [String],
    quarantined: &'a [Quarantined],
) -> impl Iterator<Item = Line<'a>> {
    quarantined.iter().map(move |entry| Line {
        source,
        partition: partitions.get(entry.partition).map_or("", String::as_str),
        reason: entry.reason,
        record: &entry.record,
    })
}
