//! Whether a scaler may act, and what becomes of its fleet when it may not.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use async_trait::async_trait;
use object_store::memory::InMemory;
use windrow_queue::{Amqp, AmqpConfig};

use super::*;

const LENGTH: Duration = Duration::from_secs(30);
const PATH: &str = "scaling/queue.json";

/// A fleet that counts what is asked of it.
#[derive(Clone, Default)]
struct Counting {
    left: Arc<AtomicU32>,
    tended: Arc<AtomicU32>,
}

#[async_trait]
impl Fleet for Counting {
    async fn look(&mut self, _consumers: Option<u32>) -> Result<Capacity, FleetError> {
        Ok(Capacity::default())
    }

    async fn resize(&mut self, _wanted: u32) -> Result<(), FleetError> {
        Ok(())
    }

    async fn tend(&mut self) {
        self.tended.fetch_add(1, Relaxed);
    }

    async fn leave(&mut self) {
        self.left.fetch_add(1, Relaxed);
    }
}

fn scaler(store: &Store, fleet: &Counting) -> Loop {
    let config = AmqpConfig::new("amqp://127.0.0.1:1".parse().unwrap());
    let lease = Lease::new(store.clone(), PATH.to_owned(), "a".to_owned(), LENGTH);
    Loop::new(Scaler {
        policy: PolicyOptions::default(),
        every: Duration::from_secs(1),
        price_hour: None,
        broker: Broker::Amqp {
            amqp: Box::new(Amqp::new(config)),
        },
        queue: "queue".to_owned(),
        fleet: Box::new(fleet.clone()),
        leadership: Some((store.clone(), lease)),
        stats: Arc::default(),
        outages: Outages::default(),
        status: Status::default(),
    })
    .unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_scaler_that_lost_the_lease_while_it_could_not_see_it_gives_its_fleet_up() {
    let store = Store::from_objects(Arc::new(InMemory::new()), "memory");
    let fleet = Counting::default();
    let mut first = scaler(&store, &fleet);
    assert!(first.take_part().await);
    // Nobody can say who leads: its workers are looked after, and stay.
    store.put(PATH, "{").await.unwrap();
    assert!(!first.take_part().await);
    assert_eq!((fleet.tended.load(Relaxed), fleet.left.load(Relaxed)), (1, 0));
    let mut second = Lease::new(store.clone(), PATH.to_owned(), "b".to_owned(), LENGTH);
    second.step(&Handover::default()).await;
    tokio::time::advance(LENGTH + Duration::from_secs(1)).await;
    assert!(matches!(
        second.step(&Handover::default()).await,
        Standing::Begins(_)
    ));
    for _ in 0..2 {
        assert!(!first.take_part().await);
    }
    assert_eq!(fleet.left.load(Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_resized_when_the_lease_is_about_to_end() {
    let store = Store::from_objects(Arc::new(InMemory::new()), "memory");
    let mut scaler = scaler(&store, &Counting::default());
    assert!(scaler.resize(3).await.is_err());
    assert!(scaler.take_part().await);
    scaler.resize(3).await.unwrap();
    tokio::time::advance(LENGTH - FLEET_PATIENCE + Duration::from_secs(1)).await;
    let error = scaler.resize(3).await.unwrap_err();
    assert!(error.contains("about to end"), "{error}");
}

#[test]
fn a_queue_that_is_missing_beside_connected_workers_is_not_empty() {
    let seen = |exists| {
        Ok(Seen {
            load: crate::policy::Load::default(),
            consumers: 0,
            exists,
        })
    };
    let ready = |ready| {
        Ok(Capacity {
            ready,
            ..Capacity::default()
        })
    };
    assert!(
        plausible(seen(false), &ready(2))
            .unwrap_err()
            .contains("--queue-prefix")
    );
    assert!(plausible(seen(false), &ready(0)).is_ok());
    assert!(plausible(seen(true), &ready(2)).is_ok());
}
