//! Apache Parquet, row by row.

use std::fmt::Write;
use std::io;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{Array, ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow_cast::cast;
use arrow_cast::display::array_value_to_string;
use arrow_schema::{ArrowError, DataType, TimeUnit};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;
use windrow_common::{EventTime, caught};

use crate::source::{Offset, Reading, SourceError};

use super::cells::{CellError, Cells, DecimalComma, number, trim};
use super::kind::InputFile;
use super::mapping::{ColumnMapping, Role};
use super::sink::{ROWS_PER_BATCH, RowSink, Step};

/// A decoder for the rows of a Parquet file.
pub(in crate::source) struct ParquetDecoder {
    reader: ParquetRecordBatchReader,
    /// For each [`Role`], the index of its column among the columns read, and after them those of `of_path`.
    places: [usize; 4],
    names: [String; 4],
    /// The values that hold for all rows, because they are in the file's path.
    of_path: Vec<Option<String>>,
    /// The batch that was read and is not used up yet.
    pending: Option<Pending>,
    next_row: u64,
    rows: u64,
    text: String,
    cells: Cells,
}

struct Pending {
    columns: Columns,
    /// As read, by role, for messages.
    used: [ArrayRef; 4],
    rows: usize,
    next: usize,
}

impl ParquetDecoder {
    /// Opens `input` at row `from`; row groups before it are not read.
    pub(in crate::source) fn open(
        input: &InputFile,
        from: u64,
        mapping: &ColumnMapping,
    ) -> Result<Self, SourceError> {
        // The library panics on some damage, such as a negative offset; see `decode` too.
        caught(|| Self::open_it(input, from, mapping)).unwrap_or_else(|panicked| {
            Err(SourceError::Format {
                path: input.path.clone(),
                why: format!("it is not a readable Parquet file: {panicked}"),
            })
        })
    }

    fn open_it(input: &InputFile, from: u64, mapping: &ColumnMapping) -> Result<Self, SourceError> {
        let path = &input.path;
        let format = |why: String| SourceError::Format {
            path: path.clone(),
            why,
        };
        let not_parquet = |error: ParquetError| format(format!("it is not a readable Parquet file: {error}"));
        let file = input.open().map_err(|source| SourceError::Read {
            path: path.clone(),
            offset: 0,
            source,
        })?;
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(not_parquet)?;
        let fields = builder.schema().fields();
        // A column comes before a name in the path, so it is the one that is taken.
        let is_column = |name: &str| fields.iter().any(|field| field.name().eq_ignore_ascii_case(name));
        let segments = input.named_segments().filter(|(name, _)| !is_column(name));
        let segments: Vec<_> = segments.collect();
        let names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
        let names: Vec<&str> = names
            .into_iter()
            .chain(segments.iter().map(|(name, _)| *name))
            .collect();
        let places = mapping.resolve(path, &names)?;
        for role in Role::ALL {
            let Some(field) = fields.get(places[role as usize]) else {
                continue;
            };
            if !fits(role, field.data_type()) {
                return Err(format(format!(
                    "column {} is of type {}, which is no {}",
                    field.name(),
                    field.data_type(),
                    role.name()
                )));
            }
        }
        let mut of_path: Vec<usize> = places
            .into_iter()
            .filter(|&place| place >= fields.len())
            .collect();
        of_path.sort_unstable();
        let of_path = of_path
            .iter()
            .map(|place| segments[place - fields.len()].1.clone());
        let of_path = of_path.collect();
        let in_file = places.into_iter().filter(|&place| place < fields.len());
        let mask = ProjectionMask::roots(builder.parquet_schema(), in_file);
        let names = places.map(|place| names[place].to_owned());
        let groups = builder.metadata().row_groups();
        let rows = groups.iter().map(|group| group.num_rows().max(0) as u64);
        let rows = rows.fold(0, u64::saturating_add);
        if from > rows {
            return Err(SourceError::Shrunk {
                path: path.clone(),
                offset: from,
                end: rows,
            });
        }
        let mut skip = from;
        let mut first_group = 0;
        while let Some(group) = groups.get(first_group)
            && skip >= group.num_rows().max(0) as u64
        {
            skip -= group.num_rows().max(0) as u64;
            first_group += 1;
        }
        let wanted = (first_group..groups.len()).collect();
        let reader = builder
            .with_projection(mask)
            .with_row_groups(wanted)
            .with_offset(skip as usize)
            .with_batch_size(ROWS_PER_BATCH)
            .build()
            .map_err(not_parquet)?;
        // The columns read keep the order they have in the file.
        let rank = |place: usize| places.iter().filter(|&&other| other < place).count();
        Ok(Self {
            reader,
            places: places.map(rank),
            names,
            of_path,
            pending: None,
            next_row: from,
            rows,
            text: String::new(),
            cells: Cells::new(mapping, DecimalComma::No),
        })
    }

    /// Returns the number of the next row.
    pub(in crate::source) fn next_row(&self) -> u64 {
        self.next_row
    }

    /// Returns the number of rows.
    pub(in crate::source) fn rows(&self) -> u64 {
        self.rows
    }

    /// Reads rows until `out` is full or the file ends.
    pub(in crate::source) fn decode(&mut self, out: &mut RowSink<'_>) -> io::Result<Step> {
        while out.has_room() {
            let mut pending = match self.pending.take() {
                Some(pending) => pending,
                None => match caught(|| self.next_batch()).map_err(io::Error::other)? {
                    None => return Ok(Step::End),
                    Some(pending) => pending.map_err(io::Error::other)?,
                },
            };
            while out.has_room() && pending.next < pending.rows {
                self.row(&pending, out);
                pending.next += 1;
                self.next_row += 1;
            }
            if pending.next < pending.rows {
                self.pending = Some(pending);
            }
        }
        Ok(Step::More)
    }

    fn next_batch(&mut self) -> Option<Result<Pending, ArrowError>> {
        let batch = self.reader.next()?;
        Some(batch.and_then(|batch| self.pending(&batch)))
    }

    fn pending(&self, batch: &RecordBatch) -> Result<Pending, ArrowError> {
        let mut all = batch.columns().to_vec();
        for value in &self.of_path {
            let column: StringArray = std::iter::repeat_n(value.as_deref(), batch.num_rows()).collect();
            all.push(Arc::new(column));
        }
        let used = self.places.map(|place| Arc::clone(&all[place]));
        Ok(Pending {
            columns: Columns::new(&used)?,
            rows: batch.num_rows(),
            used,
            next: 0,
        })
    }

    fn row(&mut self, pending: &Pending, out: &mut RowSink<'_>) {
        let (columns, row) = (&pending.columns, pending.next);
        match self.reading(columns, row, out) {
            Ok(reading) => out.batch.readings.push(reading),
            Err(error) => {
                let detail = match error {
                    CellError::Row(why) => why,
                    CellError::Sensor(error) => error.to_string(),
                    CellError::Cell(role, why) => format!("column {}: {why}", self.names[role as usize]),
                };
                let mut raw = String::new();
                for role in Role::ALL {
                    let column = &pending.used[role as usize];
                    let text = array_value_to_string(column, row).unwrap_or_default();
                    let comma = if raw.is_empty() { "" } else { "," };
                    let _ = write!(raw, "{comma}{text}");
                }
                out.unreadable(self.next_row, None, detail, raw.as_bytes());
            }
        }
    }

    #[inline]
    fn reading(
        &mut self,
        columns: &Columns,
        row: usize,
        out: &mut RowSink<'_>,
    ) -> Result<Reading, CellError> {
        let null = |role| CellError::Cell(role, "is null or cannot be converted".to_owned());
        self.text.clear();
        // Writing to a string cannot fail.
        let time = match &columns.time {
            Times::Ticks(ticks, _) if ticks.is_null(row) => return Err(null(Role::Timestamp)),
            Times::Ticks(ticks, unit) => time_of_ticks(ticks.value(row), *unit)?,
            Times::Integers(numbers) if numbers.is_valid(row) => {
                let _ = write!(self.text, "{}", numbers.value(row));
                self.cells.time(self.text.as_bytes())?
            }
            Times::Floats(numbers) if numbers.is_valid(row) => {
                let _ = write!(self.text, "{}", numbers.value(row));
                self.cells.time(self.text.as_bytes())?
            }
            Times::Texts(texts) if texts.is_valid(row) => {
                self.cells.time(texts.value(row).trim_ascii().as_bytes())?
            }
            Times::Integers(_) | Times::Floats(_) | Times::Texts(_) => return Err(null(Role::Timestamp)),
        };
        if columns.device.is_null(row) {
            return Err(null(Role::Device));
        }
        if columns.tag.is_null(row) {
            return Err(null(Role::Tag));
        }
        let sensor = self.cells.sensor(
            columns.device.value(row).as_bytes(),
            columns.tag.value(row).as_bytes(),
            out.sensors,
        )?;
        let value = match &columns.value {
            Values::Numbers(numbers) if numbers.is_valid(row) => numbers.value(row),
            Values::Texts(texts) if texts.is_valid(row) => number(trim(texts.value(row).as_bytes()))?,
            Values::Numbers(_) | Values::Texts(_) => return Err(null(Role::Value)),
        };
        Ok(Reading {
            sensor,
            time,
            arrival: out.arrival,
            value,
            offset: Offset(self.next_row),
        })
    }
}

/// The columns of a batch, by role.
struct Columns {
    time: Times,
    device: StringArray,
    tag: StringArray,
    value: Values,
}

/// A column of values: numbers, or texts of which each may be one.
enum Values {
    Numbers(Float64Array),
    Texts(StringArray),
}

/// A timestamp column of any supported type.
enum Times {
    Ticks(Int64Array, TimeUnit),
    Integers(Int64Array),
    Floats(Float64Array),
    Texts(StringArray),
}

impl Columns {
    fn new([time, device, tag, value]: &[ArrayRef; 4]) -> Result<Self, ArrowError> {
        let integers = |column: &ArrayRef| -> Result<Int64Array, ArrowError> {
            Ok(cast(column, &DataType::Int64)?
                .as_primitive::<Int64Type>()
                .clone())
        };
        let floats = |column: &ArrayRef| -> Result<Float64Array, ArrowError> {
            Ok(cast(column, &DataType::Float64)?
                .as_primitive::<Float64Type>()
                .clone())
        };
        let texts = |column: &ArrayRef| -> Result<StringArray, ArrowError> {
            Ok(cast(column, &DataType::Utf8)?.as_string::<i32>().clone())
        };
        Ok(Self {
            time: match time.data_type() {
                DataType::Timestamp(unit, _) => Times::Ticks(integers(time)?, *unit),
                DataType::Date32 | DataType::Date64 => {
                    let midnights = cast(time, &DataType::Timestamp(TimeUnit::Millisecond, None))?;
                    Times::Ticks(integers(&midnights)?, TimeUnit::Millisecond)
                }
                kind if kind.is_integer() => Times::Integers(integers(time)?),
                kind if kind.is_floating() => Times::Floats(floats(time)?),
                _ => Times::Texts(texts(time)?),
            },
            device: texts(device)?,
            tag: texts(tag)?,
            value: match is_text(value.data_type()) {
                true => Values::Texts(texts(value)?),
                false => Values::Numbers(floats(value)?),
            },
        })
    }
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
