//! Everything that is written is read exactly once, wherever the reader stops and continues.

use proptest::prelude::*;

use super::columnar::parquet;
use super::*;

/// Time in ms, device, tag, value.
type Row = (i64, String, String, f64);

fn any_row() -> impl Strategy<Value = Row> {
    let name = || "[a-z0-9ä\",'/](\\PC|\n|\r|\"|,){0,6}[a-z0-9ä\",'/]";
    let value = prop_oneof![
        3 => -1e3_f64..1e3,
        2 => (-100_000_i32..100_000).prop_map(|cents| f64::from(cents) / 100.0),
        2 => any::<f64>().prop_filter("finite", |value| value.is_finite()),
    ];
    let time = EventTime::MIN.as_millis()..EventTime::MAX.as_millis();
    (time, name(), prop_oneof![Just("t".to_owned()), name()], value)
}

fn csv(rows: &[Row]) -> Vec<u8> {
    let mut writer = ::csv::Writer::from_writer(Vec::new());
    writer.write_record(["ts", "device", "tag", "value"]).unwrap();
    for (time, device, tag, value) in rows {
        let time = EventTime::from_millis(*time).to_string();
        writer
            .write_record([&time, device, tag, &value.to_string()])
            .unwrap();
    }
    writer.into_inner().unwrap()
}

fn ndjson(rows: &[Row]) -> Vec<u8> {
    let mut text = Vec::new();
    for (time, device, tag, value) in rows {
        let time = EventTime::from_millis(*time).to_string();
        let row = serde_json::json!({"ts": time, "device": device, "tag": tag, "value": value});
        writeln!(text, "{row}").unwrap();
    }
    text
}

/// Writes the rows as files of every kind.
fn files(rows: &[Row]) -> Vec<(TempDir, PathBuf)> {
    let (csv, ndjson) = (csv(rows), ndjson(rows));
    vec![
        file("a.csv.gz", gzip(&csv)),
        file("a.csv.zst", zstd(&csv)),
        file("a.csv", csv),
        file("a.ndjson.gz", gzip(&ndjson)),
        file("a.ndjson", ndjson),
        file("a.parquet", parquet(rows)),
    ]
}

/// Generates a line that a CSV file may contain; some hold a reading, some open a quote.
fn any_line() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => (0..100_u32).prop_map(|value| format!("1,d,t,{value}\n")),
        2 => (0..100_u32).prop_map(|value| format!("\"1\",d,\"t\nu\",{value}\r\n")),
        1 => Just("\n".to_owned()),
        1 => Just("\r\n".to_owned()),
        1 => "[a,\" \r]{0,8}\n",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_is_written_is_read_and_read_again_from_any_reading(
        rows in proptest::collection::vec(any_row(), 1..40),
        stop in any::<prop::sample::Index>(),
    ) {
        for (_folder, path) in files(&rows) {
            let log = read_from(&path, 0);
            prop_assert!(log.unreadable.is_empty(), "{}: {:?}", path.display(), log.unreadable);
            let read: Vec<_> = log.readings.iter()
                .map(|seen| (seen.millis, seen.device.clone(), seen.tag.clone(), seen.value)).collect();
            let written: Vec<_> = rows.iter()
                .map(|(time, device, tag, value)| (*time, device.clone(), tag.clone(), value.to_bits())).collect();
            prop_assert_eq!(read, written, "{}", path.display());
            let stop = stop.index(rows.len());
            let rest = read_from(&path, log.readings[stop].offset);
            prop_assert_eq!(&rest.readings[..], &log.readings[stop..], "{}", path.display());
            prop_assert!(read_from(&path, log.next).readings.is_empty());
        }
    }

    #[test]
    fn bad_rows_and_all_the_rest_of_a_text_comes_the_same_from_any_row(
        lines in proptest::collection::vec(any_line(), 1..30),
        compressed in any::<bool>(),
    ) {
        // A file of which no time can be read is refused as a whole, so it begins with a row whose time can.
        let text = format!("{HEADER}1,d,t,0\n{}", lines.concat());
        let (_folder, path) = if compressed {
            file("a.csv.gz", gzip(text.as_bytes()))
        } else {
            file("a.csv", text)
        };
        let whole = read_from(&path, 0).all();
        for (at, (offset, _)) in whole.iter().enumerate() {
            prop_assert_eq!(&read_from(&path, *offset).all()[..], &whole[at..]);
        }
    }

    #[test]
    fn a_file_written_bit_by_bit_is_read_as_if_it_had_been_there(
        lines in proptest::collection::vec(any_line(), 1..20),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
        restarts in proptest::collection::vec(any::<bool>(), 6),
        json in any::<bool>(),
    ) {
        let (name, text) = if json {
            let rows: Vec<_> = (0..lines.len()).map(|at| (at as i64, "d".into(), "ä".into(), 0.5)).collect();
            ("a.ndjson", ndjson(&rows))
        } else {
            ("a.csv", format!("{HEADER}{}", lines.concat()).into_bytes())
        };
        let (_folder, path) = file(name, &text);
        // If a quote is left open at the end, the rows after it never become complete in a followed file.
        let expected = drain(&mut open(&path, Until::Stopped)).remove(0).all();
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(text.len())).collect();
        cuts.sort_unstable();
        cuts.push(text.len());
        fs::write(&path, b"").unwrap();
        let (mut source, mut next, mut found, mut written) = (open(&path, Until::Stopped), 0, Vec::new(), 0);
        for (piece, cut) in cuts.into_iter().enumerate() {
            append(&path, &text[written..cut]);
            written = cut;
            // An empty file is no partition yet.
            let log = drain(&mut source).into_iter().next().unwrap_or_default();
            found.extend(log.all());
            next = next.max(log.next);
            if restarts.get(piece) == Some(&true) {
                source = open(&path, Until::Stopped);
                if cut > 0 {
                    source.seek(0, Offset(next)).unwrap();
                }
            }
        }
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn long_files_are_read_the_same_in_one_go_and_in_many() {
    let rows: Vec<Row> = (0..20_000)
        .map(|at| (at, format!("device {}", at % 7), "tag".into(), at as f64 / 4.0))
        .collect();
    for (_folder, path) in files(&rows) {
        let log = read_from(&path, 0);
        assert!(
            log.values().into_iter().eq(rows.iter().map(|row| row.3)),
            "{}",
            path.display()
        );
        let (mut next, mut found) = (0, Vec::new());
        while found.len() < rows.len() {
            let mut source = open(&path, Until::CaughtUp);
            source.seek(0, Offset(next)).unwrap();
            let (mut sensors, mut batch) = (SensorTable::new(), Batch::default());
            source.read(&mut sensors, &mut batch).unwrap();
            found.extend(batch.readings.iter().map(|reading| reading.value));
            next = batch.next.0;
        }
        assert_eq!((found, next), (log.values(), log.next), "{}", path.display());
    }
}

#[test]
fn a_folder_keeps_what_every_source_promises() {
    let rows: Vec<Row> = (0..200)
        .map(|at: i64| (at * 1_000, format!("d{}", at % 3), "t".to_owned(), at as f64))
        .collect();
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in [
        ("a.csv", csv(&rows)),
        ("b.ndjson", ndjson(&rows)),
        ("c.csv.gz", gzip(&csv(&rows))),
        ("d.ndjson.zst", zstd(&ndjson(&rows))),
        ("e.parquet", parquet(&rows)),
    ] {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    crate::source::testing::is_read_again_from_any_offset(|| Box::new(open(folder.path(), Until::CaughtUp)));
}
