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

/// The start of the first interval and the end of the last.
type Span = (EventTime, EventTime);

/// All groups, and the intervals of late readings.
#[derive(Debug, Default)]
pub(super) struct Groups {
    groups: BTreeMap<Of, Group>,
    /// The start of the first interval and the end of the last, by source.
    late: BTreeMap<String, Span>,
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

    /// Shows them, and the commands that `replay` gives for the late readings of a source.
    pub(super) fn show(
        &self,
        output: OutputFormat,
        replay: impl Fn(&str, Span) -> String,
    ) -> Result<(), CliError> {
        if output == OutputFormat::Json {
            return self.show_json(replay);
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

    fn show_json(&self, replay: impl Fn(&str, Span) -> String) -> Result<(), CliError> {
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
    fn what_a_terminal_would_obey_is_shown_as_text() {
        assert_eq!(printable("ä\u{1b}[2J\n"), r"ä\u{1b}[2J\n");
    }
}
