//! The same readings in every shape that programs write: `windrow inspect` names the options, and with them the predictions
//! are those of the plain table.

use std::path::Path;

use windrow_common::EventTime;
use windrow_tests::{models_for, windrow};

use super::{exported, text};

/// When the readings begin, 2026-01-05T00:00:00Z, in seconds; they are 20 s apart.
const START: i64 = 1_767_571_200;
const ROUNDS: i64 = 45;

/// A round of readings of pump-7: its time in seconds, temperature and pressure.
fn rounds() -> impl Iterator<Item = (i64, f64, f64)> {
    (0..ROUNDS).map(|round| {
        let wave = (round * 37 % 11) as f64;
        (START + round * 20, 70.0 + wave / 8.0, 4.0 + wave / 16.0)
    })
}

fn iso(seconds: i64) -> String {
    EventTime::from_millis(seconds * 1_000).to_string()
}

/// Returns a table with a row for each reading.
fn long(header: &str, separator: &str, time: impl Fn(i64) -> String) -> String {
    let mut text = format!("{header}\n");
    for (seconds, temp, press) in rounds() {
        for (tag, value) in [("temp", temp), ("press", press)] {
            let cells = [
                time(seconds),
                "pump-7".to_owned(),
                tag.to_owned(),
                value.to_string(),
            ];
            text += &(cells.join(separator) + "\n");
        }
    }
    text
}

/// Returns a document for each round.
fn documents(document: impl Fn(&str, f64, f64) -> String) -> String {
    rounds()
        .map(|(seconds, temp, press)| document(&iso(seconds), temp, press) + "\n")
        .collect()
}

/// Files by name, with the options that `windrow inspect` has to find.
fn shapes() -> Vec<(&'static str, String, &'static str)> {
    let usual = "ts,device,tag,value";
    let days = |since: f64| move |seconds: i64| (since + seconds as f64 / 86_400.0).to_string();
    let two = |seconds: i64| iso(seconds).replace('T', ",").replace('Z', "");
    let german = |seconds: i64| {
        let iso = iso(seconds);
        format!("{}.{}.{};{}", &iso[8..10], &iso[5..7], &iso[..4], &iso[11..19])
    };
    let mut wide = "Anlage 7;;;\n\nDate;Time;temp;press;note\n;;degC;bar;\n".to_owned();
    for (seconds, temp, press) in rounds() {
        let cells = format!("{};{temp};{press}", german(seconds)).replace('.', ",");
        let (date, rest) = cells.split_at(10);
        wide += &format!("{}{rest};ok\n", date.replace(',', "."));
    }
    let pretty = long("", "\u{1}", iso)
        .lines()
        .skip(1)
        .fold(String::new(), |text, row| {
            let cells: Vec<_> = row.split('\u{1}').collect();
            text + &format!(
                "{{\n \"ts\": \"{}\",\n \"device\": \"{}\",\n \"tag\": \"{}\",\n \"value\": {}\n}}\n",
                cells[0], cells[1], cells[2], cells[3]
            )
        });
    vec![
        (
            "postgres.csv",
            long(usual, ",", |seconds| {
                iso(seconds).replace('T', " ").replace('Z', "+00")
            }),
            "",
        ),
        (
            "bigquery.csv",
            long(usual, ",", |seconds| {
                iso(seconds).replace('T', " ").replace('Z', " UTC")
            }),
            "",
        ),
        (
            "exponent.csv",
            long(usual, ",", |seconds| format!("{:e}", seconds as f64)),
            "",
        ),
        ("pipe.csv", long("ts|device|tag|value", "|", iso), ""),
        (
            "excel.csv",
            long(usual, ",", days(25_569.0)),
            "--time-format excel",
        ),
        (
            "datenum.csv",
            long(usual, ",", days(719_529.0)),
            "--time-format datenum",
        ),
        (
            "labview.csv",
            long(usual, ",", |seconds| (seconds + 2_082_844_800).to_string()),
            "--time-format labview",
        ),
        ("two.csv", long("date,time,device,tag,value", ",", two), ""),
        (
            "names.csv",
            long("when_time,machine,signal,val", ",", iso),
            "--column-time when_time --column-device machine --column-tag signal --column-value val",
        ),
        (
            "metric.csv",
            long("ts,device,sensor,metric,value", ",", iso).replace("pump-7,", "pump-7,BME280,"),
            "--column-tag metric",
        ),
        (
            "pump-7.csv",
            wide,
            "--tags '*' --ignore note --device-from file --time-format '%d.%m.%Y %H:%M:%S'",
        ),
        ("pretty.json", pretty, ""),
        (
            "opc.json",
            documents(|time, temp, press| {
                let sample = |tag: &str, value: f64| {
                    format!(
                        r#"{{"NodeId":"nsu=x;s={tag}","ApplicationUri":"pump-7","DisplayName":"{tag}","Value":{{"Value":{value},"SourceTimestamp":"{time}"}}}}"#
                    )
                };
                sample("temp", temp) + "\n" + &sample("press", press)
            }),
            "--column-time Value.SourceTimestamp --column-device ApplicationUri --column-tag DisplayName --column-value Value.Value",
        ),
        (
            "telegraf.json",
            documents(|time, temp, press| {
                format!(
                    r#"{{"fields":{{"temp":{temp},"press":{press},"state":"RUN"}},"name":"opcua","tags":{{"device":"pump-7"}},"timestamp":"{time}"}}"#
                )
            }),
            "--column-device tags.device --tags 'fields.*' --ignore state",
        ),
        (
            "central.json",
            documents(|time, temp, press| {
                format!(
                    r#"{{"applicationId":"a","deviceId":"pump-7","enqueuedTime":"{time}","telemetry":{{"temp":{temp},"press":{press}}}}}"#
                )
            }),
            "--column-time enqueuedTime --tags 'telemetry.*'",
        ),
        (
            "sparkplug.json",
            documents(|time, temp, press| {
                format!(
                    r#"{{"topic":"spBv1.0/g/DDATA/edge/pump-7","timestamp":"{time}","metrics":[{{"name":"temp","dataType":"Double","value":{temp}}},{{"name":"press","dataType":"Double","value":{press}}}]}}"#
                )
            }),
            "--column-tag 'metrics[].name' --column-value 'metrics[].value' --device-from segment:topic:-1",
        ),
    ]
}

/// Returns the predictions of a file that is read with these options, in the order of sensor and window.
fn predictions(source: &Path, options: &[String], models: &Path) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    std::fs::create_dir_all(&store).unwrap();
    copy(&models.join("models"), &store.join("models"));
    let mut words = vec![
        "run",
        "--source",
        text(source),
        "--store",
        text(&store),
        "--until-caught-up",
    ];
    words.extend(options.iter().map(String::as_str));
    let counts = windrow(&words).json();
    assert_eq!(
        counts["quarantined"],
        serde_json::json!({}),
        "{}",
        source.display()
    );
    let mut rows: Vec<_> = exported(text(&store))
        .lines()
        .skip(1)
        .map(str::to_owned)
        .collect();
    rows.sort();
    rows
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(std::fs::copy(entry.path(), to).unwrap()),
        }
    }
}

#[test]
fn every_shape_gives_the_predictions_of_the_plain_table_with_the_options_that_inspect_names() {
    let folder = tempfile::tempdir().unwrap();
    let plain = folder.path().join("plain.csv");
    std::fs::write(&plain, long("ts,device,tag,value", ",", iso)).unwrap();
    let models = folder.path().join("models");
    models_for(text(&plain), text(&models));
    let expected = predictions(&plain, &[], &models);
    assert_eq!(expected.len(), 30);
    for (name, written, wanted) in shapes() {
        let file = folder.path().join(name);
        std::fs::write(&file, written).unwrap();
        let seen = windrow(&["inspect", text(&file)]).json();
        let options = seen["options"].as_array().unwrap();
        let words: Vec<String> = options
            .iter()
            .flat_map(|pair| pair.as_array().unwrap())
            .map(|word| word.as_str().unwrap().to_owned())
            .collect();
        let command = seen["command"].as_str().unwrap();
        let pinned = command.split(" --window ").next().unwrap();
        assert_eq!(
            pinned,
            format!("windrow run --source {} {wanted}", text(&file)).trim_end(),
            "{name}"
        );
        assert_eq!(
            (&seen["readings"], &seen["window_seconds"]),
            (&90.into(), &60.into()),
            "{name}"
        );
        assert_eq!(predictions(&file, &words, &models), expected, "{name}");
    }
}

#[test]
fn a_second_try_with_the_right_option_reads_what_the_first_could_not() {
    let folder = tempfile::tempdir().unwrap();
    let (source, store) = (folder.path().join("readings.csv"), folder.path().join("store"));
    let clock = |seconds: i64| format!("{},{}", &iso(seconds)[11..19], iso(seconds));
    std::fs::write(&source, long("time,stamp,device,tag,value", ",", clock)).unwrap();
    let plain = folder.path().join("plain.csv");
    std::fs::write(&plain, long("ts,device,tag,value", ",", iso)).unwrap();
    models_for(text(&plain), text(&store));
    let run = [
        "run",
        "--source",
        text(&source),
        "--store",
        text(&store),
        "--until-caught-up",
    ];
    let (code, _, said) = windrow(&run).end();
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("this reads it: --column-time stamp"), "{said}");
    let counts = windrow(&[&run[..], &["--column-time", "stamp"]].concat()).json();
    assert_eq!(
        (&counts["predictions"], &counts["quarantined"]),
        (&30.into(), &serde_json::json!({}))
    );
}
