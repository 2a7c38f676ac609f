//! Partitions without events have an end and close their windows; events that expire unread are counted.

use windrow_common::EventTime;
use windrow_test_hub::HubConfig;
use windrow_tests::{Service, eventually};

use super::{EXIT_WITHIN, HubStage, WITHIN};

/// The sequence number of the first event: not 0, as in a hub whose first events have expired.
const FIRST: i64 = 5_000;
const SECONDS: i64 = 4;

fn old_hub(prefix: &str) -> HubStage {
    hub_with_clock(prefix, 0)
}

/// Starts a hub whose clock is ahead of the producers'.
fn hub_with_clock(prefix: &str, clock_ahead_ms: i64) -> HubStage {
    let config = HubConfig {
        partitions: 3,
        first_sequence_number: FIRST,
        clock_ahead_ms,
        ..HubConfig::default()
    };
    let hub = HubStage::of(prefix, &config);
    hub.fleet(1, 10);
    hub
}

/// Appends readings of one device for the last few seconds, up to now.
fn append(hub: &HubStage, partition: u16) {
    append_until(hub, partition, EventTime::now().as_millis());
}

/// Appends readings of one device for the few seconds up to a time. Returns the time of the first.
fn append_until(hub: &HubStage, partition: u16, end_ms: i64) -> i64 {
    let first_ms = end_ms - SECONDS * 1_000;
    for second in 0..SECONDS {
        let ts = first_ms + second * 1_000;
        let body = format!(r#"{{"ts":{ts},"device":"d{partition}","tag":"temp","value":20}}"#);
        hub.hub.append(partition, body.into_bytes(), []).unwrap();
    }
    first_ms
}

const SHORT: [&str; 6] = [
    "--window",
    "1s",
    "--idle-after",
    "2s",
    "--out-of-orderness",
    "500ms",
];

#[test]
fn a_partition_that_falls_silent_closes_its_last_windows() {
    let hub = old_hub("silence");
    let mut producer = hub.producer("p", &SHORT);
    append(&hub, 1);
    let closed = || (hub.dispatched() >= SECONDS as u64).then_some(());
    eventually(
        WITHIN,
        "the windows are dispatched although no reading follows",
        closed,
    );
    producer.signal("TERM");
    assert_eq!(producer.wait(EXIT_WITHIN), 0, "{}", producer.log());
    // The next run rereads none of them.
    let before = hub.hub.delivered(1);
    let mut producer = hub.producer("p", &[&SHORT[..], &["--until-caught-up"]].concat());
    assert_eq!(producer.wait(WITHIN), 0, "{}", producer.log());
    assert_eq!(hub.hub.delivered(1), before);
    assert_eq!(hub.dispatched(), SECONDS as u64);
}

#[test]
fn a_run_to_the_end_closes_what_silence_completes_and_leaves_the_rest() {
    let hub = old_hub("silentrun");
    append(&hub, 1);
    let once = [&SHORT[..], &["--until-caught-up"]].concat();
    // However slow the machine is, the partition is not silent for this long when the run ends.
    let mut patient = once.clone();
    let silence = patient.iter().position(|word| *word == "2s").unwrap();
    patient[silence] = "10m";
    let mut producer = hub.producer("p1", &patient);
    assert_eq!(producer.wait(WITHIN), 0, "{}", producer.log());
    assert!(
        hub.dispatched() < SECONDS as u64,
        "the last window may yet get readings"
    );
    eventually(WITHIN, "silence completes the last window", || {
        let mut producer = hub.producer("p2", &once);
        assert_eq!(producer.wait(WITHIN), 0, "{}", producer.log());
        (hub.dispatched() == SECONDS as u64).then_some(())
    });
}

#[test]
fn partitions_that_are_empty_expired_or_older_than_the_start_have_an_end() {
    let hub = old_hub("emptyparts");
    append(&hub, 0);
    hub.hub.expire(0).unwrap();
    append(&hub, 1);
    let at_end = ["--window", "1s", "--until-caught-up", "--at-end", "dispatch"];
    let mut producer = hub.producer("p", &at_end);
    assert_eq!(producer.wait(WITHIN), 0, "{}", producer.log());
    assert_eq!(hub.dispatched(), SECONDS as u64);
    assert!(
        !producer.log().contains("expired"),
        "before the first start nothing could expire"
    );
    // `--start` applies only to sources without a checkpoint.
    let enqueued_by = EventTime::now();
    let start = eventually(WITHIN, "a time after all events", || {
        Some(EventTime::now()).filter(|now| *now > enqueued_by)
    });
    let start = start.to_string();
    let fresh = ["--source-name", "fresh", "--start", &start];
    let mut producer = hub.producer("fresh", &[&at_end[..], &fresh].concat());
    assert_eq!(producer.wait(WITHIN), 0, "{}", producer.log());
    append(&hub, 2);
    let mut producer = hub.producer("fresh2", &[&at_end[..], &fresh].concat());
    assert_eq!(producer.wait(WITHIN), 0, "{}", producer.log());
    assert_eq!(
        hub.dispatched(),
        2 * SECONDS as u64,
        "only what came after the start"
    );
}

#[test]
fn events_that_expire_unread_are_counted() {
    let hub = old_hub("expired");
    append(&hub, 1);
    let keep = ["--window", "1h", "--until-caught-up", "--idle-after", "1h"];
    let mut producer = hub.producer("p1", &keep);
    assert_eq!(producer.wait(WITHIN), 0, "{}", producer.log());
    hub.hub.expire(1).unwrap();
    let mut producer = hub.producer("p2", &["--window", "1h"]);
    eventually(WITHIN, "the loss is a metric", || {
        let expired = producer.metric("windrow_producer_expired_events_total")?;
        (expired == SECONDS as f64).then_some(())
    });
    producer.signal("TERM");
    assert_eq!(producer.wait(EXIT_WITHIN), 0, "{}", producer.log());
    // The next run does not wait for expired events.
    let mut producer = hub.producer("p3", &keep);
    assert_eq!(producer.wait(WITHIN), 0, "{}", producer.log());
}

#[test]
fn a_device_whose_clock_is_ahead_makes_no_other_late() {
    let hub = old_hub("ahead");
    for (device, ahead_ms) in [("ahead", 60_000), ("right", 0)] {
        let ts = EventTime::now().as_millis() + ahead_ms;
        let body = format!(r#"{{"ts":{ts},"device":"{device}","tag":"temp","value":20}}"#);
        hub.hub.append(1, body.into_bytes(), []).unwrap();
    }
    let mut producer = hub.producer("p", &SHORT);
    let closed = || (hub.dispatched() >= 1).then_some(());
    eventually(WITHIN, "the other's window is dispatched", closed);
    assert_eq!(producer.metric("windrow_producer_readings_total"), Some(2.0));
    producer.signal("TERM");
    assert_eq!(producer.wait(EXIT_WITHIN), 0, "{}", producer.log());
}

#[test]
fn partitions_that_are_added_are_read_from_their_first_event() {
    let hub = old_hub("addedparts");
    let mut producer = hub.producer("p", &[&SHORT[..], &["--start", "latest"]].concat());
    eventually(WITHIN, "the partitions are read", || {
        let (_, metrics) = producer.get("/metrics")?;
        (metrics.matches("windrow_producer_lag_events{").count() == 3).then_some(())
    });
    hub.hub.add_partition();
    append(&hub, 3);
    let closed = || (hub.dispatched() >= SECONDS as u64).then_some(());
    eventually(WITHIN, "its windows are dispatched", closed);
    producer.signal("TERM");
    assert_eq!(producer.wait(EXIT_WITHIN), 0, "{}", producer.log());
}

const HOUR_MS: i64 = 3_600_000;

#[test]
fn a_producer_whose_clock_is_ahead_of_the_hub_s_closes_no_window_early() {
    let hub = hub_with_clock("aheadofhub", -HOUR_MS);
    let mut producer = hub.producer(
        "p",
        &[
            "--window",
            "1s",
            "--idle-after",
            "30m",
            "--out-of-orderness",
            "1m",
        ],
    );
    let first_ms = append_until(&hub, 1, EventTime::now().as_millis() - HOUR_MS);
    let read = |producer: &Service, readings: f64| {
        eventually(WITHIN, "everything is read, and the hub has said so", || {
            let (_, metrics) = producer.get("/metrics")?;
            let all_known = metrics.matches("windrow_producer_lag_events{").count() == 3;
            let no_lag = producer.metric("windrow_producer_lag_events")? == 0.0;
            let all_read = producer.metric("windrow_producer_readings_total")? == readings;
            (all_known && no_lag && all_read).then_some(())
        });
    };
    read(&producer, SECONDS as f64);
    // The first window is still open for another reading of it.
    let body = format!(r#"{{"ts":{first_ms},"device":"d1","tag":"temp","value":21}}"#);
    hub.hub.append(1, body.into_bytes(), []).unwrap();
    read(&producer, (SECONDS + 1) as f64);
    assert_eq!(hub.dispatched(), 0, "{}", producer.log());
    producer.signal("TERM");
    assert_eq!(producer.wait(EXIT_WITHIN), 0, "{}", producer.log());
}

#[test]
fn a_producer_whose_clock_is_behind_the_hub_s_closes_silent_windows_in_time() {
    let hub = hub_with_clock("behindhub", HOUR_MS);
    let mut producer = hub.producer("p", &SHORT);
    append_until(&hub, 1, EventTime::now().as_millis() + HOUR_MS);
    let closed = || (hub.dispatched() >= SECONDS as u64).then_some(());
    eventually(
        WITHIN,
        "the windows are dispatched although no reading follows",
        closed,
    );
    producer.signal("TERM");
    assert_eq!(producer.wait(EXIT_WITHIN), 0, "{}", producer.log());
}
