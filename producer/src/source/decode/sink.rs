//! The destination of decoded rows.

use windrow_common::EventTime;

use crate::sensors::SensorTable;
use crate::source::{Batch, Offset, RAW_BYTES_PER_BATCH, Raw, Unreadable};

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
        self.batch.readings.len() + self.batch.unreadable.len() + (self.batch.left_out as usize) < self.limit
    }

    /// Sets aside a bad row, which holds one reading.
    #[cold]
    pub fn unreadable(&mut self, offset: u64, line: Option<u64>, detail: String, raw: &[u8]) {
        self.set_aside(Unreadable::new(Offset(offset), line, detail, Raw::of(raw)));
    }

    /// Sets an item aside, and numbers it among those of its offset.
    #[cold]
    pub fn set_aside(&mut self, mut item: Unreadable) {
        let before = self.batch.unreadable.last();
        item.index = before
            .filter(|before| before.offset == item.offset)
            .map_or(0, |before| before.index.saturating_add(1));
        self.batch.raw_bytes += item.raw.bytes().len();
        self.batch.unreadable.push(item);
        if self.batch.raw_bytes > RAW_BYTES_PER_BATCH {
            // No room is left: see `has_room`.
            self.limit = 0;
        }
    }
}

/// Returns a cell's text as error messages show it.
pub(in crate::source) fn shown(text: &[u8]) -> String {
    // A character has at most four bytes.
    let mut text = String::from_utf8_lossy(&text[..text.len().min(41 * 4)]).into_owned();
    if text.chars().count() > 40 {
        text = text.chars().take(40).collect();
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::MAX_RAW_BYTES;

    #[test]
    fn bytes_are_kept_as_they_are_and_a_batch_ends_once_they_are_many() {
        let (mut sensors, mut batch) = (SensorTable::new(), Batch::default());
        let mut out = RowSink {
            sensors: &mut sensors,
            batch: &mut batch,
            arrival: EventTime::MIN,
            limit: 100,
        };
        let row = vec![0xff; RAW_BYTES_PER_BATCH / 2];
        for offset in [7, 7, 9] {
            assert!(out.has_room());
            out.unreadable(offset, None, String::new(), &row);
        }
        assert!(
            !out.has_room(),
            "the third row exceeds the limit of the kept bytes"
        );
        let indices: Vec<_> = batch.unreadable.iter().map(|item| item.index).collect();
        assert_eq!(indices, [0, 1, 0], "items of one offset are numbered");
        assert_eq!(batch.unreadable[0].raw.bytes(), row);
        assert!(!batch.unreadable[0].raw.is_cut());

        let raw = Raw::of(&vec![b'x'; MAX_RAW_BYTES + 3]);
        assert!(raw.is_cut());
        assert_eq!(
            (raw.bytes().len(), raw.whole_bytes()),
            (MAX_RAW_BYTES, MAX_RAW_BYTES as u64 + 3)
        );
    }

    #[test]
    fn a_cell_is_shown_shortened_between_characters() {
        assert_eq!(shown("ä".as_bytes()), "ä");
        assert_eq!(shown("ä".repeat(1_000).as_bytes()), "ä".repeat(40) + "…");
        assert_eq!(shown(&[0xff; 600]).chars().count(), 41);
    }
}
