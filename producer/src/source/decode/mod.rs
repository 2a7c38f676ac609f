//! Decodes bytes into readings: one module for each format, on top of the lines of a decompressed stream.
//!
//! ```text
//! stream ─▶ lines ─▶ csv, ndjson ─▶ cells ─▶ sink
//!                    parquet ──────────────▶ sink
//!           lines ─▶ envelope, avro ─▶ event_record ─▶ sink
//! ```
//!
//! [`ObjectReader`] reads single JSON objects, for NDJSON files and for events.

mod avro;
mod cells;
mod csv;
mod decoder;
mod dialect;
mod envelope;
mod event_body;
mod event_names;
mod event_record;
mod field_source;
mod json_object;
mod json_paths;
mod json_row;
mod json_scan;
mod json_shape;
mod json_walk;
mod kind;
mod lines;
mod mapping;
mod ndjson;
mod parquet;
mod pattern;
mod plan;
mod preset;
mod quoted;
mod row;
mod sink;
mod stream;
mod time_format;

pub(super) use avro::{AVRO_MARK, is_whole as is_whole_avro};
pub(super) use decoder::{Decoder, End, RowPosition, first_bytes};
pub(super) use dialect::split;
pub use event_body::{Elements, GZIP_MAGIC, unpack};
pub use event_names::{Carrier, EventNames, Found, TIME_HINT, say_guess};
pub use field_source::{FieldPlace, FieldSource};
pub use json_object::{DefaultNames, ObjectReader, RefusedObject};
pub(super) use kind::{Compression, ENDINGS, InputFile, Kind, Listing, list, single};
pub(super) use lines::LastLine;
#[cfg(test)]
pub(super) use lines::MAX_ROW_BYTES;
pub use mapping::ColumnMapping;
pub(super) use mapping::Role;
pub(super) use parquet::first_rows as first_parquet_rows;
pub use pattern::{Condition, DeviceFrom, TagPattern};
pub use preset::Preset;
pub(super) use sink::Step;
pub use sink::{ROWS_PER_BATCH, RowSink};
pub(super) use stream::Stream;
pub use time_format::{TimeFormat, zone};
pub(super) use time_format::{TimeReader, patterns_of};
