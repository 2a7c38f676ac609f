//! What was guessed about files, said once for all that are alike.

use std::collections::BTreeSet;

use super::partition::Partition;
use crate::source::decode::ColumnMapping;

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
