//! Rows of the predictions or of the dispatched windows, with only the columns that an account of a fleet needs.
//!
//! Counting the windows of months thus reads a few columns instead of all, and copies no names.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int32Type, Int64Type, TimestampMillisecondType};
use arrow_array::{Array, DictionaryArray, PrimitiveArray, RecordBatch, StringArray};
use arrow_schema::{DataType, Schema};
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};

use super::table::{TableError, newer, primitive};
use windrow_common::{EventTime, Length, caught};

/// The columns that are read; of the dispatched windows, the first four.
const COLUMNS: [&str; 7] = [
    "device",
    "tag",
    "window_start",
    "window_ms",
    "mean",
    "anomaly",
    "threshold",
];

/// A row of the predictions or of the dispatched windows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WindowRow<'a> {
    /// Who measured.
    pub device: &'a str,
    /// What was measured.
    pub tag: &'a str,
    /// Start of the window.
    pub start: EventTime,
    /// Its length; positive.
    pub length: Length,
    /// The mean of its readings; `None` if it is only dispatched, or of several tags together.
    pub mean: Option<f64>,
    /// Whether its prediction is an anomaly.
    pub anomaly: bool,
    /// The threshold of its sensor, if its model has one.
    pub threshold: Option<f64>,
}

/// Reads these columns of one Parquet file.
pub(super) fn decode(bytes: Bytes) -> Result<Vec<RecordBatch>, TableError> {
    projected(bytes, &COLUMNS, &["device", "tag"])
}

/// Reads some columns of one Parquet file. Returns the text columns in `names` dictionary-encoded, as the file holds
/// them.
pub(super) fn projected(
    bytes: Bytes,
    columns: &[&str],
    names: &[&str],
) -> Result<Vec<RecordBatch>, TableError> {
    // As in `table::read`: the library panics on some damage.
    caught(|| {
        let read = ArrowReaderMetadata::load(&bytes, ArrowReaderOptions::new())?;
        let key = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        let fields = read.schema().fields().iter().map(|field| {
            let is_name = names.contains(&field.name().as_str());
            match is_name && *field.data_type() == DataType::Utf8 {
                true => Arc::new(field.as_ref().clone().with_data_type(key.clone())),
                false => Arc::clone(field),
            }
        });
        let options =
            ArrowReaderOptions::new().with_schema(Arc::new(Schema::new(fields.collect::<Vec<_>>())));
        let metadata = ArrowReaderMetadata::try_new(Arc::clone(read.metadata()), options)?;
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(bytes, metadata);
        let only = ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied());
        let reader = builder.with_projection(only).with_batch_size(65_536).build()?;
        Ok(reader.collect::<Result<_, _>>()?)
    })?
}

/// Calls `take` with each row of a batch. An error of `take` becomes a [`TableError::Row`].
pub(super) fn each(
    batch: &RecordBatch,
    take: &mut impl FnMut(WindowRow<'_>) -> Result<(), String>,
) -> Result<(), TableError> {
    let (devices, tags) = (Names::of(batch, "device")?, Names::of(batch, "tag")?);
    let starts = primitive::<TimestampMillisecondType>(batch, "window_start")?.values();
    let lengths = primitive::<Int64Type>(batch, "window_ms")?.values();
    let means = newer::<Float64Type>(batch, "mean")?;
    let thresholds = newer::<Float64Type>(batch, "threshold")?;
    let number = |column: Option<&PrimitiveArray<Float64Type>>, row: usize| {
        column
            .filter(|column| column.is_valid(row))
            .map(|column| column.value(row))
    };
    let anomalies = batch
        .column_by_name("anomaly")
        .map(|column| column.as_boolean_opt().ok_or(TableError::Column("anomaly")));
    let anomalies = anomalies.transpose()?;
    for row in 0..batch.num_rows() {
        let length = Length::from_millis(lengths[row]);
        let taken = match length.is_positive() {
            false => Err("the window has no length".to_owned()),
            true => take(WindowRow {
                device: devices.get(row),
                tag: tags.get(row),
                start: EventTime::from_millis(starts[row]),
                length,
                mean: number(means, row),
                anomaly: anomalies.is_some_and(|anomalies| anomalies.value(row)),
                threshold: number(thresholds, row),
            }),
        };
        taken.map_err(|why| TableError::Row { row, why })?;
    }
    Ok(())
}

/// A column of names.
pub(super) struct Names<'a> {
    column: &'a DictionaryArray<Int32Type>,
    names: &'a StringArray,
}

impl<'a> Names<'a> {
    pub(super) fn of(batch: &'a RecordBatch, name: &'static str) -> Result<Self, TableError> {
        let column = batch.column_by_name(name);
        let column = column.and_then(|column| column.as_dictionary_opt::<Int32Type>());
        let column = column.filter(|column| column.null_count() == 0);
        let column = column.ok_or(TableError::Column(name))?;
        let names = column.values().as_string_opt::<i32>();
        Ok(Self {
            column,
            names: names.ok_or(TableError::Column(name))?,
        })
    }

    /// Returns the place of a row's name in the dictionary.
    pub(super) fn key(&self, row: usize) -> Option<usize> {
        self.column.key(row)
    }

    pub(super) fn get(&self, row: usize) -> &'a str {
        // The library checks that keys are within the dictionary, when it makes the array.
        self.column.key(row).map_or("", |key| self.names.value(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DispatchedWindow, Row};
    use windrow_common::SensorId;

    /// Returns the tag and the minute of each row.
    fn rows(bytes: Bytes) -> Result<Vec<(String, i64)>, TableError> {
        let mut rows = Vec::new();
        for batch in decode(bytes)? {
            each(&batch, &mut |row| {
                assert_eq!((row.device, row.mean, row.anomaly), ("d", None, false));
                rows.push((row.tag.to_owned(), row.start.as_millis() / 60_000));
                Ok(())
            })?;
        }
        Ok(rows)
    }

    #[test]
    fn the_rows_of_a_part_come_with_their_names_and_damage_is_an_error() {
        let row = |tag: &str, minute: i64| DispatchedWindow {
            sensor: SensorId::new("d", tag).unwrap(),
            window_start: EventTime::from_millis(minute * 60_000),
            window_length: Length::from_millis(60_000),
            count: 7,
            source: "a".into(),
        };
        let written = [row("a", 0), row("a", 1), row("b", 0), row("a", 2)];
        let bytes = DispatchedWindow::encode(&written).unwrap();
        let right = [("a", 0), ("a", 1), ("b", 0), ("a", 2)];
        let right = right.map(|(tag, minute)| (tag.to_owned(), minute));
        assert_eq!(rows(bytes.clone()).unwrap(), right);
        for at in 0..bytes.len() {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 1;
            if let Ok(batches) = decode(damaged.into()) {
                for batch in batches {
                    drop(each(&batch, &mut |_| Ok(())));
                }
            }
        }
        assert!(decode(bytes.slice(..bytes.len() / 2)).is_err());
    }

    #[test]
    fn what_is_wrong_with_a_row_is_said_with_its_number() {
        let batch = decode(DispatchedWindow::encode(&[]).unwrap()).unwrap();
        assert!(batch.iter().all(|batch| batch.num_rows() == 0));
        let row = DispatchedWindow {
            sensor: SensorId::new("d", "a").unwrap(),
            window_start: EventTime::from_millis(0),
            window_length: Length::from_millis(0),
            count: 1,
            source: "a".into(),
        };
        let batch = decode(DispatchedWindow::encode(&[row]).unwrap())
            .unwrap()
            .remove(0);
        let error = each(&batch, &mut |_| Ok(())).unwrap_err();
        assert_eq!(error.to_string(), "row 0 is invalid: the window has no length");
    }
}
