//! Events in Avro files: what Event Hubs Capture writes, and IoT Hub's routing if it is asked to.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use apache_avro::types::Value;
use apache_avro::util::max_allocation_bytes;
use apache_avro::{Reader, Schema};
use windrow_common::caught;

use crate::source::SourceError;

use super::event_record::{EventRecord, RecordReader};
use super::kind::InputFile;
use super::mapping::ColumnMapping;
use super::sink::{RowSink, Step};

/// What an Avro file begins with.
pub(in crate::source) const AVRO_MARK: &[u8] = b"Obj\x01";
/// Largest block or value: capture's blocks have about a megabyte, and the library believes any length up to this.
const MAX_BYTES: usize = 64 << 20;

/// A decoder for the events of an Avro file.
pub(in crate::source) struct AvroDecoder {
    reader: Reader<'static, Counted>,
    read: Arc<AtomicU64>,
    records: RecordReader,
    next_record: u64,
}

/// A file whose reads are counted.
struct Counted {
    file: BufReader<File>,
    read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let bytes = self.file.read(into)?;
        self.read.fetch_add(bytes as u64, Relaxed);
        Ok(bytes)
    }
}

impl AvroDecoder {
    /// Opens `input` at event `from`. The events before it are read: a file does not say how many a block has without the
    /// block before.
    pub(in crate::source) fn open(
        input: &InputFile,
        from: u64,
        mapping: &ColumnMapping,
    ) -> Result<Self, SourceError> {
        let format = |why: String| SourceError::Format {
            path: input.path.clone(),
            why: format!("it is not a readable Avro file: {why}"),
        };
        let failed = |source| SourceError::Read {
            path: input.path.clone(),
            offset: 0,
            source,
        };
        let file = input.open().map_err(failed)?;
        let (reader, read) = caught(|| reader(file))
            .map_err(|panicked| format(panicked.to_string()))?
            .map_err(failed)?;
        let reader = reader.map_err(|error| format(error.to_string()))?;
        if !holds_events(reader.writer_schema()) {
            return Err(format(
                "its records have no field Body; only files of events are read, as Event Hubs Capture and IoT Hub write them"
                    .to_owned(),
            ));
        }
        let mut decoder = Self {
            reader,
            read,
            records: RecordReader::new(mapping),
            next_record: 0,
        };
        while decoder.next_record < from {
            match decoder.next().map_err(failed)? {
                Some(_) => decoder.next_record += 1,
                None => {
                    return Err(SourceError::Shrunk {
                        path: input.path.clone(),
                        offset: from,
                        end: decoder.next_record,
                    });
                }
            }
        }
        Ok(decoder)
    }

    /// Returns the number of the next event.
    pub(in crate::source) fn next_record(&self) -> u64 {
        self.next_record
    }

    /// Returns how many bytes of the file have been read.
    pub(in crate::source) fn disk_position(&self) -> u64 {
        self.read.load(Relaxed)
    }

    /// Reads events until `out` is full or the file ends.
    pub(in crate::source) fn decode(&mut self, out: &mut RowSink<'_>) -> io::Result<Step> {
        while out.has_room() {
            let Some(value) = self.next()? else {
                return Ok(Step::End);
            };
            match record_of(value) {
                Ok(record) => self.records.read(&record, self.next_record, None, out),
                Err(detail) => out.unreadable(self.next_record, None, detail, b""),
            }
            self.next_record += 1;
        }
        Ok(Step::More)
    }

    /// Returns the next record. A file is damaged if the library cannot decode one.
    fn next(&mut self) -> io::Result<Option<Value>> {
        let next = caught(|| self.reader.next()).map_err(io::Error::other)?;
        next.transpose().map_err(io::Error::other)
    }
}

/// Opens the file at its start; the inner error is the library's.
#[allow(clippy::type_complexity)]
fn reader(
    mut file: File,
) -> io::Result<(
    Result<Reader<'static, Counted>, apache_avro::Error>,
    Arc<AtomicU64>,
)> {
    max_allocation_bytes(MAX_BYTES);
    file.seek(SeekFrom::Start(0))?;
    let read = Arc::new(AtomicU64::new(0));
    let counted = Counted {
        file: BufReader::new(file),
        read: Arc::clone(&read),
    };
    Ok((Reader::new(counted), read))
}

/// Returns whether all records of the file are there.
pub(in crate::source) fn is_whole(file: File) -> io::Result<bool> {
    let (reader, _) = reader(file)?;
    let Ok(mut reader) = reader else {
        return Ok(false);
    };
    Ok(caught(|| reader.all(|value| value.is_ok())).unwrap_or(false))
}

fn holds_events(schema: &Schema) -> bool {
    match schema {
        Schema::Record(record) => record.fields.iter().any(|field| field.name == "Body"),
        _ => false,
    }
}

/// Returns the event in a record.
fn record_of(value: Value) -> Result<EventRecord, String> {
    let Value::Record(fields) = value else {
        return Err("not a record".to_owned());
    };
    let mut record = EventRecord::default();
    for (name, value) in fields {
        match (name.as_str(), inner(value)) {
            ("EnqueuedTimeUtc", value) => record.enqueued = text_of(value),
            ("SystemProperties", Value::Map(values)) => record.system = texts(values),
            ("Properties", Value::Map(values)) => record.properties = texts(values),
            ("Body", Value::Bytes(bytes)) => record.body = bytes,
            ("Body", Value::String(text)) => record.body = text.into_bytes(),
            _ => {}
        }
    }
    Ok(record)
}

fn inner(value: Value) -> Value {
    match value {
        Value::Union(_, value) => inner(*value),
        value => value,
    }
}

fn text_of(value: Value) -> Option<String> {
    Some(match inner(value) {
        Value::String(text) => text,
        Value::Int(number) => number.to_string(),
        Value::Long(number) | Value::TimestampMillis(number) => number.to_string(),
        Value::Double(number) => number.to_string(),
        Value::Bytes(bytes) => String::from_utf8(bytes).ok()?,
        _ => return None,
    })
}

fn texts(values: impl IntoIterator<Item = (String, Value)>) -> Vec<(String, String)> {
    let texts = values
        .into_iter()
        .filter_map(|(name, value)| Some((name, text_of(value)?)));
    texts.collect()
}
