//! A worker on a store that fails now and then, and later is full.

use std::sync::Arc;
use std::time::Duration;

use object_store::memory::InMemory;
use tokio::task::JoinHandle;
use windrow_common::SensorId;
use windrow_model::{Kernel, Model, OneClassSvm};
use windrow_models::ModelRepository;
use windrow_queue::Queue;
use windrow_service::Shutdown;
use windrow_store::Store;
use windrow_tests::{Broker, FlakyStore};
use windrow_worker::{CacheOptions, ModelCache, Stats, WorkerOptions};

use super::{queue, scoring_message};

const SENSORS: i64 = 40;
const MINUTES: i64 = 25;
const SOON: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_waits_for_a_store_that_fails_or_is_full_and_loses_nothing() {
    let flaky = FlakyStore::new(InMemory::new());
    let store = Store::from_objects(Arc::new(flaky.clone()), "flaky:///");
    let svm = OneClassSvm::new(1, vec![1.0], vec![1.0], 1.0, Kernel::Linear).unwrap();
    let model = Model::new("mean".parse().unwrap(), None, svm, "test").unwrap();
    let repository = ModelRepository::new(store.clone());
    for sensor in 0..SENSORS {
        repository.put(&sensor_id(sensor), &model).await.unwrap();
    }
    let broker = Broker::shared();
    let queue = queue(&broker, "flaky");
    let stats = Arc::new(Stats::default());
    let (trigger, shutdown) = Shutdown::new();
    let options = WorkerOptions {
        flush_age: Duration::from_millis(20),
        ..WorkerOptions::new("flaky")
    };
    let models = ModelCache::new(store.clone(), CacheOptions::default(), Arc::clone(&stats));
    let worker = tokio::spawn(windrow_worker::run(
        queue.clone(),
        store.clone(),
        models,
        options,
        Arc::clone(&stats),
        shutdown,
    ));
    flaky.fail_one_in(3);
    for minute in 0..MINUTES {
        if minute == 15 {
            flaky.set_full(true);
        }
        for sensor in 0..SENSORS {
            publish(&queue, sensor, minute).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let outage = until("the full disk shows", &worker, || {
        store.outage().filter(|outage| outage.contains("No space left"))
    })
    .await;
    assert!(
        outage.contains("predictions/") && outage.contains("flaky:///"),
        "{outage}"
    );
    let before = stats.counts().predictions;
    assert!(
        before < (SENSORS * MINUTES) as u64,
        "the full disk held nothing up"
    );

    flaky.set_full(false);
    until("everything is scored", &worker, || {
        (stats.counts().predictions == (SENSORS * MINUTES) as u64).then_some(())
    })
    .await;
    trigger.stop();
    worker.await.unwrap().unwrap();
    assert!(flaky.failed() > 20, "{}", flaky.failed());
    let counts = stats.counts();
    assert_eq!((counts.redelivered, counts.dead_letters), (0, 0), "{counts:?}");
    flaky.fail_one_in(0);
    let mut rows = 0;
    for hour in store.hours("predictions", None, None).await.unwrap() {
        rows += store.predictions(&hour).await.unwrap().rows.len();
    }
    assert_eq!(rows as i64, SENSORS * MINUTES);
}

fn sensor_id(sensor: i64) -> SensorId {
    SensorId::new(&sensor.to_string(), "t").unwrap()
}

async fn publish(queue: &impl Queue, sensor: i64, minute: i64) {
    let message = scoring_message(sensor_id(sensor), minute * 60_000, 60_000);
    queue.publish(message).await.unwrap().wait().await.unwrap();
}

async fn until<T, W>(what: &str, worker: &JoinHandle<W>, mut ask: impl FnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(found) = ask() {
                return found;
            }
            assert!(!worker.is_finished(), "the worker ended before {what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let found = tokio::time::timeout(SOON, asking).await;
    found.unwrap_or_else(|_| panic!("not within {SOON:?}: {what}"))
}
