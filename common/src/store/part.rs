//! Names of the parts that make up a table.

use crate::EventTime;

/// Gives every part a name no other process gives: when this one started, who it is, and a running number.
///
/// Parts are not overwritten. A part written again after a crash repeats rows, and readers drop repeats by key.
#[derive(Debug)]
pub struct PartNames {
    prefix: String,
    next: u64,
}

impl PartNames {
    /// Names for the parts of one process or task; `who` tells tasks of one process apart.
    pub fn new(who: &str) -> Self {
        let started = EventTime::now().as_millis();
        Self {
            prefix: format!("{started}-{}-{who}", std::process::id()),
            next: 0,
        }
    }

    /// The path of the next part of `table` in the hour `hour` (see [`EventTime::hive_partition`]).
    pub fn next(&mut self, table: &str, hour: &str, ending: &str) -> String {
        let number = self.next;
        self.next += 1;
        format!("{table}/{hour}/{}-{number:06}.{ending}", self.prefix)
    }
}
