//! How a file of delimited text is written: what separates its cells, which line names the columns, where rows begin.
//!
//! It follows from the first lines up to the first row alone, so that a file that grows is read alike at every opening.

use std::fmt::Write;
use std::path::Path;

use csv_core::{ReadFieldResult, ReaderBuilder};

use crate::source::SourceError;

use super::mapping::ColumnMapping;
use super::plan::{Plan, Values};

/// How many bytes of a file are looked at.
pub(super) const HEAD_BYTES: usize = 64 << 10;
/// Among how many lines the header is looked for.
const HEADER_WITHIN: usize = 100;
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
    /// Whether there is a row.
    pub(super) has_row: bool,
    /// Whether the first row has as many cells as the header, so that further lines change nothing.
    pub(super) is_certain: bool,
}

/// What is known of a file before its first lines are looked at.
pub(super) struct Hint<'a> {
    pub(super) path: &'a Path,
    /// Its path below the source.
    pub(super) name: &'a str,
    /// What the ending of its name says to separate cells.
    pub(super) usual_delimiter: u8,
    pub(super) mapping: &'a ColumnMapping,
}

/// A line, its start, and where the next one starts.
#[derive(Clone, Copy)]
struct Line<'a> {
    text: &'a [u8],
    end: usize,
}

impl Line<'_> {
    fn is_blank(self) -> bool {
        self.text.trim_ascii().is_empty()
    }

    fn is_comment(self) -> bool {
        self.text.starts_with(b"#")
    }
}

/// A line that may be the header.
struct Candidate {
    at: usize,
    delimiter: u8,
    names: Vec<String>,
    plan: Plan,
}

impl Dialect {
    /// Finds the way in which the file that starts with `head` is written; `None` if the header is not there yet. Only
    /// whole lines of the head are used, and its last one if it is `complete`.
    pub(super) fn of(head: &[u8], complete: bool, hint: &Hint<'_>) -> Result<Option<Self>, SourceError> {
        let lines = lines_of(head, complete);
        if !lines.iter().any(|line| !line.is_blank() && !line.is_comment()) && !complete {
            return Ok(None);
        }
        let Some(found) = hint.find_header(&lines)? else {
            return Ok(None);
        };
        let line = lines[found.at];
        let mut dialect = Self {
            delimiter: found.delimiter,
            names: found.names,
            plan: found.plan,
            header_line: found.at as u64 + 1,
            header: line.text.to_vec(),
            comments: lines[..=found.at].iter().any(|line| line.is_comment()),
            unit_rows: 0,
            rows_at: (line.end, found.at as u64 + 1),
            has_row: false,
            is_certain: false,
        };
        dialect.skip_unit_rows(&lines[found.at + 1..]);
        Ok(Some(dialect))
    }

    /// Finds the first row. Rows of units are only known by a row below them that holds none.
    fn skip_unit_rows(&mut self, below: &[Line<'_>]) {
        let (mut lines, mut unit_rows, mut at) = (0, 0, self.rows_at);
        for line in below {
            lines += 1;
            if line.is_blank() || (self.comments && line.is_comment()) {
                continue;
            }
            self.has_row = true;
            let cells = split(line.text, self.delimiter);
            self.is_certain = cells.len() == self.names.len();
            if !self.is_certain || unit_rows == MOST_UNIT_ROWS {
                return;
            }
            if !self.is_unit_row(&cells) {
                (self.unit_rows, self.rows_at) = (unit_rows, at);
                return;
            }
            unit_rows += 1;
            at = (line.end, self.header_line + lines);
        }
        self.is_certain = false;
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
            Values::Wide(columns) => !columns
                .iter()
                .any(|(place, _)| cells[*place].trim().parse::<f64>().is_ok_and(f64::is_finite)),
        }
    }

    /// Returns whether a number may have a comma: where a comma does not separate cells.
    pub(super) fn decimal_comma(&self) -> bool {
        self.delimiter != b','
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
        if self.decimal_comma() {
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

impl Hint<'_> {
    fn find_header(&self, lines: &[Line<'_>]) -> Result<Option<Candidate>, SourceError> {
        let wanted = self.mapping.header_line;
        let mut candidates = Vec::new();
        let mut refusal = None;
        for commented in [false, true] {
            for (at, line) in lines
                .iter()
                .enumerate()
                .take(HEADER_WITHIN.max(wanted.unwrap_or(0) as usize))
            {
                let is_meant = match wanted {
                    Some(number) => number == at as u64 + 1 && line.is_comment() == commented,
                    None => !line.is_blank() && line.is_comment() == commented,
                };
                if is_meant {
                    self.try_header(at, line, &mut candidates, &mut refusal);
                }
            }
            let next_row = |candidate: &Candidate| {
                let mut below = lines[candidate.at + 1..].iter();
                below.find(|line| !line.is_blank() && !line.is_comment())
            };
            let fits = |candidate: &Candidate| {
                next_row(candidate)
                    .is_some_and(|row| split(row.text, candidate.delimiter).len() == candidate.names.len())
            };
            if let Some(at) = candidates.iter().position(fits) {
                return Ok(Some(candidates.swap_remove(at)));
            }
            if !candidates.is_empty() {
                return Ok(Some(candidates.swap_remove(0)));
            }
        }
        match (refusal, wanted) {
            (Some((_, error)), _) => Err(error),
            (None, Some(number)) if lines.len() as u64 >= number => Err(SourceError::Options {
                path: self.path.to_owned(),
                why: format!("line {number}, which --header-line names, is blank"),
            }),
            (None, _) => Ok(None),
        }
    }

    /// Takes a line for the header, with each delimiter that it may have.
    fn try_header(
        &self,
        at: usize,
        line: &Line<'_>,
        candidates: &mut Vec<Candidate>,
        refusal: &mut Option<(usize, SourceError)>,
    ) {
        let text = line.text.strip_prefix(b"#").unwrap_or(line.text);
        for delimiter in self.delimiters() {
            let names = split(text, delimiter);
            match self.mapping.plan(self.path, self.name, &names) {
                Ok(plan) => candidates.push(Candidate {
                    at,
                    delimiter,
                    names,
                    plan,
                }),
                // The error to show is that of the line that looks most like a header: the first with most names.
                Err(error) => {
                    let is_ambiguous = matches!(error, SourceError::TwoColumns { .. });
                    let weight = names.len() + if is_ambiguous { 1_000_000 } else { 0 };
                    let is_first =
                        |(other, _): &(usize, SourceError)| *other < weight && (at == 0 || is_ambiguous);
                    if refusal.as_ref().is_none_or(is_first) {
                        *refusal = Some((weight, error));
                    }
                }
            }
        }
    }

    fn delimiters(&self) -> Vec<u8> {
        if let Some(given) = self.mapping.delimiter {
            return vec![given as u8];
        }
        let mut delimiters = vec![self.usual_delimiter];
        delimiters.extend(
            [b',', b';', b'\t', b'|']
                .into_iter()
                .filter(|other| *other != self.usual_delimiter),
        );
        delimiters
    }
}

fn lines_of(head: &[u8], complete: bool) -> Vec<Line<'_>> {
    let mut lines = Vec::new();
    let mut start = 0;
    while start < head.len() {
        let newline = memchr::memchr(b'\n', &head[start..]);
        let (text, end) = match newline {
            Some(at) => (&head[start..start + at], start + at + 1),
            None if complete => (&head[start..], head.len()),
            None => break,
        };
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        lines.push(Line { text, end });
        start = end;
    }
    lines
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
            // The end of the line is the end of its last cell: the parser is told by no input.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn look(text: &str, options: impl FnOnce(&mut ColumnMapping)) -> Result<Option<Dialect>, String> {
        let mut mapping = ColumnMapping::default();
        options(&mut mapping);
        let hint = Hint {
            path: Path::new("f.csv"),
            name: "f.csv",
            usual_delimiter: b',',
            mapping: &mapping,
        };
        Dialect::of(text.as_bytes(), true, &hint).map_err(|error| error.to_string())
    }

    fn wide(mapping: &mut ColumnMapping) {
        mapping.tags = vec!["*".parse().unwrap()];
        mapping.device_from = Some("file".parse().unwrap());
    }

    #[test]
    fn a_delimiter_is_found_by_the_names_that_it_leaves() {
        for (delimiter, shown) in [(",", ","), (";", ";"), ("\t", "tab"), ("|", "|")] {
            let text = ["ts", "device", "tag", "value\n1", "d", "t", "2"].join(delimiter);
            let dialect = look(&text, |_| ()).unwrap().unwrap();
            assert_eq!(
                (dialect.shown_delimiter().as_str(), dialect.header_line),
                (shown, 1)
            );
            assert_eq!(dialect.names, ["ts", "device", "tag", "value"]);
            assert_eq!(dialect.decimal_comma(), delimiter != ",");
        }
    }

    #[test]
    fn a_header_below_the_first_line_and_rows_of_units_are_found() {
        // The table of a Campbell Scientific logger.
        let toa5 = "\"TOA5\",\"CR1000\",\"st 1\",\"42\"\n\"TIMESTAMP\",\"RECORD\",\"AirTC\",\"RH\"\n\"TS\",\"RN\",\"Deg C\",\"%\"\n\
                    \"\",\"\",\"Avg\",\"Smp\"\n\"2026-01-05 00:00:00\",0,1.5,80\n";
        let dialect = look(toa5, wide).unwrap().unwrap();
        assert_eq!(
            (dialect.header_line, dialect.unit_rows, dialect.rows_at.1),
            (2, 2, 4)
        );
        assert!(toa5[dialect.rows_at.0..].starts_with("\"2026"));
        let influx = "#group,false,false\n#datatype,string,double\n,_time,_value\n,2026-01-05T00:00:00Z,1\n";
        let dialect = look(influx, |mapping| {
            wide(mapping);
            mapping.timestamp = Some("_time".to_owned());
        });
        let dialect = dialect.unwrap().unwrap();
        assert_eq!(
            (dialect.header_line, dialect.comments, dialect.unit_rows),
            (3, true, 0)
        );
    }

    #[test]
    fn a_header_that_is_a_comment_counts_if_no_other_line_is_one() {
        let dialect = look("# made by x\n# ts, device, tag, value\n1,d,t,2\n", |_| ())
            .unwrap()
            .unwrap();
        assert_eq!((dialect.header_line, dialect.comments), (2, true));
    }

    #[test]
    fn a_given_line_and_delimiter_are_the_only_ones_looked_at() {
        let text = "ts,device,tag,value\nts;device;tag;value\n1;d;t;2\n";
        let dialect = look(text, |mapping| mapping.header_line = Some(2))
            .unwrap()
            .unwrap();
        assert_eq!((dialect.header_line, dialect.delimiter), (2, b';'));
        assert!(
            look(text, |mapping| mapping.delimiter = Some('|'))
                .unwrap_err_text()
                .contains("no column")
        );
    }

    #[test]
    fn a_bad_first_row_is_a_row() {
        for text in [
            "ts,device,tag,value\nyesterday,d7,t,1\n",
            "ts,device,tag,value\nnoon,d,t,x\n",
        ] {
            let dialect = look(text, |_| ()).unwrap().unwrap();
            assert_eq!((dialect.unit_rows, dialect.has_row), (0, true));
        }
    }

    #[test]
    fn two_columns_for_one_role_are_refused_wherever_the_header_is() {
        let error = look("x\nts,device,sensor,metric,value\n", |_| ()).unwrap_err_text();
        assert!(error.contains("both `sensor` and `metric`"), "{error}");
    }

    trait RefusedText {
        fn unwrap_err_text(self) -> String;
    }

    impl RefusedText for Result<Option<Dialect>, String> {
        fn unwrap_err_text(self) -> String {
            match self {
                Ok(_) => panic!("not refused"),
                Err(text) => text,
            }
        }
    }
}
