use std::collections::BTreeMap;

use windrow_common::SensorId;

use super::*;
use crate::quarantine::{QuarantineReason, count};
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
    assert_eq!(counts.reasons, wanted.into());
    let late = BTreeMap::from([("s".to_owned(), BTreeMap::from([(EventTime::from_millis(0), 1)]))]);
    assert_eq!(counts.late, late);
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
    let counts = count(&store).await.unwrap();
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
    let counts = count(&store).await.unwrap();
    assert_eq!((counts.readings["s"], counts.purged["s"]), (13, 1));

    // The line of a purged item says how many readings it held.
    let purged = purge(&store, |stored| stored.record.readings == 10)
        .await
        .unwrap();
    assert_eq!((purged.records, purged.readings), (1, 10));
    let counts = count(&store).await.unwrap();
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
