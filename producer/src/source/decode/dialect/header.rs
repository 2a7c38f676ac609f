//! Finds the line of a text file that names its columns, and the first row below it.

use windrow_common::WrittenTime;

use crate::source::SourceError;
use crate::source::decode::plan::Plan;
use crate::source::decode::time_format::is_time_of_day;

use super::{Hint, split};

/// Among how many lines the header and the first row are looked for.
const MOST_LINES: usize = 200;
/// How many lines a quote may hold together.
const MOST_QUOTED_LINES: u64 = 20;

/// A line, or several that a quote holds together.
#[derive(Clone, Copy)]
pub(super) struct Line<'a> {
    pub(super) text: &'a [u8],
    /// Where the next one starts.
    pub(super) end: usize,
    /// The number of its first line, from 1, and how many lines it has.
    pub(super) number: u64,
    pub(super) lines: u64,
}

impl Line<'_> {
    pub(super) fn is_blank(self) -> bool {
        self.text.trim_ascii().is_empty()
    }

    pub(super) fn is_comment(self) -> bool {
        self.text.starts_with(b"#")
    }
}

/// A line that may be the header.
pub(super) struct Candidate {
    pub(super) at: usize,
    pub(super) delimiter: u8,
    pub(super) names: Vec<String>,
    pub(super) plan: Plan,
    /// The first line below that is a row: it has as many cells, and a digit in its time.
    pub(super) first_row: Option<usize>,
}

impl Candidate {
    /// Returns whether this line, rather than the line `above`, is the header. It is if its first row is further up, or
    /// if both have the same first row and not only rows of units lie between the two lines. A line without a row is
    /// not.
    fn is_better_than(&self, above: &Self, lines: &[Line<'_>]) -> bool {
        match (self.first_row, above.first_row) {
            (Some(own), Some(others)) if own == others => {
                let mut between = lines[above.at..self.at].iter();
                !between.all(|line| split(line.text, above.delimiter).len() == above.names.len())
            }
            (Some(own), others) => others.is_none_or(|others| own < others),
            (None, _) => false,
        }
    }
}

impl Hint<'_> {
    /// Returns the line that names the columns needed and is nearest above the first row. `None` if it may still come.
    pub(super) fn find_header(
        &self,
        lines: &[Line<'_>],
        complete: bool,
    ) -> Result<Option<Candidate>, SourceError> {
        let wanted = self.mapping.header_line;
        let mut refusal = None;
        for commented in [false, true] {
            let mut best: Option<Candidate> = None;
            for (at, line) in lines.iter().enumerate() {
                // What is below a row is no header of it.
                if best
                    .as_ref()
                    .and_then(|best| best.first_row)
                    .is_some_and(|row| at >= row)
                {
                    break;
                }
                let is_meant = !line.is_blank()
                    && line.is_comment() == commented
                    && wanted.is_none_or(|number| number == line.number);
                if !is_meant {
                    continue;
                }
                for candidate in self.candidates(at, lines, &mut refusal) {
                    if best
                        .as_ref()
                        .is_none_or(|best| candidate.is_better_than(best, lines))
                    {
                        best = Some(candidate);
                    }
                }
            }
            if best.is_some() {
                return Ok(best);
            }
        }
        let filled = lines
            .iter()
            .filter(|line| !line.is_blank() && !line.is_comment())
            .count();
        match (refusal, wanted) {
            // A single line may be the first of several above the header.
            (Some(_), _) if !complete && filled < 2 => Ok(None),
            (Some((_, error)), _) => Err(error),
            (None, Some(number)) if lines.last().is_some_and(|last| last.number >= number) => {
                Err(SourceError::Options {
                    path: self.path.to_owned(),
                    why: format!("line {number}, which --header-line names, is blank"),
                })
            }
            (None, _) => Ok(None),
        }
    }

    /// Tries a line as the header, with each delimiter that it may have.
    fn candidates(
        &self,
        at: usize,
        lines: &[Line<'_>],
        refusal: &mut Option<(usize, SourceError)>,
    ) -> Vec<Candidate> {
        let text = lines[at].text.strip_prefix(b"#").unwrap_or(lines[at].text);
        let mut found = Vec::new();
        for delimiter in self.delimiters() {
            let names = split(text, delimiter);
            let is_time = |name: &String| {
                matches!(WrittenTime::parse_any(name.as_bytes()), Ok(WrittenTime::Local(_)))
                    || is_time_of_day(name)
            };
            if names.iter().any(is_time) || (names.len() < 2 && refusal.is_some()) {
                continue;
            }
            match self.mapping.plan(self.path, self.name, &names) {
                Ok(plan) => {
                    let is_row = |line: &Line<'_>| {
                        let cells = split(line.text, delimiter);
                        let has_digit = |text: &String| text.bytes().any(|byte| byte.is_ascii_digit());
                        cells.len() == names.len() && cells.get(plan.time).is_some_and(has_digit)
                    };
                    let below = lines.iter().enumerate().skip(at + 1);
                    let first_row = below
                        .filter(|(_, line)| !line.is_comment())
                        .find(|(_, line)| is_row(line));
                    found.push(Candidate {
                        at,
                        delimiter,
                        first_row: first_row.map(|(row, _)| row),
                        names,
                        plan,
                    });
                }
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
        found
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

pub(super) fn lines_of(head: &[u8], complete: bool) -> Vec<Line<'_>> {
    let mut lines = Vec::new();
    let (mut start, mut number) = (0, 1);
    while start < head.len() && lines.len() < MOST_LINES {
        let Some((text, end, count)) = quoted_line(&head[start..], complete) else {
            break;
        };
        lines.push(Line {
            text,
            end: start + end,
            number,
            lines: count,
        });
        (start, number) = (start + end, number + count);
    }
    lines
}

/// Returns the first line, with those that an open quote holds together with it; where it ends; and how many they are.
///
/// As for the decoder, a quote opens only at the start of a cell; which delimiter there is, is not known yet. While a quote
/// is open at the end of what there is, its line may still become longer.
fn quoted_line(text: &[u8], complete: bool) -> Option<(&[u8], usize, u64)> {
    let mut at = Cell::Start;
    let (mut first, mut count) = (None, 1);
    for (index, byte) in text.iter().enumerate() {
        at = match (at, byte) {
            (Cell::Start, b'"') | (Cell::Closing, b'"') => Cell::Quoted,
            (Cell::Quoted, b'"') => Cell::Closing,
            (Cell::Quoted, b'\n') => {
                first.get_or_insert(index);
                count += 1;
                if count > MOST_QUOTED_LINES {
                    break;
                }
                Cell::Quoted
            }
            (Cell::Quoted, _) => Cell::Quoted,
            (_, b'\n') => return Some((without_return(&text[..index]), index + 1, count)),
            (_, b',' | b';' | b'\t' | b'|') => Cell::Start,
            _ => Cell::Plain,
        };
    }
    // A quote that is not closed holds nothing together.
    match first {
        Some(end) if complete || count > MOST_QUOTED_LINES => {
            Some((without_return(&text[..end]), end + 1, 1))
        }
        _ if complete => Some((without_return(text), text.len(), 1)),
        _ => None,
    }
}

/// Where in a cell a byte is.
#[derive(Clone, Copy)]
enum Cell {
    Start,
    Plain,
    Quoted,
    /// After a quote that closes the cell, unless another one follows.
    Closing,
}

fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}
