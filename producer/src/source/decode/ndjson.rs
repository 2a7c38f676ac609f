//! JSON objects, one per line or one after another.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use memchr::memchr;
use serde::de::IgnoredAny;
use windrow_common::EventTime;

use crate::sensors::SensorTable;
use crate::source::{Batch, SourceError};

use super::json_object::{DefaultNames, ObjectReader};
use super::kind::InputFile;
use super::lines::{Found, LastLine, Lines, MAX_ROW_BYTES, skip_too_long};
use super::mapping::{ColumnMapping, Role};
use super::plan::tags_text;
use super::sink::{RowSink, Step};
use super::time_format::Noticed;

/// How many objects at the start of a file are checked for the required fields.
const CHECKED_ROWS: usize = 100;

/// How many broken lines within the data of one search are skipped one by one. After that, all of its lines are skipped
/// at once.
const MOST_GIVEN_UP: u32 = 32;

/// A decoder for the rows of a file of JSON objects.
pub(in crate::source) struct NdjsonDecoder {
    lines: Lines,
    last_line: LastLine,
    mapping: ColumnMapping,
    objects: ObjectReader,
    layout: Layout,
    /// The device of every object, if the file names it.
    device: Option<String>,
    /// The offset up to which the last failed search for the end of an object went, and the number of lines given up
    /// before that offset.
    searched_through: u64,
    given_up: u32,
}

/// How the objects of a file are set apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// One on each line: a damaged object affects no other.
    Lines,
    /// One after another, on any number of lines, in arrays or not.
    Sequence,
}

impl NdjsonDecoder {
    /// Looks at the first lines; returns `None` if they are not written yet.
    pub(in crate::source) fn open(
        mut lines: Lines,
        file: &InputFile,
        last_line: LastLine,
        mapping: &ColumnMapping,
    ) -> Result<Option<Self>, SourceError> {
        let layout = Layout::of(&mut lines, last_line).map_err(|source| SourceError::Read {
            path: file.path.clone(),
            offset: 0,
            source,
        })?;
        let Some(layout) = layout else {
            return Ok(None);
        };
        let device = mapping
            .device_from
            .as_ref()
            .and_then(|from| from.of_file(&file.first_name));
        let device = device.transpose().map_err(|why| SourceError::Options {
            path: file.path.clone(),
            why,
        })?;
        Ok(Some(Self {
            lines,
            last_line,
            mapping: mapping.clone(),
            objects: ObjectReader::new(mapping),
            layout,
            device,
            searched_through: 0,
            given_up: 0,
        }))
    }

    pub(in crate::source) fn lines(&self) -> &Lines {
        &self.lines
    }

    pub(in crate::source) fn lines_mut(&mut self) -> &mut Lines {
        &mut self.lines
    }

    /// Returns how the file is understood.
    pub(in crate::source) fn summary(&self) -> &'static str {
        match self.layout {
            Layout::Lines => "one JSON object per line",
            Layout::Sequence => "JSON objects over several lines",
        }
    }

    /// Returns what was noticed about the times.
    pub(in crate::source) fn noticed(&self) -> Noticed {
        self.objects.noticed()
    }

    /// Checks that the required fields appear in the first objects. One may lack a field, but hardly all of them do.
    pub(in crate::source) fn check_fields(&mut self, path: &Path) -> Result<(), SourceError> {
        if !self.objects.is_flat() {
            return self.check_tags(path);
        }
        let mut names: Vec<String> = Vec::new();
        for object in self.first_objects() {
            let Ok(object) = serde_json::from_slice::<BTreeMap<String, IgnoredAny>>(object) else {
                continue;
            };
            let own: Vec<_> = object.into_keys().collect();
            if let Err(error @ SourceError::TwoColumns { .. }) = self.mapping.resolve(path, &own) {
                return Err(error);
            }
            names.extend(own);
        }
        names.sort_unstable();
        names.dedup();
        let is_missing = |role: Role| {
            !names
                .iter()
                .any(|name| self.mapping.role_of(name).is_some_and(|(of, _)| of == role))
        };
        match Role::ALL.into_iter().find(|&role| is_missing(role)) {
            Some(role) if !names.is_empty() => Err(self.mapping.missing(path, role, &names)),
            _ => Ok(()),
        }
    }

    /// Checks that one of the first objects has a field that `--tags` means, as the columns of a table are checked.
    fn check_tags(&self, path: &Path) -> Result<(), SourceError> {
        if self.mapping.tags.is_empty() {
            return Ok(());
        }
        // This reader's own memory stays as it is.
        let mut objects = ObjectReader::new(&self.mapping);
        let (mut sensors, mut batch) = (SensorTable::new(), Batch::default());
        let mut out = RowSink {
            sensors: &mut sensors,
            batch: &mut batch,
            arrival: EventTime::MIN,
            limit: usize::MAX,
        };
        let mut names: Vec<String> = Vec::new();
        for object in self.first_objects() {
            let Ok(fields) = serde_json::from_slice::<BTreeMap<String, IgnoredAny>>(object) else {
                continue;
            };
            if objects.names_measurement(object, &mut out) {
                return Ok(());
            }
            names.extend(fields.into_keys());
        }
        names.sort_unstable();
        names.dedup();
        if names.is_empty() {
            return Ok(());
        }
        Err(SourceError::Options {
            path: path.to_owned(),
            why: format!(
                "no field is a measurement by --tags {}; the first objects have {}",
                tags_text(&self.mapping.tags),
                names.join(", ")
            ),
        })
    }

    /// Returns the objects at the start of the file that are in memory.
    fn first_objects(&self) -> Vec<&[u8]> {
        let mut data = self.lines.data();
        match self.layout {
            Layout::Lines => data.split(|&byte| byte == b'\n').take(CHECKED_ROWS).collect(),
            Layout::Sequence => {
                let mut objects = Vec::new();
                while objects.len() < CHECKED_ROWS {
                    data = &data[separators(data)..];
                    let Some(end) = Braces::default().end(data) else {
                        break;
                    };
                    objects.push(&data[..=end]);
                    data = &data[end + 1..];
                }
                objects
            }
        }
    }

    /// Reads objects until `out` is full or the file ends.
    pub(in crate::source) fn decode(&mut self, out: &mut RowSink<'_>) -> io::Result<Step> {
        while out.has_room() {
            let step = match self.layout {
                Layout::Lines => self.line(out)?,
                Layout::Sequence => self.object(out)?,
            };
            if step == Step::End {
                return Ok(Step::End);
            }
        }
        Ok(Step::More)
    }

    #[inline]
    fn line(&mut self, out: &mut RowSink<'_>) -> io::Result<Step> {
        let (bytes, newline) = match self.lines.find(|data| memchr(b'\n', data))? {
            Found::At(at) => (at, 1),
            Found::End(0) => return Ok(Step::End),
            Found::End(_) if self.last_line == LastLine::Waits => return Ok(Step::End),
            Found::End(bytes) => (bytes, 0),
            Found::TooLong => return skip_too_long(&mut self.lines, self.last_line, out),
        };
        self.read(bytes, out);
        self.lines.consume(bytes + newline, newline as u64);
        Ok(Step::More)
    }

    /// Reads the next object of a sequence.
    fn object(&mut self, out: &mut RowSink<'_>) -> io::Result<Step> {
        loop {
            let between = separators(self.lines.data());
            let newlines = memchr::memchr_iter(b'\n', &self.lines.data()[..between]).count();
            self.lines.consume(between, newlines as u64);
            if !self.lines.data().is_empty() {
                break;
            }
            if !self.lines.more()? {
                return Ok(Step::End);
            }
        }
        let is_object = self.lines.data()[0] == b'{';
        let mut braces = Braces::default();
        let found = match is_object {
            true => self.lines.find(|data| braces.end(data))?,
            false => self.lines.find(|data| memchr(b'\n', data))?,
        };
        let bytes = match found {
            Found::At(at) if !is_object => at,
            Found::At(at) if self.is_json(at + 1) => at + 1,
            Found::End(_) if self.last_line == LastLine::Waits => return Ok(Step::End),
            Found::End(bytes) if !is_object => bytes,
            Found::TooLong if !is_object => return skip_too_long(&mut self.lines, self.last_line, out),
            // A brace or a quote is missing, so that it has swallowed what follows.
            Found::At(_) | Found::End(_) | Found::TooLong => return Ok(self.give_up_line(out)),
        };
        self.read(bytes, out);
        let newlines = memchr::memchr_iter(b'\n', &self.lines.data()[..bytes]).count();
        self.lines.consume(bytes, newlines as u64);
        Ok(Step::More)
    }

    fn is_json(&self, bytes: usize) -> bool {
        serde_json::from_slice::<IgnoredAny>(&self.lines.data()[..bytes]).is_ok()
    }

    /// Sets the rest of the line aside, so that the objects after it are read. After [`MOST_GIVEN_UP`] such lines, sets
    /// aside all the lines that the failed search covered, because each search takes long.
    #[cold]
    fn give_up_line(&mut self, out: &mut RowSink<'_>) -> Step {
        let data = self.lines.data();
        self.given_up = match self.lines.offset() < self.searched_through {
            true => self.given_up + 1,
            false => 0,
        };
        self.searched_through = self.lines.offset() + data.len() as u64;
        let end = match self.given_up < MOST_GIVEN_UP {
            true => memchr(b'\n', data),
            false => memchr::memrchr(b'\n', data),
        };
        let bytes = end.unwrap_or(data.len());
        let row = &data[..bytes];
        let objects = memchr::memchr_iter(b'{', row).count().max(1) as u64;
        let detail = "not a JSON object: a brace or a quote is missing".to_owned();
        out.refuse_row(self.lines.offset(), self.lines.line(), objects, detail, row);
        let newlines = memchr::memchr_iter(b'\n', row).count();
        self.lines.consume(bytes, newlines as u64);
        Step::More
    }

    /// Reads the object in the next `bytes` bytes.
    #[inline]
    fn read(&mut self, bytes: usize, out: &mut RowSink<'_>) {
        let offset = self.lines.offset();
        let row = &self.lines.data()[..bytes];
        let object = row.trim_ascii();
        if object.is_empty() {
            return;
        }
        let names = DefaultNames {
            device: self.device.as_deref(),
            ..DefaultNames::default()
        };
        if let Err(refused) = self.objects.read(object, offset, names, out) {
            let row = row.strip_suffix(b"\r").unwrap_or(row);
            out.refuse_row(offset, self.lines.line(), refused.readings, refused.detail, row);
        }
    }
}

impl Layout {
    /// Tells the layout by the first lines; `None` if they are not written yet. This loads them into memory.
    fn of(lines: &mut Lines, last_line: LastLine) -> io::Result<Option<Self>> {
        loop {
            let data = lines.data();
            let text = data.trim_ascii_start();
            if text.first() == Some(&b'[') {
                return Ok(Some(Self::Sequence));
            }
            let mut ends = memchr::memchr_iter(b'\n', text);
            let (first, second) = (ends.next(), ends.next());
            if let (Some(first), Some(second)) = (first, second) {
                return Ok(Some(Self::of_lines(&text[..first], &text[first + 1..second])));
            }
            if data.len() > MAX_ROW_BYTES {
                return Ok(Some(Self::Lines));
            }
            if !lines.more()? {
                let text = lines.data().trim_ascii();
                return Ok(match (last_line, first) {
                    (LastLine::Waits, None) => None,
                    // A first line that is an object is enough.
                    (LastLine::Waits, Some(first)) if is_begun(text.get(..first).unwrap_or(text)) => None,
                    _ => {
                        let (first, second) = match memchr(b'\n', text) {
                            Some(at) => (&text[..at], &text[at + 1..]),
                            None => (text, &b""[..]),
                        };
                        Some(Self::of_lines(first, second))
                    }
                });
            }
        }
    }

    /// Objects are over several lines if the first is not whole on its line, and the second line is the inside of one.
    fn of_lines(first: &[u8], second: &[u8]) -> Self {
        match is_begun(first)
            && second
                .trim_ascii_start()
                .first()
                .is_some_and(|byte| b"\"}".contains(byte))
        {
            true => Self::Sequence,
            false => Self::Lines,
        }
    }
}

/// Returns whether the text is the beginning of an object.
fn is_begun(text: &[u8]) -> bool {
    let text = text.trim_ascii();
    text.starts_with(b"{") && serde_json::from_slice::<IgnoredAny>(text).is_err_and(|error| error.is_eof())
}

/// Returns how many bytes at the start of `text` are only between objects.
fn separators(text: &[u8]) -> usize {
    let is_between = |byte: &&u8| byte.is_ascii_whitespace() || matches!(byte, b',' | b'[' | b']');
    text.iter().take_while(is_between).count()
}

/// Finds the brace that closes an object.
#[derive(Default)]
struct Braces {
    depth: usize,
    in_text: bool,
    escaped: bool,
}

impl Braces {
    /// Returns where the object ends in the next part of it.
    fn end(&mut self, part: &[u8]) -> Option<usize> {
        for (at, byte) in part.iter().enumerate() {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_text => self.escaped = true,
                b'"' => self.in_text = !self.in_text,
                _ if self.in_text => {}
                b'{' => self.depth += 1,
                b'}' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return Some(at);
                    }
                }
                _ => {}
            }
        }
        None
    }
}
