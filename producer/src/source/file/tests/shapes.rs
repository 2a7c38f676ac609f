//! Files as programs and people write them: wide rows, other delimiters, headers further down, JSON of any shape.

use super::*;

/// Reads a file with these options: sensors, times in seconds, values; then the reasons of what could not be read.
fn read_with(
    name: &str,
    text: &str,
    options: impl FnOnce(&mut ColumnMapping),
) -> (Vec<String>, Vec<(u64, String)>) {
    let mut mapping = any_epoch();
    options(&mut mapping);
    mapping.check().unwrap();
    let (_folder, path) = file(name, text);
    let mut source =
        FileSource::open(&path, &mapping, Until::CaughtUp).unwrap_or_else(|error| panic!("{error}"));
    let log = drain(&mut source).remove(0);
    let readings = log.readings.iter().map(|seen| {
        let (seconds, value) = (seen.millis / 1_000, f64::from_bits(seen.value));
        format!("{}/{} {seconds} {value}", seen.device, seen.tag)
    });
    let unreadable = log.unreadable.into_iter().map(|bad| (bad.readings, bad.detail));
    (readings.collect(), unreadable.collect())
}

fn refused_with(name: &str, text: &str, options: impl FnOnce(&mut ColumnMapping)) -> String {
    let mut mapping = ColumnMapping::default();
    options(&mut mapping);
    let (_folder, path) = file(name, text);
    let refused = FileSource::open(&path, &mapping, Until::CaughtUp)
        .and_then(|mut source| source.read(&mut SensorTable::new(), &mut Batch::default()));
    refused.unwrap_err().to_string()
}

fn tags(mapping: &mut ColumnMapping, tags: &[&str]) {
    mapping.tags = tags.iter().map(|tag| tag.parse().unwrap()).collect();
}

#[test]
fn a_wide_row_is_a_reading_for_each_full_cell() {
    let text = "ts,device,temp,note,press\n1,d,1.5,ok,2\n2,d,,,3\n3,d,,,\n4,d,high,,low\nx,d,1,,2\n";
    let (readings, unreadable) = read_with("a.csv", text, |mapping| tags(mapping, &["temp", "press"]));
    assert_eq!(readings, ["d/temp 1 1.5", "d/press 1 2", "d/press 2 3"]);
    let counts: Vec<_> = unreadable.iter().map(|(readings, _)| *readings).collect();
    assert_eq!(counts, [2, 2], "{unreadable:?}");
    assert!(unreadable[0].1.contains("column temp: \"high\" is not a number"));
    assert!(unreadable[1].1.contains("column ts"));
}

#[test]
fn a_wide_row_with_quotes_is_read_as_one_without() {
    let text = "ts,device,temp,press\n\"1\",\"d, 1\",\"1.5\",\n2,\"d, 1\",2,\"3\"\n";
    let (readings, unreadable) = read_with("a.csv", text, |mapping| tags(mapping, &["*"]));
    assert_eq!(readings, ["d, 1/temp 1 1.5", "d, 1/temp 2 2", "d, 1/press 2 3"]);
    assert_eq!(unreadable, []);
}

#[test]
fn a_historian_s_export_is_read_with_its_delimiter_and_its_decimal_commas() {
    let text = "Werk 7;Export;;\n\nDate;Time;temp;press\nTT.MM.JJJJ;;degC;bar\n05.01.2026;00:00:20;70,5;4\n";
    let (readings, unreadable) = read_with("pump-7.csv", text, |mapping| {
        tags(mapping, &["*"]);
        mapping.device_from = "file".parse().ok();
        mapping.time_format = "%d.%m.%Y %H:%M:%S".parse().ok();
        mapping.timezone = Some("Europe/Berlin".to_owned());
    });
    assert_eq!(
        readings,
        ["pump-7/temp 1767567620 70.5", "pump-7/press 1767567620 4"]
    );
    assert_eq!(unreadable, []);
}

#[test]
fn comments_and_repeated_headers_are_no_rows() {
    let text = "#group,false\n#datatype,x\n,ts,device,tag,value\n,1,d,t,1\n#group,false\n,ts,device,tag,value\n,2,d,t,2\n";
    let (readings, unreadable) = read_with("a.csv", text, |_| ());
    assert_eq!((readings.len(), unreadable), (2, vec![]));
    // Without comments above the header, a row may begin with the sign.
    let (readings, _) = read_with("a.csv", "device,ts,tag,value\n#1,1,t,1\n", |_| ());
    assert_eq!(readings, ["#1/t 1 1"]);
}

#[test]
fn rows_that_a_condition_leaves_out_are_counted() {
    let (_folder, path) = file(
        "a.csv",
        "ts,device,tag,value,q\n1,d,t,1,Good\n2,d,t,2,Bad\n3,d,t,x,Bad\n",
    );
    let mut mapping = any_epoch();
    mapping.conditions = vec!["q=good".parse().unwrap()];
    let mut source = FileSource::open(&path, &mapping, Until::CaughtUp).unwrap();
    let (mut sensors, mut batch) = (SensorTable::new(), Batch::default());
    let (mut readings, mut left_out) = (0, 0);
    while source.read(&mut sensors, &mut batch).unwrap() == Read::Batch {
        readings += batch.readings.len();
        left_out += batch.left_out;
        assert_eq!(batch.unreadable, []);
    }
    assert_eq!((readings, left_out), (1, 2));
    assert!(
        refused_with("a.csv", "ts,device,tag,value\n", |mapping| {
            mapping.conditions = vec!["q=good".parse().unwrap()];
        })
        .contains("no column `q`")
    );
}

#[test]
fn json_of_several_shapes_is_read_by_paths() {
    let nested = "{\"at\":{\"t\":1},\"d\":\"a\",\"name\":\"x\",\"body\":{\"v\":1.5}}\n";
    let (readings, _) = read_with("a.json", nested, |mapping| {
        mapping.timestamp = Some("at.t".into());
        mapping.device = Some("d".into());
        mapping.tag = Some("name".into());
        mapping.value = Some("body.v".into());
    });
    assert_eq!(readings, ["a/x 1 1.5"]);

    let metrics = "{\"topic\":\"g/edge/pump-7\",\"ts\":1,\"metrics\":[{\"name\":\"a\",\"value\":1},{\"name\":\"b\",\"value\":true,\"ts\":2}]}\n";
    let (readings, _) = read_with("a.json", metrics, |mapping| {
        mapping.device_from = "segment:topic:-1".parse().ok();
        mapping.tag = Some("metrics[].name".into());
        mapping.value = Some("metrics[].value".into());
    });
    assert_eq!(readings, ["pump-7/a 1 1", "pump-7/b 1 1"]);

    let wide =
        "{\"ts\":1,\"device\":\"d\",\"fields\":{\"a\":1,\"state\":\"RUN\",\"b\":null,\"c\":{\"x\":1}}}\n";
    let (readings, unreadable) = read_with("a.json", wide, |mapping| tags(mapping, &["fields.*"]));
    assert_eq!(readings, ["d/a 1 1"]);
    assert!(
        unreadable[0].1.contains("field state: \"RUN\" is not a number"),
        "{unreadable:?}"
    );
    let (_, unreadable) = read_with("a.json", wide, |mapping| {
        tags(mapping, &["fields.*"]);
        mapping.ignore = vec!["state".to_owned()];
    });
    assert_eq!(unreadable, []);

    let flat = "{\"ts\":1,\"device\":\"d\",\"a\":1,\"b\":\"2\",\"q\":\"Good\"}\n{\"ts\":2,\"device\":\"d\",\"a\":1,\"q\":\"Bad\"}\n";
    let (readings, unreadable) = read_with("a.json", flat, |mapping| {
        tags(mapping, &["*"]);
        mapping.conditions = vec!["q=Good".parse().unwrap()];
    });
    assert_eq!(
        (readings, unreadable),
        (vec!["d/a 1 1".to_owned(), "d/b 1 2".to_owned()], vec![])
    );
}

#[test]
fn objects_over_several_lines_and_in_arrays_are_read_from_any_of_them() {
    let one = |at: u32| {
        format!("{{\n \"ts\": {at},\n \"device\": \"d}}\\\"\",\n \"tag\": \"t\",\n \"value\": {at}\n}}")
    };
    let pretty = format!("{}\n{}\n", one(1), one(2));
    let array = format!("[{},\n {}]\n", one(1), one(2));
    let compact = "[{\"ts\":1,\"device\":\"d\",\"tag\":\"t\",\"value\":1},{\"ts\":2,\"device\":\"d\",\"tag\":\"t\",\"value\":2}]".to_owned();
    for text in [pretty, array, compact] {
        let whole = read("a.json", &text);
        assert_eq!(
            (whole.values(), whole.unreadable.len()),
            (vec![1.0, 2.0], 0),
            "{text}"
        );
        let (_folder, path) = file("a.json", &text);
        let rest = read_from(&path, whole.readings[1].offset);
        assert_eq!(rest.values(), [2.0], "{text}");
    }
    let damaged = format!("[{},\n garbage\n, {}, {{\"ts\": 3", one(1), one(2));
    let log = read("a.json", damaged);
    assert_eq!(
        (log.values(), log.unreadable.len()),
        (vec![1.0, 2.0], 2),
        "{:?}",
        log.unreadable
    );
}

#[test]
fn a_damaged_first_line_costs_no_other() {
    let log = read(
        "a.ndjson",
        "{\"ts\":1,\"device\":\n{\"ts\":2,\"device\":\"d\",\"tag\":\"t\",\"value\":2}\n",
    );
    assert_eq!((log.values(), log.unreadable.len()), (vec![2.0], 1));
}

#[test]
fn two_fields_for_one_role_are_refused_or_set_aside() {
    let both = "{\"ts\":1,\"time\":2,\"device\":\"d\",\"tag\":\"t\",\"value\":1}\n";
    assert!(refused_with("a.ndjson", both, |_| ()).contains("both `time` and `ts` could be the timestamp"));
    // Rows may differ.
    let (readings, unreadable) = read_with(
        "a.ndjson",
        "{\"ts\":1,\"device\":\"d\",\"tag\":\"t\",\"value\":1}\n{\"time\":2,\"device\":\"d\",\"tag\":\"t\",\"value\":1}\n",
        |_| (),
    );
    assert_eq!((readings.len(), unreadable), (2, vec![]));
}

#[test]
fn a_source_without_a_single_time_is_refused_before_anything_is_set_aside() {
    let excel = "ts,device,tag,value\n46027,d,t,1\n46028,d,t,2\n";
    assert!(refused_with("a.csv", excel, |_| ()).contains("--time-format excel"));
    let clock = "time,stamp,device,tag,value\n00:00:00,2026-01-05T00:00:00Z,d,t,1\n";
    assert!(refused_with("a.csv", clock, |_| ()).contains("--column-time DATE+TIME"));
    // A bad value does not speak against the options.
    let (readings, unreadable) = read_with("a.csv", "ts,device,tag,value\n1,d,t,\n", |_| ());
    assert_eq!((readings.len(), unreadable.len()), (0, 1));
}
