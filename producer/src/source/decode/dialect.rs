//! How a file of delimited text is written: what separates its cells, which line names the columns, where rows begin.
//!
//! Only the lines up to the first row decide, so that a growing file is read in the same way each time it is opened.

mod header;
#[cfg(test)]
mod tests;

use std::fmt::Write;
use std::path::Path;

use csv_core::{ReadFieldResult, ReaderBuilder};

use crate::source::SourceError;

use super::cells::DecimalComma;
use super::lines::MAX_ROW_BYTES;
use super::mapping::ColumnMapping;
use super::plan::{Plan, Values};
use header::{Line, lines_of};

/// How many bytes of a file are looked at.
pub(super) const HEAD_BYTES: usize = MAX_ROW_BYTES;
/// How many rows below the header may hold units and the like.
const MOST_UNIT_ROWS: usize = 4;

/// The way in which a file of delimited text is written.
pub(super) struct Dialect {
    pub(super) delimiter: u8,
    pub(super) names: Vec<String>,
    pub(super) plan: Plan,
    /// The line of the header, from 1.
    pub(super) header_line: u64,
    /// The header as it is written, without the line's end.
    pub(super) header: Vec<u8>,
    /// Whether lines that begin with `#` are comments.
    pub(super) comments: bool,
    /// How many rows below the header hold units and the like.
    pub(super) unit_rows: usize,
    /// Where the first row starts: bytes and lines from the start.
    pub(super) rows_at: (usize, u64),
    /// Whether there is a row, so that further lines change nothing.
    pub(super) is_certain: bool,
}

/// What is known of a file before its first lines are looked at.
pub(super) struct Hint<'a> {
    pub(super) path: &'a Path,
    /// Its path below the source.
    pub(super) name: &'a str,
    /// The separator that the ending of its name implies.
    pub(super) usual_delimiter: u8,
    pub(super) mapping: &'a ColumnMapping,
}

impl Dialect {
    /// Tells how a file is written, from its start. Only whole lines of `head` are used; with `complete`, the last line
    /// needs no line end. Returns `None` if the header has not been written yet.
    pub(super) fn of(head: &[u8], complete: bool, hint: &Hint<'_>) -> Result<Option<Self>, SourceError> {
        let lines = lines_of(head, complete);
        let Some(found) = hint.find_header(&lines, complete)? else {
            return Ok(None);
        };
        let line = lines[found.at];
        let mut dialect = Self {
            delimiter: found.delimiter,
            names: found.names,
            plan: found.plan,
            header_line: line.number,
            header: line.text.to_vec(),
            comments: lines[..=found.at].iter().any(|line| line.is_comment()),
            unit_rows: 0,
            rows_at: (line.end, line.number + line.lines - 1),
            is_certain: found.first_row.is_some(),
        };
        if let Some(first_row) = found.first_row {
            dialect.skip_unit_rows(&lines[found.at + 1..first_row]);
        }
        Ok(Some(dialect))
    }

    /// Skips what is between the header and the first row, if it is only rows of units, comments and blank lines.
    fn skip_unit_rows(&mut self, between: &[Line<'_>]) {
        let is_none = |line: &Line<'_>| line.is_blank() || (self.comments && line.is_comment());
        let rows: Vec<_> = between.iter().filter(|line| !is_none(line)).collect();
        let are_units = rows.iter().all(|row| {
            let cells = split(row.text, self.delimiter);
            cells.len() == self.names.len() && self.is_unit_row(&cells)
        });
        if let Some(last) = rows.last()
            && are_units
            && rows.len() <= MOST_UNIT_ROWS
        {
            self.unit_rows = rows.len();
            self.rows_at = (last.end, last.number + last.lines - 1);
        }
    }

    /// Returns whether a row below the header holds units and the like: its time has no digit, and no measurement is a
    /// number. In the long form, no cell at all has a digit.
    fn is_unit_row(&self, cells: &[String]) -> bool {
        let has_digit = |text: &str| text.bytes().any(|byte| byte.is_ascii_digit());
        if has_digit(&cells[self.plan.time]) {
            return false;
        }
        match &self.plan.values {
            Values::Long { .. } => !cells.iter().any(|cell| has_digit(cell)),
            Values::Wide(columns) => {
                let is_value =
                    |text: &str| !text.is_empty() && self.decimal_comma().number(text.as_bytes()).is_ok();
                !columns.iter().any(|(place, _)| is_value(&cells[*place]))
            }
        }
    }

    /// Returns how a number may be written: with a decimal comma, where a comma does not separate cells.
    pub(super) fn decimal_comma(&self) -> DecimalComma {
        match self.delimiter {
            b',' => DecimalComma::No,
            b';' => DecimalComma::Yes,
            _ => DecimalComma::UnlessThousands,
        }
    }

    /// Returns what separates the cells, as its option names it.
    fn shown_delimiter(&self) -> String {
        match self.delimiter {
            b'\t' => "tab".to_owned(),
            other => char::from(other).to_string(),
        }
    }

    /// Returns whether the file is not a plain table with the names of its columns on the first line.
    pub(super) fn is_guessed(&self, hint: &Hint<'_>) -> bool {
        let mapping = hint.mapping;
        (mapping.delimiter.is_none() && self.delimiter != hint.usual_delimiter)
            || (mapping.header_line.is_none() && self.header_line > 1)
            || self.unit_rows > 0
            || (mapping.timestamp.is_none() && self.plan.time_of_day.is_some())
    }

    /// Returns how the file is understood, for a person.
    pub(super) fn summary(&self, mapping: &ColumnMapping) -> String {
        let mut text = format!("cells separated by {}", self.shown_delimiter());
        if self.decimal_comma() != DecimalComma::No {
            text.push_str(" (a comma in a number is its decimal point)");
        }
        if self.header_line > 1 {
            let _ = write!(text, "; header on line {}", self.header_line);
        }
        match self.unit_rows {
            0 => {}
            1 => text.push_str("; the row below the header holds no reading"),
            rows => {
                let _ = write!(text, "; the {rows} rows below the header hold no reading");
            }
        }
        let _ = write!(text, "; {}", self.plan.summary(&self.names, mapping));
        text
    }
}

/// Splits a line into its cells, without the spaces around them.
pub(in crate::source) fn split(line: &[u8], delimiter: u8) -> Vec<String> {
    let mut reader = ReaderBuilder::new().delimiter(delimiter).build();
    let (mut rest, mut cells, mut cell) = (line, Vec::new(), Vec::new());
    let mut part = [0; 256];
    loop {
        let (result, read, written) = reader.read_field(rest, &mut part);
        rest = &rest[read..];
        cell.extend_from_slice(&part[..written]);
        match result {
            ReadFieldResult::OutputFull => {}
            // Empty input, on the next call, tells the parser that the last cell has ended.
            ReadFieldResult::InputEmpty => {}
            ReadFieldResult::Field { record_end } => {
                cells.push(String::from_utf8_lossy(&cell).trim().to_owned());
                cell.clear();
                if record_end {
                    return cells;
                }
            }
            ReadFieldResult::End => return cells,
        }
    }
}
