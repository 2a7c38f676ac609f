use super::*;

fn resolve(mapping: &ColumnMapping, found: &[&str]) -> Result<[usize; 4], SourceError> {
    mapping.resolve(Path::new("f.csv"), found)
}

#[test]
fn usual_names_are_found_in_any_case_and_order() {
    let usual = ColumnMapping::default();
    assert_eq!(
        resolve(&usual, &["TS", "Device", "Tag", "Value"]).unwrap(),
        [0, 1, 2, 3]
    );
    assert_eq!(
        resolve(
            &usual,
            &["reading", "quality", "DeviceId", "Sensor", " event_time "]
        )
        .unwrap(),
        [4, 2, 3, 0]
    );
}

#[test]
fn two_usual_names_for_one_role_are_refused_with_the_option_that_decides() {
    let usual = ColumnMapping::default();
    let error = resolve(&usual, &["ts", "device", "sensor", "metric", "value"]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "f.csv: both `sensor` and `metric` could be the tag; say which with --column-tag sensor or --column-tag metric"
    );
    let given = ColumnMapping {
        tag: Some("metric".into()),
        ..ColumnMapping::default()
    };
    let columns = resolve(&given, &["ts", "device", "sensor", "metric", "value"]).unwrap();
    assert_eq!(columns, [0, 1, 3, 4]);
}

fn plan(mapping: &ColumnMapping, found: &[&str]) -> Result<Plan, String> {
    let plan = mapping.plan(Path::new("f.csv"), "line 2/pump-7.csv", found);
    plan.map_err(|error| error.to_string())
}

fn wide(tags: &[&str]) -> ColumnMapping {
    ColumnMapping {
        tags: tags.iter().map(|tag| tag.parse().unwrap()).collect(),
        ..ColumnMapping::default()
    }
}

#[test]
fn a_date_and_a_time_are_two_columns_of_one_role() {
    let found = ["Date", "Time", "device", "tag", "value"];
    let planned = plan(&ColumnMapping::default(), &found).unwrap();
    assert_eq!((planned.time, planned.time_of_day), (0, Some(1)));
    let given = ColumnMapping {
        timestamp: Some("day+clock".into()),
        ..ColumnMapping::default()
    };
    let planned = plan(&given, &["clock", "device", "tag", "value", "day"]).unwrap();
    assert_eq!((planned.time, planned.time_of_day), (4, Some(0)));
}

#[test]
fn wide_columns_become_tags() {
    let found = ["ts", "device", "temp", "press", "quality", "note", ""];
    let tags = |mapping: &ColumnMapping| match plan(mapping, &found).map(|plan| plan.values) {
        Ok(Values::Wide(columns)) => columns
            .into_iter()
            .map(|(_, tag)| tag)
            .collect::<Vec<_>>()
            .join(" "),
        other => format!("{other:?}"),
    };
    assert_eq!(tags(&wide(&["press", "temp"])), "temp press");
    assert_eq!(tags(&wide(&["oil=temp", "p*"])), "oil press");
    let mut all = wide(&["*"]);
    all.ignore = vec!["note".to_owned()];
    all.conditions = vec!["quality=Good".parse().unwrap()];
    assert_eq!(tags(&all), "temp press");
    assert!(tags(&wide(&["flow"])).contains("no column `flow` for the tag"));
    assert!(tags(&wide(&["x*"])).contains("no column is a measurement by --tags x*"));
    assert!(tags(&wide(&["a=temp", "a=press"])).contains("two columns would give the tag `a`"));
}

#[test]
fn a_device_comes_from_the_file_or_from_a_part_of_a_column() {
    let mut mapping = wide(&["temp"]);
    let mut device = |from: &str| {
        mapping.device_from = Some(from.parse().unwrap());
        plan(&mapping, &["ts", "temp", "topic"]).map(|plan| plan.device)
    };
    assert_eq!(device("file"), Ok(Device::Fixed("pump-7".to_owned())));
    assert_eq!(device("path:1"), Ok(Device::Fixed("line 2".to_owned())));
    assert_eq!(device("segment:topic:-1"), Ok(Device::Segment(2, -1)));
    assert!(device("segment:x:1").unwrap_err().contains("no column `x`"));
    assert!(device("path:9").unwrap_err().contains("has no such part"));
}

#[test]
fn options_are_saved_and_read_back() {
    let mut mapping = wide(&["oil=temp", "p*"]);
    mapping.device_from = Some("segment:topic:2".parse().unwrap());
    mapping.conditions = vec!["q!=Bad".parse().unwrap()];
    mapping.time_format = Some("%d.%m.%Y".parse().unwrap());
    mapping.delimiter = Some(';');
    let json = serde_json::to_string(&mapping).unwrap();
    assert_eq!(serde_json::from_str::<ColumnMapping>(&json).unwrap(), mapping);
    assert_eq!(serde_json::to_string(&ColumnMapping::default()).unwrap(), "{}");
}

#[test]
fn a_given_name_is_the_only_one_looked_for() {
    let mapping = ColumnMapping {
        value: Some("Pressure".into()),
        ..ColumnMapping::default()
    };
    assert_eq!(
        resolve(&mapping, &["ts", "device", "tag", "value", "pressure"]).unwrap()[3],
        4
    );
    let error = resolve(&mapping, &["ts", "device", "tag", "value"]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "f.csv: no column `Pressure` for the value; the file has ts, device, tag, value"
    );
}

#[test]
fn a_column_given_to_one_role_is_not_taken_for_another() {
    let mapping = ColumnMapping {
        device: Some("sensor".into()),
        ..ColumnMapping::default()
    };
    let error = resolve(&mapping, &["ts", "sensor", "value"]).unwrap_err();
    assert!(
        error.to_string().contains("`tag | sensor | metric` for the tag"),
        "{error}"
    );
}
