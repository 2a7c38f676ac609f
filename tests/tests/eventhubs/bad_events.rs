//! Events that are not readings go to quarantine.

use std::fs;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use windrow_test_hub::SimpleValue;
use windrow_tests::eventually;

use super::{HubStage, WITHIN};

const TIME_MS: i64 = 1_767_571_200_000;

#[test]
fn bad_events_land_in_quarantine_with_their_place_and_the_stream_goes_on() {
    let hub = HubStage::new("badevents");
    hub.fleet(2, 10);
    let good = |device: &str| format!(r#"{{"ts":{TIME_MS},"device":"{device}","tag":"temp","value":20}}"#);
    let far = good("d0").replace("1767571200000", "2997993600000");
    let bad: Vec<(Vec<u8>, &str)> = vec![
        (b"not json".to_vec(), "not a JSON object"),
        (
            good("d0").replace("\"value\":20", "\"unit\":1").into_bytes(),
            "field value: is missing",
        ),
        (vec![b' '; 5 << 18], "is empty"),
        (good("d0").replace("20}", "\"NaN\"}").into_bytes(), "non-finite"),
        (far.into_bytes(), "far-future"),
        (good("d0").replace("\"temp\"", "[1]").into_bytes(), "field tag"),
        (vec![b'1'; (4 << 20) + 1], "the body has 4194305 bytes"),
        (packed(17 << 20), "unpacks to more than"),
    ];
    for (body, _) in &bad {
        hub.hub.append(3, body.clone(), []).unwrap();
    }
    let device = ("device".to_owned(), SimpleValue::String("d1".to_owned()));
    let nameless = good("d1").replace("\"device\":\"d1\",", "");
    let last = hub.hub.append(3, nameless.into_bytes(), [device]).unwrap();
    assert_eq!(last, bad.len() as i64);

    let mut producer = hub.producer("p", &["--until-caught-up", "--at-end", "dispatch"]);
    assert_eq!(producer.wait(WITHIN), 0, "{}", producer.log());
    assert_eq!(hub.dispatched(), 1, "the good event's window");
    let quarantine = text_of(&hub.stage.path("store/quarantine"));
    for (sequence_number, (_, why)) in bad.iter().enumerate() {
        let line = quarantine
            .lines()
            .find(|line| line.contains(&format!("\"offset\":{sequence_number},")))
            .unwrap_or_else(|| panic!("event {sequence_number} ({why}) is not in {quarantine}"));
        assert!(
            line.contains("\"partition\":\"3\"") && line.contains(why),
            "{why}: {line}"
        );
    }
    assert_eq!(quarantine.lines().count(), bad.len());
}

#[test]
fn events_without_a_sequence_number_are_counted_and_said() {
    let hub = HubStage::new("unnumbered");
    hub.fleet(2, 10);
    let append = |partition: u16, second: i64| {
        let time_ms = TIME_MS + second * 1_000;
        let body = format!(r#"{{"ts":{time_ms},"device":"d{partition}","tag":"temp","value":20}}"#);
        hub.hub.append(partition, body.into_bytes(), []).unwrap();
    };
    hub.hub.deliver_unnumbered(0, true).unwrap();
    (0..3).for_each(|second| append(0, second));
    // The last reading completes the windows before it.
    (0..10).chain([3_600]).for_each(|second| append(1, second));
    let mut producer = hub.producer("p", &[]);
    eventually(WITHIN, "the events are counted", || {
        (producer.metric("windrow_producer_unnumbered_events_total") == Some(3.0)).then_some(())
    });
    hub.hub.deliver_unnumbered(0, false).unwrap();
    (3..10).chain([3_600]).for_each(|second| append(0, second));
    eventually(
        WITHIN,
        "all others are read, and two windows of each are complete",
        || (producer.metric("windrow_producer_windows_total") == Some(4.0)).then_some(()),
    );
    producer.signal("TERM");
    assert_eq!(producer.wait(WITHIN), 0, "{}", producer.log());
    let log = producer.log();
    let warnings = log
        .matches("an event without a sequence number is dropped")
        .count();
    assert_eq!(warnings, 1, "{log}");
}

/// Returns a few kilobytes of gzip that unpack to `bytes` blanks.
fn packed(bytes: usize) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(&vec![b' '; bytes]).unwrap();
    packed.finish().unwrap()
}

/// Returns the text of all files under a folder.
fn text_of(folder: &std::path::Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        text += &match path.is_dir() {
            true => text_of(&path),
            false => fs::read_to_string(&path).unwrap(),
        };
    }
    text
}
