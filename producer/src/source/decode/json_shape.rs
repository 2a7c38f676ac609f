//! The readings in a JSON document of any shape, by the paths of a mapping.

use crate::source::{Offset, Reading};

use super::cells::{CellError, Cells, DecimalComma, number, trim};
use super::json_object::DefaultNames;
use super::json_paths::{Paths, Slot};
use super::json_walk::{Leaf, LeafValue, Walk};
use super::mapping::{ColumnMapping, Role};
use super::pattern::{DeviceFrom, matches, segment};
use super::plan::tags_text;
use super::row::Refused;
use super::sink::{RowSink, shown};

/// A reader of documents of similar shape.
pub(super) struct ShapeReader {
    mapping: ColumnMapping,
    paths: Paths,
    walk: Walk,
    /// For each scope, the fields in it that stand for all measurements in the scope.
    shared: Vec<Shared>,
    /// For each scope and condition, whether it holds in the scope; `None` if the scope has no such field.
    held: Vec<Option<bool>>,
    cells: Cells,
    text: [String; 4],
    /// For each pattern of tags, the tag unless a key gives it.
    tags: Vec<Option<String>>,
}

/// The fields of a scope, as indices of leaves.
#[derive(Clone, Copy, Debug, Default)]
struct Shared {
    time: Option<usize>,
    time_of_day: Option<usize>,
    device: Option<usize>,
    tag: Option<usize>,
    value: Option<usize>,
}

impl ShapeReader {
    pub(super) fn new(mapping: &ColumnMapping) -> Self {
        let last = |pattern: &str| {
            let mut parts = pattern.rsplit(['.', ']', '[']);
            parts.find(|part| !part.is_empty()).unwrap_or_default().to_owned()
        };
        let is_only = |name: &str| {
            mapping
                .tags
                .iter()
                .filter(|tag| last(&tag.pattern) == name)
                .count()
                == 1
        };
        let tags = mapping
            .tags
            .iter()
            .map(|tag| match (&tag.name, tag.pattern.contains('*')) {
                (Some(name), _) => Some(name.clone()),
                // Where two paths end alike, the whole path tells them apart.
                (None, false) if !is_only(&last(&tag.pattern)) => Some(tag.pattern.clone()),
                (None, false) => Some(last(&tag.pattern)),
                (None, true) => None,
            });
        Self {
            mapping: mapping.clone(),
            paths: Paths::of(mapping),
            walk: Walk::default(),
            shared: Vec::new(),
            held: Vec::new(),
            cells: Cells::new(mapping, DecimalComma::No),
            text: Default::default(),
            tags: tags.collect(),
        }
    }

    pub(super) fn cells(&self) -> &Cells {
        &self.cells
    }

    /// Appends the readings of a document to `out`. Returns what is wrong, if there is none or some could not be read.
    pub(super) fn read(
        &mut self,
        document: &str,
        offset: u64,
        names: DefaultNames<'_>,
        out: &mut RowSink<'_>,
    ) -> Result<(), Refused> {
        let walked = self.walk.through(document, &self.paths);
        walked.map_err(|error| Refused::one(CellError::Row(super::json_object::not_an_object(&error))))?;
        self.hold();
        if self.is_whole_left_out() {
            out.batch.left_out += 1;
            return Ok(());
        }
        self.share().map_err(|error| Refused {
            readings: self.measurements(),
            ..Refused::one(error)
        })?;
        let mut wrong: Option<Refused> = None;
        let (mut readings, mut left_out) = (0, 0);
        for at in 0..self.walk.leaves.len() {
            if !self.is_measurement(at) {
                continue;
            }
            if self.is_left_out(self.walk.leaves[at].scope) {
                left_out += 1;
                continue;
            }
            readings += 1;
            match (self.reading(at, offset, names, out), &mut wrong) {
                (Ok(reading), _) => out.batch.readings.push(reading),
                (Err(_), Some(wrong)) => wrong.readings += 1,
                (Err(error), None) => wrong = Some(Refused::one(error)),
            }
        }
        out.batch.left_out += left_out;
        match wrong {
            Some(wrong) => Err(wrong),
            None if readings == 0 && left_out == 0 && !self.is_empty() => {
                Err(Refused::one(self.no_measurement()))
            }
            None => Ok(()),
        }
    }

    /// Returns whether the document that was read last names a measurement, whatever its value.
    pub(super) fn names_measurement(&self) -> bool {
        let mut leaves = self.walk.leaves.iter();
        leaves.any(|leaf| matches!(leaf.slot, Slot::Measurement(_)))
    }

    /// Returns how many readings a document would have, at least one.
    fn measurements(&self) -> u64 {
        let measurements = (0..self.walk.leaves.len()).filter(|&at| self.is_measurement(at));
        (measurements.count() as u64).max(1)
    }

    /// Returns whether there are measurements, all of which are null.
    fn is_empty(&self) -> bool {
        let mut leaves = self.walk.leaves.iter();
        leaves.any(|leaf| matches!((leaf.slot, leaf.value), (Slot::Measurement(_), LeafValue::Null)))
    }

    #[cold]
    fn no_measurement(&self) -> CellError {
        match self.mapping.tags.is_empty() {
            true => CellError::Cell(Role::Value, "is missing".to_owned()),
            false => CellError::Row(format!(
                "no field is a measurement by --tags {}",
                tags_text(&self.mapping.tags)
            )),
        }
    }

    /// Notes which conditions hold in which scopes.
    fn hold(&mut self) {
        let conditions = self.mapping.conditions.len();
        self.held.clear();
        self.held.resize(self.walk.scopes() * conditions, None);
        for leaf in &self.walk.leaves {
            if let Slot::Condition(index) = leaf.slot {
                let text = text_of(leaf.value, &self.walk.text, &mut self.text[0]);
                let holds = self.mapping.conditions[index].holds(text.unwrap_or_default());
                self.held[leaf.scope * conditions + index] = Some(holds);
            }
        }
    }

    /// Returns whether a condition on the document as a whole does not hold.
    fn is_whole_left_out(&self) -> bool {
        let conditions = self.mapping.conditions.iter().enumerate();
        conditions.into_iter().any(|(index, condition)| {
            !condition.column.contains(['[', '*']) && !self.held[index].unwrap_or(condition.differs)
        })
    }

    /// Notes which fields stand for all measurements of a scope.
    fn share(&mut self) -> Result<(), CellError> {
        self.shared.clear();
        self.shared.resize(self.walk.scopes(), Shared::default());
        for (at, leaf) in self.walk.leaves.iter().enumerate() {
            let shared = &mut self.shared[leaf.scope];
            let (place, role) = match leaf.slot {
                Slot::Time => (&mut shared.time, Role::Timestamp),
                Slot::TimeOfDay => (&mut shared.time_of_day, Role::Timestamp),
                Slot::Device => (&mut shared.device, Role::Device),
                Slot::Tag => (&mut shared.tag, Role::Tag),
                Slot::Value => (&mut shared.value, Role::Value),
                Slot::Condition(_) | Slot::Measurement(_) => continue,
            };
            if place.replace(at).is_some() {
                return Err(CellError::Row(format!(
                    "two fields could be the {}; say which with {}",
                    role.name(),
                    role.option()
                )));
            }
        }
        Ok(())
    }

    /// Returns whether a leaf is a measurement that counts: not null, and not also something else.
    fn is_measurement(&self, at: usize) -> bool {
        let leaf = &self.walk.leaves[at];
        let Slot::Measurement(index) = leaf.slot else {
            return leaf.slot == Slot::Value;
        };
        if matches!(leaf.value, LeafValue::Null) {
            return false;
        }
        if self.tags[index].is_some() {
            return true;
        }
        let tag = self.walk.innermost_key(leaf.scope);
        let is_before = |other: &Leaf| match other.slot {
            Slot::Measurement(other) => other < index || self.tags[other].is_some(),
            _ => true,
        };
        // The leaves of one field follow one another.
        let same = |other: &&Leaf| other.field == leaf.field;
        let before = self.walk.leaves[..at].iter().rev().take_while(same);
        let after = self.walk.leaves[at + 1..].iter().take_while(same);
        !before.chain(after).any(is_before)
            && !matches!(leaf.value, LeafValue::Nested)
            && !self.mapping.ignore.iter().any(|pattern| matches(pattern, tag))
    }

    /// Returns whether a condition does not hold for what is in a scope. A field that is missing equals nothing.
    fn is_left_out(&self, scope: usize) -> bool {
        let conditions = self.mapping.conditions.iter().enumerate();
        conditions.into_iter().any(|(index, condition)| {
            let held = |scope: usize| self.held[scope * self.mapping.conditions.len() + index];
            !self
                .walk
                .around(scope)
                .find_map(held)
                .unwrap_or(condition.differs)
        })
    }

    fn reading(
        &mut self,
        at: usize,
        offset: u64,
        names: DefaultNames<'_>,
        out: &mut RowSink<'_>,
    ) -> Result<Reading, CellError> {
        let leaf = self.walk.leaves[at];
        let find = |field: fn(&Shared) -> Option<usize>| {
            let mut around = self.walk.around(leaf.scope);
            around
                .find_map(|scope| field(&self.shared[scope]))
                .map(|at| self.walk.leaves[at].value)
        };
        let (time, time_of_day) = (find(|shared| shared.time), find(|shared| shared.time_of_day));
        let (device, tag) = (find(|shared| shared.device), find(|shared| shared.tag));
        let [time_text, device_text, tag_text, joined] = &mut self.text;
        let text = &self.walk.text;
        let in_role = |role: Role| move |why: String| CellError::Cell(role, why);
        let time = {
            let wanted = self
                .mapping
                .timestamp
                .as_deref()
                .is_some_and(|given| given.contains('+'));
            let date = match (time, names.time) {
                (None, Some(known)) => known.as_bytes(),
                (time, _) => text_or_missing(time, text, time_text).map_err(in_role(Role::Timestamp))?,
            };
            match (wanted, time_of_day) {
                (false, _) => self.cells.time(trim(date))?,
                (true, clock) => {
                    let clock =
                        text_or_missing(clock, text, device_text).map_err(in_role(Role::Timestamp))?;
                    joined.clear();
                    for part in [trim(date), b" ", trim(clock)] {
                        joined.push_str(std::str::from_utf8(part).unwrap_or_default());
                    }
                    self.cells.time(joined.as_bytes())?
                }
            }
        };
        let device = match (&self.mapping.device_from, device, names.device) {
            (None | Some(DeviceFrom::Segment(..)), Some(value), _) => {
                text_or_missing(Some(value), text, device_text).map_err(in_role(Role::Device))?
            }
            (Some(DeviceFrom::Const(name)), ..) => name.as_bytes(),
            (Some(DeviceFrom::Segment(..)), None, _) | (_, _, None) => {
                return Err(CellError::Cell(Role::Device, "is missing".to_owned()));
            }
            (_, _, Some(known)) => known.as_bytes(),
        };
        let device = match &self.mapping.device_from {
            Some(DeviceFrom::Segment(_, part)) => segment(device.split(|&byte| byte == b'/'), *part)
                .ok_or_else(|| {
                    CellError::Cell(Role::Device, format!("\"{}\" has no part {part}", shown(device)))
                })?,
            _ => device,
        };
        let tag = match (leaf.slot, tag, names.tag) {
            (Slot::Measurement(index), ..) => match &self.tags[index] {
                Some(tag) => tag.as_bytes(),
                None => self.walk.key(leaf.scope, tag_text).as_bytes(),
            },
            (_, Some(value), _) => {
                text_or_missing(Some(value), text, tag_text).map_err(in_role(Role::Tag))?
            }
            (_, None, Some(known)) => known.as_bytes(),
            (_, None, None) => return Err(CellError::Cell(Role::Tag, "is missing".to_owned())),
        };
        let value = match leaf.value {
            LeafValue::Float(value) => value,
            LeafValue::Integer(value) => value as f64,
            LeafValue::Unsigned(value) => value as f64,
            LeafValue::Bool(value) => f64::from(u8::from(value)),
            LeafValue::Text(from, to) => {
                number(trim(&text.as_bytes()[from..to])).map_err(|error| in_field(error, leaf.slot, tag))?
            }
            LeafValue::Null | LeafValue::Nested => {
                let is = if matches!(leaf.value, LeafValue::Null) {
                    "null"
                } else {
                    "an array or object"
                };
                let error = CellError::Cell(Role::Value, format!("is {is}, not a number"));
                return Err(in_field(error, leaf.slot, tag));
            }
        };
        Ok(Reading {
            sensor: self.cells.sensor(device, tag, out.sensors)?,
            time,
            arrival: out.arrival,
            value,
            offset: Offset(offset),
        })
    }
}

/// Says which field a wrong measurement is.
#[cold]
fn in_field(error: CellError, slot: Slot, tag: &[u8]) -> CellError {
    match (error, slot) {
        (CellError::Cell(_, why), Slot::Measurement(_)) => CellError::Row(format!(
            "field {}: {why}; a field that is no measurement is left out with --ignore",
            shown(tag)
        )),
        (error, _) => error,
    }
}

fn text_or_missing<'a>(
    value: Option<LeafValue>,
    text: &'a str,
    scratch: &'a mut String,
) -> Result<&'a [u8], String> {
    match value {
        None => Err("is missing".to_owned()),
        Some(value) => text_of(value, text, scratch).ok_or_else(|| "is neither text nor a number".to_owned()),
    }
}

/// Returns a value as text; a number is written into `scratch`.
fn text_of<'a>(value: LeafValue, text: &'a str, scratch: &'a mut String) -> Option<&'a [u8]> {
    use std::fmt::Write;
    scratch.clear();
    // Writing to a string cannot fail.
    let _ = match value {
        LeafValue::Text(from, to) => return Some(&text.as_bytes()[from..to]),
        LeafValue::Bool(value) => write!(scratch, "{value}"),
        LeafValue::Integer(number) => write!(scratch, "{number}"),
        LeafValue::Unsigned(number) => write!(scratch, "{number}"),
        LeafValue::Float(number) => write!(scratch, "{number}"),
        LeafValue::Null | LeafValue::Nested => return None,
    };
    Some(scratch.as_bytes())
}
