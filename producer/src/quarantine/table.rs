//! Reads the table `quarantine/`, and removes records from it.
//!
//! A replay after a crash may write a record once more. Readers count it once: two records are duplicates if they have
//! the same source, partition, offset, index and content. Time and reason may differ. A purged record leaves a short line,
//! so that the audit can tell it from a lost one.

use std::collections::{BTreeSet, HashMap, HashSet};

use futures::StreamExt;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use windrow_common::EventTime;
use windrow_store::{PartWriter, Store, StoreError};

use super::record::{Line, is_one, one};
use super::{Content, Record, Stored, TABLE};

/// Number of parts that are read concurrently.
const READS_IN_FLIGHT: usize = 8;
/// How the line of a purged record begins.
const PURGED: &[u8] = b"{\"purged\":";

/// A line of the table.
pub(super) enum Row {
    /// A record that is there.
    Stored(Stored),
    /// What a purge has left of a record.
    Purged(PurgedLine),
}

/// The line of a purged record. The field `purged` comes first, so that [`PURGED`] tells it from a record.
#[derive(Serialize, Deserialize)]
pub(super) struct PurgedLine {
    /// A hash of the content, in hexadecimal.
    purged: String,
    pub(super) source: String,
    partition: String,
    offset: u64,
    index: u32,
    /// How many readings it held; absent if it was one.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub(super) readings: u64,
    /// When it was measured, if it was late.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) late: Option<String>,
}

/// Calls `each` with every record that was set aside up to the time `to`, in the order in which they were written.
pub async fn read(
    store: &Store,
    to: Option<EventTime>,
    mut each: impl FnMut(Stored),
) -> Result<(), StoreError> {
    let mut known = Known::default();
    let mut seen = HashSet::new();
    for_each_line(store, to, |_, row| match row {
        Row::Stored(stored) if seen.insert(known.key(&stored)) => each(stored),
        Row::Stored(_) => {}
        Row::Purged(line) => _ = seen.insert(known.key_of_purged(&line)),
    })
    .await
}

/// What [`purge`] has removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// Records, not counting duplicates.
    pub records: u64,
    /// The readings that they held.
    pub readings: u64,
}

/// Removes the records that `wants` selects, and their duplicates.
///
/// A part is never changed: what stays of it is written as a new part before it is deleted. A crash in between leaves
/// duplicates, and loses nothing.
pub async fn purge(store: &Store, mut wants: impl FnMut(&Stored) -> bool) -> Result<Purged, StoreError> {
    let mut known = Known::default();
    let (mut seen, mut doomed, mut parts) = (HashSet::new(), HashSet::new(), BTreeSet::new());
    let mut purged = Purged::default();
    for_each_line(store, None, |part, row| {
        let Row::Stored(stored) = row else {
            return;
        };
        let key = known.key(&stored);
        if seen.insert(key) && wants(&stored) {
            doomed.insert(key);
            purged.records += 1;
            purged.readings += stored.record.readings;
        }
        if doomed.contains(&key) && !parts.contains(part) {
            parts.insert(part.to_owned());
        }
    })
    .await?;
    let writer = PartWriter::new(store, "purge");
    for part in parts {
        let mut left = Vec::new();
        if let Some(bytes) = store.get(&part).await? {
            lines_of(&part, &bytes, |line, row| {
                match row {
                    Row::Stored(stored) if doomed.contains(&known.key(&stored)) => {
                        // Writing to memory does not fail, and a line of strings and numbers has a text.
                        _ = serde_json::to_writer(&mut left, &PurgedLine::of(&stored));
                    }
                    _ => left.extend_from_slice(line),
                }
                left.push(b'\n');
            })?;
        }
        writer.write_beside(&part, left.into()).await?;
        store.delete(&part).await?;
    }
    Ok(purged)
}

/// Calls `each` with the part and the content of every line, duplicates included.
pub(super) async fn for_each_line(
    store: &Store,
    to: Option<EventTime>,
    mut each: impl FnMut(&str, Row),
) -> Result<(), StoreError> {
    let mut parts = store.list(TABLE).await?;
    parts.retain(|part| part.path.ends_with(".ndjson") && to.is_none_or(|to| hour_of(&part.path) <= to));
    let reads = parts.into_iter().map(|part| async move {
        let bytes = store.get(&part.path).await?;
        Ok::<_, StoreError>((part.path, bytes))
    });
    let mut reads = futures::stream::iter(reads).buffered(READS_IN_FLIGHT);
    while let Some(read) = reads.next().await {
        // A part that no longer exists was purged: what is left of it is in another part.
        if let (part, Some(bytes)) = read? {
            lines_of(&part, &bytes, |_, row| each(&part, row))?;
        }
    }
    Ok(())
}

fn lines_of(part: &str, bytes: &[u8], mut each: impl FnMut(&[u8], Row)) -> Result<(), StoreError> {
    let hour = hour_of(part);
    for (line, number) in bytes.split(|&byte| byte == b'\n').zip(1..) {
        if line.is_empty() {
            continue;
        }
        let row = Row::parse(line, hour).map_err(|why| StoreError::Damaged {
            path: part.to_owned(),
            why: format!("line {number}: {why}"),
        })?;
        each(line, row);
    }
    Ok(())
}

impl Row {
    /// Parses a line in a part of the hour `hour`.
    fn parse(line: &[u8], hour: EventTime) -> Result<Self, String> {
        if line.starts_with(PURGED) {
            let purged = serde_json::from_slice(line).map_err(|error| error.to_string())?;
            return Ok(Self::Purged(purged));
        }
        let line: Line<'_> = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        line.stored(hour).map(Self::Stored)
    }
}

impl PurgedLine {
    fn of(stored: &Stored) -> Self {
        Self {
            purged: format!("{:016x}", hash(&stored.record.content)),
            source: stored.source.clone(),
            partition: stored.partition.clone(),
            offset: stored.record.offset,
            index: stored.record.index,
            readings: stored.record.readings,
            late: stored.late().map(|time| time.to_string()),
        }
    }
}

/// Returns the hour of a part, `quarantine/date=YYYY-MM-DD/hour=HH/<part>.ndjson`.
pub(super) fn hour_of(part: &str) -> EventTime {
    let mut names = part.split('/').skip(1);
    let date = names.next().and_then(|date| date.strip_prefix("date="));
    let hour = names.next().and_then(|hour| hour.strip_prefix("hour="));
    date.zip(hour)
        .and_then(|(date, hour)| format!("{date}T{hour}:00:00Z").parse().ok())
        .unwrap_or(EventTime::MIN)
}

/// What tells duplicates from other records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// The number of the source and partition.
    partition: u32,
    offset: u64,
    index: u32,
    /// A hash of the content. The same place holds something else if the source was read with other options, or a file
    /// was replaced.
    content: u64,
}

/// The sources and partitions that were seen, as small numbers.
#[derive(Default)]
pub(super) struct Known(HashMap<(String, String), u32>);

impl Known {
    pub(super) fn key(&mut self, stored: &Stored) -> Key {
        let Record { offset, index, .. } = stored.record;
        Key {
            partition: self.partition(&stored.source, &stored.partition),
            offset,
            index,
            content: hash(&stored.record.content),
        }
    }

    pub(super) fn key_of_purged(&mut self, line: &PurgedLine) -> Key {
        Key {
            partition: self.partition(&line.source, &line.partition),
            offset: line.offset,
            index: line.index,
            // Another text is of no record that is known.
            content: u64::from_str_radix(&line.purged, 16).unwrap_or_default(),
        }
    }

    fn partition(&mut self, source: &str, partition: &str) -> u32 {
        let next = self.0.len() as u32;
        let names = (source.to_owned(), partition.to_owned());
        *self.0.entry(names).or_insert(next)
    }
}

/// Returns the first bytes of the SHA-256 of the content. The lines of purged records keep it.
fn hash(content: &Content) -> u64 {
    let mut hasher = Sha256::new();
    match content {
        Content::Item { raw, .. } => {
            hasher.update(raw.whole_bytes().to_be_bytes());
            hasher.update(raw.bytes());
        }
        Content::Reading {
            sensor, time, value, ..
        } => hasher.update(format!("{sensor}\0{time}\0{}", value.to_bits())),
    }
    let digest = hasher.finalize();
    digest
        .iter()
        .take(8)
        .fold(0, |hash, byte| hash << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests;
