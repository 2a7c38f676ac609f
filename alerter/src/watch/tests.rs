mod habits;
mod kills;
mod late;
mod models;
mod mutes;

use std::collections::BTreeMap;

use proptest::prelude::*;
use windrow_common::{Aggregate, Cause, Prediction, SensorId};
use windrow_store::PartWriter;

use crate::mutes::Mute;

use super::*;

const WINDOW: i64 = 600_000;
const RECEIVER: &str = "pager";

fn prediction(sensor: u8, number: i64, anomaly: bool) -> Prediction {
    let mean = number as f64;
    Prediction {
        sensor: SensorId::new("pump", &format!("t{sensor}")).unwrap(),
        window_length: Length::from_millis(WINDOW),
        aggregate: Aggregate {
            window_start: EventTime::from_millis(number * WINDOW),
            count: 2,
            mean,
            std: 0.0,
            min: mean,
            max: mean + 1.0,
            first: mean,
            last: mean,
        },
        decision: if anomaly { -1.0 } else { 1.0 },
        // Windows with one score and others, so that their order would show in the peaks.
        score: Some(if anomaly { 1.0 + mean % 3.0 / 4.0 } else { -1.0 }),
        anomaly,
        model_version: "00000000000000aa".into(),
        shadow: None,
        threshold: None,
        cause: anomaly.then(|| Cause {
            feature: "mean".into(),
            value: mean,
            normal: (number % 2 == 0).then_some((mean - 2.0, mean - 1.0)),
            share: 0.75,
        }),
    }
}

fn options(most_held: usize) -> WatchOptions {
    WatchOptions {
        rules: Rules {
            quiet: 4,
            open_after: 2,
            of: 3,
            silent_after: Duration::from_secs(3_000),
            ..Rules::default()
        },
        receivers: vec![RECEIVER.to_owned()],
        tell_within: Duration::from_secs(1 << 40),
        calm: Duration::ZERO,
        most_held,
        look_back_every: Duration::ZERO,
        ..WatchOptions::default()
    }
}

/// Returns the files of the table that are not empty.
async fn table(store: &Store) -> BTreeMap<String, bytes::Bytes> {
    let mut files = BTreeMap::new();
    for blob in store.list("incidents").await.unwrap() {
        let bytes = store.get(&blob.path).await.unwrap().unwrap();
        let hour: EventTime = format!("{}T{}:00:00Z", &blob.path[15..25], &blob.path[31..33])
            .parse()
            .unwrap();
        if !store.incidents_of(hour).await.unwrap().incidents.is_empty() {
            files.insert(blob.path, bytes);
        }
    }
    files
}

fn any_windows() -> impl Strategy<Value = Vec<Prediction>> {
    // Runs of normal and anomalous windows, and pauses.
    let stretch = (
        0..3_u8,
        1..9_i64,
        prop_oneof![4 => 0..2_i64, 1 => 5..30_i64],
        any::<bool>(),
    );
    proptest::collection::vec(stretch, 1..25).prop_map(|stretches| {
        let mut next = [0_i64; 3];
        let mut all = Vec::new();
        for (sensor, length, pause, anomaly) in stretches {
            let from = next[usize::from(sensor)] + pause;
            all.extend((from..from + length).map(|number| prediction(sensor, number, anomaly)));
            next[usize::from(sensor)] = from + length;
        }
        all
    })
}

/// What happens after a part was written.
#[derive(Clone, Copy, Debug)]
enum Then {
    Nothing,
    Step,
    Killed,
    Restarted,
}

async fn noisy(
    parts: &[(Vec<Prediction>, Then)],
    most_held: usize,
    mutes: &[Mute],
    has_habits: bool,
) -> (Store, Watch) {
    let store = Store::create("memory:///").unwrap();
    if has_habits {
        habits::some(&store).await;
    }
    if !mutes.is_empty() {
        mutes::set(&store, mutes.to_vec()).await;
    }
    let writer = PartWriter::new(&store, "w");
    let mut watch = Watch::open(store.clone(), options(most_held)).await.unwrap();
    for (part, then) in parts {
        writer.write_rows(part.clone()).await.unwrap();
        match then {
            Then::Nothing => {}
            Then::Step => watch.step().await.unwrap(),
            // Killed between two of its writes, as far as they can be told apart.
            Then::Killed => {
                for news in watch.follower.news().await.unwrap() {
                    watch.take(&news).await.unwrap();
                }
                watch.publish().await.unwrap();
                watch = Watch::open(store.clone(), options(most_held)).await.unwrap();
            }
            Then::Restarted => {
                watch.catch_up().await.unwrap();
                watch = Watch::open(store.clone(), options(most_held)).await.unwrap();
            }
        }
    }
    watch.catch_up().await.unwrap();
    (store, watch)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn kills_repeats_and_the_order_of_parts_do_not_show_in_the_table(
        windows in any_windows(),
        order in proptest::collection::vec(any::<prop::sample::Index>(), 0..40),
        cuts in proptest::collection::vec((1..12_usize, prop_oneof![
            Just(Then::Nothing), Just(Then::Step), Just(Then::Killed), Just(Then::Restarted)
        ]), 1..20),
        most_held in prop_oneof![Just(10_usize), Just(1_000_000)],
        is_muted in any::<bool>(),
        has_habits in any::<bool>(),
        rivals in proptest::collection::vec(any::<prop::sample::Index>(), 0..10),
    ) {
        // Some windows have two rows, of which one counts.
        let mut windows = windows;
        for at in rivals {
            let row = at.get(&windows).clone();
            let number = row.aggregate.window_start.as_millis() / WINDOW;
            let sensor = row.sensor.tag.as_bytes()[1] - b'0';
            windows.push(prediction(sensor, number, !row.anomaly));
        }
        let mut shuffled = windows.clone();
        for (at, index) in order.iter().enumerate() {
            let other = index.index(shuffled.len());
            let at = at % shuffled.len();
            shuffled.swap(at, other);
        }
        // Some of the windows come twice.
        shuffled.extend(windows.iter().take(order.len()).cloned());
        let mut parts = Vec::new();
        let mut left = &shuffled[..];
        for (length, then) in cuts.iter().cycle() {
            if left.is_empty() {
                break;
            }
            let (part, rest) = left.split_at((*length).min(left.len()));
            parts.push((part.to_vec(), *then));
            left = rest;
        }
        runtime().block_on(async {
            let mutes = if is_muted { mutes::some() } else { Vec::new() };
            let (quiet, _) = noisy(&[(windows.clone(), Then::Nothing)], 1_000_000, &mutes, has_habits).await;
            let (store, watch) = noisy(&parts, most_held, &mutes, has_habits).await;
            let (right, found) = (table(&quiet).await, table(&store).await);
            let read = |store: &Store| { let store = store.clone(); async move { store.incidents(None, None).await.unwrap() } };
            prop_assert_eq!(read(&store).await, read(&quiet).await);
            prop_assert_eq!(found, right);
            // Whoever listens knows which incidents there are, and which are over.
            let mut known: BTreeMap<String, bool> = BTreeMap::new();
            for event in watch.waiting(RECEIVER, EventTime::MAX, usize::MAX) {
                match event.stage {
                    Stage::Opened => { known.insert(event.incident, true); }
                    Stage::Escalated => {}
                    Stage::Closed => { known.insert(event.incident, false); }
                    Stage::Withdrawn => { known.insert(event.incident, false); }
                }
            }
            // A silence that was over at once was told to nobody.
            for incident in read(&quiet).await {
                let course = &incident.course;
                let (is_known, id) = (known.contains_key(&incident.id()), incident.id());
                if course.muted_until.is_some_and(|until| until > watch.reached()) {
                    prop_assert!(!is_known, "{id} was told in its maintenance");
                } else if course.kind != IncidentKind::Silent && !course.is_hushed() {
                    prop_assert!(is_known, "{id} was not told");
                    prop_assert_eq!(known[&id], course.closed.is_none(), "{} is open", id);
                }
            }
            Ok(())
        })?;
    }
}

#[tokio::test(start_paused = true)]
async fn hours_of_a_steady_stream_are_settled_one_after_the_other() {
    let store = Store::create("memory:///").unwrap();
    let writer = PartWriter::new(&store, "w");
    let calm = Duration::from_secs(60);
    let options = WatchOptions {
        calm,
        ..options(1_000_000)
    };
    let mut watch = Watch::open(store.clone(), options).await.unwrap();
    let per_hour = 3_600_000 / WINDOW;
    for hour in 0..6 {
        let rows = (hour * per_hour..(hour + 1) * per_hour).map(|number| prediction(0, number, false));
        writer.write_rows(rows.collect()).await.unwrap();
        watch.step().await.unwrap();
        tokio::time::advance(calm / 2).await;
    }
    // News came all the time, and none for the hours of more than a minute ago.
    let hours = |count: i64| EventTime::from_millis(count * 3_600_000);
    assert!(watch.follower.base() >= hours(3), "{}", watch.follower.base());
    assert!(watch.fleet.held() <= 3 * per_hour as usize);
    assert!(store.any("alerting/state").await.unwrap());
}

#[tokio::test]
async fn late_days_that_come_one_after_the_other_are_all_worked_in() {
    let day = 86_400_000 / WINDOW;
    let of = |sensor: u8, days: &[i64]| -> Vec<Prediction> {
        let numbers = days.iter().flat_map(|of| of * day..(of + 1) * day);
        numbers
            .map(|number| prediction(sensor, number, number % 200 < 3))
            .collect()
    };
    let quiet = Store::create("memory:///").unwrap();
    let all = [of(0, &[0, 1, 2, 3, 4]), of(1, &[0, 1, 2, 3, 4])].concat();
    PartWriter::new(&quiet, "w").write_rows(all).await.unwrap();
    let mut watch = Watch::open(quiet.clone(), options(1_000_000)).await.unwrap();
    watch.catch_up().await.unwrap();

    let late = Store::create("memory:///").unwrap();
    let writer = PartWriter::new(&late, "w");
    writer
        .write_rows([of(0, &[0, 1, 2, 3, 4]), of(1, &[0, 4])].concat())
        .await
        .unwrap();
    let mut watch = Watch::open(late.clone(), options(1_000_000)).await.unwrap();
    watch.catch_up().await.unwrap();
    for missing in [1, 2, 3] {
        writer.write_rows(of(1, &[missing])).await.unwrap();
        watch.step().await.unwrap();
    }
    watch.catch_up().await.unwrap();
    let incidents = async |store: &Store| store.incidents(None, None).await.unwrap();
    assert_eq!(incidents(&late).await, incidents(&quiet).await);
    // So does whoever begins again from the state.
    let mut again = Watch::open(late.clone(), options(1_000_000)).await.unwrap();
    again.catch_up().await.unwrap();
    assert_eq!(incidents(&late).await, incidents(&quiet).await);
}

#[tokio::test]
async fn a_sensor_whose_windows_get_another_length_is_not_silent() {
    let store = Store::create("memory:///").unwrap();
    let writer = PartWriter::new(&store, "w");
    let longer = |number: i64| Prediction {
        window_length: Length::from_millis(2 * WINDOW),
        ..prediction(0, 2 * number, false)
    };
    let rows = (0..20).map(|number| prediction(0, number, false));
    let rows = rows
        .chain((10..60).map(longer))
        .chain((0..120).map(|number| prediction(1, number, false)));
    writer.write_rows(rows.collect()).await.unwrap();
    let mut watch = Watch::open(store.clone(), options(1_000_000)).await.unwrap();
    watch.catch_up().await.unwrap();
    assert_eq!(store.incidents(None, None).await.unwrap(), []);
}

#[tokio::test]
async fn a_run_that_names_nobody_leaves_events_to_those_who_were_named() {
    let store = Store::create("memory:///").unwrap();
    let writer = PartWriter::new(&store, "w");
    let rows = |from: i64| {
        (from..from + 12)
            .map(|number| prediction(0, number, number % 12 < 3))
            .collect()
    };
    writer.write_rows(rows(0)).await.unwrap();
    let mut watch = Watch::open(store.clone(), options(1_000_000)).await.unwrap();
    watch.catch_up().await.unwrap();
    let waiting = |watch: &Watch| watch.waiting(RECEIVER, EventTime::MAX, usize::MAX).len();
    let before = waiting(&watch);
    assert_ne!(before, 0);
    let nobody = WatchOptions {
        receivers: Vec::new(),
        ..options(1_000_000)
    };
    writer.write_rows(rows(60)).await.unwrap();
    let mut watch = Watch::open(store.clone(), nobody).await.unwrap();
    watch.catch_up().await.unwrap();
    assert!(waiting(&watch) > before);
}
