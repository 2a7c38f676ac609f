use crate::checkpoint::column_options;

use super::*;

/// Returns the options suggested for a file of this text.
fn suggested(name: &str, text: &str) -> String {
    suggested_beside(name, text, &ColumnMapping::default())
}

fn suggested_beside(name: &str, text: &str, given: &ColumnMapping) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    let suggestions = suggest(&path, given).unwrap();
    let Some(best) = suggestions.first() else {
        return "nothing".to_owned();
    };
    let options: Vec<_> = column_options(&best.mapping)
        .map(|(option, value)| format!("{option} {value}"))
        .collect();
    options.join(" ")
}

const T: &str = "2026-01-05T00:00:00Z";

#[test]
fn tables_are_understood() {
    for (text, options) in [
        (format!("ts,device,tag,value\n{T},d,t,1\n"), ""),
        (
            format!("when_time,machine,signal,val\n{T},d,t,1\n"),
            "--column-time when_time --column-device machine --column-tag signal --column-value val",
        ),
        (
            format!("time,temp,press,note\n{T},1,2,x\n"),
            "--tags * --ignore note --device-from file",
        ),
        (
            format!("ts,device,temp,press\n{T},d,1,2\n{T},e,1,2\n"),
            "--tags *",
        ),
        (
            format!("TOA5,x,y\nTIMESTAMP,RH,AirT\nTS,%,C\n{T},1,2\n{T},1,2\n{T},1,2\n"),
            "--tags * --device-from file",
        ),
        (
            "Datum;temp;press\n25.01.2026 00:00:00;1,5;2\n".to_owned(),
            "--column-time Datum --tags * --device-from file --time-format %d.%m.%Y %H:%M:%S",
        ),
        (
            "date;temp;press\n25.01.2026 00:00:00;1,5;2\n".to_owned(),
            "--column-time date --tags * --device-from file --time-format %d.%m.%Y %H:%M:%S",
        ),
        (
            "ts,device,tag,value\n46027,d,t,1\n".to_owned(),
            "--time-format excel",
        ),
        (
            "ts,device,tag,value\n20260105,d,t,1\n".to_owned(),
            "--time-format %Y%m%d",
        ),
        (
            format!("ts,device,sensor,metric,value\n{T},d,BME,a,1\n{T},d,BME,b,1\n"),
            "--column-tag metric",
        ),
        (
            "Date,Time,device,tag,value\n05/01/2026,00:00:20,d,t,1\n".to_owned(),
            "--time-format %d/%m/%Y %H:%M:%S",
        ),
    ] {
        assert_eq!(suggested("pump.csv", &text), options, "{text}");
    }
}

#[test]
fn documents_are_understood() {
    for (text, options) in [
        (
            format!(r#"{{"NodeId":"n","ApplicationUri":"p","DisplayName":"t","Value":{{"Value":1.5,"SourceTimestamp":"{T}"}}}}"#),
            "--column-time Value.SourceTimestamp --column-device ApplicationUri --column-tag DisplayName --column-value Value.Value",
        ),
        (
            r#"{"fields":{"a":1,"b":2,"state":"RUN"},"name":"x","tags":{"device":"p"},"timestamp":1767571200}"#.to_owned(),
            "--column-device tags.device --tags fields.* --ignore state",
        ),
        (
            format!(r#"{{"applicationId":"a","deviceId":"p","enqueuedTime":"{T}","telemetry":{{"a":1,"b":2}}}}"#),
            "--column-time enqueuedTime --tags telemetry.*",
        ),
        (
            r#"{"topic":"s/g/DDATA/e/p","timestamp":1767571200000,"metrics":[{"name":"a","timestamp":1767571200000,"dataType":"Double","value":1},{"name":"b","timestamp":1767571200000,"dataType":"Double","value":1}]}"#.to_owned(),
            "--column-tag metrics[].name --column-value metrics[].value --device-from segment:topic:-1",
        ),
        (
            format!(r#"{{"timestamp":"{T}","name":"t","value":1,"meta":{{"vsn":"W1","plugin":"x"}}}}"#),
            "--column-device meta.vsn --column-tag name",
        ),
        (
            format!(r#"{{"Messages":[{{"Timestamp":"{T}","Payload":{{"a":{{"Value":1}},"b":{{"Value":2}}}}}}],"device":"d"}}"#),
            "--column-time Messages[].Timestamp --tags Messages[].Payload.*.Value",
        ),
    ] {
        let options = options.to_owned();
        assert_eq!(suggested("a.json", &format!("{text}\n{text}\n")), options, "{text}");
    }
}

#[test]
fn columns_of_parquet_are_understood() {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampMillisecondArray};
    let times: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![1_767_571_200_000; 2]));
    let names: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
    let numbers: ArrayRef = Arc::new(Float64Array::from(vec![Some(1.0), Some(2.0)]));
    let [time, name, number] = [&times, &names, &numbers];
    for (columns, path, options) in [
        (
            vec![("ts", time), ("device", name), ("tag", name), ("value", number)],
            "a.parquet",
            "",
        ),
        (
            vec![
                ("ts", time),
                ("device", name),
                ("temp", number),
                ("press", number),
            ],
            "a.parquet",
            "--tags *",
        ),
        (
            vec![
                ("read_at", time),
                ("note", name),
                ("temp", number),
                ("press", number),
            ],
            "a.parquet",
            "--column-time read_at --tags * --ignore note --device-from file",
        ),
        (
            vec![("ts", time), ("temp", number), ("press", number)],
            "device=p7/a.parquet",
            "--tags *",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        let batch = RecordBatch::try_from_iter(
            columns
                .into_iter()
                .map(|(name, column)| (name, Arc::clone(column))),
        );
        let batch = batch.unwrap();
        let mut writer = ::parquet::arrow::ArrowWriter::try_new(
            std::fs::File::create(&file).unwrap(),
            batch.schema(),
            None,
        )
        .unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        let suggestions = suggest(folder.path(), &ColumnMapping::default()).unwrap();
        let best = suggestions.first().map(|best| &best.mapping);
        let found: Vec<_> = column_options(best.unwrap())
            .map(|(option, value)| format!("{option} {value}"))
            .collect();
        assert_eq!(found.join(" "), options, "{path}");
    }
}

#[test]
fn what_is_given_is_kept() {
    let given = ColumnMapping {
        device_from: "const:plant".parse().ok(),
        ..ColumnMapping::default()
    };
    let text = format!("time,host,temp,press\n{T},h,1,2\n");
    assert_eq!(
        suggested_beside("a.csv", &text, &given),
        "--tags * --ignore host --device-from const:plant"
    );
}

#[test]
fn nothing_is_suggested_for_what_holds_no_readings() {
    for (name, text) in [
        ("a.csv", ""),
        ("a.csv", "x\n"),
        ("a.csv", "a,b\n1,2\n"),
        ("a.json", "[1,2]"),
        ("a.json", "{\"a\":"),
    ] {
        assert_eq!(suggested(name, text), "nothing", "{text}");
    }
}
