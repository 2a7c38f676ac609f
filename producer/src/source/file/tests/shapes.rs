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

#[test]
fn a_row_over_several_lines_that_was_partly_read_is_not_read_again() {
    let text = "ts,device,a,note,b\n1,d,x,\"one\ntwo\",3\n2,d,1,,2\n";
    let (readings, unreadable) = read_with("a.csv", text, |mapping| tags(mapping, &["a", "b"]));
    assert_eq!(readings, ["d/b 1 3", "d/a 2 1", "d/b 2 2"]);
    assert_eq!(unreadable.len(), 1, "{unreadable:?}");
}

#[test]
fn a_quote_in_a_comment_means_nothing() {
    let text = "# made by x\nts,device,tag,value\n#x,\"a\n1,d \"2\",t,1\n# \"q\",d,t,1\n";
    let (readings, unreadable) = read_with("a.csv", text, |_| ());
    assert_eq!((readings.len(), unreadable), (1, vec![]), "{readings:?}");
}

#[test]
fn one_field_of_a_document_is_one_reading_of_one_sensor() {
    let two = "{\"ts\":1,\"device\":\"d\",\"tag\":\"t\",\"value\":1,\"reading\":2,\"q\":\"Good\"}\n";
    let (readings, unreadable) = read_with("a.json", two, |mapping| {
        mapping.conditions = vec!["q=Good".parse().unwrap()];
    });
    assert_eq!(readings, [""; 0]);
    assert!(
        unreadable[0].1.contains("two fields could be the value"),
        "{unreadable:?}"
    );

    let alike = "{\"ts\":1,\"device\":\"d\",\"motor\":{\"temp\":1},\"pump\":{\"temp\":2}}\n";
    let (readings, _) = read_with("a.json", alike, |mapping| {
        tags(mapping, &["motor.temp", "pump.temp"]);
    });
    assert_eq!(readings, ["d/motor.temp 1 1", "d/pump.temp 1 2"]);
    let (readings, _) = read_with("a.json", alike, |mapping| tags(mapping, &["*.*"]));
    assert_eq!(readings, ["d/motor.temp 1 1", "d/pump.temp 1 2"]);

    let other = "{\"type\":\"status\",\"ts\":1,\"device\":\"d\",\"state\":\"ok\"}\n{\"type\":\"m\",\"ts\":1,\"device\":\"d\",\"temp\":1}\n";
    let (readings, unreadable) = read_with("a.json", other, |mapping| {
        tags(mapping, &["temp"]);
        mapping.conditions = vec!["type=m".parse().unwrap()];
    });
    assert_eq!((readings.len(), unreadable), (1, vec![]));
}

#[test]
fn a_missing_brace_costs_its_own_line_only() {
    let row = |at: u32| format!("{{\"ts\":{at},\"device\":\"d\",\"tag\":\"t\",\"value\":{at}}}");
    let broken = row(1).replace('}', " ");
    let text = format!("[{},\n{broken},\n{},\n{}]\n", row(0), row(2), row(3));
    let log = read("a.json", &text);
    assert_eq!(
        (log.values(), log.unreadable.len()),
        (vec![0.0, 2.0, 3.0], 1),
        "{:?}",
        log.unreadable
    );
    // Two cut lines at the start of a file are two, and the others are read.
    let text = format!("{}\n{}\n{}\n{}\n", &row(1)[..9], &row(2)[..9], row(3), row(4));
    let log = read("a.json", text);
    assert_eq!((log.values(), log.unreadable.len()), (vec![3.0, 4.0], 2));
    // However many, they are given up in time.
    let log = read("a.json", format!("[{}", "{\n".repeat(2 << 20)));
    assert!(log.unreadable.len() < 1_000, "{}", log.unreadable.len());
}

#[test]
fn a_renamed_file_keeps_the_device_that_its_name_gave() {
    let mut mapping = any_epoch();
    tags(&mut mapping, &["*"]);
    mapping.device_from = "file".parse().ok();
    let (folder, path) = file("pump-7.csv", "ts,temp\n1,1\n2,2\n");
    let mut source = FileSource::open(folder.path(), &mapping, Until::CaughtUp).unwrap();
    let log = drain(&mut source).remove(0);
    let content = source.content(0);
    let known = Known {
        resume: Offset(log.readings[1].offset),
        content,
    };
    fs::rename(&path, folder.path().join("pump-7-0105.csv")).unwrap();
    let mut source = FileSource::open(folder.path(), &mapping, Until::CaughtUp).unwrap();
    source.recognise(BTreeMap::from([("pump-7.csv".to_owned(), known)]));
    source.seek(0, known.resume).unwrap();
    let log = drain(&mut source).remove(0);
    assert_eq!(
        (log.readings[0].device.as_str(), log.readings[0].tag.as_str()),
        ("pump-7", "temp")
    );
}

#[test]
fn documents_without_any_of_the_tags_are_refused_at_the_start_as_tables_are() {
    let text = "{\"ts\":1,\"device\":\"d\",\"temp\":1}\n{\"ts\":2,\"device\":\"d\",\"press\":1}\n";
    let refused = refused_with("a.ndjson", text, |mapping| tags(mapping, &["flow", "volt_*"]));
    assert!(
        refused.contains(
            "no field is a measurement by --tags flow,volt_*; the first objects have device, press, temp, ts"
        ),
        "{refused}"
    );
    // A tag of later documents, or one without a value yet, is no mistake.
    let (readings, _) = read_with("a.ndjson", text, |mapping| tags(mapping, &["press", "flow"]));
    assert_eq!(readings, ["d/press 2 1"]);
    let none = "{\"ts\":1,\"device\":\"d\",\"temp\":null}\n";
    let (readings, unreadable) = read_with("a.ndjson", none, |mapping| tags(mapping, &["temp"]));
    assert_eq!((readings.len(), unreadable.len()), (0, 0));
}

#[test]
fn a_file_that_is_named_is_read_by_its_content_if_its_ending_says_nothing() {
    let table = "ts;device;tag;value\n1;d;t;1,5\n2;d;t;2\n";
    for name in ["a.txt", "LOG.DAT", "export", "a.2026-01-05", ".hidden"] {
        let (readings, unreadable) = read_with(name, table, |_| ());
        assert_eq!(
            (readings, unreadable.len()),
            (vec!["d/t 1 1.5".to_owned(), "d/t 2 2".to_owned()], 0),
            "{name}"
        );
    }
    for text in [
        "{\"ts\":1,\"device\":\"d\",\"tag\":\"t\",\"value\":1.5}\n",
        "[ {\"ts\":1,\"device\":\"d\",\"tag\":\"t\",\"value\":1.5} ]",
    ] {
        assert_eq!(read_with("export.log", text, |_| ()).0, ["d/t 1 1.5"]);
    }
    let packed = gzip(table.as_bytes());
    assert_eq!(read("a.dat.gz", packed).readings.len(), 2);
    // No table: prose, one column, bytes; and in a folder, nobody has meant such a file.
    for (name, bytes) in [
        (
            "a.txt",
            &b"It was a dark night.\nNothing happened, at all.\nThen the lights went out.\n"[..],
        ),
        ("a.dat", b"1\n2\n3\n"),
        ("a.bin", b"a,b\n\0,1\n"),
        ("a.xyz", b"a,b\n\xff\xfe,1\nx,y\n"),
        ("a", b""),
    ] {
        let refused = refusal(name, bytes);
        assert!(
            refused.contains("unknown file name ending") && refused.contains("delimited text"),
            "{name}: {refused}"
        );
    }
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.txt"), table).unwrap();
    assert!(FileSource::open(folder.path(), &any_epoch(), Until::CaughtUp).is_err());
}
