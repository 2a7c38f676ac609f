//! Delimited text with a header: CSV and TSV.

use std::io;
use std::path::Path;

use memchr::{memchr, memchr2};

use crate::source::SourceError;

use super::cells::{CellError, Cells, trim};
use super::lines::{Found, LastLine, Lines, skip_too_long};
use super::mapping::{ColumnMapping, Role};
use super::quoted::{Quoted, QuotedRow};
use super::sink::{RowSink, Step, shown};

/// A decoder for the rows of delimited text.
pub(in crate::source) struct CsvDecoder {
    lines: Lines,
    last_line: LastLine,
    delimiter: u8,
    columns: Columns,
    cells: Cells,
    quoted: QuotedRow,
}

/// The columns that the header names.
struct Columns {
    names: Vec<String>,
    /// For each column, the index of its role in [`Slots`]; the last index is for columns without a role.
    slots: Vec<u8>,
}

/// The cells of a row by [`Role`]; the last slot takes the cells of columns without a role.
type Slots<'a> = [&'a [u8]; 5];

impl CsvDecoder {
    /// Reads the header from the current row of `lines`; returns `None` if the header is not written yet.
    pub(in crate::source) fn open(
        mut lines: Lines,
        path: &Path,
        delimiter: u8,
        last_line: LastLine,
        mapping: &ColumnMapping,
    ) -> Result<Option<Self>, SourceError> {
        let mut quoted = QuotedRow::new(delimiter);
        let read_error = |source| SourceError::Read {
            path: path.to_owned(),
            offset: 0,
            source,
        };
        let names: Vec<String> = loop {
            match quoted.read(&mut lines, last_line).map_err(read_error)? {
                Quoted::Waits | Quoted::Row { bytes: 0, .. } => return Ok(None),
                Quoted::Row { bytes, .. } => {
                    let row = &lines.data()[..bytes];
                    let count = memchr::memchr_iter(b'\n', row).count() as u64;
                    let blank = row.trim_ascii().is_empty();
                    lines.consume(bytes, count);
                    if !blank {
                        break quoted
                            .cells()
                            .map(|name| String::from_utf8_lossy(name).trim().to_owned())
                            .collect();
                    }
                }
                // Only blank lines, which the parser skips.
                Quoted::Unclosed { .. } if lines.data().trim_ascii().is_empty() => return Ok(None),
                Quoted::TooLong | Quoted::Unclosed { .. } => {
                    return Err(SourceError::Format {
                        path: path.to_owned(),
                        why: "its first row is not a header: the row has no end".to_owned(),
                    });
                }
            }
        };
        let places = mapping.resolve(path, &names)?;
        let mut slots = vec![Role::ALL.len() as u8; names.len()];
        for role in Role::ALL {
            slots[places[role as usize]] = role as u8;
        }
        Ok(Some(Self {
            lines,
            last_line,
            delimiter,
            columns: Columns { names, slots },
            cells: Cells::default(),
            quoted,
        }))
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
            let (bytes, newline) = match self.lines.find(|data| memchr2(b'\n', b'"', data))? {
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
            if !row.is_empty() {
                let offset = self.lines.offset();
                let reading = match self.columns.split(row, self.delimiter) {
                    Ok([time, device, tag, value, _]) => {
                        self.cells.reading([time, device, tag, value], offset, out)
                    }
                    Err(count) => Err(self.columns.miscounted(count)),
                };
                match reading {
                    Ok(reading) => out.batch.readings.push(reading),
                    Err(error) => {
                        out.unreadable(offset, self.lines.line(), self.columns.explain(error), row);
                    }
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
        let (bytes, first_line, problem) = match read {
            Quoted::Waits => return Ok(Step::End),
            Quoted::TooLong => return self.too_long(out),
            Quoted::Unclosed { first_line } => {
                let problem = "a quote opens on this line and does not close where a cell ends".to_owned();
                (first_line, first_line, problem)
            }
            Quoted::Row { bytes, first_line } => {
                let mut slots: Slots<'_> = [&[]; 5];
                let mut count = 0;
                for cell in self.quoted.cells() {
                    if let Some(&slot) = self.columns.slots.get(count) {
                        slots[usize::from(slot)] = cell;
                    }
                    count += 1;
                }
                let [time, device, tag, value, _] = slots;
                let reading = if count == self.columns.slots.len() {
                    self.cells.reading([time, device, tag, value], offset, out)
                } else {
                    Err(self.columns.miscounted(count))
                };
                match reading {
                    Ok(reading) => {
                        out.batch.readings.push(reading);
                        let lines = memchr::memchr_iter(b'\n', &self.lines.data()[..bytes]).count();
                        self.lines.consume(bytes, lines as u64);
                        return Ok(Step::More);
                    }
                    Err(error) => (bytes, first_line, self.columns.explain(error)),
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
        let row = row.strip_suffix(b"\n").unwrap_or(row);
        let row = row.strip_suffix(b"\r").unwrap_or(row);
        out.unreadable(offset, line, problem, row);
        let newline = memchr(b'\n', &self.lines.data()[..first_line]).is_some();
        self.lines.consume(first_line, u64::from(newline));
        Ok(Step::More)
    }

    fn too_long(&mut self, out: &mut RowSink<'_>) -> io::Result<Step> {
        skip_too_long(&mut self.lines, self.last_line, out)
    }
}

impl Columns {
    /// Splits a row without quotes into cells; returns the number of cells as the error if the header has another
    /// number.
    #[inline]
    fn split<'a>(&self, row: &'a [u8], delimiter: u8) -> Result<Slots<'a>, usize> {
        let mut slots: Slots<'_> = [&[]; 5];
        let mut cells = row.split(|&byte| byte == delimiter);
        for (count, &slot) in self.slots.iter().enumerate() {
            slots[usize::from(slot)] = cells.next().ok_or(count)?;
        }
        match cells.count() {
            0 => Ok(slots),
            more => Err(self.slots.len() + more),
        }
    }

    #[cold]
    fn miscounted(&self, count: usize) -> CellError {
        CellError::Row(format!(
            "the row has {count} cells, the header {}",
            self.slots.len()
        ))
    }

    #[cold]
    fn explain(&self, error: CellError) -> String {
        match error {
            CellError::Row(why) => why,
            CellError::Sensor(error) => error.to_string(),
            CellError::Cell(role, why) => {
                let column = self.slots.iter().position(|&slot| slot == role as u8);
                let name = column.map_or(role.name(), |column| &self.names[column]);
                format!("column {}: {why}", shown(trim(name.as_bytes())))
            }
        }
    }
}
