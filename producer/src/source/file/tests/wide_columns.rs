//! Wide Parquet files: what the options for wide rows, devices, conditions and zones say of typed columns.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, Date32Array, Float64Array, Int64Array, StringArray, Time64MicrosecondArray,
    TimestampMillisecondArray,
};

use super::columnar::written;
use super::*;

/// 2026-01-05T00:00:00Z.
const START: i64 = 1_767_571_200_000;

fn times(seconds: &[i64]) -> ArrayRef {
    let millis = seconds.iter().map(|second| START + second * 1_000);
    Arc::new(TimestampMillisecondArray::from_iter_values(millis))
}

fn texts(texts: &[Option<&str>]) -> ArrayRef {
    Arc::new(StringArray::from(texts.to_vec()))
}

fn floats(values: &[Option<f64>]) -> ArrayRef {
    Arc::new(Float64Array::from(values.to_vec()))
}

fn tags(mapping: &mut ColumnMapping, tags: &[&str]) {
    mapping.tags = tags.iter().map(|tag| tag.parse().unwrap()).collect();
}

fn mapping(options: impl FnOnce(&mut ColumnMapping)) -> ColumnMapping {
    let mut mapping = ColumnMapping::default();
    options(&mut mapping);
    mapping.check().unwrap();
    mapping
}

/// Reads a file at a path below a folder: sensors, seconds after the start, values; then what could not be read.
fn read_at(name: &str, bytes: Vec<u8>, mapping: &ColumnMapping) -> (Vec<String>, Vec<(u64, String)>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
    let mut source = FileSource::open(folder.path(), mapping, Until::CaughtUp).unwrap();
    let log = drain(&mut source).remove(0);
    let readings = log.readings.iter().map(|seen| {
        let (seconds, value) = ((seen.millis - START) / 1_000, f64::from_bits(seen.value));
        format!("{}/{} {seconds} {value}", seen.device, seen.tag)
    });
    let unreadable = log.unreadable.into_iter().map(|bad| (bad.readings, bad.detail));
    (readings.collect(), unreadable.collect())
}

fn refused_at(name: &str, bytes: Vec<u8>, mapping: &ColumnMapping) -> String {
    let (_folder, path) = file(name, bytes);
    let refused = FileSource::open(&path, mapping, Until::CaughtUp).err();
    refused.unwrap().to_string()
}

/// Four rows of two measurements, a note and a status, in an order that is not that of the roles.
fn wide() -> Vec<u8> {
    written(vec![
        ("press", floats(&[Some(2.0), Some(3.0), None, Some(9.0)])),
        (
            "quality",
            texts(&[Some("Good"), Some(" good "), Some("Good"), Some("Bad")]),
        ),
        ("note", texts(&[Some("x"), None, None, None])),
        ("ts", times(&[1, 2, 3, 4])),
        ("temp", texts(&[Some("1.5"), None, Some("high"), Some("9")])),
        (
            "device",
            texts(&[Some("a/p1"), Some("a/p2"), Some("a/p3"), Some("a/p4")]),
        ),
    ])
}

#[test]
fn a_wide_table_is_a_reading_for_each_value_that_is_not_null() {
    let named = mapping(|mapping| tags(mapping, &["temp", "P=press"]));
    let (readings, unreadable) = read_at("a.parquet", wide(), &named);
    assert_eq!(
        readings,
        [
            "a/p1/P 1 2",
            "a/p1/temp 1 1.5",
            "a/p2/P 2 3",
            "a/p4/P 4 9",
            "a/p4/temp 4 9"
        ]
    );
    assert_eq!(unreadable.len(), 1, "{unreadable:?}");
    assert!(
        unreadable[0].1.contains("column temp: \"high\" is not a number"),
        "{unreadable:?}"
    );
    assert!(unreadable[0].1.contains("--ignore"), "{unreadable:?}");
}

#[test]
fn conditions_leave_rows_out_and_are_counted() {
    let good = mapping(|mapping| {
        tags(mapping, &["*", "press"]);
        mapping.ignore = vec!["no*".to_owned()];
        mapping.conditions = vec!["quality=Good".parse().unwrap(), "press!=2".parse().unwrap()];
        mapping.device_from = "segment:device:-1".parse().ok();
    });
    let (readings, unreadable) = read_at("a.parquet", wide(), &good);
    assert_eq!(readings, ["p2/press 2 3"]);
    assert_eq!(unreadable.len(), 1, "{unreadable:?}");
    let (_folder, path) = file("a.parquet", wide());
    let mut source = FileSource::open(&path, &good, Until::CaughtUp).unwrap();
    let (mut sensors, mut batch) = (SensorTable::new(), Batch::default());
    assert_eq!(source.read(&mut sensors, &mut batch).unwrap(), Read::Batch);
    assert_eq!(batch.left_out, 2);
}

#[test]
fn the_device_may_be_the_file_s_a_folder_s_or_the_same_for_all() {
    for (from, device) in [("file", "unit-7"), ("path:2", "line3"), ("const:plant", "plant")] {
        let from = mapping(|mapping| {
            tags(mapping, &["press"]);
            mapping.device_from = from.parse().ok();
        });
        let (readings, _) = read_at("site/line3/unit-7.parquet", wide(), &from);
        assert_eq!(readings[0], format!("{device}/press 1 2"));
    }
}

#[test]
fn names_in_the_path_are_devices_and_no_measurements() {
    let few = || written(vec![("ts", times(&[1])), ("temp", floats(&[Some(1.0)]))]);
    let all = mapping(|mapping| tags(mapping, &["*"]));
    let (readings, unreadable) = read_at("device=p9/date=2026-01-05/hour=7/a.parquet", few(), &all);
    assert_eq!((readings, unreadable), (vec!["p9/temp 1 1".to_owned()], vec![]));
    let hour = mapping(|mapping| tags(mapping, &["hour"]));
    let (readings, _) = read_at("device=p9/hour=7/a.parquet", few(), &hour);
    assert_eq!(readings, ["p9/hour 1 7"]);
}

#[test]
fn a_time_without_a_zone_is_that_of_the_site() {
    let berlin = |time: ArrayRef| {
        let bytes = written(vec![
            ("ts", time),
            ("device", texts(&[Some("d"); 3])),
            ("tag", texts(&[Some("t"); 3])),
            ("value", floats(&[Some(1.0), Some(2.0), Some(3.0)])),
        ]);
        let site = mapping(|mapping| mapping.timezone = Some("Europe/Berlin".to_owned()));
        read_at("a.parquet", bytes, &site)
    };
    let (readings, _) = berlin(times(&[0, 3_600, 7_200]));
    assert_eq!(readings, ["d/t -3600 1", "d/t 0 2", "d/t 3600 3"]);
    // With a zone in the column, that of the site says nothing.
    let zoned = TimestampMillisecondArray::from(vec![START; 3]).with_timezone("+05:00");
    assert_eq!(berlin(Arc::new(zoned)).0, ["d/t 0 1", "d/t 0 2", "d/t 0 3"]);
    let days = Date32Array::from(vec![(START / 86_400_000) as i32; 3]);
    assert_eq!(berlin(Arc::new(days)).0[0], "d/t -3600 1");
    // 02:30 on 29 March 2026 does not exist; on 25 October it occurs twice, and the first counts.
    let (gap, fold) = (1_774_751_400_000, 1_792_895_400_000);
    let (readings, unreadable) = berlin(Arc::new(TimestampMillisecondArray::from(vec![gap, fold, fold])));
    assert_eq!(
        readings[0],
        format!("d/t {} 2", (fold - 7_200_000 - START) / 1_000)
    );
    assert!(
        unreadable[0]
            .1
            .contains("column ts: `2026-03-29T02:30:00` does not exist in Europe/Berlin"),
        "{unreadable:?}"
    );
}

#[test]
fn a_date_and_a_time_of_the_day_are_one_time() {
    let bytes = written(vec![
        (
            "day",
            Arc::new(Date32Array::from(vec![(START / 86_400_000) as i32])),
        ),
        ("clock", Arc::new(Time64MicrosecondArray::from(vec![20_500_000]))),
        ("temp", Arc::new(Int64Array::from(vec![7]))),
    ]);
    let pair = mapping(|mapping| {
        tags(mapping, &["temp"]);
        mapping.timestamp = Some("day+clock".to_owned());
        mapping.device_from = "const:d".parse().ok();
    });
    assert_eq!(read_at("a.parquet", bytes, &pair).0, ["d/temp 20 7"]);
}

#[test]
fn a_wide_table_is_read_again_from_any_row() {
    let count = 97;
    let values: Vec<_> = (0..count)
        .map(|row| (row % 5 != 0).then_some(row as f64))
        .collect();
    let seconds: Vec<_> = (0..count).collect();
    let bytes = written(vec![
        ("ts", times(&seconds)),
        ("a", floats(&values)),
        ("b", floats(&values)),
    ]);
    let (_folder, path) = file("d.parquet", bytes);
    let all = mapping(|mapping| {
        tags(mapping, &["*"]);
        mapping.device_from = "file".parse().ok();
    });
    for from in [0, 1, 19, 20, 21, 96, 97] {
        let mut source = FileSource::open(&path, &all, Until::CaughtUp).unwrap();
        source.seek(0, Offset(from)).unwrap();
        let rows: Vec<_> = drain(&mut source)[0]
            .readings
            .iter()
            .map(|seen| seen.offset)
            .collect();
        let wanted = (from..97).filter(|row| row % 5 != 0).flat_map(|row| [row, row]);
        assert_eq!(rows, wanted.collect::<Vec<_>>());
    }
}

#[test]
fn a_column_that_cannot_be_a_measurement_is_refused_with_the_option_that_leaves_it_out() {
    let bytes = || {
        written(vec![
            ("ts", times(&[1])),
            ("device", texts(&[Some("d")])),
            ("temp", floats(&[Some(1.0)])),
            ("installed", Arc::new(Date32Array::from(vec![1]))),
        ])
    };
    let all = mapping(|mapping| tags(mapping, &["*"]));
    let refused = refused_at("a.parquet", bytes(), &all);
    assert!(
        refused.contains("column installed is of type Date32, which is no value")
            && refused.contains("--ignore"),
        "{refused}"
    );
    let without = mapping(|mapping| {
        tags(mapping, &["*"]);
        mapping.ignore = vec!["installed".to_owned()];
    });
    assert_eq!(read_at("a.parquet", bytes(), &without).0, ["d/temp 1 1"]);
    let unknown = mapping(|mapping| mapping.conditions = vec!["status=1".parse().unwrap()]);
    let refused = refused_at("a.parquet", bytes(), &unknown);
    assert!(refused.contains("status"), "{refused}");
}
