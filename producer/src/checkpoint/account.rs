//! What the checkpoints of a store say about the readings of their sources, for the audit.

use std::collections::BTreeMap;

use windrow_common::{EventTime, Length, encode_name};
use windrow_store::Store;

use super::saved::Saved;
use super::{CheckpointError, Origin};
use crate::window::{Judged, Ledger};

const FOLDER: &str = "checkpoints";

/// The account of one checkpoint: where the readings of its partitions are.
#[derive(Clone, Debug)]
pub struct Account {
    /// The checkpoint's blob.
    pub path: String,
    /// The source's name, percent-encoded.
    pub source: String,
    /// What was read.
    pub origin: Origin,
    /// The length of its windows.
    pub window: Length,
    /// The interval of its messages.
    pub interval: Length,
    /// What became of the readings of each partition.
    pub partitions: BTreeMap<String, Judged>,
    /// What became of those that were put in windows.
    pub ledger: Ledger,
    /// When something was first put in quarantine.
    pub quarantined_since: Option<EventTime>,
}

impl Account {
    /// Returns whether the counts begin in the middle, because an older version did not count.
    pub fn is_partial(&self) -> bool {
        self.partitions.values().any(|counts| counts.is_partial)
    }
}

/// Reads the accounts of all checkpoints in a store.
pub async fn accounts(store: &Store) -> Result<Vec<Account>, CheckpointError> {
    let mut accounts = Vec::new();
    for path in store.list(FOLDER).await?.into_iter().map(|blob| blob.path) {
        // `checkpoints/<source>/<group>.json`; claims are one folder deeper.
        let parts: Vec<_> = path.split('/').collect();
        let [FOLDER, source, _] = parts[..] else { continue };
        let source = source.to_owned();
        let Some(bytes) = store.get(&path).await? else {
            continue;
        };
        let damaged = |why: String| CheckpointError::Damaged {
            path: path.clone(),
            why,
            way_on: "start its producer, which says how to go on",
        };
        let saved: Saved = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        let lengths = [saved.window_ms, saved.interval_ms].map(Length::from_millis);
        if !lengths.iter().all(|length| length.is_positive()) {
            return Err(damaged("a window or interval has no length".to_owned()));
        }
        let [window, interval] = lengths;
        let since = saved.quarantined_since.as_deref();
        let since = since.map(|text| EventTime::parse(text.as_bytes()));
        accounts.push(Account {
            source: saved.source_name.as_deref().map_or(source, encode_name),
            window,
            interval,
            partitions: saved
                .partitions
                .iter()
                .map(|(name, partition)| (name.clone(), partition.counts()))
                .collect(),
            ledger: saved.ledger().map_err(damaged)?,
            quarantined_since: since.transpose().map_err(|error| damaged(error.to_string()))?,
            path: path.clone(),
            origin: saved.origin,
        });
    }
    Ok(accounts)
}
