use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use windrow_model::Features;

use super::*;

const MINUTE: i64 = 60_000;
const TAGS: [&str; 4] = ["a", "b", "c", "d"];

fn minute(at: i64) -> EventTime {
    EventTime::from_millis(at * MINUTE)
}

fn group(smoothing: usize) -> Group {
    Group::new(
        TAGS.map(Arc::from).to_vec(),
        smoothing,
        Length::from_millis(MINUTE),
    )
    .unwrap()
}

fn row(tag: &str, at: i64, count: u64) -> Prediction {
    // A correction has other values.
    let mean = (at as f64).sin() + count as f64;
    Prediction {
        sensor: SensorId::new("pump", tag).unwrap(),
        window_length: Length::from_millis(MINUTE),
        aggregate: Aggregate {
            window_start: minute(at),
            count,
            mean,
            std: 0.0,
            min: mean,
            max: mean,
            first: mean,
            last: mean,
        },
        decision: 1.0,
        score: Some(-1.0),
        threshold: None,
        anomaly: false,
        model_version: "v".into(),
        cause: None,
        shadow: None,
    }
}

fn device(smoothing: usize) -> Device {
    Device::new(SensorId::of_group(&"pump".into()), group(smoothing))
}

/// A row of a window: its number of readings, and its columns.
type Scored = BTreeMap<EventTime, (u64, Vec<u64>)>;

/// Scores a message as a worker does; of several rows of a window the one with the most readings counts.
fn score(group: &Group, message: &GroupMessage, scored: &mut Scored) {
    GroupMessage::decode(&message.encode().unwrap()).unwrap();
    let features: Features = "mean".parse().unwrap();
    let series: Vec<&[Aggregate]> = message.series.iter().map(|series| &*series.aggregates).collect();
    let interval = message.interval.start..message.interval.end();
    let rows = group.rows(&features, &series, interval);
    assert_eq!(rows.unscored, 0, "every window that is asked for can be scored");
    for ((start, count), row) in rows
        .starts
        .iter()
        .zip(&rows.counts)
        .zip(rows.values.chunks_exact(TAGS.len()))
    {
        let row = (*count, row.iter().map(|value| value.to_bits()).collect());
        let kept = scored.entry(*start).or_insert_with(|| row.clone());
        if row.0 > kept.0 {
            *kept = row;
        }
    }
}

fn waiting(reached: i64, grace_s: u64) -> Patience {
    Patience::Until {
        reached: minute(reached),
        now: Instant::now(),
        grace: Duration::from_secs(grace_s),
    }
}

fn windows(wanted: &Wanted) -> Vec<(i64, i64)> {
    let intervals = wanted.messages.iter().map(|message| message.interval);
    intervals
        .map(|interval| {
            (
                interval.start.as_millis() / MINUTE,
                interval.length.as_millis() / MINUTE,
            )
        })
        .collect()
}

#[test]
fn a_window_is_asked_for_when_all_tags_have_it_and_once() {
    let (mut device, now) = (device(1), Instant::now());
    for tag in &TAGS[..3] {
        device.take(&row(tag, 0, 6), now);
    }
    assert!(
        windows(&device.wanted(minute(0), waiting(1, 0))).is_empty(),
        "nothing later came"
    );
    assert_eq!(device.waits_from(), Some(minute(0)));
    device.take(&row("d", 0, 6), now);
    device.take(&row("other", 0, 6), now);
    let wanted = device.wanted(minute(0), waiting(1, 0));
    assert_eq!((windows(&wanted), wanted.windows), (vec![(0, 1)], 1));
    assert_eq!(
        wanted.messages[0]
            .series
            .iter()
            .map(|series| series.aggregates.len())
            .sum::<usize>(),
        4
    );
    assert!(windows(&device.wanted(minute(0), Patience::None)).is_empty());
    assert_eq!(device.waits_from(), None);
}

#[test]
fn a_window_that_lacks_a_tag_waits_for_the_grace_and_holds_up_those_after_it() {
    let (mut device, now) = (device(2), Instant::now());
    for at in 0..4 {
        for tag in TAGS {
            if (tag, at) != ("d", 1) {
                device.take(&row(tag, at, 6), now);
            }
        }
    }
    assert_eq!(windows(&device.wanted(minute(0), waiting(4, 3_600))), [(0, 1)]);
    let wanted = device.wanted(minute(0), waiting(4, 0));
    assert_eq!(windows(&wanted), [(1, 3)]);
    // The tag comes at last: the windows whose rows it is part of are asked for again.
    device.take(&row("d", 1, 6), now);
    assert_eq!(windows(&device.wanted(minute(0), waiting(4, 0))), [(1, 2)]);
}

#[test]
fn what_was_scored_before_a_restart_is_not_asked_for_again() {
    let (mut device, now) = (device(2), Instant::now());
    for at in 0..6 {
        for tag in TAGS {
            device.take(&row(tag, at, 6), now);
        }
    }
    // Windows 1 to 3 were scored, the last of them before a correction.
    for (at, count) in [(1, 48), (2, 48), (3, 47)] {
        let mut scored = row(windrow_common::GROUP_TAG, at, 1);
        scored.aggregate = Aggregate::without_value(minute(at), count);
        device.take(&scored, now);
    }
    assert_eq!(windows(&device.wanted(minute(1), Patience::None)), [(3, 3)]);
}

#[test]
fn windows_that_lack_too_much_are_counted_once() {
    let (mut device, now) = (device(1), Instant::now());
    for at in 0..3 {
        device.take(&row("a", at, 6), now);
    }
    assert_eq!(device.wanted(minute(0), Patience::None).unscored, 3);
    device.take(&row("b", 0, 6), now);
    assert_eq!(device.wanted(minute(0), Patience::None).unscored, 0);
}

proptest! {
    /// Rows come in any order and several times, first with fewer readings and then with all; the predictions that count
    /// follow from what is there at the end.
    #[test]
    fn what_counts_at_the_end_does_not_depend_on_the_order_in_which_windows_come(
        there in proptest::collection::vec((0..4_usize, 0..60_i64, 1..4_u64, any::<u64>()), 1..300),
        smoothing in 1..8_usize,
        steps in proptest::collection::vec((1..40_usize, 0..70_i64, any::<bool>()), 1..40),
    ) {
        let mut quiet = device(smoothing);
        let now = Instant::now();
        for (tag, at, count, _) in &there {
            quiet.take(&row(TAGS[*tag], *at, *count), now);
        }
        let mut right = Scored::new();
        for message in quiet.wanted(minute(0), Patience::None).messages {
            score(&quiet.group, &message, &mut right);
        }
        let mut rows = there;
        rows.sort_by_key(|(.., order)| *order);
        let mut restless = device(smoothing);
        let mut scored = Scored::new();
        let mut rest = &rows[..];
        for (take, reached, all) in steps.iter().cycle().take(400) {
            let (now_come, later) = rest.split_at((*take).min(rest.len()));
            rest = later;
            for (tag, at, count, _) in now_come {
                restless.take(&row(TAGS[*tag], *at, *count), now);
            }
            let patience = if *all { Patience::None } else { waiting(*reached, 0) };
            for message in restless.wanted(minute(0), patience).messages {
                score(&restless.group, &message, &mut scored);
            }
        }
        prop_assert!(rest.is_empty());
        for message in restless.wanted(minute(0), Patience::None).messages {
            score(&restless.group, &message, &mut scored);
        }
        prop_assert_eq!(scored, right);
    }
}
