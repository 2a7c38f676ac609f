//! The table of dispatched windows, which the audit expects to find scored:
//! `dispatched/date=YYYY-MM-DD/hour=HH/<part>.parquet`.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow_schema::DataType;
use bytes::Bytes;

use super::Row;
use super::table::{self, TableError, integers, strings, times};
use windrow_common::{EventTime, Length, SensorId};

/// A window that was dispatched in a scoring message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DispatchedWindow {
    /// The sensor that the window belongs to.
    pub sensor: SensorId,
    /// Start of the window.
    pub window_start: EventTime,
    /// Length of the window.
    pub window_length: Length,
    /// Number of readings in the window.
    pub count: u64,
    /// Name of the source that the readings come from; empty in rows of versions that did not note it.
    pub source: Arc<str>,
}

impl Row for DispatchedWindow {
    const TABLE: &'static str = "dispatched";

    fn window_start(&self) -> EventTime {
        self.window_start
    }

    fn encode(rows: &[Self]) -> Result<Bytes, TableError> {
        encode(rows)
    }
}

fn encode(windows: &[DispatchedWindow]) -> Result<Bytes, TableError> {
    let schema = table::schema(
        &[
            ("device", DataType::Utf8),
            ("tag", DataType::Utf8),
            ("window_start", table::timestamp_type()),
            ("window_ms", DataType::Int64),
            ("count", DataType::Int64),
            ("source", DataType::Utf8),
        ],
        &[],
    );
    let starts = windows.iter().map(|window| window.window_start.as_millis());
    let counts = windows
        .iter()
        .map(|window| i64::try_from(window.count).unwrap_or(i64::MAX));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(
            windows
                .iter()
                .map(|window| Some(&*window.sensor.device))
                .collect::<StringArray>(),
        ),
        Arc::new(
            windows
                .iter()
                .map(|window| Some(&*window.sensor.tag))
                .collect::<StringArray>(),
        ),
        Arc::new(TimestampMillisecondArray::from_iter_values(starts).with_timezone("UTC")),
        Arc::new(Int64Array::from_iter_values(
            windows.iter().map(|window| window.window_length.as_millis()),
        )),
        Arc::new(Int64Array::from_iter_values(counts)),
        Arc::new(
            windows
                .iter()
                .map(|window| Some(&*window.source))
                .collect::<StringArray>(),
        ),
    ];
    table::write(&RecordBatch::try_new(schema, columns)?)
}

/// Decodes the windows of one Parquet file.
pub(super) fn decode(bytes: Bytes) -> Result<Vec<DispatchedWindow>, TableError> {
    let mut windows = Vec::new();
    for batch in table::read(bytes)? {
        let (devices, tags) = (strings(&batch, "device")?, strings(&batch, "tag")?);
        let (starts, window_ms) = (times(&batch, "window_start")?, integers(&batch, "window_ms")?);
        let counts = integers(&batch, "count")?;
        // Added later.
        let sources = match batch.column_by_name("source") {
            Some(_) => Some(strings(&batch, "source")?),
            None => None,
        };
        // All rows of a part are of one source, which they share.
        let mut source: Arc<str> = Arc::default();
        for row in 0..batch.num_rows() {
            let named = sources.map_or("", |sources| sources.value(row));
            if *source != *named {
                source = named.into();
            }
            windows.push(DispatchedWindow {
                sensor: SensorId::new(devices.value(row), tags.value(row)).map_err(|error| {
                    TableError::Row {
                        row,
                        why: error.to_string(),
                    }
                })?,
                window_start: starts(row),
                window_length: Length::from_millis(window_ms(row)),
                count: u64::try_from(counts(row)).unwrap_or_default(),
                source: Arc::clone(&source),
            });
        }
    }
    Ok(windows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(minute: i64, source: &str) -> DispatchedWindow {
        DispatchedWindow {
            sensor: SensorId::new("d", "t").unwrap(),
            window_start: EventTime::from_millis(minute * 60_000),
            window_length: Length::from_millis(60_000),
            count: 7,
            source: source.into(),
        }
    }

    #[test]
    fn windows_read_back_and_those_of_older_versions_have_no_source() {
        let windows = [window(0, "a"), window(1, "a"), window(2, "b")];
        let bytes = encode(&windows).unwrap();
        assert_eq!(decode(bytes.clone()).unwrap(), windows);
        // As an older version wrote them.
        let batch = &table::read(bytes).unwrap()[0];
        let old = table::write(&batch.project(&[0, 1, 2, 3, 4]).unwrap()).unwrap();
        assert_eq!(
            decode(old).unwrap(),
            [window(0, ""), window(1, ""), window(2, "")]
        );
    }
}
