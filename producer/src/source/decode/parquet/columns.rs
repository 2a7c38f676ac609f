//! The columns of a batch that a plan needs, with the types that reading them takes.

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{Array, ArrayRef, Float64Array, Int64Array, StringArray};
use arrow_cast::{can_cast_types, cast};
use arrow_schema::{ArrowError, DataType, TimeUnit};
use std::fmt::Write;
use windrow_common::{EventTime, LocalTime};

use crate::source::decode::cells::{CellError, Cells, number, trim};
use crate::source::decode::mapping::Role;
use crate::source::decode::plan::{Device, Plan, Values};

/// The columns of a batch, as a plan uses them.
pub(super) struct Columns {
    pub(super) time: Times,
    pub(super) time_of_day: Option<StringArray>,
    /// The device, or the text that it is a part of; absent if it is the same for all rows.
    pub(super) device: Option<StringArray>,
    pub(super) conditions: Vec<StringArray>,
    pub(super) values: Measured,
}

/// The measurements of a row.
pub(super) enum Measured {
    /// One, whose tag is in a column.
    Long(Box<Long>),
    /// One for each of these columns, in the order of the plan.
    Wide(Vec<Numbers>),
}

/// The columns of one measurement.
pub(super) struct Long {
    pub(super) tag: StringArray,
    pub(super) value: Numbers,
}

/// A column of values: numbers, or texts of which each may be one.
pub(super) enum Numbers {
    Numbers(Float64Array),
    Texts(StringArray),
}

/// A timestamp column of any supported type.
pub(super) enum Times {
    /// Since the epoch.
    Instants(Int64Array, TimeUnit),
    /// As a clock on the wall shows them: the column has no zone.
    Local(Int64Array, TimeUnit),
    Integers(Int64Array),
    Floats(Float64Array),
    Texts(StringArray),
}

impl Columns {
    /// Takes the columns of a plan, whose places are those of `all`.
    pub(super) fn new(plan: &Plan, all: &[ArrayRef]) -> Result<Self, ArrowError> {
        let texts_at = |place: usize| texts(&all[place]);
        Ok(Self {
            time: match plan.time_of_day {
                // Date and time of the day are put together as text.
                Some(_) => Times::Texts(texts_at(plan.time)?),
                None => Times::of(&all[plan.time])?,
            },
            time_of_day: plan.time_of_day.map(texts_at).transpose()?,
            device: match plan.device {
                Device::Column(place) | Device::Segment(place, _) => Some(texts_at(place)?),
                Device::Fixed(_) => None,
            },
            conditions: plan
                .conditions
                .iter()
                .map(|(place, _)| texts_at(*place))
                .collect::<Result<_, _>>()?,
            values: match &plan.values {
                Values::Long { tag, value } => Measured::Long(Box::new(Long {
                    tag: texts_at(*tag)?,
                    value: Numbers::of(&all[*value])?,
                })),
                Values::Wide(columns) => Measured::Wide(
                    columns
                        .iter()
                        .map(|(place, _)| Numbers::of(&all[*place]))
                        .collect::<Result<_, _>>()?,
                ),
            },
        })
    }
}

impl Measured {
    /// Returns how many readings a row has.
    #[cold]
    pub(super) fn count(&self, row: usize) -> u64 {
        match self {
            Self::Long(_) => 1,
            Self::Wide(columns) => {
                let full = columns.iter().filter(|column| column.value(row).is_some());
                (full.count() as u64).max(1)
            }
        }
    }
}

impl Numbers {
    fn of(column: &ArrayRef) -> Result<Self, ArrowError> {
        Ok(match is_text(column.data_type()) {
            true => Self::Texts(texts(column)?),
            false => Self::Numbers(floats(column)?),
        })
    }

    /// Returns a row's value; `None` if there is none.
    #[inline]
    pub(super) fn value(&self, row: usize) -> Option<Result<f64, CellError>> {
        match self {
            Self::Numbers(numbers) => numbers.is_valid(row).then(|| Ok(numbers.value(row))),
            Self::Texts(texts) => text_at(texts, row).map(|text| number(trim(text))),
        }
    }
}

impl Times {
    fn of(time: &ArrayRef) -> Result<Self, ArrowError> {
        Ok(match time.data_type() {
            DataType::Timestamp(unit, None) => Self::Local(integers(time)?, *unit),
            DataType::Timestamp(unit, Some(_)) => Self::Instants(integers(time)?, *unit),
            DataType::Date32 | DataType::Date64 => {
                let midnights = cast(time, &DataType::Timestamp(TimeUnit::Millisecond, None))?;
                Self::Local(integers(&midnights)?, TimeUnit::Millisecond)
            }
            kind if kind.is_integer() => Self::Integers(integers(time)?),
            kind if kind.is_floating() => Self::Floats(floats(time)?),
            _ => Self::Texts(texts(time)?),
        })
    }

    /// Returns a row's time; `None` if there is none. `text` is room for numbers to be written to.
    #[inline]
    pub(super) fn time(
        &self,
        row: usize,
        text: &mut String,
        cells: &mut Cells,
    ) -> Option<Result<EventTime, CellError>> {
        text.clear();
        // Writing to a string cannot fail.
        Some(match self {
            Self::Instants(ticks, unit) if ticks.is_valid(row) => time_of_ticks(ticks.value(row), *unit),
            Self::Local(ticks, unit) if ticks.is_valid(row) => {
                let time = time_of_ticks(ticks.value(row), *unit);
                time.and_then(|time| cells.local_time(LocalTime::of_utc(time)))
            }
            Self::Integers(numbers) if numbers.is_valid(row) => {
                let _ = write!(text, "{}", numbers.value(row));
                cells.time(text.as_bytes())
            }
            Self::Floats(numbers) if numbers.is_valid(row) => {
                let _ = write!(text, "{}", numbers.value(row));
                cells.time(text.as_bytes())
            }
            Self::Texts(texts) if texts.is_valid(row) => cells.time(trim(texts.value(row).as_bytes())),
            Self::Instants(..) | Self::Local(..) | Self::Integers(_) | Self::Floats(_) | Self::Texts(_) => {
                return None;
            }
        })
    }
}

/// Returns the text of a row; `None` if there is none.
#[inline]
pub(super) fn text_at(texts: &StringArray, row: usize) -> Option<&[u8]> {
    texts.is_valid(row).then(|| texts.value(row).as_bytes())
}

fn integers(column: &ArrayRef) -> Result<Int64Array, ArrowError> {
    Ok(cast(column, &DataType::Int64)?
        .as_primitive::<Int64Type>()
        .clone())
}

fn floats(column: &ArrayRef) -> Result<Float64Array, ArrowError> {
    Ok(cast(column, &DataType::Float64)?
        .as_primitive::<Float64Type>()
        .clone())
}

fn texts(column: &ArrayRef) -> Result<StringArray, ArrowError> {
    Ok(cast(column, &DataType::Utf8)?.as_string::<i32>().clone())
}

/// Returns what a column is used for that its type does not allow; `None` if it can be read.
pub(super) fn misfit(plan: &Plan, place: usize, kind: &DataType) -> Option<&'static str> {
    let needs_text = plan.conditions.iter().any(|(other, _)| *other == place)
        || plan
            .time_of_day
            .is_some_and(|time_of_day| [time_of_day, plan.time].contains(&place));
    if needs_text && !can_cast_types(kind, &DataType::Utf8) {
        return Some("text");
    }
    let role = match (&plan.device, &plan.values) {
        _ if needs_text => return None,
        _ if place == plan.time => Role::Timestamp,
        (Device::Column(other) | Device::Segment(other, _), _) if *other == place => Role::Device,
        (_, Values::Long { tag, .. }) if *tag == place => Role::Tag,
        _ => Role::Value,
    };
    (!fits(role, kind)).then_some(role.name())
}

fn is_text(kind: &DataType) -> bool {
    match kind {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, of) => is_text(of),
        _ => false,
    }
}

/// Returns whether a column of this type can be read for a role. Its rows are then judged one by one, also if a day of a
/// sensor holds nothing but nulls.
fn fits(role: Role, kind: &DataType) -> bool {
    match kind {
        DataType::Null => true,
        DataType::Boolean => role == Role::Value,
        kind if is_text(kind) => true,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
            matches!(role, Role::Device | Role::Tag)
        }
        DataType::Dictionary(_, of) => fits(role, of),
        DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => role == Role::Timestamp,
        kind if kind.is_integer() => true,
        kind if kind.is_floating() => matches!(role, Role::Timestamp | Role::Value),
        kind if kind.is_numeric() => role == Role::Value,
        _ => false,
    }
}

#[inline]
fn time_of_ticks(ticks: i64, unit: TimeUnit) -> Result<EventTime, CellError> {
    // Digits past the millisecond are dropped; `div_euclid` does this before 1970 too.
    let millis = match unit {
        TimeUnit::Second => ticks.saturating_mul(1_000),
        TimeUnit::Millisecond => ticks,
        TimeUnit::Microsecond => ticks.div_euclid(1_000),
        TimeUnit::Nanosecond => ticks.div_euclid(1_000_000),
    };
    let time = EventTime::from_millis(millis);
    if time.as_millis() == millis {
        Ok(time)
    } else {
        Err(CellError::Cell(
            Role::Timestamp,
            "is outside the years 1 to 9999".to_owned(),
        ))
    }
}
