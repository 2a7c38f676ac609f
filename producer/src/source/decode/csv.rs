//! Delimited text with a header: CSV, TSV and their kin.

use std::io;

use memchr::{memchr, memchr2};

use crate::source::SourceError;

use super::cells::{CellError, Cells, trim};
use super::dialect::{Dialect, HEAD_BYTES, Hint};
use super::kind::InputFile;
use super::lines::{Found, LastLine, Lines, skip_too_long};
use super::mapping::{ColumnMapping, Role};
use super::plan::Plan;
use super::quoted::{Quoted, QuotedRow};
use super::row::{Refused, RowReader};
use super::sink::{RowSink, Step, shown};
use super::time_format::Noticed;

/// A decoder for the rows of delimited text.
pub(in crate::source) struct CsvDecoder {
    lines: Lines,
    last_line: LastLine,
    delimiter: u8,
    columns: Columns,
    cells: Cells,
    quoted: QuotedRow,
    /// Whether lines that begin with `#` are comments.
    comments: bool,
    /// The header as it is written. It occurs again in files that were concatenated, and is skipped there.
    header: Vec<u8>,
    summary: String,
    is_guessed: bool,
}

/// The columns that the header names.
struct Columns {
    names: Vec<String>,
    rows: Rows,
}

/// How a row is read.
enum Rows {
    /// Four cells have a role. For each column, the index of its role in [`Slots`]; the last index is for the others.
    Plain(Vec<u8>),
    /// As a plan says. Where the cells of the current row are is kept from row to row.
    Planned(RowReader, Vec<(usize, usize)>),
}

/// The cells of a row by [`Role`]; the last slot takes the cells of columns without a role.
type Slots<'a> = [&'a [u8]; 5];

impl CsvDecoder {
    /// Looks at the first lines, and moves `lines` to the first row; returns `None` if they are not written yet.
    pub(in crate::source) fn open(
        mut lines: Lines,
        file: &InputFile,
        usual_delimiter: u8,
        last_line: LastLine,
        mapping: &ColumnMapping,
    ) -> Result<Option<Self>, SourceError> {
        let hint = Hint {
            path: &file.path,
            name: &file.first_name,
            usual_delimiter,
            mapping,
        };
        let Some(dialect) = Self::look(&mut lines, &hint, last_line)? else {
            return Ok(None);
        };
        let (bytes, rows_at_line) = dialect.rows_at;
        lines.consume(bytes, rows_at_line);
        Ok(Some(Self {
            last_line,
            delimiter: dialect.delimiter,
            cells: Cells::new(mapping, dialect.decimal_comma()),
            quoted: QuotedRow::new(dialect.delimiter),
            comments: dialect.comments,
            summary: dialect.summary(mapping),
            is_guessed: dialect.is_guessed(&hint),
            columns: Columns::of(dialect.names, dialect.plan),
            header: dialect.header,
            lines,
        }))
    }

    /// Reads as many lines as are needed to tell how the file is written; returns `None` if they are not there yet.
    fn look(lines: &mut Lines, hint: &Hint<'_>, last_line: LastLine) -> Result<Option<Dialect>, SourceError> {
        let mut damage = None;
        let complete = loop {
            let head = &lines.data()[..lines.data().len().min(HEAD_BYTES)];
            if let Ok(Some(dialect)) = Dialect::of(head, false, hint)
                && dialect.is_certain
            {
                return Ok(Some(dialect));
            }
            if lines.data().len() >= HEAD_BYTES {
                break false;
            }
            match lines.more() {
                Ok(true) => {}
                Ok(false) => break last_line == LastLine::Counts,
                // What comes before the damage may be enough.
                Err(source) => {
                    damage = Some(source);
                    break true;
                }
            }
        };
        let head = &lines.data()[..lines.data().len().min(HEAD_BYTES)];
        let found = Dialect::of(head, complete, hint);
        match (found, damage) {
            // Which rows below the header are units is only known once there is a row.
            (Ok(Some(dialect)), _)
                if !dialect.is_certain && last_line == LastLine::Waits && head.len() < HEAD_BYTES =>
            {
                Ok(None)
            }
            (Ok(Some(dialect)), _) => Ok(Some(dialect)),
            (_, Some(source)) => Err(SourceError::Read {
                path: hint.path.to_owned(),
                offset: 0,
                source,
            }),
            (Err(error), None) => Err(error),
            (Ok(None), None) if !head.trim_ascii().is_empty() && (complete || head.len() == HEAD_BYTES) => {
                Err(SourceError::Options {
                    path: hint.path.to_owned(),
                    why: format!("there is no header in its first {HEAD_BYTES} bytes"),
                })
            }
            (Ok(None), None) => Ok(None),
        }
    }

    /// Returns how the file is understood.
    pub(in crate::source) fn summary(&self) -> &str {
        &self.summary
    }

    /// Returns whether the interpretation is a guess.
    pub(in crate::source) fn is_guessed(&self) -> bool {
        self.is_guessed
    }

    /// Returns what was noticed about the times.
    pub(in crate::source) fn noticed(&self) -> Noticed {
        self.cells.noticed()
    }

    pub(in crate::source) fn lines(&self) -> &Lines {
        &self.lines
    }

    pub(in crate::source) fn lines_mut(&mut self) -> &mut Lines {
        &mut self.lines
    }

    /// Reads rows until `out` is full or the file ends.
    pub(in crate::source) fn decode(&mut self, out: &mut RowSink<'_>) -> io::Result<Step> {
        while out.has_room() {
            let is_comment = self.comments && self.lines.data().first() == Some(&b'#');
            let found = match is_comment {
                // A quote means nothing in it.
                true => self.lines.find(|data| memchr(b'\n', data))?,
                false => self.lines.find(|data| memchr2(b'\n', b'"', data))?,
            };
            let (bytes, newline) = match found {
                Found::At(at) if self.lines.data()[at] == b'\n' => (at, 1),
                Found::At(_) => {
                    if self.decode_quoted(out)? == Step::End {
                        return Ok(Step::End);
                    }
                    continue;
                }
                Found::End(0) => return Ok(Step::End),
                Found::End(_) if self.last_line == LastLine::Waits => return Ok(Step::End),
                Found::End(bytes) => (bytes, 0),
                Found::TooLong => {
                    if self.too_long(out)? == Step::End {
                        return Ok(Step::End);
                    }
                    continue;
                }
            };
            let row = &self.lines.data()[..bytes];
            let row = row.strip_suffix(b"\r").unwrap_or(row);
            if !row.is_empty() && !is_comment {
                let offset = self.lines.offset();
                if let Err(refused) = self
                    .columns
                    .read(row, self.delimiter, offset, &mut self.cells, out)
                    && row != self.header
                {
                    out.batch.bad_times += usize::from(refused.is_time());
                    let detail = self.columns.explain(refused.error);
                    out.refuse_row(offset, self.lines.line(), refused.readings, detail, row);
                }
            }
            self.lines.consume(bytes + newline, newline as u64);
        }
        Ok(Step::More)
    }

    /// Decodes the current row, which contains a quote.
    #[cold]
    fn decode_quoted(&mut self, out: &mut RowSink<'_>) -> io::Result<Step> {
        let read = self.quoted.read(&mut self.lines, self.last_line)?;
        let (offset, line) = (self.lines.offset(), self.lines.line());
        let (bytes, first_line, problem, readings) = match read {
            Quoted::Waits => return Ok(Step::End),
            Quoted::TooLong => return self.too_long(out),
            Quoted::Unclosed { first_line } => {
                let problem = "a quote opens on this line and does not close where a cell ends".to_owned();
                (first_line, first_line, problem, 1)
            }
            Quoted::Row { bytes, first_line } => {
                let row = &self.lines.data()[..bytes];
                match self
                    .columns
                    .read_quoted(&self.quoted, offset, &mut self.cells, out)
                {
                    Err(refused) if without_line_end(row) != self.header => {
                        out.batch.bad_times += usize::from(refused.is_time());
                        // If some readings of the row were used, skip the whole row, so that they are not read again.
                        let given_up = if refused.is_partial { bytes } else { first_line };
                        (
                            bytes,
                            given_up,
                            self.columns.explain(refused.error),
                            refused.readings,
                        )
                    }
                    _ => {
                        let lines = memchr::memchr_iter(b'\n', row).count();
                        self.lines.consume(bytes, lines as u64);
                        return Ok(Step::More);
                    }
                }
            }
        };
        // A stray quote would swallow the good rows after it, so only the first of several lines is given up.
        let problem = if bytes > first_line {
            format!("{problem} (read as one row with the lines below, because a quote is open)")
        } else {
            problem
        };
        let row = &self.lines.data()[..first_line];
        out.refuse_row(offset, line, readings, problem, without_line_end(row));
        let newline = memchr(b'\n', &self.lines.data()[..first_line]).is_some();
        self.lines.consume(first_line, u64::from(newline));
        Ok(Step::More)
    }

    fn too_long(&mut self, out: &mut RowSink<'_>) -> io::Result<Step> {
        skip_too_long(&mut self.lines, self.last_line, out)
    }
}

fn without_line_end(row: &[u8]) -> &[u8] {
    let row = row.strip_suffix(b"\n").unwrap_or(row);
    row.strip_suffix(b"\r").unwrap_or(row)
}

impl Columns {
    fn of(names: Vec<String>, plan: Plan) -> Self {
        let rows = match plan.plain() {
            Some(places) => {
                let mut slots = vec![Role::ALL.len() as u8; names.len()];
                for role in Role::ALL {
                    slots[places[role as usize]] = role as u8;
                }
                Rows::Plain(slots)
            }
            None => Rows::Planned(RowReader::new(plan), Vec::new()),
        };
        Self { names, rows }
    }

    /// Appends the readings of a row without quotes to `out`.
    #[inline]
    fn read(
        &mut self,
        row: &[u8],
        delimiter: u8,
        offset: u64,
        cells: &mut Cells,
        out: &mut RowSink<'_>,
    ) -> Result<(), Refused> {
        let columns = self.names.len();
        match &mut self.rows {
            Rows::Plain(slots) => {
                let [time, device, tag, value, _] =
                    split(slots, row, delimiter).map_err(|count| miscounted(count, columns))?;
                let reading = cells.reading([time, device, tag, value], offset, out);
                out.batch.readings.push(reading.map_err(Refused::one)?);
                Ok(())
            }
            Rows::Planned(reader, places) => {
                places.clear();
                let mut start = 0;
                for end in memchr::memchr_iter(delimiter, row).chain([row.len()]) {
                    places.push((start, end));
                    start = end + 1;
                }
                if places.len() != columns {
                    return Err(miscounted(places.len(), columns));
                }
                let cell = |place: usize| &row[places[place].0..places[place].1];
                reader.read(cell, offset, cells, out)
            }
        }
    }

    /// Appends the readings of a row whose cells were parsed to `out`.
    fn read_quoted(
        &mut self,
        quoted: &QuotedRow,
        offset: u64,
        cells: &mut Cells,
        out: &mut RowSink<'_>,
    ) -> Result<(), Refused> {
        if quoted.len() != self.names.len() {
            return Err(miscounted(quoted.len(), self.names.len()));
        }
        match &mut self.rows {
            Rows::Plain(slots) => {
                let mut cells_of: Slots<'_> = [&[]; 5];
                for (cell, &slot) in quoted.cells().zip(slots.iter()) {
                    cells_of[usize::from(slot)] = cell;
                }
                let [time, device, tag, value, _] = cells_of;
                let reading = cells.reading([time, device, tag, value], offset, out);
                out.batch.readings.push(reading.map_err(Refused::one)?);
                Ok(())
            }
            Rows::Planned(reader, _) => reader.read(|place| quoted.cell(place), offset, cells, out),
        }
    }

    #[cold]
    fn explain(&self, error: CellError) -> String {
        match error {
            CellError::Row(why) => why,
            CellError::Sensor(error) => error.to_string(),
            CellError::Cell(role, why) => {
                let name = match &self.rows {
                    Rows::Plain(slots) => {
                        let column = slots.iter().position(|&slot| slot == role as u8);
                        column.map_or(role.name(), |column| &self.names[column])
                    }
                    Rows::Planned(reader, _) => self.name_by(reader.plan(), role),
                };
                format!("column {}: {why}", shown(trim(name.as_bytes())))
            }
        }
    }

    fn name_by(&self, plan: &Plan, role: Role) -> &str {
        plan.place_of(role)
            .map_or(role.name(), |place| &self.names[place])
    }
}

/// Splits a row without quotes into cells; returns the number of cells as the error if the header has another number.
#[inline]
fn split<'a>(slots: &[u8], row: &'a [u8], delimiter: u8) -> Result<Slots<'a>, usize> {
    let mut found: Slots<'_> = [&[]; 5];
    let mut cells = row.split(|&byte| byte == delimiter);
    for (count, &slot) in slots.iter().enumerate() {
        found[usize::from(slot)] = cells.next().ok_or(count)?;
    }
    match cells.count() {
        0 => Ok(found),
        more => Err(slots.len() + more),
    }
}

#[cold]
fn miscounted(count: usize, columns: usize) -> Refused {
    Refused::one(CellError::Row(format!(
        "the row has {count} cells, the header {columns}"
    )))
}
