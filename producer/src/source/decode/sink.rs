//! The destination of decoded rows.

use windrow_common::EventTime;

use crate::sensors::SensorTable;
use crate::source::{Batch, MAX_RAW_BYTES, Offset, Unreadable};

/// Whether more rows may follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::source) enum Step {
    /// There may be more rows.
    More,
    /// There are no more rows, at least for now.
    End,
}

/// How many rows a batch holds at most: enough to make the work per batch cheap, few enough to stay in the processor's
/// cache and to keep the partitions in step.
pub const ROWS_PER_BATCH: usize = 4_096;

/// The destination of decoded rows.
pub struct RowSink<'a> {
    /// The table that numbers the sensors.
    pub sensors: &'a mut SensorTable,
    /// The batch that receives readings and unreadable rows.
    pub batch: &'a mut Batch,
    /// When the rows arrived.
    pub arrival: EventTime,
    /// The number of rows after which decoding stops.
    pub limit: usize,
}

impl RowSink<'_> {
    /// Returns whether the batch has room for another row.
    #[inline]
    pub(in crate::source) fn has_room(&self) -> bool {
        self.batch.readings.len() + self.batch.unreadable.len() < self.limit
    }

    /// Sets a bad row aside, with its raw text cut to [`MAX_RAW_BYTES`].
    #[cold]
    pub fn unreadable(&mut self, offset: u64, line: Option<u64>, detail: String, raw: &[u8]) {
        self.batch.unreadable.push(Unreadable {
            offset: Offset(offset),
            line,
            detail,
            raw: cut(raw),
        });
    }
}

/// Returns at most [`MAX_RAW_BYTES`] of `raw` as text, cut between characters.
fn cut(raw: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(&raw[..raw.len().min(MAX_RAW_BYTES + 4)]).into_owned();
    if text.len() > MAX_RAW_BYTES {
        let end = (0..=MAX_RAW_BYTES).rev().find(|&at| text.is_char_boundary(at));
        text.truncate(end.unwrap_or(0));
    }
    text
}

/// Returns a cell's text as error messages show it.
pub(in crate::source) fn shown(text: &[u8]) -> String {
    let mut text = cut(text);
    if text.chars().count() > 40 {
        text = text.chars().take(40).collect();
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_text_is_cut_between_characters() {
        let raw = "ä".repeat(MAX_RAW_BYTES);
        assert_eq!(cut(raw.as_bytes()), "ä".repeat(MAX_RAW_BYTES / 2));
        assert_eq!(cut(&raw.as_bytes()[1..]).len(), 3 + (MAX_RAW_BYTES - 3) / 2 * 2);
        assert!(cut(&[0xff; 600]).len() <= MAX_RAW_BYTES);
    }
}
