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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dispatched {
    /// The sensor that the window belongs to.
    pub sensor: SensorId,
    /// Start of the window.
    pub window_start: EventTime,
    /// Length of the window.
    pub window_length: Length,
    /// Number of readings in the window.
    pub count: u64,
}

impl Row for Dispatched {
    const TABLE: &'static str = "dispatched";

    fn window_start(&self) -> EventTime {
        self.window_start
    }

    fn encode(rows: &[Self]) -> Result<Bytes, TableError> {
        encode(rows)
    }
}

fn encode(windows: &[Dispatched]) -> Result<Bytes, TableError> {
    let schema = table::schema(&[
        ("device", DataType::Utf8),
        ("tag", DataType::Utf8),
        ("window_start", table::timestamp_type()),
        ("window_ms", DataType::Int64),
        ("count", DataType::Int64),
    ]);
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
    ];
    table::write(&RecordBatch::try_new(schema, columns)?)
}

/// Decodes the windows of one Parquet file.
pub(super) fn decode(bytes: Bytes) -> Result<Vec<Dispatched>, TableError> {
    let mut windows = Vec::new();
    for batch in table::read(bytes)? {
        let (devices, tags) = (strings(&batch, "device")?, strings(&batch, "tag")?);
        let (starts, window_ms) = (times(&batch, "window_start")?, integers(&batch, "window_ms")?);
        let counts = integers(&batch, "count")?;
        for row in 0..batch.num_rows() {
            windows.push(Dispatched {
                sensor: SensorId::new(devices.value(row), tags.value(row)).map_err(|error| {
                    TableError::Row {
                        row,
                        why: error.to_string(),
                    }
                })?,
                window_start: starts(row),
                window_length: Length::from_millis(window_ms(row)),
                count: u64::try_from(counts(row)).unwrap_or_default(),
            });
        }
    }
    Ok(windows)
}
