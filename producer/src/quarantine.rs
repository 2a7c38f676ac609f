//! Readings that cannot be used, kept with the reason: `quarantine/date=YYYY-MM-DD/hour=HH/<part>.ndjson` by the time
//! they were set aside.

use std::fmt;

use serde::Serialize;
use windrow_common::store::{PartNames, Store, StoreError};
use windrow_common::{EventTime, retry_while_transient};

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
    /// It claims to come from further ahead of its arrival than the allowed skew.
    FarFuture,
    /// Its interval was dispatched before it came.
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

/// One thing set aside.
#[derive(Clone, Debug, PartialEq)]
pub struct Quarantined {
    /// Which partition it came from.
    pub partition: PartitionIndex,
    /// Why it was set aside.
    pub reason: QuarantineReason,
    /// The rest of the record, as it is kept.
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
    /// As text, since NaN and infinity are no JSON numbers.
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
            QuarantineReason::Late => "its interval had been dispatched when it came".to_owned(),
            QuarantineReason::FarFuture => {
                format!(
                    "it is ahead of its arrival at {} by more than the allowed skew",
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

impl fmt::Display for Quarantined {
    /// What, where from and why, on one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} at offset {}: {}",
            self.reason, self.record.offset, self.record.detail
        )
    }
}

/// Writes one part, waiting out an outage of the store; `partitions` gives the names. Repeats after a crash have the same partition and offset.
pub(crate) async fn write(
    store: &Store,
    names: &mut PartNames,
    source: &str,
    partitions: &[String],
    quarantined: &[Quarantined],
) -> Result<(), StoreError> {
    #[derive(Serialize)]
    struct Line<'a> {
        source: &'a str,
        partition: &'a str,
        reason: QuarantineReason,
        #[serde(flatten)]
        record: &'a Record,
    }
    let path = names.next("quarantine", &EventTime::now().hive_partition(), "ndjson");
    let mut lines = Vec::new();
    for entry in quarantined {
        let partition = partitions.get(entry.partition).map_or("", String::as_str);
        let line = Line {
            source,
            partition,
            reason: entry.reason,
            record: &entry.record,
        };
        serde_json::to_writer(&mut lines, &line).map_err(|error| StoreError::Damaged {
            path: path.clone(),
            why: error.to_string(),
        })?;
        lines.push(b'\n');
    }
    let write = || store.put(&path, lines.clone());
    retry_while_transient("writing quarantined readings", StoreError::is_transient, write).await
}
