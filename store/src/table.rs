//! Code that the store's Parquet tables share: writing, reading and grouping by hour.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::{ArrowPrimitiveType, Int64Type, TimestampMillisecondType};
use arrow_schema::{ArrowError, DataType, Field, Schema, TimeUnit};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use super::Blob;
use windrow_common::{EventTime, Panicked, caught};

/// Why a table cannot be encoded or decoded.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The bytes are not Parquet, or are damaged.
    #[error("it is not a readable Parquet file: {0}")]
    Parquet(#[from] ParquetError),
    /// The bytes are damaged in a way that the library does not expect.
    #[error("it is not a readable Parquet file: {0}")]
    Panicked(#[from] Panicked),
    /// Its columns do not fit together.
    #[error("its columns do not fit together: {0}")]
    Arrow(#[from] ArrowError),
    /// A column is missing or has the wrong type.
    #[error("it has no column `{0}` of the right type")]
    Column(&'static str),
    /// A row is invalid.
    #[error("row {row} is invalid: {why}")]
    Row {
        /// Counted from 0.
        row: usize,
        /// What is wrong with it.
        why: String,
    },
}

pub(super) fn timestamp_type() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
}

/// Returns the schema of these columns, of which those named in `nullable` may have nulls.
pub(super) fn schema(columns: &[(&str, DataType)], nullable: &[&str]) -> Arc<Schema> {
    Arc::new(Schema::new(
        columns
            .iter()
            .map(|(name, kind)| Field::new(*name, kind.clone(), nullable.contains(name)))
            .collect::<Vec<_>>(),
    ))
}

/// Writes one batch as a Parquet file with zstd compression.
pub(super) fn write(batch: &RecordBatch) -> Result<Bytes, TableError> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_created_by(concat!("windrow ", env!("CARGO_PKG_VERSION")).to_owned())
        .build();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties))?;
    writer.write(batch)?;
    writer.close()?;
    Ok(bytes.into())
}

/// Reads the batches of a Parquet file.
pub(super) fn read(bytes: Bytes) -> Result<Vec<RecordBatch>, TableError> {
    // The library panics on some damage, such as a negative offset.
    caught(|| {
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes)?
            .with_batch_size(65_536)
            .build()?;
        Ok(reader.collect::<Result<_, _>>()?)
    })?
}

pub(super) fn primitive<'a, T: ArrowPrimitiveType>(
    batch: &'a RecordBatch,
    name: &'static str,
) -> Result<&'a arrow_array::PrimitiveArray<T>, TableError> {
    let column = batch
        .column_by_name(name)
        .and_then(|column| column.as_primitive_opt::<T>());
    column.ok_or(TableError::Column(name))
}

/// Returns a column that older versions did not write, or `None` if it is not there.
pub(super) fn newer<'a, T: ArrowPrimitiveType>(
    batch: &'a RecordBatch,
    name: &'static str,
) -> Result<Option<&'a arrow_array::PrimitiveArray<T>>, TableError> {
    match batch.column_by_name(name) {
        None => Ok(None),
        Some(_) => primitive(batch, name).map(Some),
    }
}

pub(super) fn strings<'a>(
    batch: &'a RecordBatch,
    name: &'static str,
) -> Result<&'a arrow_array::StringArray, TableError> {
    let column = batch
        .column_by_name(name)
        .and_then(|column| column.as_string_opt::<i32>());
    column.ok_or(TableError::Column(name))
}

pub(super) fn times<'a>(
    batch: &'a RecordBatch,
    name: &'static str,
) -> Result<impl Fn(usize) -> EventTime + 'a, TableError> {
    let column = primitive::<TimestampMillisecondType>(batch, name)?;
    Ok(|row| EventTime::from_millis(column.value(row)))
}

pub(super) fn integers<'a>(
    batch: &'a RecordBatch,
    name: &'static str,
) -> Result<impl Fn(usize) -> i64 + 'a, TableError> {
    let column = primitive::<Int64Type>(batch, name)?;
    Ok(|row| column.value(row))
}

/// Returns a finite number, because programs write it as JSON, which has no other. An infinite number becomes the
/// largest or smallest finite one; NaN becomes `None`. Windrow's models compute only finite numbers, so others come
/// from other programs.
pub(super) fn finite(value: f64) -> Option<f64> {
    (!value.is_nan()).then(|| value.clamp(f64::MIN, f64::MAX))
}

/// Groups the parts of a table by hour, oldest first. Leaves out hours that cannot hold a window start between `from`
/// and `to` (exclusive).
pub(super) fn hours(
    blobs: Vec<Blob>,
    from: Option<EventTime>,
    to: Option<EventTime>,
) -> Vec<(String, Vec<Blob>)> {
    let from = from.map(EventTime::hive_partition);
    let to = to.map(|to| {
        to.saturating_sub(std::time::Duration::from_millis(1))
            .hive_partition()
    });
    let mut hours: Vec<(String, Vec<Blob>)> = Vec::new();
    for blob in blobs {
        // `<table>/date=…/hour=…/<part>.parquet`
        let Some(hour) = blob
            .path
            .split_once('/')
            .and_then(|(_, rest)| Some(rest.rsplit_once('/')?.0))
        else {
            continue;
        };
        let outside =
            from.as_deref().is_some_and(|from| hour < from) || to.as_deref().is_some_and(|to| hour > to);
        if outside || !blob.path.ends_with(".parquet") {
            continue;
        }
        match hours.last_mut() {
            Some((last, parts)) if last == hour => parts.push(blob),
            _ => hours.push((hour.to_owned(), vec![blob])),
        }
    }
    hours
}
