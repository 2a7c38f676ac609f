use windrow_common::{Aggregate, EventTime, Interval, Length, Prediction, ScoringMessage};
use windrow_model::{Features, Kernel, OneClassSvm, is_anomaly};
use windrow_models::{Pins, PromotedBy, Release};
use windrow_queue::{Memory, MemoryLimits, Message, Queue};
use windrow_service::Shutdown;
use windrow_store::Store;

use super::*;
use crate::{CacheOptions, ModelCache, WorkerOptions};

/// A model whose decision is the window's mean plus `intercept`.
fn model(intercept: f64) -> Model {
    let svm = OneClassSvm::new(1, vec![1.0], vec![1.0], intercept, Kernel::Linear).unwrap();
    Model::new("mean".parse::<Features>().unwrap(), None, svm, "test").unwrap()
}

struct Bench {
    store: Store,
    repository: ModelRepository,
    stats: Arc<Stats>,
    cache: ModelCache,
    sensor: SensorId,
}

impl Bench {
    /// Creates a store with a current model for the sensor.
    async fn new(refresh_after: Duration) -> Self {
        let store = Store::create("memory:///").unwrap();
        let repository = ModelRepository::new(store.clone());
        let stats = Arc::new(Stats::default());
        let options = CacheOptions {
            refresh_after,
            ..CacheOptions::default()
        };
        let bench = Self {
            cache: ModelCache::new(store.clone(), options, Arc::clone(&stats)),
            sensor: SensorId::new("d", "t").unwrap(),
            store,
            repository,
            stats,
        };
        bench.repository.put(&bench.sensor, &model(1.0)).await.unwrap();
        bench
    }

    /// Stores a model without promoting it, and makes it the shadow.
    async fn shadow(&self, intercept: f64) -> String {
        let stored = self
            .repository
            .release(
                &self.sensor,
                &model(intercept),
                None,
                PromotedBy::Train,
                Release::Candidate,
            )
            .await
            .unwrap();
        self.set(&stored.version).await;
        stored.version
    }

    async fn set(&self, version: &str) {
        self.repository
            .change_shadows(|shadows| shadows.insert(self.sensor.clone(), version.into()))
            .await
            .unwrap();
    }

    async fn loaded(&self) -> Arc<LoadedModel> {
        self.cache.get(&self.sensor).await.unwrap().unwrap()
    }

    /// Scores one window with a worker, and returns the predictions that count.
    async fn scored(&self, mean: f64) -> Vec<Prediction> {
        let queue = Memory::new(MemoryLimits::default(), &self.store);
        let (_trigger, shutdown) = Shutdown::new();
        let worker = tokio::spawn(crate::run(
            queue.clone(),
            self.store.clone(),
            self.cache.clone(),
            WorkerOptions::new("w"),
            Arc::clone(&self.stats),
            shutdown,
        ));
        let (start, length) = (EventTime::from_millis(0), Length::from_millis(60_000));
        let scoring = ScoringMessage {
            sensor: self.sensor.clone(),
            interval: Interval { start, length },
            window_length: length,
            aggregates: vec![Aggregate {
                window_start: start,
                count: 1,
                mean,
                std: 0.0,
                min: mean,
                max: mean,
                first: mean,
                last: mean,
            }],
        };
        let message = Message {
            id: scoring.id(),
            kind: ScoringMessage::KIND.into(),
            content_type: ScoringMessage::CONTENT_TYPE.into(),
            enqueued_at: EventTime::now(),
            traceparent: None,
            body: scoring.encode().unwrap().into(),
        };
        queue.publish(message).await.unwrap().wait().await.unwrap();
        queue.close();
        worker.await.unwrap().unwrap();
        let mut rows = Vec::new();
        for hour in self.store.hours("predictions", None, None).await.unwrap() {
            rows.extend(self.store.predictions(&hour).await.unwrap().rows);
        }
        rows
    }
}

#[tokio::test]
async fn a_shadow_is_scored_beside_the_current_version_and_raises_no_anomaly() {
    let bench = Bench::new(Duration::ZERO).await;
    let shadow = bench.shadow(-10.0).await;
    let rows = bench.scored(2.0).await;
    assert_eq!(rows.len(), 1);
    assert!(!rows[0].anomaly && rows[0].decision == 3.0, "{rows:?}");
    let beside = rows[0].shadow.as_ref().unwrap();
    assert_eq!((&*beside.version, beside.decision), (&*shadow, -8.0));
    assert!(is_anomaly(beside.decision), "the shadow would have flagged it");
    assert_eq!(bench.stats.counts().anomalies, 0);
    assert_eq!(bench.stats.without_shadow.get(), 0);
}

#[tokio::test]
async fn a_shadow_that_cannot_be_read_or_cannot_score_is_counted_and_stops_nothing() {
    let bench = Bench::new(Duration::ZERO).await;
    for (shadow, index, failed_reads) in [
        ("0123456789abcdef", None, 1),
        // The list of shadows is damaged, so what was known before stays.
        ("0123456789abcdef", Some("{"), 3),
    ] {
        bench.set(shadow).await;
        if let Some(index) = index {
            bench.store.put("models/.shadows.json", index).await.unwrap();
        }
        let rows = bench.scored(2.0).await;
        assert_eq!((rows.len(), rows[0].decision), (1, 3.0));
        assert_eq!(rows[0].shadow, None);
        assert_eq!(bench.stats.failed_shadow_reads.get(), failed_reads);
    }
    assert_eq!(bench.stats.without_shadow.get(), 2);
    assert_eq!(bench.stats.counts().dead_letters, 0);

    // Once it can be read, it is scored; a decision that is not finite is none.
    bench.store.delete("models/.shadows.json").await.unwrap();
    let shadow = bench.shadow(f64::MAX).await;
    let rows = bench.scored(2.0).await;
    assert_eq!(&*rows[0].shadow.as_ref().unwrap().version, shadow);
    let rows = bench.scored(f64::MAX).await;
    assert_eq!((rows.len(), bench.stats.without_shadow.get()), (1, 3));
    assert_eq!(bench.stats.counts().dead_letters, 0);
}

#[tokio::test]
async fn a_shadow_comes_changes_and_goes_while_the_current_version_stays_loaded() {
    let bench = Bench::new(Duration::ZERO).await;
    let before = bench.loaded().await;
    assert!(before.shadow.is_none());
    let first = bench.shadow(-1.0).await;
    let with = bench.loaded().await;
    assert_eq!(&*with.shadow.as_ref().unwrap().version, first);
    assert!(
        Arc::ptr_eq(&with.model, &before.model),
        "the current model is not read again"
    );
    let again = bench.loaded().await;
    assert!(Arc::ptr_eq(&again, &with), "and neither is the shadow");
    let second = bench.shadow(-2.0).await;
    assert_eq!(&*bench.loaded().await.shadow.as_ref().unwrap().version, second);
    // Once it is current, it is no shadow any more, whether or not the list still names it.
    let promoted = bench.repository.promote(&bench.sensor, &second, Pins::Respect);
    promoted.await.unwrap();
    let promoted = bench.loaded().await;
    assert_eq!((&*promoted.version, promoted.shadow.is_none()), (&*second, true));
    assert_eq!(
        bench.stats.counts().models_loaded,
        4,
        "one each, and the promoted one"
    );
}

#[tokio::test]
async fn the_list_of_shadows_is_read_once_for_all_sensors_of_a_refresh() {
    let bench = Bench::new(Duration::from_secs(3_600)).await;
    let other = SensorId::new("d", "other").unwrap();
    let version = bench.repository.put(&other, &model(1.0)).await.unwrap();
    assert!(bench.loaded().await.shadow.is_none());
    bench
        .repository
        .change_shadows(|shadows| shadows.insert(other.clone(), "0123456789abcdef".into()))
        .await
        .unwrap();
    let loaded = bench.cache.get(&other).await.unwrap().unwrap();
    assert_eq!(*loaded.version, *version);
    assert!(loaded.shadow.is_none(), "the list was read with the first sensor");
}
