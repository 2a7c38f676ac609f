//! AMQP bodies of every kind are read if they hold readings, and otherwise kept with what they are.

use std::collections::BTreeMap;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use windrow_store::Store;
use windrow_test_hub::{EventBody, SimpleValue, Value};
use windrow_tests::windrow;

use super::{HubStage, WITHIN};

/// 2026-01-05T00:00:00Z in seconds since the epoch.
const START: i64 = 1_767_571_200;

fn line(second: i64) -> String {
    format!(
        r#"{{"ts":{},"device":"d0","tag":"temp","value":20}}"#,
        START + second
    )
}

fn map(second: i64) -> Value {
    let fields = [
        ("ts", Value::Long(START + second)),
        ("device", Value::String("d0".to_owned())),
        ("tag", Value::String("temp".to_owned())),
        ("value", Value::Double(20.0.into())),
    ];
    let fields = fields.map(|(name, value)| (name.to_owned(), value));
    BTreeMap::from(fields).into()
}

fn gzip(text: &str) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(text.as_bytes()).unwrap();
    packed.finish().unwrap()
}

/// Returns how many readings are in the windows that a store's producer has dispatched.
fn readings(store: &str) -> u64 {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = Store::open(store).unwrap();
        let mut readings = 0;
        for hour in store.hours("dispatched", None, None).await.unwrap() {
            let windows = store.dispatched(&hour).await.unwrap().windows;
            readings += windows.iter().map(|window| window.count).sum::<u64>();
        }
        readings
    })
}

#[test]
fn bodies_of_every_kind_are_read_and_others_are_kept_with_their_kind_and_properties() {
    let hub = HubStage::new("bodies");
    hub.fleet(2, 10);
    let hundred = (0..100).map(|_| line(0)).collect::<Vec<_>>().join("\n");
    let (head, tail) = (line(1), line(2));
    let (head, middle) = head.split_at(20);
    let bodies = [
        (
            EventBody::Data(vec![format!("\u{feff}{hundred}").into_bytes()]),
            100,
        ),
        (EventBody::Data(vec![gzip(&format!("\u{feff}{}", line(1)))]), 1),
        (
            EventBody::Data(vec![head.into(), format!("{middle}\n{tail}").into_bytes()]),
            2,
        ),
        (EventBody::Value(Value::String(line(3))), 1),
        (EventBody::Value(Value::Binary(gzip(&line(3)).into())), 1),
        (EventBody::Value(map(4)), 1),
        (EventBody::Value(Value::List(vec![map(4), map(4)])), 2),
        (EventBody::Sequence(vec![vec![map(5)], vec![map(5), map(6)]]), 3),
        // The good ones of a damaged array.
        (
            EventBody::Data(vec![format!("[{},{},oops]", line(7), line(7)).into_bytes()]),
            2,
        ),
    ];
    let good: u64 = bodies.iter().map(|(_, readings)| readings).sum();
    for (body, _) in bodies {
        hub.hub.append_body(3, body, []).unwrap();
    }
    let properties = [
        ("site".to_owned(), SimpleValue::String("north".to_owned())),
        ("shift".to_owned(), SimpleValue::Int(2)),
    ];
    let cells = vec![
        Value::Long(START),
        Value::String("d0".to_owned()),
        Value::Double(20.0.into()),
    ];
    hub.hub
        .append_body(3, EventBody::Sequence(vec![cells]), properties)
        .unwrap();
    hub.hub
        .append_body(3, EventBody::Value(Value::Double(20.0.into())), [])
        .unwrap();

    let mut producer = hub.producer("p", &["--until-caught-up", "--at-end", "dispatch"]);
    assert_eq!(producer.wait(WITHIN), 0, "{}", producer.log());
    let store = hub.stage.store();
    assert_eq!(readings(&store), good);
    let shown = windrow(&["quarantine", "show", "--store", &store]).json();
    let kept: Vec<_> = shown
        .as_array()
        .unwrap()
        .iter()
        .map(|record| {
            let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
            let offset = record["offset"].as_u64().unwrap();
            (offset, text(&record["detail"]), text(&record["event"]["body"]))
        })
        .collect();
    assert_eq!(kept.len(), 3, "{shown}");
    assert!(kept[0].1.starts_with("not a JSON array"), "{shown}");
    assert_eq!(shown[0]["raw"], ",oops]");
    let sequence = "the body is an AMQP sequence of the types integer, string, float; only maps and JSON objects as text \
                    are read";
    assert_eq!(kept[1], (9, sequence.to_owned(), "sequence".to_owned()));
    assert_eq!((kept[2].0, &*kept[2].2), (10, "value"));
    let event = &shown[1]["event"];
    assert_eq!(
        event["properties"],
        serde_json::json!({"site": "north", "shift": 2})
    );
    assert_eq!(
        (&event["encoding"], &event["sequence_number"]),
        (&"amqp".into(), &9.into())
    );
    assert!(
        event["enqueued_time"].is_string() && event["offset"].is_string(),
        "{event}"
    );
}
