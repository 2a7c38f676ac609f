//! Counts what a run has set aside, by kind, with an example of each, for the person who has to fix the cause.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use windrow_common::{HasRemedy, Remedy};

use crate::quarantine::{QuarantineReason, Quarantined};

/// Maximum number of kinds. Further kinds are merged into one for each reason.
const MAX_KINDS: usize = 64;
/// How many kinds an error names.
const SHOWN: usize = 3;

/// Counts of what was set aside, by kind.
#[derive(Debug, Default)]
pub(crate) struct Rejects(Mutex<HashMap<(QuarantineReason, String), Reject>>);

/// Readings that were set aside for the same reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// Why.
    pub reason: QuarantineReason,
    /// How many.
    pub count: u64,
    /// The first one: where it is, and what is wrong with it.
    pub example: String,
}

impl Rejects {
    /// Counts an item of `partition` that was set aside. The first one of a kind is logged.
    pub(crate) fn note(&self, rejected: &Quarantined, partition: &str) {
        let mut kinds = self.kinds();
        let rejected = &rejected.record;
        let mut kind = (rejected.reason, rejected.kind());
        if kinds.len() >= MAX_KINDS && !kinds.contains_key(&kind) {
            kind.1.clear();
        }
        let reject = kinds.entry(kind).or_insert_with(|| {
            let example = rejected.at(partition);
            tracing::warn!(reason = %rejected.reason, example, "set aside");
            Reject {
                reason: rejected.reason,
                count: 0,
                example,
            }
        });
        reject.count += rejected.readings;
    }

    /// Returns the kinds, the most frequent first.
    pub(crate) fn list(&self) -> Vec<Reject> {
        let mut kinds: Vec<_> = self.kinds().values().cloned().collect();
        kinds.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.example.cmp(&b.example)));
        kinds
    }

    fn kinds(&self) -> MutexGuard<'_, HashMap<(QuarantineReason, String), Reject>> {
        // Nothing panics while it is locked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a run to the end of a source has scored nothing, or little of what it read.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// Everything that was read was set aside.
    #[error("nothing usable was read; {} set aside: {}", were(*.count), listed(.kinds))]
    Nothing {
        /// How many items.
        count: u64,
        /// The kinds, the most frequent first.
        kinds: Vec<Reject>,
    },
    /// More readings were late than were put in windows.
    #[error("most readings were late, {late} against {accepted} in windows: {}", listed(.kinds))]
    MostlyLate {
        /// Readings that were late.
        late: u64,
        /// Readings in windows.
        accepted: u64,
        /// The kinds of what was set aside, the most frequent first.
        kinds: Vec<Reject>,
    },
}

impl HasRemedy for Unusable {
    fn remedy(&self) -> Remedy {
        Remedy::FixConfig
    }
}

fn were(count: u64) -> String {
    match count {
        1 => "1 item was".to_owned(),
        count => format!("{count} items were"),
    }
}

/// Lists the most frequent kinds and the options that mend them.
fn listed(kinds: &[Reject]) -> String {
    let mut lines: Vec<String> = kinds.iter().take(SHOWN).map(Reject::to_string).collect();
    let mut mends: Vec<&str> = kinds.iter().take(SHOWN).map(|kind| mend(kind.reason)).collect();
    mends.dedup();
    lines.extend(mends.into_iter().map(str::to_owned));
    lines.join("; ")
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            reason,
            count,
            example,
        } = self;
        write!(f, "{count} {reason}, such as {example}")
    }
}

/// Returns what mends a reason, as far as options can.
fn mend(reason: QuarantineReason) -> &'static str {
    match reason {
        QuarantineReason::Unreadable => {
            "name the columns or fields with --column-time, --column-device, --column-tag and --column-value, or with --tags \
             those that hold one measurement each"
        }
        QuarantineReason::NonFinite | QuarantineReason::OutOfRange => {
            "--column-value names another column or field with the values"
        }
        QuarantineReason::FarFuture => {
            "--max-skew allows times that are further ahead; check their time zone and unit first"
        }
        QuarantineReason::Late => {
            "--out-of-orderness and --allowed-lateness wait longer for delayed readings"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{Offset, Raw, Unreadable};

    fn unreadable(line: u64, detail: &str) -> Quarantined {
        let unreadable = Unreadable::new(Offset(line * 10), Some(line), detail.to_owned(), Raw::default());
        Quarantined::unreadable(0, unreadable)
    }

    #[test]
    fn kinds_are_told_apart_by_what_is_wrong_and_not_by_the_values() {
        let rejects = Rejects::default();
        rejects.note(
            &unreadable(2, "column time: `00:14:40` is not a timestamp"),
            "a.csv",
        );
        rejects.note(&unreadable(3, "the row has 3 cells, the header 4"), "a.csv");
        rejects.note(
            &unreadable(4, "column time: `00:15:00` is not a timestamp"),
            "a.csv",
        );
        rejects.note(&unreadable(5, "the row has 7 cells, the header 4"), "a.csv");
        rejects.note(&unreadable(6, "column time: `it's` is not a timestamp"), "b.csv");
        let kinds = rejects.list();
        let shown: Vec<_> = kinds.iter().map(Reject::to_string).collect();
        assert_eq!(
            shown,
            [
                "3 unreadable, such as a.csv, line 2: column time: `00:14:40` is not a timestamp",
                "2 unreadable, such as a.csv, line 3: the row has 3 cells, the header 4",
            ]
        );
        let error = Unusable::Nothing { count: 5, kinds };
        let text = error.to_string();
        assert!(
            text.starts_with("nothing usable was read; 5 items were set aside: 3 unreadable"),
            "{text}"
        );
        assert!(
            text.ends_with("--tags those that hold one measurement each"),
            "{text}"
        );
    }

    #[test]
    fn the_number_of_kinds_is_bounded() {
        let rejects = Rejects::default();
        for line in 0..1_000 {
            let name = "x".repeat(line as usize % 500);
            rejects.note(&unreadable(line, &format!("column {name}: is empty")), "a.csv");
        }
        let kinds = rejects.list();
        assert_eq!(kinds.len(), MAX_KINDS + 1);
        assert_eq!(kinds.iter().map(|kind| kind.count).sum::<u64>(), 1_000);
    }
}
