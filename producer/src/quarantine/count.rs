//! Counts the table `quarantine/`, for the audit.

use std::collections::{BTreeMap, HashMap, HashSet};

use windrow_common::{EventTime, Length};
use windrow_store::{Store, StoreError};

use super::table::{Known, Row, for_each_line, hour_of};
use super::{QuarantineReason, TABLE};

/// What was set aside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetAsideCounts {
    /// Number of readings that are there, by reason.
    pub reasons: BTreeMap<QuarantineReason, u64>,
    /// Number of readings by source, with those that were purged.
    pub readings: BTreeMap<String, u64>,
    /// Of these, the purged ones.
    pub purged: BTreeMap<String, u64>,
    /// Of the readings of each source, the late ones, by the start of the day they were measured on.
    pub late: BTreeMap<String, BTreeMap<EventTime, u64>>,
    /// The first hour of the table; `None` if it is empty.
    pub since: Option<EventTime>,
}

/// What is counted of a row.
struct Counted {
    source: String,
    readings: u64,
    reason: Option<QuarantineReason>,
    late: Option<EventTime>,
}

/// Counts what was set aside, and what of it was purged, each record once.
pub async fn count(store: &Store) -> Result<SetAsideCounts, StoreError> {
    let mut known = Known::default();
    let (mut seen, mut purged) = (HashMap::new(), HashSet::new());
    let parts = store.list(TABLE).await?;
    let mut counts = SetAsideCounts {
        since: parts.iter().map(|part| hour_of(&part.path)).min(),
        ..SetAsideCounts::default()
    };
    for_each_line(store, None, |_, row| {
        let (key, counted) = match row {
            Row::Stored(stored) => {
                let counted = Counted {
                    readings: stored.record.readings,
                    reason: Some(stored.record.reason),
                    late: stored.late(),
                    source: stored.source.clone(),
                };
                (known.key(&stored), counted)
            }
            Row::Purged(line) => {
                let key = known.key_of_purged(&line);
                purged.insert(key);
                let counted = Counted {
                    readings: line.readings,
                    reason: None,
                    late: line.late.as_deref().and_then(|time| time.parse().ok()),
                    source: line.source,
                };
                (key, counted)
            }
        };
        seen.entry(key).or_insert(counted);
    })
    .await?;
    for (key, row) in seen {
        match row.reason.filter(|_| !purged.contains(&key)) {
            Some(reason) => *counts.reasons.entry(reason).or_default() += row.readings,
            None => *counts.purged.entry(row.source.clone()).or_default() += row.readings,
        }
        if let Some(time) = row.late {
            let days = counts.late.entry(row.source.clone()).or_default();
            *days.entry(time.floor(Length::DAY)).or_default() += row.readings;
        }
        *counts.readings.entry(row.source).or_default() += row.readings;
    }
    Ok(counts)
}
