use std::collections::BTreeMap;

use proptest::prelude::*;
use windrow_common::{Aggregate, Prediction, SensorId};
use windrow_store::PartWriter;

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
        score: Some(if anomaly { 1.0 } else { -1.0 }),
        anomaly,
        model_version: "00000000000000aa".into(),
        shadow: None,
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

async fn noisy(parts: &[(Vec<Prediction>, Then)], most_held: usize) -> (Store, Watch) {
    let store = Store::create("memory:///").unwrap();
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
    ) {
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
            let (quiet, _) = noisy(&[(windows.clone(), Then::Nothing)], 1_000_000).await;
            let (store, watch) = noisy(&parts, most_held).await;
            let (right, found) = (table(&quiet).await, table(&store).await);
            let read = |store: &Store| { let store = store.clone(); async move { store.incidents(None, None).await.unwrap() } };
            prop_assert_eq!(read(&store).await, read(&quiet).await);
            prop_assert_eq!(found, right);
            // Whoever listens knows which incidents there are, and which are over.
            let mut known: BTreeMap<String, bool> = BTreeMap::new();
            for event in watch.waiting(RECEIVER) {
                match event.stage {
                    Stage::Opened => { known.entry(event.incident).or_insert(true); }
                    Stage::Escalated => {}
                    Stage::Closed => { known.insert(event.incident, false); }
                    Stage::Withdrawn => { known.insert(event.incident, false); }
                }
            }
            for incident in read(&quiet).await {
                prop_assert!(known.contains_key(&incident.id()), "{} was not told", incident.id());
            }
            Ok(())
        })?;
    }
}
