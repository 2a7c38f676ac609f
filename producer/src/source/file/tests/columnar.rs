//! Parquet files with columns of every supported type.

use std::sync::Arc;

use ::parquet::arrow::ArrowWriter;
use ::parquet::arrow::arrow_reader::ParquetRecordBatchReader;
use ::parquet::basic::Compression;
use ::parquet::file::properties::WriterProperties;
use arrow_array::types::Int32Type;
use arrow_array::{
    ArrayRef, BooleanArray, Date32Array, Date64Array, DictionaryArray, Float32Array, Float64Array,
    Int32Array, Int64Array, LargeStringArray, NullArray, RecordBatch, StringArray, StringViewArray,
    TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray, TimestampSecondArray,
    UInt64Array,
};

use bytes::Bytes;

use super::*;

/// Writes the columns in groups of a few rows, so that a file has several groups.
pub(super) fn written(columns: Vec<(&str, ArrayRef)>) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, column)| (name, column, true)),
    )
    .unwrap();
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(batch.num_rows().div_ceil(5).max(1)))
        .build();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}

/// Writes rows of time in ms, device, tag and value.
pub(super) fn parquet(rows: &[(i64, String, String, f64)]) -> Vec<u8> {
    written(vec![
        (
            "value",
            Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.3))),
        ),
        (
            "other",
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0))),
        ),
        (
            "device",
            Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.1))),
        ),
        (
            "ts",
            Arc::new(TimestampMillisecondArray::from_iter_values(
                rows.iter().map(|row| row.0),
            )),
        ),
        (
            "tag",
            Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.2))),
        ),
    ])
}

fn with(time: ArrayRef, device: ArrayRef, tag: ArrayRef, value: ArrayRef) -> Log {
    read(
        "a.parquet",
        written(vec![
            ("ts", time),
            ("device", device),
            ("tag", tag),
            ("value", value),
        ]),
    )
}

fn texts() -> ArrayRef {
    Arc::new(StringArray::from(vec!["a", "b"]))
}

fn floats() -> ArrayRef {
    Arc::new(Float64Array::from(vec![1.5, 2.5]))
}

#[test]
fn a_time_column_may_be_of_any_usual_type() {
    const DAY: i64 = 86_400_000;
    let times: [(ArrayRef, [i64; 2]); 11] = [
        (Arc::new(TimestampSecondArray::from(vec![-1, 2])), [-1_000, 2_000]),
        (Arc::new(TimestampMillisecondArray::from(vec![-1, 2])), [-1, 2]),
        (
            Arc::new(TimestampMicrosecondArray::from(vec![-1, 2_999])),
            [-1, 2],
        ),
        (
            Arc::new(TimestampNanosecondArray::from(vec![-1, 2_999_999])),
            [-1, 2],
        ),
        (
            Arc::new(TimestampMillisecondArray::from(vec![1, 2]).with_timezone("+02:00")),
            [1, 2],
        ),
        (Arc::new(Date32Array::from(vec![-1, 2])), [-DAY, 2 * DAY]),
        (Arc::new(Date64Array::from(vec![-DAY, 2 * DAY])), [-DAY, 2 * DAY]),
        (
            Arc::new(Int64Array::from(vec![1, 1_767_225_600_123])),
            [1_000, 1_767_225_600_123],
        ),
        (Arc::new(Int32Array::from(vec![1, 2])), [1_000, 2_000]),
        (
            Arc::new(Float64Array::from(vec![0.5, 1_767_225_600.25])),
            [500, 1_767_225_600_250],
        ),
        (
            Arc::new(StringArray::from(vec!["1970-01-01T00:00:01Z", "2"])),
            [1_000, 2_000],
        ),
    ];
    for (time, expected) in times {
        let kind = time.data_type().clone();
        let log = with(time, texts(), texts(), floats());
        let found: Vec<_> = log.readings.iter().map(|seen| seen.millis).collect();
        assert_eq!(found, expected, "{kind}: {:?}", log.unreadable);
    }
}

#[test]
fn names_may_be_texts_dictionaries_or_whole_numbers() {
    let dictionary: DictionaryArray<Int32Type> = ["a", "b"].into_iter().collect();
    let names: [(ArrayRef, [&str; 2]); 5] = [
        (Arc::new(dictionary), ["a", "b"]),
        (Arc::new(LargeStringArray::from(vec!["a", "b"])), ["a", "b"]),
        (Arc::new(StringViewArray::from(vec!["a", "b"])), ["a", "b"]),
        (
            Arc::new(UInt64Array::from(vec![7, u64::MAX])),
            ["7", "18446744073709551615"],
        ),
        (Arc::new(Int32Array::from(vec![-7, 8])), ["-7", "8"]),
    ];
    for (name, expected) in names {
        let times = Arc::new(TimestampMillisecondArray::from(vec![1, 2]));
        let log = with(times, Arc::clone(&name), name, floats());
        let found: Vec<_> = log
            .readings
            .iter()
            .map(|seen| (&*seen.device, &*seen.tag))
            .collect();
        assert_eq!(found, expected.map(|name| (name, name)));
    }
}

#[test]
fn values_may_be_any_numbers() {
    let values: [ArrayRef; 4] = [
        Arc::new(Float32Array::from(vec![1.0, 2.0])),
        Arc::new(Int32Array::from(vec![1, 2])),
        Arc::new(UInt64Array::from(vec![1, 2])),
        Arc::new(Float64Array::from(vec![1.0, 2.0])),
    ];
    for value in values {
        let times = Arc::new(TimestampMillisecondArray::from(vec![1, 2]));
        assert_eq!(with(times, texts(), texts(), value).values(), [1.0, 2.0]);
    }
}

#[test]
fn a_null_costs_its_row_and_says_where() {
    let log = with(
        Arc::new(TimestampMillisecondArray::from(vec![
            None,
            Some(2),
            Some(3),
            Some(4),
            Some(5),
        ])),
        Arc::new(StringArray::from(vec![
            Some("d"),
            None,
            Some("d"),
            Some("d"),
            Some("d"),
        ])),
        Arc::new(StringArray::from(vec![
            Some("t"),
            Some("t"),
            None,
            Some("t"),
            Some(""),
        ])),
        Arc::new(Float64Array::from(vec![
            Some(1.0),
            Some(2.0),
            Some(3.0),
            None,
            Some(5.0),
        ])),
    );
    assert!(log.readings.is_empty());
    let found: Vec<_> = log
        .unreadable
        .iter()
        .map(|bad| (bad.offset.0, &*bad.detail))
        .collect();
    assert_eq!(
        found,
        [
            (0, "column ts: is null or cannot be converted"),
            (1, "column device: is null or cannot be converted"),
            (2, "column tag: is null or cannot be converted"),
            (3, "column value: is null or cannot be converted"),
            (4, "the tag is empty"),
        ]
    );
    assert_eq!(log.unreadable[1].raw.bytes(), b"1970-01-01T00:00:00.002,,t,2.0");
}

#[test]
fn values_of_any_type_are_judged_row_by_row() {
    let times = || -> ArrayRef { Arc::new(TimestampMillisecondArray::from(vec![1, 2, 3])) };
    let names = || -> ArrayRef { Arc::new(StringArray::from(vec!["a", "a", "a"])) };
    let log = |value: ArrayRef| with(times(), names(), names(), value);
    let details =
        |log: &Log| -> Vec<String> { log.unreadable.iter().map(|bad| bad.detail.clone()).collect() };

    let nothing = log(Arc::new(NullArray::new(3)));
    assert_eq!(nothing.values(), [0.0; 0]);
    assert_eq!(
        details(&nothing),
        ["column value: is null or cannot be converted"; 3]
    );

    let text: Vec<Option<&str>> = vec![Some(" 1.5"), Some("Bad"), None];
    let dictionary: DictionaryArray<Int32Type> = text.iter().copied().collect();
    for column in [
        Arc::new(StringArray::from(text.clone())) as ArrayRef,
        Arc::new(LargeStringArray::from(text)),
        Arc::new(dictionary),
    ] {
        let mixed = log(column);
        assert_eq!(mixed.values(), [1.5]);
        assert_eq!(
            details(&mixed),
            [
                "column value: \"Bad\" is not a number",
                "column value: is null or cannot be converted"
            ]
        );
    }

    let truths = log(Arc::new(BooleanArray::from(vec![Some(true), Some(false), None])));
    assert_eq!(truths.values(), [1.0, 0.0]);
    assert_eq!(truths.unreadable.len(), 1);
}

#[test]
fn every_usual_compression_is_read() {
    let rows: Vec<_> = (0..300)
        .map(|at| (at * 1_000, "d".to_owned(), "t".to_owned(), at as f64))
        .collect();
    let batch = ParquetRecordBatchReader::try_new(Bytes::from(parquet(&rows)), 1_000)
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    for compression in [
        Compression::BROTLI(Default::default()),
        Compression::GZIP(Default::default()),
        Compression::LZ4,
        Compression::LZ4_RAW,
        Compression::SNAPPY,
        Compression::ZSTD(Default::default()),
    ] {
        let properties = WriterProperties::builder().set_compression(compression).build();
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        let values = read("a.parquet", bytes).values();
        assert_eq!(
            values,
            (0..300).map(f64::from).collect::<Vec<_>>(),
            "{compression}"
        );
    }
}

#[test]
fn names_in_the_path_are_columns_that_a_file_does_not_have() {
    let times: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![1, 2]));
    let few = written(vec![("value", floats()), ("ts", Arc::clone(&times))]);
    let own = written(vec![
        ("ts", times),
        ("device", texts()),
        ("tag", texts()),
        ("value", floats()),
    ]);
    let folder = tempfile::tempdir().unwrap();
    for (path, bytes) in [
        ("tag=temp/device=pump%207/date=2026-01-05/x.parquet", &few),
        ("tag=temp/device=pump-8/y.parquet", &own),
        ("tag=temp/device=__HIVE_DEFAULT_PARTITION__/z.parquet", &few),
    ] {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    let logs = drain(&mut open(folder.path(), Until::CaughtUp));
    let names = |log: &Log| -> Vec<String> {
        let seen = log.readings.iter();
        seen.map(|seen| format!("{} {} {}", seen.device, seen.tag, f64::from_bits(seen.value)))
            .collect()
    };
    let [null, of_path, of_file] = &logs[..] else {
        panic!("{logs:?}");
    };
    assert_eq!(names(of_path), ["pump 7 temp 1.5", "pump 7 temp 2.5"]);
    assert_eq!(names(of_file), ["a a 1.5", "b b 2.5"]);
    assert_eq!(
        null.unreadable[1].detail,
        "column device: is null or cannot be converted"
    );
    assert_eq!(
        null.unreadable[1].raw.bytes(),
        b"1970-01-01T00:00:00.002,,temp,2.5"
    );
}

#[test]
fn a_column_of_no_use_is_refused_by_name() {
    let times: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![1, 2]));
    let columns = |value: ArrayRef| {
        written(vec![
            ("ts", Arc::clone(&times)),
            ("device", texts()),
            ("tag", texts()),
            ("value", value),
        ])
    };
    let days = columns(Arc::new(Date32Array::from(vec![1, 2])));
    assert_eq!(
        refusal("a.parquet", days),
        "/a.parquet: column value is of type Date32, which is no value"
    );
    let refused = refusal(
        "a.parquet",
        written(vec![("ts", Arc::clone(&times)), ("x", floats())]),
    );
    assert!(
        refused.ends_with("for the device; the file has ts, x"),
        "{refused}"
    );
    assert!(refusal("a.parquet", "no").contains("not a readable Parquet file"));
    let whole = columns(floats());
    assert!(refusal("a.parquet", &whole[..whole.len() - 20]).contains("it is not whole"));
}

#[test]
fn no_flipped_bit_makes_the_library_panic() {
    let rows: Vec<_> = (0..3)
        .map(|at| (at * 1_000, "d".to_owned(), "t".to_owned(), at as f64))
        .collect();
    let bytes = parquet(&rows);
    let (mut refused, mut set_aside) = (0, 0);
    // The footer holds the offsets; the sign of a number is the lowest bit of its first byte.
    for at in bytes.len().saturating_sub(2_000)..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        let (_folder, path) = file("f.parquet", damaged);
        match FileSource::open(&path, &any_epoch(), Until::CaughtUp) {
            Err(_) => refused += 1,
            Ok(mut source) => set_aside += drain(&mut source)[0].unreadable.len(),
        }
    }
    assert!(refused > 10 && set_aside > 0, "{refused} {set_aside}");
}
