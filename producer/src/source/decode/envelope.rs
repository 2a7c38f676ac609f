//! Events in lines of JSON, as IoT Hub's routing writes them to a storage account: what came with an event, and its body.

use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use memchr::{memchr, memmem};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::event_record::{EventRecord, RecordReader};
use super::lines::{Found, LastLine, Lines, skip_too_long};
use super::mapping::ColumnMapping;
use super::sink::{RowSink, Step, shown};

/// A field of each line, which tells such a file from other NDJSON.
const MARK: &[u8] = b"\"EnqueuedTimeUtc\"";
/// How many bytes of a file are searched for it. It is the first field that IoT Hub writes.
pub(super) const MARKED_WITHIN: usize = 512;

/// Returns whether a file begins like a line with an event.
pub(super) fn is_envelope(start: &[u8]) -> bool {
    let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start);
    let start = start.trim_ascii_start();
    start.starts_with(b"{") && memmem::find(&start[..start.len().min(MARKED_WITHIN)], MARK).is_some()
}

/// A decoder for the events in a file of lines.
pub(in crate::source) struct EnvelopeDecoder {
    lines: Lines,
    last_line: LastLine,
    records: RecordReader,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Line<'a> {
    enqueued_time_utc: Option<String>,
    #[serde(default)]
    properties: Option<Map<String, Value>>,
    #[serde(default)]
    system_properties: Option<Map<String, Value>>,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
}

impl EnvelopeDecoder {
    /// Creates a decoder that starts at the current line of `lines`.
    pub(in crate::source) fn new(lines: Lines, last_line: LastLine, mapping: &ColumnMapping) -> Self {
        Self {
            lines,
            last_line,
            records: RecordReader::new(mapping),
        }
    }

    pub(in crate::source) fn lines(&self) -> &Lines {
        &self.lines
    }

    pub(in crate::source) fn lines_mut(&mut self) -> &mut Lines {
        &mut self.lines
    }

    /// Reads events until `out` is full or the file ends.
    pub(in crate::source) fn decode(&mut self, out: &mut RowSink<'_>) -> io::Result<Step> {
        while out.has_room() {
            let (bytes, newline) = match self.lines.find(|data| memchr(b'\n', data))? {
                Found::At(at) => (at, 1),
                Found::End(0) => return Ok(Step::End),
                Found::End(_) if self.last_line == LastLine::Waits => return Ok(Step::End),
                Found::End(bytes) => (bytes, 0),
                Found::TooLong => {
                    if skip_too_long(&mut self.lines, self.last_line, out)? == Step::End {
                        return Ok(Step::End);
                    }
                    continue;
                }
            };
            let (offset, number) = (self.lines.offset(), self.lines.line());
            let line = self.lines.data()[..bytes].trim_ascii();
            if !line.is_empty() {
                match record_of(line) {
                    Ok(record) => self.records.read(&record, offset, number, out),
                    Err(detail) => out.unreadable(offset, number, detail, line),
                }
            }
            self.lines.consume(bytes + newline, newline as u64);
        }
        Ok(Step::More)
    }
}

/// Returns the event in a line.
fn record_of(line: &[u8]) -> Result<EventRecord, String> {
    let line: Line<'_> = serde_json::from_slice(line)
        .map_err(|error| format!("not an event: {}", shown(error.to_string().as_bytes())))?;
    Ok(EventRecord {
        enqueued: line.enqueued_time_utc,
        properties: texts(line.properties),
        system: texts(line.system_properties),
        body: line.body.map(|body| body_of(body.get())).unwrap_or_default(),
    })
}

/// Returns the body: JSON as it stands, or the bytes that are written as base64 if the sender did not say that they are
/// JSON. A text that is not base64 is the body itself.
fn body_of(body: &str) -> Vec<u8> {
    if body == "null" {
        return Vec::new();
    }
    match serde_json::from_str::<String>(body) {
        Ok(text) => STANDARD.decode(&text).unwrap_or(text.into_bytes()),
        Err(_) => body.as_bytes().to_vec(),
    }
}

fn texts(properties: Option<Map<String, Value>>) -> Vec<(String, String)> {
    let texts = properties.into_iter().flatten().filter_map(|(name, value)| {
        let text = match value {
            Value::String(text) => text,
            Value::Number(number) => number.to_string(),
            _ => return None,
        };
        Some((name, text))
    });
    texts.collect()
}
