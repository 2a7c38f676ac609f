//! Detects partitions that another program takes from this source's producers.
//!
//! The service lets one receiver with an epoch read a partition of a consumer group: the one with the highest epoch, and
//! of equal ones the newest. Ours have epoch 0. A producer that takes over a partition says so in the store first, so a
//! receiver that is displaced while the claim in the store is ours was displaced by somebody else's program. Stop that
//! program, or give it its own consumer group.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use windrow_common::Reminder;

/// The partitions that a foreign reader holds now.
#[derive(Default)]
pub(super) struct Foreign {
    thefts: BTreeMap<String, Theft>,
    /// By partition, also of thefts that are over: a reader that comes and goes is a line a minute as well.
    reminders: BTreeMap<String, Reminder>,
}

struct Theft {
    times: u64,
    /// The service's text about the reader.
    why: String,
    last: Instant,
    /// Whether it was logged.
    is_told: bool,
}

impl Foreign {
    /// Notes that a partition was stolen. Returns how many times so far, if it is time to log it.
    pub(super) fn note(&mut self, partition: &str, why: String, now: Instant) -> Option<u64> {
        let theft = self.thefts.entry(partition.to_owned()).or_insert(Theft {
            times: 0,
            why: String::new(),
            last: now,
            is_told: false,
        });
        theft.times += 1;
        (theft.why, theft.last) = (why, now);
        let reminder = self.reminders.entry(partition.to_owned()).or_default();
        let is_due = reminder.is_due(now);
        theft.is_told |= is_due;
        is_due.then_some(theft.times)
    }

    pub(super) fn has(&self, partition: &str) -> bool {
        self.thefts.contains_key(partition)
    }

    /// Returns the stolen partitions.
    pub(super) fn partitions(&self) -> Vec<String> {
        self.thefts.keys().cloned().collect()
    }

    /// Returns the partitions whose last theft is longer ago than `calm`.
    pub(super) fn calm(&self, calm: Duration, now: Instant) -> Vec<String> {
        let calm = self
            .thefts
            .iter()
            .filter(|(_, theft)| now.duration_since(theft.last) > calm);
        calm.map(|(partition, _)| partition.clone()).collect()
    }

    /// Forgets a partition. Returns whether its theft was logged; `None` if it was not stolen.
    pub(super) fn forget(&mut self, partition: &str) -> Option<bool> {
        self.thefts.remove(partition).map(|theft| theft.is_told)
    }

    /// Returns what is wrong, in a sentence; `None` if nothing is stolen.
    pub(super) fn outage(&self, consumer_group: &str) -> Option<String> {
        let why = &self.thefts.values().next()?.why;
        let names = self.partitions().join(", ");
        let which = match self.thefts.len() {
            1 => format!("partition {names} is"),
            _ => format!("partitions {names} are"),
        };
        Some(format!(
            "{which} stolen repeatedly by a reader that is not one of this source's producers ({why}); stop that \
             reader, or give it a consumer group other than {consumer_group}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_theft_is_one_line_a_minute_until_the_partition_is_left_alone() {
        let (mut foreign, start) = (Foreign::default(), Instant::now());
        let second = Duration::from_secs(1);
        let mut lines = Vec::new();
        for number in 0..13 {
            lines.extend(foreign.note("3", "epoch 5".to_owned(), start + 10 * number * second));
        }
        assert_eq!(lines, [1, 7, 13]);
        foreign.note("4", "epoch 6".to_owned(), start + 125 * second);
        let outage = foreign.outage("scoring").unwrap();
        assert!(
            outage.starts_with("partitions 3, 4 are stolen repeatedly"),
            "{outage}"
        );
        assert!(
            outage.contains("(epoch 5)") && outage.contains("other than scoring"),
            "{outage}"
        );
        assert_eq!(foreign.calm(30 * second, start + 151 * second), ["3"]);
        assert_eq!((foreign.forget("3"), foreign.forget("3")), (Some(true), None));
        assert!(foreign.outage("scoring").unwrap().starts_with("partition 4 is"));
        foreign.forget("4");
        assert_eq!(foreign.outage("scoring"), None);
        let again = |seconds| (start + seconds * second, "epoch 7".to_owned());
        let note = |foreign: &mut Foreign, (at, why)| foreign.note("4", why, at);
        assert_eq!(
            note(&mut foreign, again(130)),
            None,
            "it came back within the minute"
        );
        assert_eq!(foreign.forget("4"), Some(false));
        assert_eq!(note(&mut foreign, again(186)), Some(1));
    }
}
