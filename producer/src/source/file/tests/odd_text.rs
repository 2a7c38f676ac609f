//! Text files as they occur in practice: line ends, byte order marks, quotes, damage, and rows that are not readings.

use super::*;
use crate::source::MAX_RAW_BYTES;
use crate::source::decode::MAX_ROW_BYTES;

fn reasons(log: &Log) -> Vec<(Option<u64>, u64, &str)> {
    log.unreadable
        .iter()
        .map(|bad| (bad.line, bad.offset.0, &*bad.detail))
        .collect()
}

#[test]
fn a_last_line_counts_with_and_without_its_newline() {
    for end in ["", "\n", "\r\n", "\n\n \n"] {
        let log = read("a.csv", format!("ts,device,tag,value\n1,d,t,1\n2,d,t,2{end}"));
        assert_eq!(log.values(), [1.0, 2.0], "{end:?}");
        let row = r#"{"ts":1,"device":"d","tag":"t","value":1}"#;
        let log = read("a.ndjson", format!("{row}\n{row}{end}"));
        assert_eq!((log.readings.len(), log.unreadable.len()), (2, 0), "{end:?}");
    }
}

#[test]
fn carriage_returns_and_byte_order_marks_are_no_part_of_a_cell() {
    let text = "\u{feff}\"ts\",device,tag,value\r\n1,d,\"t\"\r\n2,d,t,2\r\n3,d,t,\"3\"\r\n";
    let log = read("a.csv", text);
    assert_eq!(log.values(), [2.0, 3.0]);
    assert_eq!(
        reasons(&log),
        [(Some(2), 26, "the row has 3 cells, the header 4")]
    );
    let log = read(
        "a.ndjson",
        "\u{feff}{\"ts\":1,\"device\":\"d\",\"tag\":\"t\",\"value\":1}\r\n",
    );
    assert_eq!((log.values(), log.readings[0].offset), (vec![1.0], 3));
}

#[test]
fn quoted_cells_may_hold_delimiters_quotes_and_newlines() {
    let text =
        "value,tag,device,ts\n1,\"a,b\",\"say \"\"hi\"\"\",1\n2,\"two\r\nlines\",d,2\n3,5\" pipe,d,3\n";
    let log = read("a.csv", text);
    let names: Vec<_> = log
        .readings
        .iter()
        .map(|seen| (&*seen.device, &*seen.tag))
        .collect();
    assert_eq!(
        names,
        [("say \"hi\"", "a,b"), ("d", "two\r\nlines"), ("d", "5\" pipe")]
    );
    assert!(log.unreadable.is_empty(), "{:?}", log.unreadable);
}

#[test]
fn a_stray_quote_costs_its_own_line_only() {
    let log = read(
        "a.csv",
        format!("{HEADER}1,d,\"t,1\n2,d,t,2\n3,d,\"x\",3\n4,d,t,4\n"),
    );
    assert_eq!(log.values(), [2.0, 3.0, 4.0]);
    assert_eq!(
        (log.unreadable[0].line, log.unreadable[0].raw.bytes()),
        (Some(2), &b"1,d,\"t,1"[..])
    );
    let log = read("a.csv", format!("{HEADER}1,d,\"t,1\n2,d,t,2\n"));
    assert_eq!(log.values(), [2.0]);
    assert_eq!(
        reasons(&log),
        [(
            Some(2),
            20,
            "a quote opens on this line and does not close where a cell ends"
        )]
    );
}

#[test]
fn every_bad_row_is_named_with_its_line_and_reason_and_the_rest_is_read() {
    let mut text = HEADER.as_bytes().to_vec();
    text.extend_from_slice(
        b"noon,d,t,1\n1,,t,1\n1,d,t,1,2\n1,d,t,x\n\n1,d\xff,t,1\n1,d,t,\n,d,t,1\n7,d,t,7\n",
    );
    let log = read("a.csv", text);
    assert_eq!(log.values(), [7.0]);
    let found = reasons(&log);
    let expected = [
        (2, "column ts: `noon` is not a timestamp"),
        (3, "the device is empty"),
        (4, "the row has 5 cells, the header 4"),
        (5, "column value: \"x\" is not a number"),
        (7, "column device: \"d\u{fffd}\" is not UTF-8 text"),
        (8, "column value: is empty"),
        (9, "column ts: is empty"),
    ];
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for ((line, _, detail), (expected_line, start)) in found.iter().zip(expected) {
        assert_eq!(*line, Some(expected_line), "{detail}");
        assert!(detail.starts_with(start), "{detail}");
    }
}

#[test]
fn a_bad_json_row_says_what_is_wrong_with_it() {
    let good = r#"{"TS":"2026-01-01 00:00:00","DeviceId":3,"Sensor":"t","Value":"1.5"}"#;
    let mut text = format!("{good}\n").into_bytes();
    for bad in [
        &br#"{"ts":1,"device":"d","tag":"t"}"#[..],
        br#"{"ts":1,"device":null,"tag":"t","value":1}"#,
        br#"{"ts":1,"device":1.5,"tag":"t","value":1}"#,
        br#"{"ts":1,"device":"d","tag":"t","value":[1]}"#,
        br#"{"ts":1,"device":"d","tag":"t","value":1"#,
        b"[1]",
        b"{\"ts\":1,\"device\":\"\xff\",\"tag\":\"t\",\"value\":1}",
    ] {
        text.extend_from_slice(bad);
        text.push(b'\n');
    }
    text.extend_from_slice(good.as_bytes());
    let log = read("a.jsonl", text);
    assert_eq!(log.values(), [1.5, 1.5]);
    assert_eq!(log.readings[0].device, "3");
    let found = reasons(&log);
    let expected = [
        "field value: is missing",
        "field device: is null, not text or a number",
        "field device: is neither text nor a whole number",
        "field value: is an array or object, not a number",
        "not a JSON object: EOF while parsing",
        "not a JSON object: invalid type",
        "the row is not UTF-8 text",
    ];
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for (line, ((found_line, _, detail), start)) in (2..).zip(found.iter().zip(expected)) {
        assert_eq!(*found_line, Some(line), "{detail}");
        assert!(detail.starts_with(start), "{detail}");
    }
}

#[test]
fn a_number_too_large_for_json_is_unreadable() {
    let row = |value: &str| format!("{{\"ts\":1,\"device\":\"d\",\"tag\":\"t\",\"value\":{value}}}\n");
    let digits = "9".repeat(400);
    let log = read(
        "a.ndjson",
        format!("{}{}{}", row("1"), row(&digits), row(&digits[..300])),
    );
    assert_eq!((log.readings.len(), log.unreadable.len()), (2, 1));
    assert!(
        log.unreadable[0].detail.contains("number out of range"),
        "{:?}",
        log.unreadable
    );
}

#[test]
fn a_row_that_is_too_long_is_put_aside_whole_up_to_a_limit() {
    let long = "x".repeat(3 * MAX_ROW_BYTES);
    let endless = format!("\"{}", "y".repeat(MAX_RAW_BYTES + 10));
    for (name, head, good) in [
        ("a.csv", HEADER, "1,d,t,1\n"),
        (
            "a.ndjson",
            "",
            "{\"ts\":1,\"device\":\"d\",\"tag\":\"t\",\"value\":1}\n",
        ),
    ] {
        let log = read(name, format!("{head}{good}{long}\r\n{good}{endless}"));
        assert_eq!(log.values(), [1.0, 1.0], "{name}");
        let details: Vec<_> = log.unreadable.iter().map(|bad| &*bad.detail).collect();
        assert_eq!(details, ["the row is longer than 1048576 bytes"; 2], "{name}");
        let [whole, cut] = &log.unreadable[..] else {
            panic!("{name}: {:?}", log.unreadable.len())
        };
        assert!(
            whole.raw.bytes() == long.as_bytes() && !whole.raw.is_cut(),
            "{name}"
        );
        assert!(cut.raw.bytes() == &endless.as_bytes()[..MAX_RAW_BYTES], "{name}");
        assert_eq!(cut.raw.whole_bytes(), MAX_RAW_BYTES as u64 + 11, "{name}");
    }
}

#[test]
fn a_bad_row_is_kept_as_it_is() {
    for (name, row) in [
        ("a.csv", &b" noon ,d\xff\xfe,t,\xe4 \t"[..]),
        ("a.csv", b"\"noon\",\"a \"\"b\"\" \",t,1 "),
        ("a.ndjson", b" {\"ts\": \"\xff\" "),
    ] {
        for end in ["", "\n", "\r\n"] {
            // Without a good time, the whole file is refused.
            let start = if name == "a.csv" {
                "ts,device,tag,value\n1,d,t,1\n"
            } else {
                ""
            };
            let text = [start.as_bytes(), row, end.as_bytes()].concat();
            let log = read(name, text);
            let kept = log.unreadable.iter().map(|bad| bad.raw.bytes());
            assert_eq!(kept.collect::<Vec<_>>(), [row], "{name} {end:?}");
        }
    }
}

#[test]
fn files_with_nothing_in_them_end_without_a_word() {
    for (name, bytes) in [
        ("a.csv", Vec::new()),
        ("a.csv", b"\n\r\n\n".to_vec()),
        ("a.csv", b"\xef\xbb\xbf".to_vec()),
        ("a.csv", HEADER.as_bytes().to_vec()),
        ("a.csv", HEADER.trim_end().as_bytes().to_vec()),
        ("a.csv.gz", Vec::new()),
        ("a.csv.gz", gzip(b"")),
        ("a.csv.zst", zstd(b"")),
        ("a.ndjson", Vec::new()),
        ("a.ndjson", b"\n\n".to_vec()),
        ("a.ndjson.gz", gzip(b"")),
    ] {
        let log = read(name, &bytes);
        assert!(log.ended, "{name} {bytes:?}");
        assert_eq!((log.readings.len(), log.unreadable.len()), (0, 0), "{name}");
    }
}

#[test]
fn a_missing_column_names_the_file_the_column_and_what_there_is() {
    let refused = refusal("a.csv", "ts,device,tag,pressure\n1767571200,d,t,1\n");
    assert!(
        refused.starts_with(
            "/a.csv: no column `value | reading` for the value; the file has ts, device, tag, pressure"
        ),
        "{refused}"
    );
    assert!(
        refused.contains("this reads it: --tags '*' --ignore tag"),
        "{refused}"
    );
    assert_eq!(
        refusal("a.ndjson", "{\"ts\":1,\"device\":\"d\",\"value\":1}\n{\"x\":1}\n"),
        "/a.ndjson: no column `tag | sensor | metric` for the tag; the file has device, ts, value, x"
    );
    assert!(refusal("a.json", "[{\"ts\":1}]").contains("no column `device"));
    assert!(refusal("a.csv.gz", "ts,device").starts_with("/a.csv.gz: cannot read at offset 0"));
}

#[test]
fn all_members_of_a_gzip_and_all_frames_of_a_zstd_file_are_read() {
    let (a, b) = (format!("{HEADER}1,d,t,1\n2,d,"), "t,2\n3,d,t,3\n");
    let gz = [gzip(a.as_bytes()), gzip(b""), gzip(b.as_bytes())].concat();
    assert_eq!(read("a.csv.gz", gz).values(), [1.0, 2.0, 3.0]);
    let zst = [zstd(a.as_bytes()), zstd(b.as_bytes())].concat();
    assert_eq!(read("a.csv.zst", zst).values(), [1.0, 2.0, 3.0]);
}

#[test]
fn a_truncated_file_gives_what_it_has_and_is_read_on_once_it_is_whole() {
    let text = format!("{HEADER}{}", rows(0, 50_000));
    for (name, whole) in [
        ("a.csv.gz", gzip(text.as_bytes())),
        ("a.csv.zst", zstd(text.as_bytes())),
    ] {
        let (_folder, path) = file(name, &whole[..whole.len() / 2]);
        written_long_ago(&path);
        let first = read_from(&path, 0);
        assert!(first.readings.len() > 1_000, "{name}");
        assert!(first.ended);
        let [bad] = &first.unreadable[..] else {
            panic!("{name}: {:?}", first.unreadable)
        };
        assert!(
            bad.detail.starts_with("damaged or incomplete at byte"),
            "{}",
            bad.detail
        );
        assert_eq!(bad.offset.0, first.next);
        fs::write(&path, &whole).unwrap();
        let second = read_from(&path, first.next);
        assert!(second.unreadable.is_empty());
        let values = [first.values(), second.values()].concat();
        assert!(values.iter().copied().eq((0..50_000).map(f64::from)), "{name}");
    }
}
