//! Names of the parts that make up a table.

use crate::{EventTime, encode_segment, random};

/// Longest name of a task in a part's, in characters: file systems take names of 255 bytes.
const MAX_WHO: usize = 100;

/// Gives every part a name nobody else gives, in this process or another: when it began, chance, and a running number.
///
/// Parts are not overwritten. A part written again after a crash repeats rows, and readers drop repeats by key.
#[derive(Debug)]
pub struct PartNames {
    prefix: String,
    next: u64,
}

impl PartNames {
    /// Names for the parts of one task; `who` tells a person whose they are.
    pub fn new(who: &str) -> Self {
        let started = EventTime::now().as_millis();
        let who: String = encode_segment(who).chars().take(MAX_WHO).collect();
        Self {
            // Containers all have the same process id, and a fleet may start in the same millisecond.
            prefix: format!("{started}-{:016x}-{who}", random()),
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
