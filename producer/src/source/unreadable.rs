//! Items that cannot be decoded, with the bytes that they consist of.

use serde::{Deserialize, Serialize};

use super::Offset;

/// How many bytes of one item are kept. A row may have 1 MiB, an event 4 MiB and its unpacked body 16 MiB, so only what
/// is refused for its size is ever cut.
pub const MAX_RAW_BYTES: usize = 16 << 20;

/// A batch ends with the item that exceeds this many kept bytes, because the items of a batch and of the steps after it
/// are held in memory until they are stored.
pub const RAW_BYTES_PER_BATCH: usize = 1 << 20;

/// An item of a partition that cannot be decoded into a reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Its position in its partition.
    pub offset: Offset,
    /// Its number among the unreadable items of its offset, from 0. Only the items of one event share an offset.
    pub index: u32,
    /// Its line, counted from 1; `None` unless the source counts lines and has read from the first one on.
    pub line: Option<u64>,
    /// What is wrong with it, for a person to read.
    pub detail: String,
    /// How many readings it holds, as far as can be told; at least 1.
    pub readings: u64,
    /// Its bytes.
    pub raw: Raw,
    /// What came with the event; only of the first unreadable item of an event.
    pub envelope: Option<Box<Envelope>>,
}

impl Unreadable {
    /// Creates an item that holds one reading.
    pub fn new(offset: Offset, line: Option<u64>, detail: String, raw: Raw) -> Self {
        Self {
            offset,
            index: 0,
            line,
            detail,
            readings: 1,
            raw,
            envelope: None,
        }
    }
}

/// Bytes as a source delivered them, cut to [`MAX_RAW_BYTES`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Raw {
    kept: Box<[u8]>,
    /// How many bytes there were.
    whole: u64,
}

impl Raw {
    /// Keeps these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self::head(bytes, bytes.len() as u64)
    }

    /// Keeps the first bytes of an item that has `whole` of them.
    pub fn head(bytes: &[u8], whole: u64) -> Self {
        Self {
            kept: bytes[..bytes.len().min(MAX_RAW_BYTES)].into(),
            whole,
        }
    }

    /// Returns the bytes that are kept.
    pub fn bytes(&self) -> &[u8] {
        &self.kept
    }

    /// Returns how many bytes the item had.
    pub fn whole_bytes(&self) -> u64 {
        self.whole
    }

    /// Returns whether bytes are missing.
    pub fn is_cut(&self) -> bool {
        self.whole > self.kept.len() as u64
    }
}

/// What an event carries besides its body.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// The kind of the body: `data`, `value`, `sequence` or `none`.
    pub body: String,
    /// The sizes of the data sections, if there are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sections: Vec<u64>,
    /// `amqp` if the kept bytes are the whole message in AMQP 1.0 encoding, because its body is not made of bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<String>,
    /// When the service enqueued it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enqueued_time: Option<String>,
    /// The event's offset in the hub, which is not its sequence number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<String>,
    /// The event's sequence number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence_number: Option<i64>,
    /// The partition key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition_key: Option<String>,
    /// The application properties.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub properties: serde_json::Map<String, serde_json::Value>,
}
