//! Rows that contain quotes, by the rules of RFC 4180 as the `csv` crate applies them.

use std::io;

use csv_core::{ReadRecordResult, Reader, ReaderBuilder, Terminator};
use memchr::memchr;

use super::lines::{Found, LastLine, Lines};

/// The longest row that may span several lines, in bytes. A quote that never closes hides the rows after it up to this
/// limit, so the limit is far below that of a row on one line.
pub(in crate::source) const MAX_SPANNING_BYTES: usize = 64 * 1024;

/// What the parser found in the current row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::source) enum Quoted {
    /// A row; its cells are in [`QuotedRow::cells`].
    Row {
        /// Its length in bytes, newline included.
        bytes: usize,
        /// The length of its first line.
        first_line: usize,
    },
    /// A quote opens on the first line and does not close within the limit.
    Unclosed {
        /// The length of the first line, newline included.
        first_line: usize,
    },
    /// The first line has no end within the limit.
    TooLong,
    /// The rest of the row is not written yet.
    Waits,
}

/// A parser that splits rows into cells and reuses its buffers.
pub(in crate::source) struct QuotedRow {
    delimiter: u8,
    reader: Reader,
    text: Vec<u8>,
    /// Where the cells end in `text`.
    ends: Vec<usize>,
    cells: usize,
}

impl QuotedRow {
    pub(in crate::source) fn new(delimiter: u8) -> Self {
        Self {
            delimiter,
            // A lone carriage return does not end a row, as in rows without quotes.
            reader: ReaderBuilder::new()
                .delimiter(delimiter)
                .terminator(Terminator::Any(b'\n'))
                .build(),
            text: vec![0; 512],
            ends: vec![0; 16],
            cells: 0,
        }
    }

    /// Returns how many cells the row read last has.
    pub(in crate::source) fn len(&self) -> usize {
        self.cells
    }

    /// Returns one of the cells of the row read last.
    pub(in crate::source) fn cell(&self, place: usize) -> &[u8] {
        let start = place.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start..self.ends[place]]
    }

    /// Returns the cells of the row read last.
    pub(in crate::source) fn cells(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts
            .zip(&self.ends[..self.cells])
            .map(|(start, &end)| &self.text[start..end])
    }

    /// Splits the current row of `lines` into cells, without consuming it.
    pub(in crate::source) fn read(&mut self, lines: &mut Lines, last_line: LastLine) -> io::Result<Quoted> {
        let first_line = match lines.find(|data| memchr(b'\n', data))? {
            Found::At(at) => at + 1,
            Found::End(_) if last_line == LastLine::Waits => return Ok(Quoted::Waits),
            Found::End(bytes) => bytes,
            Found::TooLong => return Ok(Quoted::TooLong),
        };
        self.reader.reset();
        let limit = first_line.max(MAX_SPANNING_BYTES);
        let (mut fed, mut written) = (0, 0);
        self.cells = 0;
        loop {
            let data = lines.data();
            let known = data.len().min(limit);
            let complete = if fed < known {
                let (complete, taken) = self.feed(&data[fed..known], &mut written);
                fed += taken;
                complete
            } else if known == limit {
                return Ok(Quoted::Unclosed { first_line });
            } else if lines.more()? {
                false
            } else if last_line == LastLine::Waits {
                return Ok(Quoted::Waits);
            } else if self.feed(b"\n", &mut written).0 {
                true
            } else {
                return Ok(Quoted::Unclosed { first_line });
            };
            if complete {
                let row = &lines.data()[..fed];
                let row = row.strip_suffix(b"\n").unwrap_or(row);
                // The parser accepts text after a closing quote. In a row over several lines, such text is not a slip
                // within a cell: a stray quote has swallowed the rows up to the next quote.
                if fed > first_line && !is_well_quoted(row, self.delimiter) {
                    return Ok(Quoted::Unclosed { first_line });
                }
                self.drop_carriage_return(row);
                return Ok(Quoted::Row {
                    bytes: fed,
                    first_line,
                });
            }
        }
    }

    /// Feeds `input` to the parser; returns whether the row is complete, and how much of the input belongs to it.
    fn feed(&mut self, input: &[u8], written: &mut usize) -> (bool, usize) {
        let mut taken = 0;
        loop {
            let (result, read, wrote, ended) = self.reader.read_record(
                &input[taken..],
                &mut self.text[*written..],
                &mut self.ends[self.cells..],
            );
            taken += read;
            *written += wrote;
            self.cells += ended;
            match result {
                ReadRecordResult::OutputFull => self.text.resize(self.text.len() * 2, 0),
                ReadRecordResult::OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
                ReadRecordResult::InputEmpty => return (false, taken),
                ReadRecordResult::Record | ReadRecordResult::End => return (true, taken),
            }
            // To the parser, an empty input means the end of the file.
            if taken == input.len() {
                return (false, taken);
            }
        }
    }

    /// Removes the carriage return of a row that ends with `\r\n`.
    fn drop_carriage_return(&mut self, row: &[u8]) {
        if row.ends_with(b"\r")
            && let Some(last) = self.cells.checked_sub(1)
            && self.text[..self.ends[last]].ends_with(b"\r")
        {
            self.ends[last] -= 1;
        }
    }
}

/// Returns whether every quote that opens a cell of the row also closes it.
fn is_well_quoted(row: &[u8], delimiter: u8) -> bool {
    let mut rest = row;
    loop {
        let mut opened = rest.strip_prefix(b"\"");
        while let Some(cell) = opened {
            let Some(at) = memchr(b'"', cell) else {
                return false;
            };
            rest = &cell[at + 1..];
            // Within a cell, two quotes stand for one.
            opened = rest.strip_prefix(b"\"");
            if opened.is_none() && !(rest.is_empty() || rest == b"\r" || rest[0] == delimiter) {
                return false;
            }
        }
        match memchr(delimiter, rest) {
            Some(at) => rest = &rest[at + 1..],
            None => return true,
        }
    }
}
