//! Scores shadow versions beside the current ones, without ever delaying them for long.
//!
//! A failure of a shadow is counted and logged once. It fails no message, and no message waits out an outage of the
//! store for a shadow.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tokio::time::timeout;
use windrow_common::SensorId;
use windrow_model::{Model, ScoreError, Scores};
use windrow_models::{ModelRepository, Shadows};

use crate::cache::LoadedModel;
use crate::stats::Stats;

/// Longest time that a message waits for a shadow to be read.
const READ_WITHIN: Duration = Duration::from_secs(5);

/// Which sensors have a shadow, from one blob that is read again at most once for each refresh.
#[derive(Clone, Debug)]
pub(crate) struct ShadowIndex {
    known: Arc<Mutex<Known>>,
    repository: ModelRepository,
    refresh_after: Duration,
    stats: Arc<Stats>,
}

#[derive(Debug, Default)]
struct Known {
    shadows: Shadows,
    checked: Option<Instant>,
    /// Whether the last read failed, which is logged once.
    failed: bool,
}

/// A sensor's shadow version.
#[derive(Debug)]
pub(crate) struct LoadedShadow {
    pub(crate) version: Arc<str>,
    /// `None` if it cannot be read. The next refresh tries again.
    pub(crate) model: Option<Arc<Model>>,
    /// Whether the log already says that it cannot score.
    told: AtomicBool,
}

impl ShadowIndex {
    pub(crate) fn new(repository: ModelRepository, refresh_after: Duration, stats: Arc<Stats>) -> Self {
        Self {
            known: Arc::default(),
            repository,
            refresh_after,
            stats,
        }
    }

    /// Returns the sensor's shadow version.
    pub(crate) async fn version_of(&self, sensor: &SensorId) -> Option<Arc<str>> {
        let mut known = self.known.lock().await;
        if known
            .checked
            .is_none_or(|checked| checked.elapsed() >= self.refresh_after)
        {
            let failure = match timeout(READ_WITHIN, self.repository.shadows()).await {
                Ok(Ok(shadows)) => {
                    known.shadows = shadows;
                    None
                }
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some(format!("the store did not answer within {READ_WITHIN:?}")),
            };
            if let Some(error) = &failure {
                self.stats.failed_shadow_reads.inc();
                if !known.failed {
                    tracing::warn!(
                        error,
                        "cannot read which models have a shadow; keeping what is known"
                    );
                }
            }
            known.failed = failure.is_some();
            known.checked = Some(Instant::now());
        }
        known.shadows.get(sensor).map(Arc::clone)
    }

    /// Reads a shadow version, unless it is the one of `known`.
    pub(crate) async fn load(
        &self,
        sensor: &SensorId,
        version: Arc<str>,
        known: Option<&LoadedShadow>,
    ) -> LoadedShadow {
        let known = known.filter(|known| known.version == version);
        if let Some(model) = known.and_then(|known| known.model.clone()) {
            return LoadedShadow::new(version, Some(model));
        }
        let failure = match timeout(READ_WITHIN, self.repository.load(sensor, &version)).await {
            Ok(Ok(model)) => {
                self.stats.models_loaded.inc();
                return LoadedShadow::new(version, Some(Arc::new(model)));
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("the store did not answer within {READ_WITHIN:?}"),
        };
        self.stats.failed_shadow_reads.inc();
        if known.is_none() {
            tracing::warn!(%sensor, version = &*version, error = failure, "cannot read the shadow version; scoring without it");
        }
        LoadedShadow::new(version, None)
    }
}

impl LoadedShadow {
    pub(crate) fn new(version: Arc<str>, model: Option<Arc<Model>>) -> Self {
        Self {
            version,
            model,
            told: AtomicBool::new(false),
        }
    }

    /// Returns whether both are the same version, and either both or neither can score.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.version == other.version && self.model.is_some() == other.model.is_some()
    }
}

/// Scores a message with the sensor's shadow version. `score` fills `scores` and returns the expected number of
/// windows. Returns the version if `scores` now holds its results, and `None` if there is no shadow or it failed.
pub(crate) fn score<'a>(
    loaded: &'a LoadedModel,
    sensor: &SensorId,
    scores: &mut Scores,
    stats: &Stats,
    score: impl FnOnce(&Model, &mut Scores) -> Result<usize, ScoreError>,
) -> Option<&'a Arc<str>> {
    let shadow = loaded.shadow.as_ref()?;
    let Some(model) = &shadow.model else {
        stats.without_shadow.inc();
        return None;
    };
    let decided = catch_unwind(AssertUnwindSafe(|| score(model, scores)));
    let why = match decided {
        Ok(Ok(windows)) if scores.decisions.len() == windows => return Some(&shadow.version),
        Ok(Ok(_)) => "it decided on another number of windows".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "scoring panicked".to_owned(),
    };
    stats.without_shadow.inc();
    if !shadow.told.swap(true, Relaxed) {
        tracing::warn!(
            %sensor,
            version = &*shadow.version,
            error = why,
            "the shadow version cannot score; scoring without it"
        );
    }
    None
}

#[cfg(test)]
mod tests;
