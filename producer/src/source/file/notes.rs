//! What was guessed about files, said once for all that are alike.

use std::collections::BTreeSet;

use super::FileSource;
use super::partition::Partition;
use crate::source::decode::ColumnMapping;
use crate::source::suggest::with_suggestion;
use crate::source::{SourceError, Until};

/// How many different ways of writing files are told.
const MOST_SAID: usize = 20;

/// What has been said.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// Whether anything is said.
    pub(super) aloud: bool,
    summaries: BTreeSet<String>,
    zone: bool,
    twice: bool,
}

impl Notes {
    /// Says how a file is understood, unless the same was said of another.
    pub(super) fn say(&mut self, partition: &Partition, mapping: &ColumnMapping) {
        if !self.aloud {
            return;
        }
        let (file, look) = (&partition.file.name, &partition.look);
        if let Some(summary) = &look.summary
            && look.is_guessed
            && self.summaries.len() < MOST_SAID
            && self.summaries.insert(summary.clone())
        {
            tracing::info!(target: "source", file, "read as: {summary}");
        }
        if look.without_zone && mapping.timezone.is_none() && !std::mem::replace(&mut self.zone, true) {
            tracing::info!(
                target: "source",
                file,
                "its times do not say their time zone and are taken as UTC; another is given with --timezone"
            );
        }
    }

    /// Says that a time was read that occurs twice in its zone.
    pub(super) fn say_twice(&mut self, partition: &Partition) {
        if self.twice || !self.aloud {
            return;
        }
        if let Some(time) = partition.time_twice() {
            self.twice = true;
            let time = time.in_utc().to_string();
            tracing::warn!(
                target: "source",
                file = partition.file.name,
                time = time.trim_end_matches('Z'),
                "times of the hour that the clocks are put back occur twice; the first is meant, so the readings of two \
                 hours share one"
            );
        }
    }
}

impl FileSource {
    /// Says in the log how the files are understood, where they could be understood otherwise; those that turn up later, too.
    pub fn explain(mut self) -> Self {
        self.notes.aloud = true;
        for partition in &self.partitions {
            self.notes.say(partition, &self.mapping);
        }
        self
    }

    /// Returns how the files are understood, for a person: a line for each way.
    pub fn summaries(&self) -> Vec<String> {
        let mut lines: Vec<(String, u64, &str)> = Vec::new();
        for Partition { file, look, .. } in &self.partitions {
            let zone = look.without_zone && self.mapping.timezone.is_none();
            let zone = if zone {
                "; times without a zone are taken as UTC (--timezone)"
            } else {
                ""
            };
            let Some(summary) = &look.summary else { continue };
            let line = format!("{summary}{zone}");
            match lines.iter_mut().find(|(other, ..)| *other == line) {
                Some((_, files, _)) => *files += 1,
                None => lines.push((line, 1, &file.name)),
            }
        }
        let shown = lines.into_iter().map(|(line, files, name)| match files {
            1 => format!("{name}: {line}"),
            _ => format!("{name} and {} more: {line}", files - 1),
        });
        shown.collect()
    }

    /// Refuses files that are read to their end if no time in them can be read. The options are then wrong, unless they
    /// were right before, and readings must not be set aside for that. A followed file may have a bad start.
    pub(super) fn check_times(&mut self) {
        let is_read = |partition: &Partition| partition.reached().is_some();
        if self.until == Until::Stopped || self.partitions.iter().any(is_read) {
            return;
        }
        let mut looks = self
            .partitions
            .iter()
            .map(|partition| (&partition.file.path, &partition.look));
        if let Some((path, why)) = looks.find_map(|(path, look)| Some((path, look.bad_time.as_deref()?))) {
            let error = SourceError::Options {
                path: path.clone(),
                why: format!(
                    "no time in its first rows can be read: {why}; say with --column-time where the time is, and with \
                     --time-format how it is written"
                ),
            };
            self.refusal = Some(with_suggestion(error, path, &self.mapping));
        }
    }
}
