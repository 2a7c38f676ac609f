use std::io::Write;
use std::time::{Duration, SystemTime};

use azure_core_amqp::message::AmqpMessageBody;
use azure_core_amqp::{AmqpList, AmqpMessage, AmqpOrderedMap, AmqpSymbol, AmqpValue};
use azure_messaging_eventhubs::models::ReceivedEventData;
use flate2::Compression;
use flate2::write::GzEncoder;
use windrow_common::EventTime;
use windrow_producer::sensors::SensorTable;
use windrow_producer::source::{Batch, Offset};

use super::*;

const ONE: &str = r#"{"ts":1767225600,"device":"a","tag":"t","value":1.5}"#;
const TWO: &str = r#"{"ts":1767225601,"device":"b","tag":"t","value":2}"#;

type Reading = (String, i64, f64);

/// Returns the usual mapping, with which a time may be a small number.
fn any_epoch() -> ColumnMapping {
    ColumnMapping {
        time_format: "epoch".parse().ok(),
        ..ColumnMapping::default()
    }
}

fn one_and_two() -> Vec<Reading> {
    vec![
        ("a/t".to_owned(), 1_767_225_600, 1.5),
        ("b/t".to_owned(), 1_767_225_601, 2.0),
    ]
}

/// Returns an event with the properties `device: key` and, if given, the partition key.
fn event(body: impl Into<AmqpMessageBody>, key: Option<&str>) -> Event {
    let mut message = AmqpMessage::builder().with_body(body).build();
    message.add_message_annotation(AmqpSymbol::from("x-opt-sequence-number"), 7_i64);
    message.add_message_annotation(AmqpSymbol::from("x-opt-offset"), "4096");
    if let Some(key) = key {
        message.add_message_annotation(AmqpSymbol::from("x-opt-partition-key"), key);
    }
    Event::of(ReceivedEventData::from(message)).unwrap()
}

/// Returns an event of IoT Hub with these annotations as well.
fn iot_hub_event(body: &str, annotations: &[(&str, AmqpValue)]) -> Event {
    let mut message = AmqpMessage::builder().with_body(body.as_bytes().to_vec()).build();
    message.add_message_annotation(AmqpSymbol::from("x-opt-sequence-number"), 7_i64);
    message.add_message_annotation(AmqpSymbol::from("x-opt-partition-key"), "key");
    message.add_message_annotation(AmqpSymbol::from("iothub-connection-device-id"), "pump-7");
    for (name, value) in annotations {
        message.add_message_annotation(AmqpSymbol::from(*name), value.clone());
    }
    Event::of(ReceivedEventData::from(message)).unwrap()
}

/// Returns the readings (sensor, time in seconds, value) of an event, and what is set aside.
fn decode_event(event: &Event) -> (Vec<Reading>, Vec<Unreadable>) {
    decode_with(&any_epoch(), event)
}

fn decode_with(mapping: &ColumnMapping, event: &Event) -> (Vec<Reading>, Vec<Unreadable>) {
    let (mut sensors, mut batch) = (SensorTable::new(), Batch::default());
    let mut out = RowSink {
        sensors: &mut sensors,
        batch: &mut batch,
        arrival: EventTime::from_millis(0),
        limit: usize::MAX,
    };
    EventDecoder::new(mapping).decode(event, &mut out);
    let readings = batch.readings.iter().map(|reading| {
        assert_eq!(reading.offset, Offset(7));
        let seconds = reading.time.as_millis() / 1_000;
        (sensors.id(reading.sensor).to_string(), seconds, reading.value)
    });
    (readings.collect(), batch.unreadable)
}

fn decode(body: impl AsRef<[u8]>) -> (Vec<Reading>, Vec<Unreadable>) {
    decode_event(&event(body.as_ref().to_vec(), None))
}

fn gzip(text: impl AsRef<[u8]>) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(text.as_ref()).unwrap();
    packed.finish().unwrap()
}

fn utf16(text: &str) -> [Vec<u8>; 2] {
    let units: Vec<u16> = "\u{feff}".encode_utf16().chain(text.encode_utf16()).collect();
    [
        units.iter().flat_map(|unit| unit.to_le_bytes()).collect(),
        units.iter().flat_map(|unit| unit.to_be_bytes()).collect(),
    ]
}

#[test]
fn objects_arrays_lines_marks_and_gzip_give_the_same_readings() {
    assert_eq!(decode(ONE), (one_and_two()[..1].to_vec(), vec![]));
    let lines = format!("{ONE}\n{TWO}");
    let [little, big] = utf16(&lines);
    for body in [
        format!("{lines}\n").into_bytes(),
        format!(" [{ONE},\n {TWO}]").into_bytes(),
        format!("[{ONE}]\n[{TWO}]").into_bytes(),
        format!("[{ONE}] {TWO}").into_bytes(),
        format!("{ONE},\n{TWO},").into_bytes(),
        format!("{}\n{TWO}", ONE.replace(',', ",\n")).into_bytes(),
        format!("\u{feff}{lines}").into_bytes(),
        format!("\u{feff}[{ONE},{TWO}]").into_bytes(),
        gzip(&lines),
        gzip(format!("\u{feff}{lines}")),
        gzip(&little),
        little,
        big,
    ] {
        assert_eq!(decode(&body), (one_and_two(), vec![]), "{body:?}");
    }
}

#[test]
fn a_missing_device_is_the_event_s_and_a_present_one_the_object_s() {
    let body = br#"{"ts":1,"tag":"t","value":1}
        {"ts":2,"tag":"t","value":1,"device":"own"}"#;
    let (readings, aside) = decode_event(&event(body.to_vec(), Some("key")));
    let sensors: Vec<_> = readings.iter().map(|(sensor, ..)| sensor.as_str()).collect();
    assert_eq!(sensors, ["key/t", "own/t"]);
    assert!(aside.is_empty());
}

#[test]
fn a_body_without_a_reading_is_set_aside_exactly_with_its_reason_and_envelope() {
    for (body, wanted) in [
        (&b"not json"[..], "not a JSON object"),
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"\xff\xfe", "is empty"),
        (b"\xff\xfex", "not UTF-16"),
        (b"\xff\xfe\x00\xd8\x20\x00", "not UTF-16"),
        (b"[1, 2", "not a JSON object"),
        (b"[", "not a JSON array: EOF"),
        (b"\x1f\x8bxx", "not valid gzip"),
        (b"\x80\x81", "UTF-8"),
        (br#"{"ts":1,"device":"d","tag":"t"}"#, "field value: is missing"),
        (
            br#"{"ts":1,"device":"d","tag":"t","value":"high"}"#,
            "not a number",
        ),
        (br#"{"ts":[],"device":"d","tag":"t","value":1}"#, "field ts"),
    ] {
        let (readings, aside) = decode(body);
        assert!(readings.is_empty());
        let first = &aside[0];
        assert!(
            first.detail.contains(wanted) || first.detail.contains("timestamp"),
            "{aside:?}"
        );
        let envelope = first.envelope.as_ref().unwrap();
        assert_eq!((&*envelope.body, envelope.sequence_number), ("data", Some(7)));
        assert_eq!(envelope.offset.as_deref(), Some("4096"));
        if aside.len() == 1 {
            assert_eq!(first.raw.bytes(), body);
        }
    }
}

#[test]
fn good_objects_before_and_between_bad_ones_are_read() {
    let damaged = r#"{"ts":1,"device"#;
    for (body, good, raws, readings) in [
        // Lines stand for themselves.
        (format!("{ONE}\n{damaged}\n{TWO}"), 2, vec![damaged.to_owned()], 1),
        (format!("{ONE}\r\nx\r\n"), 1, vec!["x".to_owned()], 1),
        // An element that is not a reading, and damage of the array itself.
        (format!("[{ONE},1,{TWO}]"), 2, vec!["1".to_owned()], 1),
        (
            format!("[{ONE},{{\"ts\":2 \"x\"}},{TWO},{TWO}]"),
            1,
            vec![format!(",{{\"ts\":2 \"x\"}},{TWO},{TWO}]")],
            3,
        ),
        (format!("[{ONE},{TWO}"), 2, vec![String::new()], 1),
        (format!("[{ONE},{TWO}] end"), 2, vec!["end".to_owned()], 1),
        (
            format!("[{ONE},{TWO},{damaged}"),
            2,
            vec![format!(",{damaged}")],
            1,
        ),
        // Objects over several lines.
        (
            format!("{}\n{damaged}\n{TWO}\n", ONE.replace(',', ",\n")),
            1,
            vec![format!("{damaged}\n{TWO}")],
            1,
        ),
    ] {
        for packed in [body.clone().into_bytes(), gzip(&body)] {
            let (found, aside) = decode(&packed);
            assert_eq!(found.len(), good, "{body}: {aside:?}");
            assert_eq!(found, one_and_two()[..good], "{body}");
            let kept: Vec<_> = aside
                .iter()
                .map(|item| String::from_utf8(item.raw.bytes().to_vec()).unwrap())
                .collect();
            assert_eq!(kept, raws, "{body}");
            assert_eq!(
                aside.iter().map(|item| item.readings).sum::<u64>(),
                readings,
                "{body}"
            );
        }
    }
}

#[test]
fn what_is_set_aside_counts_the_readings_that_it_holds() {
    let bad = ONE.replace("1.5", "[]");
    let all = vec![bad; 100];
    for body in [format!("[{}]", all.join(",")), all.join("\n")] {
        let (_, aside) = decode(&body);
        assert_eq!(aside.iter().map(|item| item.readings).sum::<u64>(), 100);
        let indices: Vec<_> = aside.iter().map(|item| item.index).collect();
        assert_eq!(indices, (0..100).collect::<Vec<_>>());
        let envelopes = aside.iter().filter(|item| item.envelope.is_some()).count();
        assert_eq!(envelopes, 1, "one for the event");
    }
    // A gzip that is cut off holds what can be unpacked of it, and perhaps more.
    let packed = gzip(vec![ONE; 100].join("\n"));
    let (readings, aside) = decode(&packed[..packed.len() - 4]);
    assert!(readings.is_empty());
    assert_eq!((aside.len(), aside[0].readings), (1, 100));
    assert_eq!(aside[0].raw.bytes(), &packed[..packed.len() - 4]);
}

#[test]
fn a_body_that_alternates_good_and_bad_lines_is_a_bounded_number_of_items() {
    let body = format!("{ONE}\nx\n").repeat(30_000);
    let (readings, aside) = decode(body.as_bytes());
    assert_eq!((readings.len(), aside.len()), (30_000, 10_000));
    assert_eq!(aside.iter().map(|item| item.readings).sum::<u64>(), 30_000);
    let last = aside.last().unwrap();
    assert!(
        last.detail
            .ends_with("; the bytes also hold readings that were used"),
        "{}",
        last.detail
    );
    assert!(body.as_bytes().ends_with(&[last.raw.bytes(), b"\n"].concat()));
}

#[test]
fn after_a_thousand_bad_lines_neighbours_are_one_item() {
    let bad = "x\n".repeat(100_000);
    let body = format!("{ONE}\n{bad}{TWO}\nx\ny");
    let (readings, aside) = decode(gzip(&body));
    assert_eq!(readings, one_and_two());
    assert_eq!(aside.iter().map(|item| item.readings).sum::<u64>(), 100_002);
    assert_eq!(aside.len(), 1_001);
    assert_eq!(aside[999].raw.bytes().len(), bad.len() - 2 * 999 - 1);
    assert_eq!(aside[1_000].raw.bytes(), b"x\ny");
    let detail = &aside[1_000].detail;
    assert!(detail.ends_with("; and 1 more lines"), "{detail}");
}

fn map(fields: &[(&str, AmqpValue)]) -> AmqpValue {
    let fields = fields
        .iter()
        .map(|(name, value)| (AmqpValue::from(*name), value.clone()));
    AmqpValue::Map(fields.collect::<AmqpOrderedMap<_, _>>())
}

fn one_as_map() -> AmqpValue {
    map(&[
        ("ts", AmqpValue::Long(1_767_225_600)),
        ("device", AmqpValue::from("a")),
        ("tag", AmqpValue::Symbol(AmqpSymbol::from("t"))),
        ("value", AmqpValue::Double(1.5)),
    ])
}

fn two_as_map() -> AmqpValue {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_767_225_601);
    map(&[
        ("ts", AmqpValue::TimeStamp(time.into())),
        ("device", AmqpValue::Binary(b"b".to_vec())),
        ("tag", AmqpValue::from("t")),
        ("value", AmqpValue::UByte(2)),
    ])
}

#[test]
fn every_kind_of_body_that_holds_readings_is_read() {
    let lines = format!("{ONE}\n{TWO}");
    let (head, tail) = lines.as_bytes().split_at(30);
    let maps = vec![one_as_map(), two_as_map()];
    for body in [
        AmqpMessageBody::Binary(vec![head.to_vec(), tail.to_vec()]),
        AmqpMessageBody::Value(AmqpValue::from(&*lines)),
        AmqpMessageBody::Value(AmqpValue::Binary(gzip(&lines))),
        AmqpMessageBody::Value(AmqpValue::List(AmqpList(maps.clone()))),
        AmqpMessageBody::Value(AmqpValue::Array(vec![AmqpValue::from(ONE), AmqpValue::from(TWO)])),
        AmqpMessageBody::Sequence(vec![AmqpList(maps.clone())]),
        AmqpMessageBody::Sequence(maps.iter().map(|map| AmqpList(vec![map.clone()])).collect()),
        AmqpMessageBody::Sequence(vec![AmqpList(vec![AmqpValue::from(ONE), two_as_map()])]),
    ] {
        let said = format!("{body:?}");
        assert_eq!(
            decode_event(&event(body, None)),
            (one_and_two(), vec![]),
            "{said}"
        );
    }
    let body = AmqpMessageBody::Value(one_as_map());
    assert_eq!(decode_event(&event(body, None)).0, one_and_two()[..1]);
}

#[test]
fn a_body_of_another_kind_is_set_aside_with_its_name_and_its_encoding() {
    let cells = AmqpList(vec![
        AmqpValue::Long(1),
        AmqpValue::from("d"),
        AmqpValue::Double(1.0),
    ]);
    for (body, kind, wanted) in [
        (AmqpMessageBody::Empty, "none", "the body is empty"),
        (
            AmqpMessageBody::Value(AmqpValue::Double(1.5)),
            "value",
            "an AMQP value of the type float",
        ),
        (
            AmqpMessageBody::Value(AmqpValue::List(cells.clone())),
            "value",
            "an AMQP list of the types integer, string, float",
        ),
        (
            AmqpMessageBody::Sequence(vec![cells]),
            "sequence",
            "an AMQP sequence of the types integer, string, float",
        ),
        (
            AmqpMessageBody::Sequence(vec![AmqpList(vec![])]),
            "sequence",
            "an empty AMQP sequence",
        ),
    ] {
        let event = event(body.clone(), Some("key"));
        let (readings, aside) = decode_event(&event);
        assert!(readings.is_empty() && aside.len() == 1, "{aside:?}");
        assert!(aside[0].detail.contains(wanted), "{}", aside[0].detail);
        let envelope = aside[0].envelope.as_ref().unwrap();
        assert_eq!(
            (&*envelope.body, envelope.partition_key.as_deref()),
            (kind, Some("key"))
        );
        let message = AmqpMessage::builder().with_body(body).build();
        let encoded = AmqpMessage::serialize(&message).unwrap();
        let wanted = match kind {
            "none" => (None, &[][..]),
            _ => (Some("amqp"), &encoded[..]),
        };
        assert_eq!((envelope.encoding.as_deref(), aside[0].raw.bytes()), wanted);
    }
    // Of a list with readings, only the others are set aside.
    let mixed = AmqpMessageBody::Sequence(vec![AmqpList(vec![AmqpValue::Int(5), one_as_map()])]);
    let (readings, aside) = decode_event(&event(mixed, None));
    assert_eq!(readings, one_and_two()[..1]);
    assert_eq!((aside.len(), aside[0].raw.bytes()), (1, &b"5"[..]));
}

#[test]
fn properties_of_every_type_are_kept() {
    let message = AmqpMessage::builder()
        .with_body(b"x".to_vec())
        .add_application_property("text".to_owned(), "a".to_owned())
        .add_application_property("count".to_owned(), 5_u16)
        .add_application_property("ratio".to_owned(), f64::NAN)
        .add_application_property("bytes".to_owned(), vec![0xff_u8, 0])
        .build();
    let mut message = message;
    message.add_message_annotation(AmqpSymbol::from("x-opt-sequence-number"), 7_i64);
    let event = Event::of(ReceivedEventData::from(message)).unwrap();
    let (_, aside) = decode_event(&event);
    let envelope = aside[0].envelope.as_ref().unwrap();
    let wanted = serde_json::json!({
        "text": "a", "count": 5, "ratio": "NaN", "bytes": {"base64": "/wA="},
    });
    assert_eq!(serde_json::Value::Object(envelope.properties.clone()), wanted);
}

/// Returns the sensor and the time in seconds of the only reading of an event, or why it is none.
fn only(mapping: &ColumnMapping, event: &Event) -> Result<(String, i64), String> {
    let (mut readings, mut aside) = decode_with(mapping, event);
    match readings.pop() {
        Some((sensor, seconds, _)) => Ok((sensor, seconds)),
        None => Err(aside.remove(0).detail),
    }
}

const NAMELESS: &str = r#"{"ts":1767225600,"tag":"t","value":1}"#;

#[test]
fn the_device_that_iot_hub_names_is_that_of_a_body_without_one() {
    let mapping = ColumnMapping::default();
    let event = iot_hub_event(NAMELESS, &[]);
    assert_eq!(only(&mapping, &event), Ok(("pump-7/t".to_owned(), 1_767_225_600)));
    let own = iot_hub_event(ONE, &[]);
    assert_eq!(only(&mapping, &own), Ok(("a/t".to_owned(), 1_767_225_600)));
}

#[test]
fn an_option_takes_the_device_and_the_time_from_the_event_whatever_the_body_says() {
    let mapping = ColumnMapping {
        device_from: Some("annotation:iothub-connection-device-id".parse().unwrap()),
        time_from: Some("annotation:iothub-enqueuedtime".parse().unwrap()),
        ..ColumnMapping::default()
    };
    let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_767_571_200_250);
    for time in [
        AmqpValue::TimeStamp(time.into()),
        AmqpValue::Long(1_767_571_200_250),
        AmqpValue::String("2026-01-05T00:00:00.25Z".to_owned()),
    ] {
        let event = iot_hub_event(ONE, &[("iothub-enqueuedtime", time)]);
        assert_eq!(only(&mapping, &event), Ok(("pump-7/t".to_owned(), 1_767_571_200)));
    }
    let without = iot_hub_event(ONE, &[]);
    assert_eq!(
        only(&mapping, &without),
        Err("field annotation:iothub-enqueuedtime: is missing".to_owned())
    );
}

#[test]
fn a_named_column_may_be_an_annotation_or_a_property() {
    let annotations = [
        ("line", AmqpValue::Symbol("l1".into())),
        ("stamp", AmqpValue::ULong(1_767_571_200)),
    ];
    let event = iot_hub_event(r#"{"value":1}"#, &annotations);
    let name = |name: &str| Some(name.to_owned());
    let mapping = ColumnMapping {
        timestamp: name("stamp"),
        device: name("iothub-connection-device-id"),
        tag: name("Line"),
        ..ColumnMapping::default()
    };
    assert_eq!(
        only(&mapping, &event),
        Ok(("pump-7/l1".to_owned(), 1_767_571_200))
    );
}

#[test]
fn a_body_without_a_time_is_set_aside_with_the_option_that_would_help() {
    let time = [("iothub-enqueuedtime", AmqpValue::Long(1_767_571_200_000))];
    let why = |body| only(&any_epoch(), &iot_hub_event(body, &time)).unwrap_err();
    assert_eq!(
        why(r#"{"tag":"t","value":1}"#),
        "field timestamp: is missing; --time-from annotation:iothub-enqueuedtime takes the time of IoT Hub"
    );
    assert_eq!(why(r#"{"tag":"t"}"#), "field timestamp: is missing");
}
