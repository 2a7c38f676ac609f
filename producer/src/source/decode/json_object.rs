//! Decodes one JSON object into a reading: the common form with a scan, any other with serde.

use serde::de::DeserializeSeed;

use crate::source::Reading;

use super::cells::{CellError, Cells, DecimalComma, number, trim};
use super::json_row::{Cell, JsonRow, KeyOrder, RowSeed};
use super::json_scan::{self, Token};
use super::json_shape::ShapeReader;
use super::mapping::{ColumnMapping, Role};
use super::row::Refused;
use super::sink::{RowSink, shown};
use super::time_format::Noticed;

/// A reader of similar JSON objects that remembers what repeats from one to the next.
pub struct ObjectReader {
    mapping: ColumnMapping,
    form: Form,
}

enum Form {
    /// A flat object with one reading, whose fields are named.
    Flat(Box<FlatReader>),
    /// Any other.
    Shaped(Box<ShapeReader>),
}

struct FlatReader {
    mapping: ColumnMapping,
    keys: KeyOrder,
    /// The texts that contain escapes, with the escapes resolved.
    scratch: String,
    /// The numbers that serve as a time or a name, as text.
    texts: [String; 4],
    cells: Cells,
}

/// The names and the time for an object that has none of its own.
#[derive(Clone, Copy, Debug, Default)]
pub struct DefaultNames<'a> {
    /// The device.
    pub device: Option<&'a str>,
    /// The tag.
    pub tag: Option<&'a str>,
    /// The time, as text.
    pub time: Option<&'a str>,
}

/// An object without a reading, or some of whose measurements cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedObject {
    /// How many readings are missing.
    pub readings: u64,
    /// What is wrong, for a person.
    pub detail: String,
}

impl ObjectReader {
    /// Creates a reader of objects whose fields `mapping` names.
    pub fn new(mapping: &ColumnMapping) -> Self {
        let form = match mapping.is_flat() {
            true => Form::Flat(Box::new(FlatReader::new(mapping))),
            false => Form::Shaped(Box::new(ShapeReader::new(mapping))),
        };
        Self {
            mapping: mapping.clone(),
            form,
        }
    }

    /// Appends the readings in `object`, which is at `offset`, to `out`. The error says which are missing, and why.
    #[inline]
    pub fn read(
        &mut self,
        object: &[u8],
        offset: u64,
        names: DefaultNames<'_>,
        out: &mut RowSink<'_>,
    ) -> Result<(), RefusedObject> {
        // Kept apart from all that is rare, and from its large errors: together they took an eighth more instructions.
        if let Form::Flat(reader) = &mut self.form
            && let Some(reading) = reader.read_usual(object, offset, out)
        {
            out.batch.readings.push(reading);
            return Ok(());
        }
        self.read_any(object, offset, names, out)
    }

    #[inline(never)]
    fn read_any(
        &mut self,
        object: &[u8],
        offset: u64,
        names: DefaultNames<'_>,
        out: &mut RowSink<'_>,
    ) -> Result<(), RefusedObject> {
        let refused = match &mut self.form {
            Form::Flat(reader) => match reader.read_any(object, offset, names, out) {
                Ok(reading) => {
                    out.batch.readings.push(reading);
                    return Ok(());
                }
                Err(error) => Refused::one(error),
            },
            Form::Shaped(reader) => {
                let Ok(text) = std::str::from_utf8(object) else {
                    return Err(self.explain(Refused::one(CellError::Row(
                        "the row is not UTF-8 text".to_owned(),
                    ))));
                };
                match reader.read(text, offset, names, out) {
                    Ok(()) => return Ok(()),
                    Err(refused) => refused,
                }
            }
        };
        out.batch.bad_times += usize::from(refused.is_time());
        Err(self.explain(refused))
    }

    /// Returns whether `object` can be read with these names, and leaves `out` as it was.
    #[cold]
    pub fn would_read(&mut self, object: &[u8], names: DefaultNames<'_>, out: &mut RowSink<'_>) -> bool {
        let batch = &out.batch;
        let (readings, left_out, bad_times) = (batch.readings.len(), batch.left_out, batch.bad_times);
        let would = self.read(object, 0, names, out).is_ok();
        out.batch.readings.truncate(readings);
        (out.batch.left_out, out.batch.bad_times) = (left_out, bad_times);
        would
    }

    #[cold]
    fn explain(&self, refused: Refused) -> RefusedObject {
        RefusedObject {
            readings: refused.readings,
            detail: explain(refused.error, &self.mapping),
        }
    }

    /// Returns whether `object` has a field for a measurement, whatever its value. Always true for flat objects, which
    /// name their tags.
    #[cold]
    pub(in crate::source) fn names_measurement(&mut self, object: &[u8], out: &mut RowSink<'_>) -> bool {
        self.would_read(object, DefaultNames::default(), out);
        match &self.form {
            Form::Flat(_) => true,
            Form::Shaped(reader) => reader.names_measurement(),
        }
    }

    /// Returns whether an object is flat, and holds one reading.
    pub(in crate::source) fn is_flat(&self) -> bool {
        matches!(self.form, Form::Flat(_))
    }

    /// Returns what was noticed about the times.
    pub(in crate::source) fn noticed(&self) -> Noticed {
        match &self.form {
            Form::Flat(reader) => reader.cells.noticed(),
            Form::Shaped(reader) => reader.cells().noticed(),
        }
    }
}

impl ColumnMapping {
    /// Returns whether a JSON object holds one reading, all of it in fields of its own.
    fn is_flat(&self) -> bool {
        let mut names = Role::ALL.into_iter().filter_map(|role| self.given(role));
        self.tags.is_empty()
            && self.device_from.is_none()
            && self.conditions.is_empty()
            && !names.any(|name| name.contains(['.', '[', '*', '+']))
    }
}

impl FlatReader {
    fn new(mapping: &ColumnMapping) -> Self {
        Self {
            mapping: mapping.clone(),
            keys: KeyOrder::default(),
            scratch: String::new(),
            texts: Default::default(),
            cells: Cells::new(mapping, DecimalComma::No),
        }
    }

    /// Returns the reading in an object of the common form; `None` if the object has another form or is not valid.
    #[inline]
    fn read_usual(&mut self, object: &[u8], offset: u64, out: &mut RowSink<'_>) -> Option<Reading> {
        let [time, device, tag, value] = json_scan::scan(object, &self.keys)?;
        let fractions = [time, device, tag]
            .iter()
            .any(|token| matches!(token, Token::Number(_)));
        if fractions {
            return None;
        }
        let value = number(trim(value.as_bytes())).ok()?;
        // In JSON, an overflow is an error.
        if value.is_infinite() {
            return None;
        }
        Some(Reading {
            time: self.cells.time(trim(time.as_bytes())).ok()?,
            sensor: self
                .cells
                .sensor(device.as_bytes(), tag.as_bytes(), out.sensors)
                .ok()?,
            arrival: out.arrival,
            value,
            offset: crate::source::Offset(offset),
        })
    }

    /// Returns the reading in an object of any form.
    fn read_any(
        &mut self,
        line: &[u8],
        offset: u64,
        names: DefaultNames<'_>,
        out: &mut RowSink<'_>,
    ) -> Result<Reading, CellError> {
        // One check of the whole row is cheaper than one check per text.
        let line =
            std::str::from_utf8(line).map_err(|_| CellError::Row("the row is not UTF-8 text".to_owned()))?;
        self.scratch.clear();
        let mut row = JsonRow::default();
        let mut json = serde_json::Deserializer::from_str(line);
        let seed = RowSeed {
            row: &mut row,
            mapping: &self.mapping,
            keys: &mut self.keys,
            scratch: &mut self.scratch,
        };
        seed.deserialize(&mut json)
            .and_then(|()| json.end())
            .map_err(|error| CellError::Row(not_an_object(&error)))?;
        if let Some((role, ranks)) = row.ambiguous {
            return Err(ambiguous(role, ranks));
        }
        let [time, device, tag, value] = row.cells;
        let [time_text, device_text, tag_text, _] = &mut self.texts;
        let time = {
            let text = or_known(time, names.time).text(&self.scratch, time_text);
            self.cells
                .time(trim(text.map_err(|why| CellError::Cell(Role::Timestamp, why))?))?
        };
        let sensor = {
            let device = or_known(device, names.device);
            let tag = or_known(tag, names.tag);
            let device = name(device, Role::Device, &self.scratch, device_text)?;
            let tag = name(tag, Role::Tag, &self.scratch, tag_text)?;
            self.cells.sensor(device, tag, out.sensors)?
        };
        let value = match value {
            Cell::Float(value) => value,
            Cell::Integer(value) => value as f64,
            Cell::Unsigned(value) => value as f64,
            Cell::Bool(value) => f64::from(u8::from(value)),
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

#[cold]
fn ambiguous(role: Role, ranks: [u8; 2]) -> CellError {
    let [one, other] = ranks.map(|rank| role.usual_names()[usize::from(rank)]);
    CellError::Row(format!(
        "both `{one}` and `{other}` could be the {}; say which with {}",
        role.name(),
        role.option()
    ))
}

/// Returns the cell, or the `known` name if the cell is missing.
fn or_known<'a>(cell: Cell<'a>, known: Option<&'a str>) -> Cell<'a> {
    match (cell, known) {
        (Cell::Missing, Some(known)) => Cell::Text(known),
        (cell, _) => cell,
    }
}

/// Returns a device or tag, which is text or a whole number.
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

/// Returns serde_json's message without its line number, which only counts within this one object.
#[cold]
pub(super) fn not_an_object(error: &serde_json::Error) -> String {
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
                let mut objects = FlatReader::new(&mapping);
                let mut out = RowSink {
                    sensors: &mut sensors,
                    batch: &mut batch,
                    arrival: EventTime::MIN,
                    limit: 1,
                };
                // The row before has only taught the reader an order of keys.
                let _ = objects.read_any(before.as_bytes(), 0, DefaultNames::default(), &mut out);
                let _ = objects.read_any(row.as_bytes(), 0, DefaultNames::default(), &mut out);
                let result = if general {
                    objects
                        .read_any(row.as_bytes(), 0, DefaultNames::default(), &mut out)
                        .map_err(|error| explain(error, &mapping))
                } else {
                    let usual = objects.read_usual(row.as_bytes(), 0, &mut out);
                    let read = || objects.read_any(row.as_bytes(), 0, DefaultNames::default(), &mut out);
                    usual.map_or_else(read, Ok).map_err(|error| explain(error, &mapping))
                };
                result.map(|reading| (reading.time, sensors.id(reading.sensor).clone(), reading.value.to_bits()))
            };
            prop_assert_eq!(read(false), read(true));
        }
    }
}
