//! Several files: which one is read next, and what is known of those that are not read yet.

use windrow_common::ScoringMessage;

use super::*;
use crate::window::{Emitted, Position, WindowConfig, Windower};

const DAY: i64 = 86_400;
/// 2026-01-01
const START: i64 = 1_767_225_600;

fn folder(files: &[(&str, String)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, rows) in files {
        fs::write(folder.path().join(name), format!("{HEADER}{rows}")).unwrap();
    }
    folder
}

/// Returns the rows of a day from `start` on, a minute apart.
fn day(start: i64, device: &str) -> String {
    (0..DAY / 60)
        .map(|at| format!("{},{device},t,{at}\n", start + at * 60))
        .collect()
}

/// Reads to the end through the windower, as the ingest thread does. After each run, `look` gets its partition, the
/// messages it led to and the number of open windows.
fn ingest(source: &mut FileSource, mut look: impl FnMut(usize, &[ScoringMessage], usize)) -> usize {
    let config = WindowConfig {
        window: Duration::from_secs(3_600),
        ..WindowConfig::default()
    };
    let position = Position::start(source.partitions().len());
    let now = Instant::now();
    let mut windower = Windower::of_source(config.validate().unwrap(), &position, source, now);
    let (mut sensors, mut batch) = (SensorTable::new(), Batch::default());
    let (mut out, mut count) = (Emitted::default(), 0);
    while source.read(&mut sensors, &mut batch).unwrap() == Read::Batch {
        windower.take(&mut batch, &sensors, now, &mut out);
        // A batch of a scan is empty.
        if !batch.readings.is_empty() || batch.ended {
            look(batch.partition, &out.messages, windower.open_windows());
        }
        count += out.messages.len();
        out.messages.clear();
    }
    windower.close_all(&sensors, &mut out);
    assert_eq!(out.quarantined, []);
    count + out.messages.len()
}

#[test]
fn daily_files_are_read_one_after_another_and_their_windows_closed_on_the_way() {
    let names = ["1.csv", "2.csv", "3.csv", "4.csv", "5.csv"];
    let files: Vec<_> = (0..)
        .zip(names)
        .map(|(at, name)| (name, day(START + at * DAY, "d")))
        .collect();
    let folder = folder(&files);
    let (mut order, mut most_open, mut first_day) = (Vec::new(), 0, 0);
    let messages = ingest(
        &mut open(folder.path(), Until::CaughtUp),
        |partition, messages, open| {
            order.push(partition);
            most_open = most_open.max(open);
            let through = EventTime::from_millis((START + DAY) * 1_000);
            first_day += messages
                .iter()
                .filter(|message| partition < 2 && message.interval.end() <= through)
                .count();
        },
    );
    assert!(order.is_sorted(), "{order:?}");
    assert_eq!((first_day, messages), (24, 5 * 24));
    // A run is a day here, and its windows close after it; those of the last day wait for the end.
    assert!(most_open <= 25, "{most_open} windows were open");
}

#[test]
fn a_file_for_each_device_is_read_in_step_with_the_others() {
    // Twenty days each, so that a file takes several turns.
    let long = |device: &str| (0..20).map(|at| day(START + at * DAY, device)).collect();
    let folder = folder(&[("a.csv", long("a")), ("b.csv", long("b")), ("c.csv", long("c"))]);
    let mut turns = [0_usize; 3];
    let mut most_open = 0;
    ingest(&mut open(folder.path(), Until::CaughtUp), |partition, _, open| {
        turns[partition] += 1;
        most_open = most_open.max(open);
        let (least, most) = (turns.iter().min().unwrap(), turns.iter().max().unwrap());
        assert!(most - least <= 1 || *least >= 8, "{turns:?}");
    });
    let windows_in_a_turn = ROWS_PER_BATCH / 60 + 2;
    assert!(
        most_open <= 3 * windows_in_a_turn,
        "{most_open} windows were open"
    );
}

#[test]
fn looking_ahead_tells_the_next_reading_until_it_is_read() {
    let folder = folder(&[
        ("1.csv", format!("nonsense\n{}", rows(START, 10))),
        ("2.csv", rows(START + DAY, 10)),
        ("3.csv", String::new()),
    ]);
    let mut source = open(folder.path(), Until::CaughtUp);
    let at = |second| Some(EventTime::from_millis(second * 1_000));
    assert_eq!(
        [0, 1, 2, 9].map(|partition| source.next_time(partition)),
        [at(START), at(START + DAY), None, None]
    );
    let second_row = HEADER.len() as u64 + rows(START, 1).len() as u64;
    source.seek(1, Offset(second_row)).unwrap();
    assert_eq!(source.next_time(1), at(START + DAY + 1));
    drain(&mut source);
    assert_eq!(source.next_time(1), None);
}

#[test]
fn a_first_reading_that_will_be_quarantined_is_not_looked_ahead_to() {
    let strange = "9000-01-01 00:00:00,d,t,1\n2026-03-01 00:00:00,d,t,nan\n2026-04-01 00:00:00,d,t,-1e200\n";
    let folder = folder(&[
        ("1.csv", format!("{strange}{}", rows(START, 10))),
        ("2.csv", rows(START + 5, 10)),
    ]);
    let mut source = open(folder.path(), Until::CaughtUp);
    assert_eq!(source.next_time(0), Some(EventTime::from_millis(START * 1_000)));
    let (mut sensors, mut batch) = (SensorTable::new(), Batch::default());
    source.read(&mut sensors, &mut batch).unwrap();
    assert_eq!(batch.partition, 0);
}

#[test]
fn a_folder_may_hold_files_of_every_kind_and_others() {
    let folder = folder(&[("a.csv", rows(1, 1)), ("README.txt", String::new())]);
    let json = "{\"ts\":1,\"device\":\"d\",\"tag\":\"t\",\"value\":7}\n";
    fs::write(folder.path().join("b.ndjson.gz"), gzip(json.as_bytes())).unwrap();
    let row = (1, "d".to_owned(), "t".to_owned(), 8.0);
    fs::write(folder.path().join("c.parquet"), columnar::parquet(&[row])).unwrap();
    fs::write(
        folder.path().join("d.TSV"),
        "ts\tdevice\ttag\tvalue\n1\td\tt\t9\n",
    )
    .unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt;
        let name = std::ffi::OsStr::from_bytes(b"caf\xe9.txt");
        fs::write(folder.path().join(name), "").unwrap();
    }
    let mut source = open(folder.path(), Until::CaughtUp);
    assert_eq!(
        source.partitions(),
        ["a.csv", "b.ndjson.gz", "c.parquet", "d.TSV"]
    );
    let values: Vec<_> = drain(&mut source).iter().map(Log::values).collect();
    assert_eq!(values, [[0.0], [7.0], [8.0], [9.0]]);
    assert_eq!(source.progress().done, source.progress().total.unwrap());
}

#[test]
fn more_files_than_may_be_open_are_read_in_step_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let files = MAX_OPEN_FILES + 20;
    for at in 0..files {
        let text = format!("{HEADER}{}", rows(START, ROWS_PER_BATCH as i64 + 10));
        fs::write(folder.path().join(format!("{at}.csv")), text).unwrap();
    }
    let mut source = open(folder.path(), Until::CaughtUp);
    let (mut sensors, mut batch, mut read) = (SensorTable::new(), Batch::default(), 0);
    while source.read(&mut sensors, &mut batch).unwrap() == Read::Batch {
        read += batch.readings.len();
        let open = source
            .partitions
            .iter()
            .filter(|partition| partition.is_open())
            .count();
        assert!(open <= MAX_OPEN_FILES);
    }
    assert_eq!(read, files * (ROWS_PER_BATCH + 10));
}

#[test]
fn an_empty_or_missing_input_says_what_was_looked_for() {
    let empty = tempfile::tempdir().unwrap();
    let refused = |path: &Path| {
        let error = FileSource::open(path, &any_epoch(), Until::CaughtUp)
            .err()
            .unwrap();
        assert!(matches!(error, SourceError::NoInput { .. }));
        error.to_string()
    };
    assert!(refused(empty.path()).contains("holds no file named .csv, .tsv"));
    assert!(refused(&empty.path().join("x.csv")).contains("cannot be read"));
    let (_folder, path) = file("a.txt", "");
    assert!(refused(&path).contains("a file to read is named .csv"));
}
