//! Files of events: what IoT Hub's routing and Event Hubs Capture write.

use apache_avro::types::Value;
use apache_avro::{Codec, DeflateSettings, Schema, Writer};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::*;

const BODY: &str = r#"{"ts":1767571200,"tag":"temp","value":1.5}"#;
const TWO: &str =
    r#"[{"ts":1767571201,"tag":"temp","value":2},{"ts":1767571201,"device":"own","tag":"temp","value":3}]"#;

/// Returns a line of IoT Hub's routing.
fn line(body: &str) -> String {
    format!(
        r#"{{"EnqueuedTimeUtc":"2026-01-05T00:00:05.1230000Z","Properties":{{"line":"l1"}},"SystemProperties":{{"connectionDeviceId":"pump-7","connectionAuthMethod":"{{}}","enqueuedTime":"2026-01-05T00:00:05.1230000Z"}},"Body":{body}}}
"#
    )
}

/// Returns the sensor, the time in seconds and the value of each reading.
fn seen(log: &Log) -> Vec<(String, i64, f64)> {
    let seen = log.readings.iter();
    seen.map(|seen| {
        let sensor = format!("{}/{}", seen.device, seen.tag);
        (sensor, seen.millis / 1_000, f64::from_bits(seen.value))
    })
    .collect()
}

fn expected() -> Vec<(String, i64, f64)> {
    vec![
        ("pump-7/temp".to_owned(), 1_767_571_200, 1.5),
        ("pump-7/temp".to_owned(), 1_767_571_201, 2.0),
        ("own/temp".to_owned(), 1_767_571_201, 3.0),
    ]
}

/// The schema of capture, without what is not read.
const CAPTURE: &str = r#"{"type":"record","name":"EventData","namespace":"Microsoft.ServiceBus.Messaging","fields":[
    {"name":"SequenceNumber","type":"long"},
    {"name":"Offset","type":"string"},
    {"name":"EnqueuedTimeUtc","type":"string"},
    {"name":"SystemProperties","type":{"type":"map","values":["long","double","string","bytes"]}},
    {"name":"Properties","type":{"type":"map","values":["long","double","string","bytes","null"]}},
    {"name":"Body","type":["null","bytes"]}]}"#;

fn capture(bodies: &[&str], codec: Codec) -> Vec<u8> {
    let schema = Schema::parse_str(CAPTURE).unwrap();
    let mut writer = Writer::with_codec(&schema, Vec::new(), codec).unwrap();
    for (number, body) in (0..).zip(bodies) {
        let text = |index, text: &str| Value::Union(index, Box::new(Value::String(text.to_owned())));
        let system = [
            ("iothub-connection-device-id".to_owned(), text(2, "pump-7")),
            (
                "iothub-enqueuedtime".to_owned(),
                Value::Union(0, Box::new(Value::Long(1_767_571_205_123))),
            ),
        ];
        let record = Value::Record(vec![
            ("SequenceNumber".to_owned(), Value::Long(number)),
            ("Offset".to_owned(), Value::String(format!("{}", number * 100))),
            (
                "EnqueuedTimeUtc".to_owned(),
                Value::String("1/5/2026 12:00:05 AM".to_owned()),
            ),
            ("SystemProperties".to_owned(), Value::Map(system.into())),
            (
                "Properties".to_owned(),
                Value::Map([("line".to_owned(), text(2, "l1"))].into()),
            ),
            (
                "Body".to_owned(),
                Value::Union(1, Box::new(Value::Bytes(body.as_bytes().to_vec()))),
            ),
        ]);
        writer.append_value(record).unwrap();
        // A block for each event.
        writer.flush().unwrap();
    }
    writer.into_inner().unwrap()
}

#[test]
fn events_of_iot_hub_are_read_from_files_without_an_ending() {
    let plain = line(BODY) + &line(TWO);
    let packed = line(&format!("\"{}\"", STANDARD.encode(BODY))) + &line(TWO);
    for (name, text) in [("00", &plain), ("00.json", &plain), ("00", &packed)] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hub/00/2026/01/05/00").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::write(folder.path().join("LICENSE"), "{} none").unwrap();
        let log = drain(&mut open(folder.path(), Until::CaughtUp)).remove(0);
        assert_eq!(seen(&log), expected(), "{name}: {:?}", log.unreadable);
        // The second event has two readings, and they share its offset.
        let second = line(BODY).len() as u64;
        assert_eq!(log.readings[1].offset, log.readings[2].offset);
        if text == &plain {
            assert_eq!(seen(&read_from(&path, second)), expected()[1..]);
        }
    }
}

#[test]
fn events_of_capture_are_read_from_avro_and_again_from_any_event() {
    let deflate = || Codec::Deflate(DeflateSettings::default());
    for codec in [
        Codec::Null,
        deflate(),
        Codec::Snappy,
        Codec::Zstandard(Default::default()),
    ] {
        let log = read("0.avro", capture(&[BODY, TWO], codec));
        assert_eq!(seen(&log), expected(), "{codec:?}: {:?}", log.unreadable);
        assert_eq!(
            log.readings.iter().map(|seen| seen.offset).collect::<Vec<_>>(),
            [0, 1, 1]
        );
    }
    let (_folder, path) = file("00", capture(&[BODY, TWO, "no"], deflate()));
    let rest = read_from(&path, 1);
    assert_eq!(seen(&rest), expected()[1..]);
    assert_eq!((rest.next, rest.unreadable.len()), (3, 1));
    assert_eq!(rest.unreadable[0].raw.bytes(), b"no");
}

#[test]
fn the_time_and_the_device_of_an_event_in_a_file_may_be_asked_for() {
    let mapping = ColumnMapping {
        time_from: Some("annotation:iothub-enqueuedtime".parse().unwrap()),
        device_from: Some("property:line".parse().unwrap()),
        ..ColumnMapping::default()
    };
    let avro = capture(&[r#"{"device":"x","tag":"t","value":1}"#], Codec::Null);
    let text = line(r#"{"device":"x","tag":"t","value":1}"#).into_bytes();
    for (name, bytes) in [("0.avro", avro), ("0.json", text)] {
        let (_folder, path) = file(name, bytes);
        let mut source = FileSource::open(&path, &mapping, Until::CaughtUp).unwrap();
        let log = drain(&mut source).remove(0);
        assert_eq!(
            seen(&log),
            [("l1/t".to_owned(), 1_767_571_205, 1.0)],
            "{:?}",
            log.unreadable
        );
    }
}

#[test]
fn a_file_without_events_is_refused_if_they_are_asked_for() {
    let mapping = ColumnMapping {
        device_from: Some("property:line".parse().unwrap()),
        ..ColumnMapping::default()
    };
    for (name, bytes) in [
        ("a.csv", format!("{HEADER}1,d,t,1\n")),
        ("a.ndjson", BODY.to_owned()),
    ] {
        let (_folder, path) = file(name, bytes);
        let error = FileSource::open(&path, &mapping, Until::CaughtUp).err().unwrap();
        assert!(error.to_string().contains("there is no property:line"), "{error}");
    }
}

#[test]
fn an_avro_file_that_is_cut_is_not_whole_and_one_of_other_records_is_refused() {
    let whole = capture(&[BODY, TWO], Codec::Null);
    assert!(refusal("0.avro", &whole[..whole.len() - 20]).contains("it is not whole"));
    let schema = Schema::parse_str(r#"{"type":"record","name":"r","fields":[{"name":"x","type":"long"}]}"#);
    let schema = schema.unwrap();
    let mut writer = Writer::new(&schema, Vec::new()).unwrap();
    writer
        .append_value(Value::Record(vec![("x".to_owned(), Value::Long(1))]))
        .unwrap();
    let other = writer.into_inner().unwrap();
    assert!(refusal("0.avro", other).contains("no field Body"));
}

#[test]
fn no_flipped_bit_of_an_avro_file_makes_the_library_panic() {
    let bytes = capture(&[BODY, TWO], Codec::Deflate(DeflateSettings::default()));
    for at in 0..bytes.len() {
        for bit in [1, 0x80] {
            let mut damaged = bytes.clone();
            damaged[at] ^= bit;
            let (_folder, path) = file("0.avro", damaged);
            written_long_ago(&path);
            if let Ok(mut source) = FileSource::open(&path, &ColumnMapping::default(), Until::CaughtUp) {
                drain(&mut source);
            }
        }
    }
}
