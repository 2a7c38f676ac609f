//! The cache of models in a process, bounded by their size in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use moka::future::Cache;
use windrow_common::SensorId;
use windrow_model::Model;
use windrow_models::{ModelRepository, RepositoryError};
use windrow_store::{Store, wait_out};

use crate::shadows::{LoadedShadow, ShadowIndex};
use crate::stats::Stats;

/// Limits of a [`ModelCache`].
#[derive(Clone, Copy, Debug)]
pub struct CacheOptions {
    /// Memory for models, in bytes.
    pub bytes: u64,
    /// How long a model is used before its `current` blob is read again.
    pub refresh_after: Duration,
}

impl Default for CacheOptions {
    /// Returns 512 MiB and one minute.
    fn default() -> Self {
        Self {
            bytes: 512 << 20,
            refresh_after: Duration::from_secs(60),
        }
    }
}

/// A cache of models by sensor, shared by all workers of a process. A model is read once, however many wait for it.
#[derive(Clone, Debug)]
pub struct ModelCache {
    loaded: Cache<SensorId, Arc<LoadedModel>>,
    repository: ModelRepository,
    shadows: ShadowIndex,
    refresh_after: Duration,
    origin: Instant,
    stats: Arc<Stats>,
}

/// A model, its version, and when that version was last checked.
#[derive(Debug)]
pub(crate) struct LoadedModel {
    pub(crate) model: Arc<Model>,
    pub(crate) version: Arc<str>,
    /// The version that is scored beside it.
    pub(crate) shadow: Option<LoadedShadow>,
    /// When `current` was last read, in milliseconds since the cache's origin.
    checked_ms: AtomicU64,
}

/// A sensor's model, or `None` if it has none.
pub(crate) type ModelFound = Result<Option<Arc<LoadedModel>>, Arc<RepositoryError>>;

impl ModelCache {
    /// Creates an empty cache of the models in `store`.
    pub fn new(store: Store, options: CacheOptions, stats: Arc<Stats>) -> Self {
        let weigh = |_: &SensorId, loaded: &Arc<LoadedModel>| {
            let shadow = loaded.shadow.as_ref().and_then(|shadow| shadow.model.as_ref());
            let bytes = loaded.model.memory_bytes() + shadow.map_or(0, |model| model.memory_bytes());
            u32::try_from(bytes).unwrap_or(u32::MAX)
        };
        let repository = ModelRepository::new(store);
        Self {
            loaded: Cache::builder()
                .max_capacity(options.bytes)
                .weigher(weigh)
                .build(),
            shadows: ShadowIndex::new(repository.clone(), options.refresh_after, Arc::clone(&stats)),
            repository,
            refresh_after: options.refresh_after,
            origin: Instant::now(),
            stats,
        }
    }

    /// Returns the sensor's model if it is cached and not due for a check: the fast path of [`ModelCache::get`].
    pub(crate) async fn cached(&self, sensor: &SensorId) -> Option<Arc<LoadedModel>> {
        let loaded = self.loaded.get(sensor).await;
        let loaded = loaded.filter(|loaded| !self.is_due(loaded.checked_ms.load(Ordering::Relaxed)));
        if loaded.is_some() {
            self.stats.cache_hits.inc();
        }
        loaded
    }

    /// Returns the sensor's current model. Waits out an outage of the store.
    pub(crate) async fn get(&self, sensor: &SensorId) -> ModelFound {
        let Some(loaded) = self.loaded.get(sensor).await else {
            self.stats.cache_misses.inc();
            let load = self.loaded.try_get_with_by_ref(sensor, async {
                self.load(sensor, None)
                    .await
                    .map_err(LoadError::Failed)?
                    .ok_or(LoadError::NoModel)
            });
            return match load.await {
                Ok(loaded) => Ok(Some(loaded)),
                Err(error) => match &*error {
                    LoadError::NoModel => Ok(None),
                    LoadError::Failed(error) => Err(Arc::clone(error)),
                },
            };
        };
        self.stats.cache_hits.inc();
        if self.claim_check(&loaded) {
            return self.refresh(sensor, loaded).await;
        }
        Ok(Some(loaded))
    }

    /// Returns whether `current` is due to be read again and this caller is the one to do it.
    fn claim_check(&self, loaded: &LoadedModel) -> bool {
        let checked_ms = loaded.checked_ms.load(Ordering::Relaxed);
        self.is_due(checked_ms)
            && loaded
                .checked_ms
                .compare_exchange(checked_ms, self.now_ms(), Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    fn is_due(&self, checked_ms: u64) -> bool {
        self.now_ms().saturating_sub(checked_ms) >= self.refresh_after.as_millis() as u64
    }

    fn now_ms(&self) -> u64 {
        self.origin.elapsed().as_millis() as u64
    }

    /// Replaces a model whose `current` names another version, or whose sensor has another shadow. On failure, the loaded model continues to score.
    async fn refresh(&self, sensor: &SensorId, loaded: Arc<LoadedModel>) -> ModelFound {
        match self.load(sensor, Some(&loaded)).await {
            Ok(Some(newer)) if !Arc::ptr_eq(&newer, &loaded) => {
                self.loaded.insert(sensor.clone(), Arc::clone(&newer)).await;
                Ok(Some(newer))
            }
            Ok(Some(_)) => Ok(Some(loaded)),
            Ok(None) => {
                self.loaded.invalidate(sensor).await;
                Ok(None)
            }
            Err(error) => {
                tracing::warn!(
                    %sensor,
                    version = &*loaded.version,
                    %error,
                    "cannot refresh the model; keeping the loaded version"
                );
                Ok(Some(loaded))
            }
        }
    }

    /// Reads the sensor's current model and its shadow, or returns `known` if it has both.
    async fn load(&self, sensor: &SensorId, known: Option<&Arc<LoadedModel>>) -> ModelFound {
        let read = wait_out("reading a model", || async {
            let Some(version) = self.repository.current(sensor).await? else {
                return Ok(None);
            };
            if let Some(known) = known.filter(|known| *known.version == *version) {
                return Ok(Some((Arc::clone(&known.model), Arc::clone(&known.version))));
            }
            let model = self.repository.load(sensor, &version).await?;
            self.stats.models_loaded.inc();
            Ok(Some((Arc::new(model), Arc::from(version))))
        });
        let Some((model, version)) = read.await.map_err(Arc::new)? else {
            return Ok(None);
        };
        // A shadow that has been promoted is the current version; scoring it would only repeat the result.
        let wanted = self.shadows.version_of(sensor).await;
        let wanted = wanted.filter(|shadow| *shadow != version);
        let known_shadow = known.and_then(|known| known.shadow.as_ref());
        let shadow = match wanted {
            Some(wanted) => Some(self.shadows.load(sensor, wanted, known_shadow).await),
            None => None,
        };
        let is_same = |known: &&Arc<LoadedModel>| {
            known.version == version
                && match (&known.shadow, &shadow) {
                    (Some(known), Some(shadow)) => known.is_same(shadow),
                    (known, shadow) => known.is_none() && shadow.is_none(),
                }
        };
        if let Some(known) = known.filter(is_same) {
            return Ok(Some(Arc::clone(known)));
        }
        Ok(Some(Arc::new(LoadedModel {
            model,
            version,
            shadow,
            checked_ms: AtomicU64::new(self.now_ms()),
        })))
    }
}

/// Why no model was cached.
#[derive(Debug)]
enum LoadError {
    NoModel,
    Failed(Arc<RepositoryError>),
}

#[cfg(test)]
mod tests {
    use super::*;
    use windrow_model::{Features, Kernel, OneClassSvm};

    fn model(intercept: f64) -> Model {
        let svm = OneClassSvm::new(1, vec![1.0], vec![1.0], intercept, Kernel::Linear).unwrap();
        Model::new("mean".parse::<Features>().unwrap(), None, svm, "test").unwrap()
    }

    fn cache(store: &Store, refresh_after: Duration) -> (ModelCache, Arc<Stats>) {
        let stats = Arc::new(Stats::default());
        let options = CacheOptions {
            refresh_after,
            ..CacheOptions::default()
        };
        (ModelCache::new(store.clone(), options, Arc::clone(&stats)), stats)
    }

    #[tokio::test]
    async fn a_model_many_wait_for_is_read_once() {
        let store = Store::create("memory:///").unwrap();
        let sensor = SensorId::new("d", "t").unwrap();
        ModelRepository::new(store.clone())
            .put(&sensor, &model(0.0))
            .await
            .unwrap();
        let (cache, stats) = cache(&store, Duration::from_secs(60));
        let waiting = (0..50).map(|_| {
            let (cache, sensor) = (cache.clone(), sensor.clone());
            tokio::spawn(async move { cache.get(&sensor).await.unwrap().is_some() })
        });
        for task in waiting.collect::<Vec<_>>() {
            assert!(task.await.unwrap());
        }
        assert_eq!(stats.counts().models_loaded, 1);
    }

    #[tokio::test]
    async fn a_promoted_model_takes_over_when_the_refresh_is_due() {
        let store = Store::create("memory:///").unwrap();
        let sensor = SensorId::new("d", "t").unwrap();
        let (cache, _) = cache(&store, Duration::ZERO);
        assert!(
            cache.get(&sensor).await.unwrap().is_none(),
            "a missing model is not cached"
        );
        let repository = ModelRepository::new(store);
        let first = repository.put(&sensor, &model(0.0)).await.unwrap();
        assert_eq!(*cache.get(&sensor).await.unwrap().unwrap().version, *first);
        let second = repository.put(&sensor, &model(1.0)).await.unwrap();
        assert_eq!(*cache.get(&sensor).await.unwrap().unwrap().version, *second);
    }
}
