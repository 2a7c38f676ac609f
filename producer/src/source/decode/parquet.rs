//! Apache Parquet, row by row.

mod columns;

use std::io;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchReader, StringArray};
use arrow_cast::display::array_value_to_string;
use arrow_schema::ArrowError;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;
use windrow_common::{EventTime, caught};

use crate::source::{Offset, Reading, SourceError};

use self::columns::{Columns, Measured, misfit, text_at};
use super::cells::{CellError, Cells, DecimalComma, trim};
use super::kind::InputFile;
use super::mapping::{ColumnMapping, Role};
use super::pattern::segment;
use super::plan::{Device, Plan, Values};
use super::row::{Refused, named};
use super::sink::{ROWS_PER_BATCH, RowSink, Step, shown};
use super::time_format::Noticed;

/// A decoder for the rows of a Parquet file.
pub(in crate::source) struct ParquetDecoder {
    reader: ParquetRecordBatchReader,
    /// Its places are those of the columns read, and after them those of `of_path`.
    plan: Plan,
    /// The names of all these.
    names: Vec<String>,
    summary: String,
    /// The values that hold for all rows, because they are in the file's path.
    of_path: Vec<Option<String>>,
    /// The batch that was read and is not used up yet.
    pending: Option<Pending>,
    next_row: u64,
    rows: u64,
    /// Room for a number or a time in two columns.
    text: String,
    cells: Cells,
}

struct Pending {
    columns: Columns,
    /// As read, for messages.
    all: Vec<ArrayRef>,
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
        // A column takes precedence over a name in the path.
        let is_column = |name: &str| fields.iter().any(|field| field.name().eq_ignore_ascii_case(name));
        let segments = input.named_segments().filter(|(name, _)| !is_column(name));
        let segments: Vec<_> = segments.collect();
        let names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
        let names: Vec<&str> = names
            .into_iter()
            .chain(segments.iter().map(|(name, _)| *name))
            .collect();
        let plan = mapping.plan_of_typed(path, &input.first_name, &names, fields.len())?;
        let used = plan.places();
        for &place in &used {
            let Some(field) = fields.get(place) else {
                continue;
            };
            if let Some(role) = misfit(&plan, place, field.data_type()) {
                let hint = match (role, &plan.values) {
                    ("value", Values::Wide(_)) => {
                        "; a column that is no measurement is left out with --ignore"
                    }
                    _ => "",
                };
                return Err(format(format!(
                    "column {} is of type {}, which is no {role}{hint}",
                    field.name(),
                    field.data_type(),
                )));
            }
        }
        let of_path = used
            .iter()
            .filter_map(|&place| segments.get(place.checked_sub(fields.len())?));
        let of_path = of_path.map(|(_, value)| value.clone()).collect();
        let in_file = used.iter().copied().filter(|&place| place < fields.len());
        let mask = ProjectionMask::roots(builder.parquet_schema(), in_file);
        let summary = format!("Parquet; {}", plan.summary(&names, mapping));
        let names = used.iter().map(|&place| names[place].to_owned()).collect();
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
        let rank = |place: usize| used.partition_point(|&other| other < place);
        Ok(Self {
            reader,
            plan: plan.renumbered(rank),
            names,
            summary,
            of_path,
            pending: None,
            next_row: from,
            rows,
            text: String::new(),
            cells: Cells::new(mapping, DecimalComma::No),
        })
    }

    /// Returns how the file is understood.
    pub(in crate::source) fn summary(&self) -> &str {
        &self.summary
    }

    /// Returns what was noticed about the times.
    pub(in crate::source) fn noticed(&self) -> Noticed {
        self.cells.noticed()
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
        Ok(Pending {
            columns: Columns::new(&self.plan, &all)?,
            rows: batch.num_rows(),
            all,
            next: 0,
        })
    }

    fn row(&mut self, pending: &Pending, out: &mut RowSink<'_>) {
        if let Err(refused) = self.readings(&pending.columns, pending.next, out) {
            self.refuse(pending, refused, out);
        }
    }

    #[cold]
    fn refuse(&self, pending: &Pending, refused: Refused, out: &mut RowSink<'_>) {
        out.batch.bad_times += usize::from(refused.is_time());
        let detail = match refused.error {
            CellError::Row(why) => why,
            CellError::Sensor(error) => error.to_string(),
            CellError::Cell(role, why) => format!("column {}: {why}", self.name_of(role)),
        };
        // The usual columns in the usual order, for any order in the file.
        let places = match self.plan.plain() {
            Some(places) => places.to_vec(),
            None => (0..pending.all.len()).collect(),
        };
        let cells = places
            .into_iter()
            .map(|place| array_value_to_string(&pending.all[place], pending.next).unwrap_or_default());
        let raw = cells.collect::<Vec<_>>().join(",");
        out.refuse_row(self.next_row, None, refused.readings, detail, raw.as_bytes());
    }

    fn name_of(&self, role: Role) -> &str {
        let place = self.plan.place_of(role);
        place.map_or(role.name(), |place| &self.names[place])
    }

    /// Appends the readings of a row. If the row has several measurements, a null is not a reading.
    #[inline]
    fn readings(&mut self, columns: &Columns, row: usize, out: &mut RowSink<'_>) -> Result<(), Refused> {
        let conditions = self.plan.conditions.iter().zip(&columns.conditions);
        for ((_, condition), texts) in conditions {
            if !condition.holds(trim(text_at(texts, row).unwrap_or_default())) {
                out.batch.left_out += 1;
                return Ok(());
            }
        }
        let refused = |error| Refused {
            error,
            readings: columns.values.count(row),
            is_partial: false,
        };
        let null = |role| CellError::Cell(role, "is null or cannot be converted".to_owned());
        let time = self.time(columns, row);
        let time = time
            .unwrap_or_else(|| Err(null(Role::Timestamp)))
            .map_err(refused)?;
        let device = match (&self.plan.device, &columns.device) {
            (Device::Fixed(name), _) => name.as_bytes(),
            (_, None) => &[],
            (device, Some(texts)) => {
                let text = text_at(texts, row).ok_or_else(|| refused(null(Role::Device)))?;
                match device {
                    Device::Segment(_, part) => {
                        segment(text.split(|&byte| byte == b'/'), *part).ok_or_else(|| {
                            let why = format!("\"{}\" has no part {part}", shown(text));
                            refused(CellError::Cell(Role::Device, why))
                        })?
                    }
                    Device::Column(_) | Device::Fixed(_) => text,
                }
            }
        };
        let (arrival, offset) = (out.arrival, Offset(self.next_row));
        let reading = |sensor, value| Reading {
            sensor,
            time,
            arrival,
            value,
            offset,
        };
        match (&columns.values, &self.plan.values) {
            (Measured::Long(long), _) => {
                let tag = text_at(&long.tag, row).ok_or_else(|| refused(null(Role::Tag)))?;
                let sensor = self.cells.sensor(device, tag, out.sensors).map_err(refused)?;
                let value = long.value.value(row);
                let value = value.unwrap_or_else(|| Err(null(Role::Value))).map_err(refused)?;
                out.batch.readings.push(reading(sensor, value));
                Ok(())
            }
            (Measured::Wide(values), Values::Wide(tags)) => {
                let (mut wrong, before): (Option<Refused>, _) = (None, out.batch.readings.len());
                for (column, (_, tag)) in values.iter().zip(tags) {
                    let Some(value) = column.value(row) else {
                        continue;
                    };
                    let read = value.map_err(|error| named(error, tag)).and_then(|value| {
                        let sensor = self.cells.sensor(device, tag.as_bytes(), out.sensors)?;
                        Ok(reading(sensor, value))
                    });
                    match (read, &mut wrong) {
                        (Ok(reading), _) => out.batch.readings.push(reading),
                        (Err(_), Some(wrong)) => wrong.readings += 1,
                        (Err(error), None) => wrong = Some(Refused::one(error)),
                    }
                }
                let is_partial = out.batch.readings.len() > before;
                wrong.map_or(Ok(()), |wrong| Err(Refused { is_partial, ..wrong }))
            }
            // The columns are those of the plan.
            (Measured::Wide(_), Values::Long { .. }) => Ok(()),
        }
    }

    #[inline]
    fn time(&mut self, columns: &Columns, row: usize) -> Option<Result<EventTime, CellError>> {
        let (columns::Times::Texts(dates), Some(times)) = (&columns.time, &columns.time_of_day) else {
            return columns.time.time(row, &mut self.text, &mut self.cells);
        };
        if dates.is_null(row) || times.is_null(row) {
            return None;
        }
        self.text.clear();
        self.text.push_str(dates.value(row).trim());
        self.text.push(' ');
        self.text.push_str(times.value(row).trim());
        Some(self.cells.time(self.text.as_bytes()))
    }
}

/// Returns the columns at the top of a Parquet file, each with the texts of its first rows that are not null.
pub(in crate::source) fn first_rows(file: &InputFile, most: usize) -> io::Result<Vec<(String, Vec<String>)>> {
    let read = || -> Result<Vec<(String, Vec<String>)>, ParquetError> {
        let opened = file
            .open()
            .map_err(|error| ParquetError::External(error.into()))?;
        let builder = ParquetRecordBatchReaderBuilder::try_new(opened)?;
        let mut reader = builder.with_batch_size(most).with_limit(most).build()?;
        let batch = reader.next().transpose()?;
        let batch = batch.unwrap_or_else(|| RecordBatch::new_empty(reader.schema()));
        let schema = batch.schema();
        let columns = batch.columns().iter().zip(schema.fields());
        let columns = columns.map(|(column, field)| {
            let texts = (0..batch.num_rows()).filter(|&row| column.is_valid(row));
            let texts = texts.filter_map(|row| array_value_to_string(column, row).ok());
            (field.name().clone(), texts.collect())
        });
        Ok(columns.collect())
    };
    // The library panics on some damage.
    let read = caught(read).map_err(io::Error::other)?;
    read.map_err(io::Error::other)
}
