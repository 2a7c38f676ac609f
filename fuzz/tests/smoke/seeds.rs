//! The inputs to begin with, compared with the committed ones. `UPDATE_CORPUS=1 cargo test --workspace --test smoke seeds`
//! writes them. Faults that were found are kept next to them, under names of their own.

use std::fs;
use std::io::Write;
use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use flate2::write::GzEncoder;
use parquet::arrow::ArrowWriter;
use windrow_common::{
    Aggregate, Breach, Cause, Course, EventTime, GroupMessage, Incident, IncidentKind, Interval, Length,
    Peak, Prediction, ScoringMessage, SensorId, Shadow, TagSeries,
};
use windrow_store::testing::file_of;
use windrow_store::{DispatchedWindow, Row};

use super::repository;

mod models;

const OBJECTS: &str = concat!(
    r#"{"ts":"2026-01-05T00:00:00Z","device":"pump-7","tag":"temp","value":71.3}"#,
    "\n",
    r#"{"ts":1767571201,"device":"pump \"8\"","tag":"t\u00e9mp","value":-1.5e-3,"more":[1,{"a":null}]}"#,
    "\n",
);

#[test]
fn committed_seeds_are_what_the_formats_write_today() {
    let updates = std::env::var_os("UPDATE_CORPUS").is_some();
    let seeds = [
        text(),
        hub_bodies(),
        parquet(),
        messages(),
        models::models(),
        models::pickles(),
        models::other_files(),
        documents(),
        headers(),
    ];
    for (target, name, bytes) in seeds.concat() {
        let path = repository("fuzz/corpus").join(target).join(name);
        if updates {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &bytes).unwrap();
        }
        let committed = fs::read(&path).unwrap_or_default();
        assert!(
            committed == bytes,
            "fuzz/corpus/{target}/{name} is not what the format writes today: run this test with UPDATE_CORPUS=1"
        );
    }
}

/// A document with an array of metrics.
const METRICS: &str = "{\"topic\":\"g/e/p\",\"ts\":1767571200,\"metrics\":[{\"name\":\"a\",\"value\":1},{\"name\":\"b\",\"value\":\"2\",\"ts\":3}]}\n{\"metrics\":[]}";

type Seeds = Vec<(&'static str, &'static str, Vec<u8>)>;

fn text() -> Seeds {
    let csv = "ts,device,tag,value\n2026-01-05T00:00:00Z,pump-7,temp,71.3\n1767571201,pump-8,temp,-1.5e-3\n";
    let quoted = "\u{feff}value,\"tag\",more,device,time\r\n\r\n1,\"a\"\"b\",,\"x,\ny\",1767571201.5\r\n2,t,\"open,d,3\n4,t,,d,5\n";
    let odd = "{\"ts\":1}\nnot json\n{\"time\":1767571201123,\"deviceId\":7,\"sensor\":8,\"reading\":\"9\"}\r\n\n{\"ts\":1,\"ts\":2,\"device\":\"d\",\"tag\":\"t\",\"value\":1}";
    vec![
        ("csv", "plain", csv.into()),
        ("csv", "quoted", quoted.into()),
        (
            "csv",
            "ragged",
            "ts,device,tag,value\n1,d\n2,d,t,NaN,5\n\"3,d,t,1\n4,d,t,\"1\n".into(),
        ),
        ("wide", "logger", "TOA5,x,1\nTIMESTAMP,temp,press\nTS,C,bar\n2026-01-05 00:00:00,1.5,2\n\"2026-01-05 00:00:20\",,3\n".into()),
        (
            "wide",
            "historian",
            "#a\nDate;Time;temp;quality;press\n2026-01-05;00:00:00;1,5;Good;2\n2026-03-29;02:30:00;x;Bad;\n".into(),
        ),
        ("wide", "dates", "when|device|tag|value\n25/01/2026 10:00|d|t|1\n46027|d|t|true\n".into()),
        ("shapes", "metrics", METRICS.into()),
        ("shapes", "fields", "{\"ts\":1767571200,\"device\":\"d\",\"fields\":{\"a\":1,\"state\":\"RUN\",\"b\":null},\"c\":[1],\"e\":true}\n".into()),
        ("shapes", "array", "[{\"date\":\"2026-01-05\",\"time\":\"00:00:20\",\n\"a\":{\"b\":{\"c\":\"t\"}}}, [{\"x\":1}]]".into()),
        ("ndjson", "plain", OBJECTS.into()),
        ("ndjson", "pretty", OBJECTS.replace(',', ",\n").replace('{', "{\n").into()),
        ("ndjson", "odd", odd.into()),
    ]
}

fn hub_bodies() -> Seeds {
    let one = OBJECTS.lines().next().unwrap();
    let mut packed = GzEncoder::new(Vec::new(), flate2::Compression::best());
    packed.write_all(OBJECTS.as_bytes()).unwrap();
    let commas = OBJECTS.replace('\n', ",\n");
    vec![
        ("hub_body", "object", one.into()),
        ("hub_body", "lines", OBJECTS.into()),
        ("hub_body", "commas", commas.clone().into()),
        (
            "hub_body",
            "array",
            format!("[{}]", commas.trim_end().trim_end_matches(',')).into(),
        ),
        (
            "hub_body",
            "spread",
            one.replace(',', ",\n").replace('{', "{\n").into(),
        ),
        ("hub_body", "gzip", packed.finish().unwrap()),
        ("hub_body", "bomb", bomb()),
    ]
}

/// Four million spaces, compressed.
fn bomb() -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), flate2::Compression::best());
    packed.write_all(&[b' '; 4 << 20]).unwrap();
    packed.finish().unwrap()
}

fn parquet() -> Seeds {
    let times = TimestampMillisecondArray::from(vec![1_767_571_200_000, 1_767_571_201_000, 5]);
    let names = |name: &str| -> ArrayRef { Arc::new(StringArray::from(vec![Some(name), Some("x"), None])) };
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("ts", Arc::new(times)),
        ("device", names("pump-7")),
        ("tag", names("temp")),
        ("value", Arc::new(Float64Array::from(vec![71.3, f64::NAN, -1.0]))),
    ];
    let batch = RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, column)| (name, column, true)),
    );
    let batch = batch.unwrap();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.flush().unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let (predictions, dispatched) = rows();
    vec![
        ("parquet", "two-groups", bytes),
        (
            "parquet",
            "another-table",
            DispatchedWindow::encode(&dispatched).unwrap().to_vec(),
        ),
        (
            "tables",
            "predictions",
            Prediction::encode(&predictions).unwrap().to_vec(),
        ),
        ("tables", "incidents", file_of(&incidents()).unwrap().to_vec()),
        (
            "tables",
            "dispatched",
            DispatchedWindow::encode(&dispatched).unwrap().to_vec(),
        ),
    ]
}

fn aggregate(minute: i64) -> Aggregate {
    Aggregate {
        window_start: EventTime::from_millis(1_767_571_200_000 + minute * 60_000),
        count: 60,
        mean: 71.25,
        std: 0.5,
        min: 70.0,
        max: 72.5,
        first: 70.5,
        last: 72.0,
    }
}

fn sensor() -> SensorId {
    SensorId::new("pump/7", "temp").unwrap()
}

fn incidents() -> Vec<Incident> {
    let course = Course {
        kind: IncidentKind::Anomaly,
        opened: aggregate(0).window_start,
        noticed: aggregate(1).window_start,
        escalated: Some(aggregate(1).window_start),
        until: aggregate(2).window_start,
        closed: None,
        windows: 2,
        peak: Some(Peak {
            score: 3.5,
            at: aggregate(1).window_start,
            cause: Some(Arc::new(Cause {
                feature: "mean".into(),
                value: 130.5,
                normal: Some((61.25, 66.0)),
                share: 0.75,
            })),
        }),
        breach: Some(Breach {
            value: 130.5,
            limit: 125.0,
            at: aggregate(1).window_start,
        }),
        muted_until: Some(aggregate(2).window_start),
    };
    let incident = |course| Incident {
        sensor: sensor(),
        window_length: Length::from_millis(60_000),
        course,
    };
    let silent = Course {
        kind: IncidentKind::Silent,
        escalated: None,
        closed: Some(aggregate(2).window_start),
        windows: 0,
        peak: None,
        breach: None,
        muted_until: None,
        ..course
    };
    vec![incident(course), incident(silent)]
}

fn rows() -> (Vec<Prediction>, Vec<DispatchedWindow>) {
    let window_length = Length::from_millis(60_000);
    let shadow = Shadow {
        version: "fedcba9876543210".into(),
        decision: 0.5,
        score: -0.75,
    };
    let prediction = |minute| Prediction {
        sensor: sensor(),
        window_length,
        aggregate: aggregate(minute),
        decision: -0.25,
        score: Some(0.5),
        threshold: Some(0.5),
        cause: None,
        anomaly: true,
        model_version: "0123456789abcdef".into(),
        shadow: (minute == 1).then(|| shadow.clone()),
    };
    let dispatched = |minute| DispatchedWindow {
        sensor: sensor(),
        window_start: aggregate(minute).window_start,
        window_length,
        count: 60,
        source: "readings".into(),
    };
    ((0..3).map(prediction).collect(), (0..3).map(dispatched).collect())
}

fn messages() -> Seeds {
    let message = |windows| ScoringMessage {
        sensor: sensor(),
        interval: Interval {
            start: aggregate(0).window_start,
            length: Length::HOUR,
        },
        window_length: Length::from_millis(60_000),
        aggregates: (0..windows).map(aggregate).collect(),
    };
    let series = |tag: &str, windows| TagSeries {
        tag: tag.into(),
        aggregates: (0..windows).map(aggregate).collect(),
    };
    let of_group = GroupMessage {
        sensor: SensorId::of_group(&sensor().device),
        interval: Interval {
            start: aggregate(1).window_start,
            length: Length::HOUR,
        },
        window_length: Length::from_millis(60_000),
        series: vec![series("a", 3), series("b", 2)],
    };
    vec![
        ("scoring_message", "one-window", message(1).encode().unwrap()),
        ("scoring_message", "three-windows", message(3).encode().unwrap()),
        ("scoring_message", "two-tags", of_group.encode().unwrap()),
    ]
}

/// JSON: checkpoints and dead letters.
fn documents() -> Seeds {
    let checkpoint = r#"{"window_ms":60000,"interval_ms":3600000,"dispatched_through":"2026-01-05T01:00:00Z","sensors":{"2026-01-05T01:00:00Z":{"pump-7":["temp","flow"]},"2026-01-05T00:00:00Z":{"a/b":["t"]}},"partitions":{"a.csv":{"resume":17,"judged":99,"set_aside":"18 20-25.3"},"b.csv":{"resume":0,"judged":0}},"owner":"1-00ff","source":"/data","columns":{"time":"when"}}"#;
    let old = r#"{"window_ms":60000,"interval_ms":60000,"dispatched_through":"2026-01-05T01:00:00Z","partitions":{"0":{"resume":17,"judged":99}},"hub":"amqps://x/y"}"#;
    let letter = r#"{"id":"pump-7/temp@2026-01-05T00:00:00Z+1h/1m","reason":"no-model","detail":"none","worker":"w","dead_at":"2026-01-05T02:00:00Z","deliveries":3,"kind":"k","content_type":"c","enqueued_at":"2026-01-05T01:00:00.25Z","traceparent":"00-aa-bb-01","body":"AAH/"}"#;
    vec![
        ("checkpoint", "sensors", checkpoint.into()),
        ("checkpoint", "old", old.into()),
        ("dead_letter", "whole", letter.into()),
    ]
}

/// AMQP 0-9-1 properties on the wire: flags, then the content type, the headers, and so on.
fn headers() -> Seeds {
    fn short(text: &str) -> Vec<u8> {
        [&[text.len() as u8], text.as_bytes()].concat()
    }
    fn long(text: &str) -> Vec<u8> {
        [&b"S"[..], &(text.len() as u32).to_be_bytes(), text.as_bytes()].concat()
    }
    fn table(fields: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let fields: Vec<u8> = fields
            .iter()
            .flat_map(|(name, value)| [short(name), value.clone()].concat())
            .collect();
        [&(fields.len() as u32).to_be_bytes()[..], &fields].concat()
    }
    let integer = |number: i64| [&b"l"[..], &number.to_be_bytes()].concat();
    let properties = |headers: &[(&str, Vec<u8>)]| {
        // Content type, headers, delivery mode, message id, timestamp and type.
        let flags = (1_u16 << 15) | (1 << 13) | (1 << 12) | (1 << 7) | (1 << 6) | (1 << 5);
        let time = 1_767_571_200_u64.to_be_bytes();
        let id = short("pump-7/temp@2026-01-05T00:00:00Z+1h/1m");
        let parts = [
            flags.to_be_bytes().to_vec(),
            short("application/vnd.windrow.bincode"),
            table(headers),
            vec![2],
            id,
            time.to_vec(),
            short("windrow.scoring-message"),
        ];
        parts.concat()
    };
    let death = table(&[
        ("count", integer(1)),
        ("reason", long("delivery_limit")),
        ("time", [&b"T"[..], &1_767_571_300_u64.to_be_bytes()].concat()),
    ]);
    let death = [&b"F"[..], &death].concat();
    let deaths = [&b"A"[..], &(death.len() as u32).to_be_bytes(), &death].concat();
    let enqueued = || ("x-windrow-enqueued-ms", integer(1_767_571_200_250));
    vec![
        (
            "amqp_headers",
            "message",
            properties(&[enqueued(), ("traceparent", long("00-aa-bb-01"))]),
        ),
        (
            "amqp_headers",
            "by-the-broker",
            properties(&[enqueued(), ("x-death", deaths), ("x-delivery-count", integer(4))]),
        ),
        (
            "amqp_headers",
            "by-a-worker",
            properties(&[
                enqueued(),
                ("x-windrow-reason", long("no-model")),
                ("x-windrow-detail", long("none")),
                ("x-windrow-worker", long("w")),
                ("x-windrow-dead-ms", integer(1_767_571_400_000)),
                ("x-windrow-deliveries", [&b"i"[..], &3_u32.to_be_bytes()].concat()),
            ]),
        ),
    ]
}
