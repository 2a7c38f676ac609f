//! A JSON object a line.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use memchr::memchr;
use serde::de::{DeserializeSeed, IgnoredAny};

use crate::source::{Reading, SourceError};

use super::cells::{CellError, Cells, Output, number, shown, trim};
use super::decoder::Step;
use super::json_row::{Cell, JsonRow, KeyOrder, RowSeed};
use super::json_scan::{self, Token};
use super::lines::{Found, LastLine, Lines};
use super::mapping::{ColumnMapping, Role};

/// How many objects at the start of a file are looked at for the fields wanted.
const CHECKED_ROWS: usize = 100;

/// Reads the rows of a file of JSON objects.
pub(super) struct NdjsonDecoder {
    lines: Lines,
    last_line: LastLine,
    mapping: ColumnMapping,
    keys: KeyOrder,
    /// Where cells are put together that are not text in the file: numbers as names, texts with escapes.
    scratch: String,
    texts: [String; 4],
    cells: Cells,
}

impl NdjsonDecoder {
    /// Reads the rows from the current one of `lines` on.
    pub(super) fn new(lines: Lines, last_line: LastLine, mapping: &ColumnMapping) -> Self {
        Self {
            lines,
            last_line,
            mapping: mapping.clone(),
            keys: KeyOrder::default(),
            scratch: String::new(),
            texts: Default::default(),
            cells: Cells::default(),
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
                let mut row = Row {
                    mapping: &self.mapping,
                    keys: &mut self.keys,
                    scratch: &mut self.scratch,
                    texts: &mut self.texts,
                    cells: &mut self.cells,
                };
                match row.read(line, offset, out) {
                    Ok(reading) => out.batch.readings.push(reading),
                    Err(error) => {
                        let detail = explain(error, &self.mapping);
                        out.unreadable(offset, self.lines.line(), detail, line);
                    }
                }
            }
            self.lines.consume(bytes + newline, newline as u64);
        }
        Ok(Step::More)
    }
}

/// What reading a row needs of the decoder, apart from the lines that the row lies in.
struct Row<'a> {
    mapping: &'a ColumnMapping,
    keys: &'a mut KeyOrder,
    scratch: &'a mut String,
    texts: &'a mut [String; 4],
    cells: &'a mut Cells,
}

impl Row<'_> {
    #[inline]
    fn read(&mut self, line: &[u8], offset: u64, out: &mut Output<'_>) -> Result<Reading, CellError> {
        if let Some(tokens) = json_scan::scan(line, self.keys)
            && let Some(result) = self.read_usual(tokens, offset, out)
        {
            return result;
        }
        self.read_any(line, offset, out)
    }

    /// The reading of these tokens; `None` for what a general parser must decide.
    #[inline]
    fn read_usual(
        &mut self,
        [time, device, tag, value]: [Token<'_>; 4],
        offset: u64,
        out: &mut Output<'_>,
    ) -> Option<Result<Reading, CellError>> {
        let fractions = [time, device, tag]
            .iter()
            .any(|token| matches!(token, Token::Number(_)));
        if fractions {
            return None;
        }
        let value = match number(trim(value.as_bytes())) {
            // To JSON an overflow is an error.
            Ok(number) if number.is_infinite() => return None,
            value => value,
        };
        let read = || {
            Ok(Reading {
                time: self.cells.time(trim(time.as_bytes()))?,
                sensor: self
                    .cells
                    .sensor(device.as_bytes(), tag.as_bytes(), out.sensors)?,
                arrival: out.arrival,
                value: value?,
                offset: crate::source::Offset(offset),
            })
        };
        Some(read())
    }

    /// Reads whatever object the row holds.
    fn read_any(&mut self, line: &[u8], offset: u64, out: &mut Output<'_>) -> Result<Reading, CellError> {
        // Once for the whole row is cheaper than for each text in it.
        let line =
            std::str::from_utf8(line).map_err(|_| CellError::Row("the row is not UTF-8 text".to_owned()))?;
        self.scratch.clear();
        let mut row = JsonRow::default();
        let mut json = serde_json::Deserializer::from_str(line);
        let seed = RowSeed {
            row: &mut row,
            mapping: self.mapping,
            keys: self.keys,
            scratch: self.scratch,
        };
        seed.deserialize(&mut json)
            .and_then(|()| json.end())
            .map_err(|error| CellError::Row(not_an_object(&error)))?;
        let [time, device, tag, value] = row.cells;
        let [time_text, device_text, tag_text, _] = self.texts;
        let time = {
            let text = time.text(self.scratch, time_text);
            self.cells
                .time(trim(text.map_err(|why| CellError::Cell(Role::Timestamp, why))?))?
        };
        let sensor = {
            let device = name(device, Role::Device, self.scratch, device_text)?;
            let tag = name(tag, Role::Tag, self.scratch, tag_text)?;
            self.cells.sensor(device, tag, out.sensors)?
        };
        let value = match value {
            Cell::Float(value) => value,
            Cell::Integer(value) => value as f64,
            Cell::Unsigned(value) => value as f64,
            Cell::Text(text) => number(trim(text.as_bytes()))?,
            Cell::Scratch(from, to) => number(trim(&self.scratch.as_bytes()[from..to]))?,
            other => return Err(CellError::Cell(Role::Value, other.complaint("a number"))),
        };
        Ok(Reading {
            sensor,
            time,
            arrival: out.arrival,
            value,
            offset: crate::source::Offset(offset),
        })
    }
}

/// A device or tag: text or a whole number.
#[inline]
fn name<'a>(
    cell: Cell<'a>,
    role: Role,
    scratch: &'a str,
    text: &'a mut String,
) -> Result<&'a [u8], CellError> {
    if let Cell::Float(_) = cell {
        return Err(CellError::Cell(
            role,
            "is neither text nor a whole number".to_owned(),
        ));
    }
    cell.text(scratch, text).map_err(|why| CellError::Cell(role, why))
}

#[cold]
fn explain(error: CellError, mapping: &ColumnMapping) -> String {
    match error {
        CellError::Row(why) => why,
        CellError::Sensor(error) => error.to_string(),
        CellError::Cell(role, why) => format!("field {}: {why}", mapping.shown_name(role)),
    }
}

/// serde_json's words, without the line it counts within our one line.
#[cold]
fn not_an_object(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let what = message.strip_suffix(&place).unwrap_or(&message);
    format!(
        "not a JSON object: {} at byte {}",
        shown(what.as_bytes()),
        error.column()
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use windrow_common::EventTime;

    use super::*;
    use crate::sensors::SensorTable;
    use crate::source::Batch;

    fn value() -> impl Strategy<Value = String> {
        prop_oneof![
            3 => "-?[0-9]{1,20}",
            3 => "-?(0|[1-9][0-9]{0,3})\\.[0-9]{1,18}",
            1 => "-?[0-9]{1,3}(\\.[0-9]{0,3})?[eE][-+]?[0-9]{1,3}",
            1 => "[0-9.eE+-]{0,6}",
            3 => "\"[a-z0-9 ä]{0,6}\"",
            1 => "\"[0-9]{1,12}\"",
            1 => "\"[a-z\\\\n\t\"]{0,4}\"",
            1 => Just("\"2026-01-01T00:00:00Z\"".to_owned()),
            1 => prop_oneof![Just("null"), Just("true"), Just("[1]"), Just("{\"a\":1}")].prop_map(str::to_owned),
        ]
    }

    fn row() -> impl Strategy<Value = String> {
        let key = prop_oneof![
            2 => Just("ts"), 1 => Just("time"), 3 => Just("device"), 3 => Just("tag"), 3 => Just("value"),
            1 => Just("reading"), 1 => Just("x"),
        ];
        let space = prop_oneof![8 => Just(""), 1 => Just(" "), 1 => Just("\t")];
        let usual =
            (value(), value(), value(), value(), value()).prop_map(|(ts, device, tag, value, more)| {
                format!(r#"{{"ts":{ts},"device":{device},"tag":{tag},"value":{value},"unit":{more}}}"#)
            });
        let any = proptest::collection::vec((key, value(), space), 0..7).prop_map(|fields| {
            let fields: Vec<_> = fields
                .iter()
                .map(|(key, value, space)| format!("{space}\"{key}\"{space}:{space}{value}{space}"))
                .collect();
            format!("{{{}}}", fields.join(","))
        });
        prop_oneof![3 => usual, 2 => any]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn usual_rows_are_read_exactly_as_the_general_parser_reads_them(row in row(), before in row()) {
            let read = |general: bool| {
                let (mut sensors, mut batch) = (SensorTable::new(), Batch::default());
                let mapping = ColumnMapping::default();
                let (mut keys, mut scratch, mut texts, mut cells) =
                    (KeyOrder::default(), String::new(), Default::default(), Cells::default());
                let mut out = Output {
                    sensors: &mut sensors,
                    batch: &mut batch,
                    arrival: EventTime::MIN,
                    limit: 1,
                };
                let mut reader = Row {
                    mapping: &mapping,
                    keys: &mut keys,
                    scratch: &mut scratch,
                    texts: &mut texts,
                    cells: &mut cells,
                };
                // Whatever came before has only taught it an order of keys.
                let _ = reader.read_any(before.as_bytes(), 0, &mut out);
                let _ = reader.read_any(row.as_bytes(), 0, &mut out);
                let result = if general {
                    reader.read_any(row.as_bytes(), 0, &mut out)
                } else {
                    reader.read(row.as_bytes(), 0, &mut out)
                };
                result
                    .map(|reading| (reading.time, sensors.id(reading.sensor).clone(), reading.value.to_bits()))
                    .map_err(|error| explain(error, &mapping))
            };
            prop_assert_eq!(read(false), read(true));
        }
    }
}
