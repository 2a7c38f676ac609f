use std::cell::Cell;
use std::time::{Duration, Instant};

use futures::future::{join_all, pending};
use windrow_test_hub::{Hub, HubConfig};

use super::*;
use crate::Login;

const MIB: usize = 1 << 20;
const PARTITIONS: u16 = 4;
const EVENTS: usize = 120;
const LARGE: usize = 256_000;
const ROOM: usize = 4 * MIB;
const BUDGET: usize = 16 * MIB;
const WITHIN: Duration = Duration::from_secs(120);

/// Returns a hub that holds these events in each partition.
fn hub_with(sizes: &[usize]) -> Hub {
    let hub = Hub::start(&HubConfig {
        partitions: PARTITIONS,
        ..HubConfig::default()
    });
    let hub = hub.unwrap();
    for partition in 0..PARTITIONS {
        for &bytes in sizes {
            hub.append(partition, vec![b'x'; bytes], []).unwrap();
        }
    }
    hub
}

/// Waits until a condition holds, and fails after a while.
async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < WITHIN, "{what} within {WITHIN:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The bytes that the hub has delivered and nobody has taken: those in hand, and those that receivers dropped when they
/// were opened again.
fn in_hand(hub: &Hub, taken: usize) -> usize {
    let delivered: u64 = (0..PARTITIONS).map(|partition| hub.delivered(partition)).sum();
    usize::try_from(delivered).unwrap().saturating_sub(taken) * LARGE
}

#[tokio::test]
async fn large_events_of_several_partitions_stay_within_the_budget_and_all_are_read_in_order() {
    let hub = hub_with(&[LARGE; EVENTS]);
    let login = Login::ConnectionString(hub.connection_string());
    let opened = EventHub::new("eventhubs://localhost/readings", login, Some(hub.endpoint())).unwrap();
    let (shares, _) = watch::channel(1);
    let room = Arc::new(Semaphore::new(ROOM));
    let stats = Arc::new(Stats::default());
    let mut taking = Vec::new();
    let mut fetches = Vec::new();
    for partition in 0..PARTITIONS {
        let (events, to_decode) = mpsc::channel(4_096);
        taking.push(to_decode);
        fetches.push(Fetch {
            hub: opened.clone(),
            consumer_group: "$Default".to_owned(),
            partition: partition.to_string(),
            position: StartPosition {
                location: StartLocation::Earliest,
                inclusive: false,
            },
            credit: Credit::new(300, BUDGET),
            partitions: shares.subscribe(),
            events,
            room: Arc::clone(&room),
            stats: Arc::clone(&stats),
        });
    }
    // Each partition may hold an event that waits for room. What clients drop when they are opened again counts as in hand
    // here: the whole budget, which the first partition has alone, and what fits while every event may have a MiB.
    let dropped = 2 * BUDGET;
    let bound = ROOM + usize::from(PARTITIONS) * LARGE + BUDGET + dropped;
    assert!(bound < usize::from(PARTITIONS) * EVENTS * LARGE / 2);
    let most = Cell::new(0);
    let look = |taken| {
        let now = in_hand(&hub, taken);
        most.set(most.get().max(now));
        now
    };
    let reading = async {
        eventually("the first partition's prefetch", || look(0) > 0).await;
        shares.send_replace(usize::from(PARTITIONS));
        // Nobody decodes: everything that may be fetched ahead is.
        eventually("a full prefetch", || {
            let held = stats.waiting_event_bytes() as usize;
            look(0) >= BUDGET / 2 + ROOM && held >= ROOM - LARGE
        })
        .await;
        let taken = Cell::new(0);
        let read = |mut to_decode: mpsc::Receiver<Incoming>| {
            let (taken, stats) = (&taken, &stats);
            async move {
                for next in 0..EVENTS as u64 {
                    let event = tokio::time::timeout(WITHIN, to_decode.recv()).await;
                    let Incoming { event, room: _room } = event.unwrap().unwrap();
                    assert_eq!((event.offset.0, event.bytes()), (next, LARGE));
                    taken.set(taken.get() + 1);
                    look(taken.get());
                    let held = stats.waiting_event_bytes() as usize;
                    assert!(held <= ROOM + usize::from(PARTITIONS) * LARGE, "{held}");
                }
            }
        };
        join_all(taking.into_iter().map(read)).await;
        assert_eq!(taken.get(), usize::from(PARTITIONS) * EVENTS);
    };
    let fetching = join_all(fetches.iter_mut().map(|fetch| fetch.run(pending::<()>())));
    tokio::select! {
        () = reading => {}
        ended = fetching => panic!("a receiver has ended: {ended:?}"),
    }
    println!("at most {} bytes in hand, and {bound} are allowed", most.get());
    assert!(most.get() <= bound, "{} of {bound}", most.get());
}
