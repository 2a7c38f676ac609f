//! Which windows a part of the predictions or of the dispatched windows holds, without what is in them.
//!
//! Whoever counts the windows of months reads four columns and not all.

use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::table::{TableError, integers, strings, times};
use windrow_common::{EventTime, Length, SensorId, caught};

/// Windows of one sensor that follow one another in a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SensorWindows {
    /// The sensor.
    pub sensor: SensorId,
    /// Length of the windows.
    pub window_length: Length,
    /// Their starts, as they come in the part. A window may come twice.
    pub starts: Vec<EventTime>,
}

/// Decodes the windows of one Parquet file.
pub(super) fn decode(bytes: Bytes) -> Result<Vec<SensorWindows>, TableError> {
    // As in `table::read`: the library panics on some damage.
    let batches: Vec<arrow_array::RecordBatch> = caught(|| {
        let builder = ParquetRecordBatchReaderBuilder::try_new(bytes)?;
        let columns = ["device", "tag", "window_start", "window_ms"];
        let only = ProjectionMask::columns(builder.parquet_schema(), columns);
        let reader = builder.with_projection(only).with_batch_size(65_536).build()?;
        reader.collect::<Result<_, _>>().map_err(TableError::from)
    })??;
    let mut all: Vec<SensorWindows> = Vec::new();
    for batch in batches {
        let (devices, tags) = (strings(&batch, "device")?, strings(&batch, "tag")?);
        let (starts, lengths) = (times(&batch, "window_start")?, integers(&batch, "window_ms")?);
        for row in 0..batch.num_rows() {
            let window_length = Length::from_millis(lengths(row));
            let is_same = |last: &SensorWindows| {
                last.window_length == window_length
                    && *last.sensor.tag == *tags.value(row)
                    && *last.sensor.device == *devices.value(row)
            };
            match all.last_mut() {
                Some(last) if is_same(last) => last.starts.push(starts(row)),
                _ => {
                    let sensor = SensorId::new(devices.value(row), tags.value(row));
                    let wrong = |why: String| TableError::Row { row, why };
                    if !window_length.is_positive() {
                        return Err(wrong("the window has no length".to_owned()));
                    }
                    all.push(SensorWindows {
                        sensor: sensor.map_err(|error| wrong(error.to_string()))?,
                        window_length,
                        starts: vec![starts(row)],
                    });
                }
            }
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dispatched, Row};

    #[test]
    fn the_windows_of_a_part_come_sensor_by_sensor_and_damage_is_an_error() {
        let row = |tag: &str, minute: i64| Dispatched {
            sensor: SensorId::new("d", tag).unwrap(),
            window_start: EventTime::from_millis(minute * 60_000),
            window_length: Length::from_millis(60_000),
            count: 7,
            source: "a".into(),
        };
        let rows = [row("a", 0), row("a", 1), row("b", 0), row("a", 2)];
        let bytes = Dispatched::encode(&rows).unwrap();
        let found = decode(bytes.clone()).unwrap();
        let of = |windows: &SensorWindows| (windows.sensor.tag.to_string(), windows.starts.len());
        let found: Vec<_> = found.iter().map(of).collect();
        assert_eq!(
            found,
            [("a".to_owned(), 2), ("b".to_owned(), 1), ("a".to_owned(), 1)]
        );
        for at in 0..bytes.len() {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 1;
            drop(decode(damaged.into()));
        }
        assert!(decode(bytes.slice(..bytes.len() / 2)).is_err());
    }
}
