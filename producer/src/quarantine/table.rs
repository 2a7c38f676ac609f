//! Reads the table `quarantine/`, and removes records from it.
//!
//! A replay after a crash may set something aside once more. Whoever reads the table counts it once: two records are
//! duplicates if they have the same source, partition, offset, index and content. When and why may differ.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use futures::StreamExt;
use windrow_common::EventTime;
use windrow_store::{PartWriter, Store, StoreError};

use super::record::Line;
use super::{Content, QuarantineReason, Record, Stored, TABLE};

/// Number of parts that are read concurrently.
const READS_IN_FLIGHT: usize = 8;

/// Calls `each` with every record that was set aside up to the time `to`, in the order in which they were written.
pub async fn read(
    store: &Store,
    to: Option<EventTime>,
    mut each: impl FnMut(Stored),
) -> Result<(), StoreError> {
    let mut known = Known::default();
    let mut seen = HashSet::new();
    for_each_line(store, to, |_, _, stored| {
        if seen.insert(known.key(&stored)) {
            each(stored);
        }
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
    for_each_line(store, None, |part, _, stored| {
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
            lines_of(&part, &bytes, |line, stored| {
                if !doomed.contains(&known.key(&stored)) {
                    left.extend_from_slice(line);
                    left.push(b'\n');
                }
            })?;
        }
        if !left.is_empty() {
            writer.write_beside(&part, left.into()).await?;
        }
        store.delete(&part).await?;
    }
    Ok(purged)
}

/// Calls `each` with the part, the text and the record of every line, duplicates included.
async fn for_each_line(
    store: &Store,
    to: Option<EventTime>,
    mut each: impl FnMut(&str, &[u8], Stored),
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
            lines_of(&part, &bytes, |line, stored| each(&part, line, stored))?;
        }
    }
    Ok(())
}

fn lines_of(part: &str, bytes: &[u8], mut each: impl FnMut(&[u8], Stored)) -> Result<(), StoreError> {
    let hour = hour_of(part);
    for (line, number) in bytes.split(|&byte| byte == b'\n').zip(1..) {
        if line.is_empty() {
            continue;
        }
        let stored = serde_json::from_slice::<Line<'_>>(line)
            .map_err(|error| error.to_string())
            .and_then(|line| line.stored(hour));
        let stored = stored.map_err(|why| StoreError::Damaged {
            path: part.to_owned(),
            why: format!("line {number}: {why}"),
        })?;
        each(line, stored);
    }
    Ok(())
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
        let next = self.0.len() as u32;
        let names = (stored.source.clone(), stored.partition.clone());
        let Record { offset, index, .. } = stored.record;
        Key {
            partition: *self.0.entry(names).or_insert(next),
            offset,
            index,
            content: hash(&stored.record.content),
        }
    }
}

fn hash(content: &Content) -> u64 {
    let mut hasher = DefaultHasher::new();
    match content {
        Content::Item { raw, .. } => (0_u8, raw.bytes(), raw.whole_bytes()).hash(&mut hasher),
        Content::Reading {
            sensor, time, value, ..
        } => (1_u8, sensor, time, value.to_bits()).hash(&mut hasher),
    }
    hasher.finish()
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
        assert_eq!(after.len(), 2, "{after:?}");
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
