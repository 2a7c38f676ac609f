use super::*;

fn look(text: &str, options: impl FnOnce(&mut ColumnMapping)) -> Result<Option<Dialect>, String> {
    let mut mapping = ColumnMapping::default();
    options(&mut mapping);
    let hint = Hint {
        path: Path::new("f.csv"),
        name: "f.csv",
        usual_delimiter: b',',
        mapping: &mapping,
    };
    Dialect::of(text.as_bytes(), true, &hint).map_err(|error| error.to_string())
}

fn wide(mapping: &mut ColumnMapping) {
    mapping.tags = vec!["*".parse().unwrap()];
    mapping.device_from = Some("file".parse().unwrap());
}

#[test]
fn a_delimiter_is_found_by_the_names_that_it_leaves() {
    for (delimiter, shown) in [(",", ","), (";", ";"), ("\t", "tab"), ("|", "|")] {
        let text = ["ts", "device", "tag", "value\n1", "d", "t", "2"].join(delimiter);
        let dialect = look(&text, |_| ()).unwrap().unwrap();
        assert_eq!(
            (dialect.shown_delimiter().as_str(), dialect.header_line),
            (shown, 1)
        );
        assert_eq!(dialect.names, ["ts", "device", "tag", "value"]);
        assert_eq!(dialect.decimal_comma() == DecimalComma::No, delimiter == ",");
    }
}

#[test]
fn a_header_below_the_first_line_and_rows_of_units_are_found() {
    // The table of a Campbell Scientific logger.
    let toa5 = "\"TOA5\",\"CR1000\",\"st 1\",\"42\"\n\"TIMESTAMP\",\"RECORD\",\"AirTC\",\"RH\"\n\"TS\",\"RN\",\"Deg C\",\"%\"\n\
                \"\",\"\",\"Avg\",\"Smp\"\n\"2026-01-05 00:00:00\",0,1.5,80\n";
    let dialect = look(toa5, wide).unwrap().unwrap();
    assert_eq!(
        (dialect.header_line, dialect.unit_rows, dialect.rows_at.1),
        (2, 2, 4)
    );
    assert!(toa5[dialect.rows_at.0..].starts_with("\"2026"));
    let influx = "#group,false,false\n#datatype,string,double\n,_time,_value\n,2026-01-05T00:00:00Z,1\n";
    let dialect = look(influx, |mapping| {
        wide(mapping);
        mapping.timestamp = Some("_time".to_owned());
    });
    let dialect = dialect.unwrap().unwrap();
    assert_eq!(
        (dialect.header_line, dialect.comments, dialect.unit_rows),
        (3, true, 0)
    );
}

#[test]
fn a_header_that_is_a_comment_counts_if_no_other_line_is_one() {
    let dialect = look("# made by x\n# ts, device, tag, value\n1,d,t,2\n", |_| ())
        .unwrap()
        .unwrap();
    assert_eq!((dialect.header_line, dialect.comments), (2, true));
}

#[test]
fn a_given_line_and_delimiter_are_the_only_ones_looked_at() {
    let text = "ts,device,tag,value\nts;device;tag;value\n1;d;t;2\n";
    let dialect = look(text, |mapping| mapping.header_line = Some(2))
        .unwrap()
        .unwrap();
    assert_eq!((dialect.header_line, dialect.delimiter), (2, b';'));
    assert!(
        look(text, |mapping| mapping.delimiter = Some('|'))
            .unwrap_err_text()
            .contains("no column")
    );
}

#[test]
fn a_bad_first_row_is_a_row() {
    for text in [
        "ts,device,tag,value\nyesterday,d7,t,1\n",
        "ts,device,tag,value\nnoon,d,t,x\n",
    ] {
        let dialect = look(text, |_| ()).unwrap().unwrap();
        assert_eq!(dialect.unit_rows, 0);
    }
}

#[test]
fn two_columns_for_one_role_are_refused_wherever_the_header_is() {
    let error = look("x\nts,device,sensor,metric,value\n", |_| ()).unwrap_err_text();
    assert!(error.contains("both `sensor` and `metric`"), "{error}");
}

#[test]
fn the_header_is_the_nearest_above_the_first_row_and_none_is_skipped_for_a_later_one() {
    // A bad first row, and the header once more further down.
    let text = "ts,device,tag,value\nT1,p,t,71,3\n1,p,t,1\nts,device,tag,value\n2,p,t,2\n";
    let dialect = look(text, |_| ()).unwrap().unwrap();
    assert_eq!((dialect.header_line, dialect.rows_at.1), (1, 1));
    // Lines that look like a header.
    let text =
        "Serial,123\nTime,10:00:00\nTime,Export\nOperator,Smith\n\ntime,temp\n2026-01-05T00:00:00Z,1.5\n";
    let dialect = look(text, wide).unwrap().unwrap();
    assert_eq!(
        (dialect.header_line, dialect.names.join(",")),
        (6, "time,temp".to_owned())
    );
    let four = "ts,temp\na,b\nc,d\ne,f\ng,h\n1,2\n";
    assert_eq!(look(four, wide).unwrap().unwrap().unit_rows, 4);
    let number = "ts;temp\n;1,5\n1;2\n";
    assert_eq!(look(number, wide).unwrap().unwrap().unit_rows, 0);
    let broken = "ts,\"dev\nice\",tag,value\n1,d,t,2\n";
    let dialect = look(broken, |mapping| mapping.device = Some("dev\nice".to_owned()));
    let dialect = dialect.unwrap().unwrap();
    assert_eq!((dialect.header_line, dialect.rows_at.1), (1, 2));
}

#[test]
fn what_is_found_does_not_change_once_there_is_a_row() {
    let texts = [
        "Anlage 7;;\n\nts;device;tag;value\ns;;;bar\n1;d;t;2\nts;device;tag;value\n2;d;t;2\n",
        "ts,device,tag,value\nbad\n1,d,t,2\nmore,of,it,all\n",
    ];
    for text in texts {
        let mapping = ColumnMapping::default();
        let hint = Hint {
            path: Path::new("f.csv"),
            name: "f.csv",
            usual_delimiter: b',',
            mapping: &mapping,
        };
        let mut found = None;
        for length in 0..=text.len() {
            if let Ok(Some(dialect)) = Dialect::of(&text.as_bytes()[..length], false, &hint)
                && dialect.is_certain
            {
                let now = (dialect.rows_at, dialect.unit_rows, dialect.delimiter);
                assert_eq!(*found.get_or_insert(now), now, "{length} of {text}");
            }
        }
        assert!(found.is_some(), "{text}");
    }
}

trait RefusedText {
    fn unwrap_err_text(self) -> String;
}

impl RefusedText for Result<Option<Dialect>, String> {
    fn unwrap_err_text(self) -> String {
        match self {
            Ok(_) => panic!("not refused"),
            Err(text) => text,
        }
    }
}

proptest::proptest! {
    #[test]
    fn what_a_line_is_does_not_depend_on_how_far_a_file_has_grown(text in "[a,; \"\n\r]{0,60}") {
        let lines = |text: &str| -> Vec<(Vec<u8>, usize)> {
            let lines = header::lines_of(text.as_bytes(), false);
            lines.iter().map(|line| (line.text.to_vec(), line.end)).collect()
        };
        let whole = lines(&text);
        for cut in 0..text.len() {
            let so_far = lines(&text[..cut]);
            proptest::prop_assert!(whole.starts_with(&so_far), "{so_far:?} {whole:?}");
        }
    }
}

#[test]
fn a_quote_that_does_not_begin_a_cell_holds_no_lines_together() {
    let lines = |text: &str| header::lines_of(text.as_bytes(), false).len();
    assert_eq!(lines("\"\" \"\n1,d\n"), 2);
    assert_eq!(lines("5\" pipe,\"a\nb\"\n1,d\n"), 2);
    assert_eq!(lines("\"a \"\" b\n"), 0);
}
