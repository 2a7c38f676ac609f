//! A JSON object a line.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use memchr::memchr;
use serde::de::IgnoredAny;

use crate::source::SourceError;

use super::cells::Output;
use super::decoder::Step;
use super::json_object::{Names, ObjectReader};
use super::lines::{Found, LastLine, Lines};
use super::mapping::ColumnMapping;

/// How many objects at the start of a file are looked at for the fields wanted.
const CHECKED_ROWS: usize = 100;

/// Reads the rows of a file of JSON objects.
pub(super) struct NdjsonDecoder {
    lines: Lines,
    last_line: LastLine,
    mapping: ColumnMapping,
    objects: ObjectReader,
}

impl NdjsonDecoder {
    /// Reads the rows from the current one of `lines` on.
    pub(super) fn new(lines: Lines, last_line: LastLine, mapping: &ColumnMapping) -> Self {
        Self {
            lines,
            last_line,
            mapping: mapping.clone(),
            objects: ObjectReader::new(mapping),
        }
    }

    pub(super) fn lines(&self) -> &Lines {
        &self.lines
    }

    pub(super) fn lines_mut(&mut self) -> &mut Lines {
        &mut self.lines
    }

    /// Whether the fields wanted are there, by the first rows: a field may be missing from a row, but hardly from all.
    pub(super) fn check_fields(&mut self, path: &Path) -> Result<(), SourceError> {
        // Some of the file must be in memory; whether it ends here is of no interest.
        let found = self.lines.find(|data| memchr(b'\n', data));
        found.map_err(|source| SourceError::Read {
            path: path.to_owned(),
            offset: self.lines.read_to(),
            source,
        })?;
        if self.lines.data().trim_ascii_start().starts_with(b"[") {
            return Err(SourceError::Format {
                path: path.to_owned(),
                why: "it is a JSON array; what is read is one object a line, as `jq -c '.[]'` writes them"
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
    pub(super) fn decode(&mut self, out: &mut Output<'_>) -> io::Result<Step> {
        while out.has_room() {
            let (bytes, newline) = match self.lines.find(|data| memchr(b'\n', data))? {
                Found::At(at) => (at, 1),
                Found::End(0) => return Ok(Step::End),
                Found::End(_) if self.last_line == LastLine::Waits => return Ok(Step::End),
                Found::End(bytes) => (bytes, 0),
                Found::TooLong => {
                    if super::decoder::skip_too_long(&mut self.lines, self.last_line, out)? == Step::End {
                        return Ok(Step::End);
                    }
                    continue;
                }
            };
            let offset = self.lines.offset();
            let line = self.lines.data()[..bytes].trim_ascii();
            if !line.is_empty() {
                match self.objects.read(line, offset, Names::default(), out) {
                    Ok(reading) => out.batch.readings.push(reading),
                    Err(detail) => out.unreadable(offset, self.lines.line(), detail, line),
                }
            }
            self.lines.consume(bytes + newline, newline as u64);
        }
        Ok(Step::More)
    }
}
