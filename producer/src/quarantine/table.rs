//! Reads the table `quarantine/`, and removes records from it.
//!
//! A replay after a crash may write a record once more. Readers count it once: two records are duplicates if they have
//! the same source, partition, offset, index and content. Time and reason may differ. A purged record leaves a short line,
//! so that the audit can tell it from a lost one.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use futures::StreamExt;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use windrow_common::EventTime;
use windrow_store::{PartWriter, Store, StoreError};

use super::record::{Line, is_one, one};
use super::{Content, QuarantineReason, Record, Stored, TABLE};

/// Number of parts that are read concurrently.
const READS_IN_FLIGHT: usize = 8;
/// How the line of a purged record begins.
const PURGED: &[u8] = b"{\"purged\":";

/// A line of the table.
enum Row {
    /// A record that is there.
    Stored(Stored),
    /// What a purge has left of a record.
    Purged(PurgedLine),
}

/// The line of a purged record. The field `purged` comes first, so that [`PURGED`] tells it from a record.
#[derive(Serialize, Deserialize)]
struct PurgedLine {
    /// A hash of the content, in hexadecimal.
    purged: String,
    source: String,
    partition: String,
    offset: u64,
    index: u32,
    /// How many readings it held; absent if it was one.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    readings: u64,
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

/// Returns the number of readings in quarantine, by reason.
pub async fn count(store: &Store) -> Result<BTreeMap<QuarantineReason, u64>, StoreError> {
    let mut counts = BTreeMap::new();
    read(store, None, |stored| {
        *counts.entry(stored.record.reason).or_default() += stored.record.readings;
    })
    .await?;
    Ok(counts)
}

/// What was set aside, for an audit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetAsideCounts {
    /// Number of readings by source, with those that were purged.
    pub readings: BTreeMap<String, u64>,
    /// Of these, the purged ones.
    pub purged: BTreeMap<String, u64>,
    /// The first hour of the table; `None` if it is empty.
    pub since: Option<EventTime>,
}

/// Counts what was set aside, and what of it was purged.
pub async fn count_all(store: &Store) -> Result<SetAsideCounts, StoreError> {
    let mut known = Known::default();
    let (mut seen, mut purged) = (HashMap::new(), HashSet::new());
    let parts = store.list(TABLE).await?;
    let mut counts = SetAsideCounts {
        since: parts.iter().map(|part| hour_of(&part.path)).min(),
        ..SetAsideCounts::default()
    };
    for_each_line(store, None, |_, row| {
        let (key, source, readings) = match row {
            Row::Stored(stored) => (known.key(&stored), stored.source, stored.record.readings),
            Row::Purged(line) => {
                let key = known.key_of_purged(&line);
                purged.insert(key);
                (key, line.source, line.readings)
            }
        };
        seen.entry(key).or_insert((source, readings));
    })
    .await?;
    for (key, (source, readings)) in seen {
        if purged.contains(&key) {
            *counts.purged.entry(source.clone()).or_default() += readings;
        }
        *counts.readings.entry(source).or_default() += readings;
    }
    Ok(counts)
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
async fn for_each_line(
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
        }
    }
}

/// Returns the hour of a part, `quarantine/date=YYYY-MM-DD/hour=HH/<part>.ndjson`.
fn hour_of(part: &str) -> EventTime {
    let mut names = part.split('/').skip(1);
    let date = names.next().and_then(|date| date.strip_prefix("date="));
    let hour = names.next().and_then(|hour| hour.strip_prefix("hour="));
    date.zip(hour)
        .and_then(|(date, hour)| format!("{date}T{hour}:00:00Z").parse().ok())
        .unwrap_or(EventTime::MIN)
}

/// What tells duplicates from other records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
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
struct Known(HashMap<(String, String), u32>);

impl Known {
    fn key(&mut self, stored: &Stored) -> Key {
        let Record { offset, index, .. } = stored.record;
        Key {
            partition: self.partition(&stored.source, &stored.partition),
            offset,
            index,
            content: hash(&stored.record.content),
        }
    }

    fn key_of_purged(&mut self, line: &PurgedLine) -> Key {
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
mod tests {
    use windrow_common::SensorId;

    use super::*;
    use crate::source::Raw;

    fn unreadable(offset: u64, index: u32, raw: &[u8]) -> Record {
        Record {
            reason: QuarantineReason::Unreadable,
            offset,
            index,
            readings: 10,
            detail: "bad".into(),
            content: Content::Item {
                line: None,
                raw: Raw::of(raw),
                envelope: None,
            },
        }
    }

    fn late(offset: u64, device: &str) -> Record {
        Record {
            reason: QuarantineReason::Late,
            offset,
            index: 0,
            readings: 1,
            detail: "late".into(),
            content: Content::Reading {
                sensor: SensorId::new(device, "t").unwrap(),
                time: EventTime::from_millis(0),
                value: 1.0,
                interval: None,
            },
        }
    }

    /// Writes one part with these records of the partitions named. The parts of one writer are read in their order.
    async fn write(writer: &PartWriter, records: &[(&str, Record)]) {
        let at = EventTime::now();
        let lines = records
            .iter()
            .map(|(partition, record)| Line::new("s", partition, at, record));
        writer.write_lines(TABLE, lines).await.unwrap();
    }

    async fn records(store: &Store) -> Vec<(String, u64, QuarantineReason)> {
        let mut all = Vec::new();
        let each = |stored: Stored| all.push((stored.partition, stored.record.offset, stored.record.reason));
        read(store, None, each).await.unwrap();
        all
    }

    async fn parts(store: &Store) -> Vec<String> {
        let parts = store.list(TABLE).await.unwrap();
        parts.into_iter().map(|part| part.path).collect()
    }

    #[tokio::test]
    async fn what_a_replay_sets_aside_again_counts_once() {
        let store = Store::create("memory:///").unwrap();
        let writer = PartWriter::new(&store, "p");
        let far = Record {
            reason: QuarantineReason::FarFuture,
            ..late(9, "d")
        };
        write(
            &writer,
            &[
                ("0", unreadable(5, 0, b"x")),
                ("0", unreadable(5, 1, b"x")),
                ("0", far),
            ],
        )
        .await;
        // The same once more, for another reason too; and what only looks alike.
        write(
            &writer,
            &[
                ("0", unreadable(5, 0, b"x")),
                ("0", late(9, "d")),
                ("1", unreadable(5, 0, b"x")),
                ("0", unreadable(5, 0, b"y")),
                ("0", late(9, "e")),
            ],
        )
        .await;
        let counts = count(&store).await.unwrap();
        let wanted = [
            (QuarantineReason::Unreadable, 40),
            (QuarantineReason::FarFuture, 1),
            (QuarantineReason::Late, 1),
        ];
        assert_eq!(counts, wanted.into());
        let before = Some(EventTime::now().saturating_sub(std::time::Duration::from_secs(7_200)));
        let mut none = 0;
        read(&store, before, |_| none += 1).await.unwrap();
        assert_eq!(none, 0, "an hour after `to` is not read");
    }

    #[tokio::test]
    async fn a_purge_removes_what_is_wanted_with_its_duplicates_and_nothing_else() {
        let store = Store::create("memory:///").unwrap();
        let writer = PartWriter::new(&store, "p");
        let first = [
            ("0", late(1, "d")),
            ("0", late(2, "e")),
            ("0", unreadable(3, 0, b"\xff")),
        ];
        write(&writer, &first).await;
        write(&writer, &[("0", late(1, "d"))]).await;
        write(&writer, &[("1", late(4, "e"))]).await;
        let before = parts(&store).await;
        let old = store.get(&before[0]).await.unwrap().unwrap();
        let of_d = |stored: &Stored| matches!(&stored.record.content, Content::Reading { sensor, .. } if &*sensor.device == "d");
        let purged = purge(&store, of_d).await.unwrap();
        assert_eq!((purged.records, purged.readings), (1, 1));
        let left = [
            ("0".to_owned(), 2, QuarantineReason::Late),
            ("0".to_owned(), 3, QuarantineReason::Unreadable),
            ("1".to_owned(), 4, QuarantineReason::Late),
        ];
        let mut found = records(&store).await;
        found.sort();
        assert_eq!(found, left);
        let after = parts(&store).await;
        assert_eq!(after.len(), 3, "{after:?}");
        let counts = count_all(&store).await.unwrap();
        assert_eq!(counts.readings, BTreeMap::from([("s".to_owned(), 13)]));
        assert_eq!(counts.purged, BTreeMap::from([("s".to_owned(), 1)]));
        assert!(
            after.contains(&before[2]),
            "a part without a match is not touched"
        );

        // A crash between the write and the delete leaves both parts.
        store.put(&before[0], old).await.unwrap();
        let purged = purge(&store, of_d).await.unwrap();
        assert_eq!(purged.records, 1);
        let mut found = records(&store).await;
        found.sort();
        assert_eq!(found, left);
        let counts = count_all(&store).await.unwrap();
        assert_eq!((counts.readings["s"], counts.purged["s"]), (13, 1));

        // The line of a purged item says how many readings it held.
        let purged = purge(&store, |stored| stored.record.readings == 10)
            .await
            .unwrap();
        assert_eq!((purged.records, purged.readings), (1, 10));
        let counts = count_all(&store).await.unwrap();
        assert_eq!((counts.readings["s"], counts.purged["s"]), (13, 11));
    }

    #[tokio::test]
    async fn a_damaged_line_is_named() {
        let store = Store::create("memory:///").unwrap();
        let part = "quarantine/date=2026-01-05/hour=07/x.ndjson";
        store.put(part, "{}\n").await.unwrap();
        let error = count(&store).await.unwrap_err().to_string();
        assert!(
            error.starts_with(part) && error.contains("line 1: missing field"),
            "{error}"
        );
        assert_eq!(hour_of(part).to_string(), "2026-01-05T07:00:00Z");
    }
}
