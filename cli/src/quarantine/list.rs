//! What was set aside, grouped by where it comes from and what is wrong with it.

use std::collections::BTreeMap;

use serde_json::json;
use windrow_common::EventTime;
use windrow_producer::quarantine::{QuarantineReason, Stored};

use crate::error::CliError;
use crate::output::OutputFormat;
use crate::show;

/// How many groups are told apart. After them, the kinds of a reason are one group.
const MAX_GROUPS: usize = 10_000;

/// Where records come from, and what is wrong with them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Of {
    source: String,
    partition: String,
    reason: QuarantineReason,
    kind: String,
}

/// Records of one kind.
#[derive(Debug)]
struct Group {
    records: u64,
    readings: u64,
    /// Records of which bytes are missing.
    cut: u64,
    /// When the first and the last were set aside.
    first: EventTime,
    last: EventTime,
    example: String,
}

/// All groups, and the intervals of late readings.
#[derive(Debug, Default)]
pub(super) struct Groups {
    groups: BTreeMap<Of, Group>,
    /// The start of the first interval and the end of the last, by source.
    late: BTreeMap<String, (EventTime, EventTime)>,
}

impl Groups {
    pub(super) fn add(&mut self, stored: &Stored) {
        let record = &stored.record;
        let mut of = Of {
            source: stored.source.clone(),
            partition: stored.partition.clone(),
            reason: record.reason,
            kind: record.kind(),
        };
        if self.groups.len() >= MAX_GROUPS && !self.groups.contains_key(&of) {
            of.kind.clear();
        }
        let group = self.groups.entry(of).or_insert_with(|| Group {
            records: 0,
            readings: 0,
            cut: 0,
            first: stored.at,
            last: stored.at,
            example: record.at(&stored.partition),
        });
        group.records += 1;
        group.readings += record.readings;
        group.cut += u64::from(record.is_cut());
        group.first = group.first.min(stored.at);
        group.last = group.last.max(stored.at);
        if let Some((start, end)) = stored.interval() {
            let span = self.late.entry(stored.source.clone()).or_insert((start, end));
            *span = (span.0.min(start), span.1.max(end));
        }
    }

    pub(super) fn show(&self, output: OutputFormat) -> Result<(), CliError> {
        if output == OutputFormat::Json {
            return self.show_json();
        }
        if self.groups.is_empty() {
            return show::line("nothing is in quarantine");
        }
        let rows = self.groups.iter().map(|(of, group)| {
            vec![
                of.source.clone(),
                of.partition.clone(),
                of.reason.to_string(),
                show::count(group.readings),
                group.first.to_string(),
                group.last.to_string(),
                printable(&group.example),
            ]
        });
        let headings = [
            "source",
            "partition",
            "reason",
            "readings",
            "first",
            "last",
            "example",
        ];
        show::table(&headings, rows.collect())?;
        for (source, span) in &self.late {
            show::line(&replay(source, *span))?;
        }
        Ok(())
    }

    fn show_json(&self) -> Result<(), CliError> {
        let groups = self.groups.iter().map(|(of, group)| {
            json!({
                "source": of.source,
                "partition": of.partition,
                "reason": of.reason,
                "records": group.records,
                "readings": group.readings,
                "cut": group.cut,
                "first": group.first.to_string(),
                "last": group.last.to_string(),
                "example": group.example,
            })
        });
        let replays = self.late.iter().map(|(source, span)| {
            json!({
                "source": source,
                "from": span.0.to_string(),
                "to": span.1.to_string(),
                "command": replay(source, *span),
            })
        });
        show::json(&json!({
            "groups": groups.collect::<Vec<_>>(),
            "late": replays.collect::<Vec<_>>(),
        }))
    }
}

/// Returns the command that reads the intervals of late readings once more.
fn replay(source: &str, (from, to): (EventTime, EventTime)) -> String {
    format!("windrow replay {} --from {from} --to {to}", quoted(source))
}

/// Returns a word as a shell reads it.
fn quoted(word: &str) -> String {
    let is_plain = |char: char| char.is_ascii_alphanumeric() || "-_./:=@%+,".contains(char);
    match !word.is_empty() && !word.starts_with('-') && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// Returns a text in which characters that control a terminal are escaped.
pub(super) fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for char in text.chars() {
        match char.is_control() {
            true => printable.extend(char.escape_default()),
            false => printable.push(char),
        }
    }
    printable
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_for_a_shell() {
        for (name, word) in [
            ("readings", "readings"),
            ("plant a", "'plant a'"),
            ("it's", r"'it'\''s'"),
            ("--from", "'--from'"),
            ("", "''"),
        ] {
            assert_eq!(quoted(name), word);
        }
        assert_eq!(printable("ä\u{1b}[2J\n"), r"ä\u{1b}[2J\n");
    }
}
