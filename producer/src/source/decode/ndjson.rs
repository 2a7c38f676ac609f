//! NDJSON: one JSON object per line.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use memchr::memchr;
use serde::de::IgnoredAny;

use crate::source::SourceError;

use super::json_object::{DefaultNames, ObjectReader};
use super::lines::{Found, LastLine, Lines, skip_too_long};
use super::mapping::ColumnMapping;
use super::sink::{RowSink, Step};

/// How many objects at the start of a file are checked for the required fields.
const CHECKED_ROWS: usize = 100;

/// A decoder for the rows of a file of JSON objects.
pub(in crate::source) struct NdjsonDecoder {
    lines: Lines,
    last_line: LastLine,
    mapping: ColumnMapping,
    objects: ObjectReader,
}

impl NdjsonDecoder {
    /// Creates a decoder that starts at the current row of `lines`.
    pub(in crate::source) fn new(lines: Lines, last_line: LastLine, mapping: &ColumnMapping) -> Self {
        Self {
            lines,
            last_line,
            mapping: mapping.clone(),
            objects: ObjectReader::new(mapping),
        }
    }

    pub(in crate::source) fn lines(&self) -> &Lines {
        &self.lines
    }

    pub(in crate::source) fn lines_mut(&mut self) -> &mut Lines {
        &mut self.lines
    }

    /// Checks that the required fields appear in the first rows. One row may lack a field, but hardly all of them do.
    pub(in crate::source) fn check_fields(&mut self, path: &Path) -> Result<(), SourceError> {
        // This loads the start of the file into memory; it does not matter whether a newline is found.
        let found = self.lines.find(|data| memchr(b'\n', data));
        found.map_err(|source| SourceError::Read {
            path: path.to_owned(),
            offset: self.lines.read_to(),
            source,
        })?;
        if self.lines.data().trim_ascii_start().starts_with(b"[") {
            return Err(SourceError::Format {
                path: path.to_owned(),
                why: "it is a JSON array instead of one JSON object per line; convert it with `jq -c '.[]'`"
                    .to_owned(),
            });
        }
        let mut names = BTreeSet::new();
        for line in self.lines.data().split(|&byte| byte == b'\n').take(CHECKED_ROWS) {
            if let Ok(object) = serde_json::from_slice::<std::collections::BTreeMap<String, IgnoredAny>>(line)
            {
                names.extend(object.into_keys());
            }
        }
        if !names.is_empty() {
            let names: Vec<_> = names.into_iter().collect();
            self.mapping.resolve(path, &names)?;
        }
        Ok(())
    }

    /// Reads rows until `out` is full or the file ends.
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
            let offset = self.lines.offset();
            let row = &self.lines.data()[..bytes];
            let line = row.trim_ascii();
            if !line.is_empty() {
                match self.objects.read(line, offset, DefaultNames::default(), out) {
                    Ok(reading) => out.batch.readings.push(reading),
                    Err(detail) => {
                        let row = row.strip_suffix(b"\r").unwrap_or(row);
                        out.unreadable(offset, self.lines.line(), detail, row);
                    }
                }
            }
            self.lines.consume(bytes + newline, newline as u64);
        }
        Ok(Step::More)
    }
}
