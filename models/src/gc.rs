//! Deletes versions that nobody needs any more.

use std::collections::HashSet;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use windrow_common::{EventTime, SensorId};

use crate::fleet::Files;
use crate::metadata::metadata_path;
use crate::{ModelRepository, READS_IN_FLIGHT, Registry, RepositoryError, Shadows, model_path};

/// What [`ModelRepository::collect`] keeps besides the current, shadow and candidate versions.
#[derive(Clone, Copy, Debug)]
pub struct Keep {
    /// How many of the most recently current versions of each sensor to keep, including the current one. The version
    /// that a rollback returns to is always kept.
    pub last: usize,
    /// Keeps versions that were stored or current within this time. Do not make it short: a worker that has read
    /// `current` may be about to load the version named there.
    pub newer_than: Duration,
}

/// What was deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Sensors that were looked at.
    pub sensors: u64,
    /// Versions that were deleted.
    pub versions: u64,
    /// Versions that are kept.
    pub kept: u64,
    /// Bytes of the deleted files.
    pub bytes: u64,
    /// Versions that were promoted while they were deleted, and have been restored.
    pub restored: u64,
}

/// Files of a sensor that are to be deleted.
struct Doomed {
    versions: Vec<String>,
    /// Metadata whose model is deleted now or was before.
    metadata: Vec<String>,
    bytes: u64,
    kept: u64,
}

impl ModelRepository {
    /// Deletes the versions of every sensor that are not to be kept. With `dry_run`, only counts them.
    pub async fn collect(&self, keep: Keep, dry_run: bool) -> Result<Collected, RepositoryError> {
        let shadows = self.shadows().await?;
        let shadows = &shadows;
        let of_sensors = futures::stream::iter(self.folders().await?)
            .map(|(folder, files)| async move {
                match self.sensor_of(&folder).await? {
                    Some(sensor) => self.collect_of(&sensor, files, shadows, keep, dry_run).await,
                    None => Ok(Collected::default()),
                }
            })
            .buffer_unordered(READS_IN_FLIGHT);
        of_sensors
            .try_fold(Collected::default(), |all, one| async move { Ok(all + one) })
            .await
    }

    async fn collect_of(
        &self,
        sensor: &SensorId,
        mut files: Files,
        shadows: &Shadows,
        keep: Keep,
        dry_run: bool,
    ) -> Result<Collected, RepositoryError> {
        let since = EventTime::now().saturating_sub(keep.newer_than);
        // Most sensors have nothing that is old enough to be deleted, and need no look at what is recorded of them.
        let old = |files: &Files| {
            let mut all = files.models.iter().chain(&files.metadata);
            files.models.len() > 1 || all.any(|file| file.modified < since)
        };
        if !dry_run && old(&files) {
            // What was listed for all sensors may be minutes old.
            files = self.files(sensor).await?;
        }
        let mut collected = Collected {
            sensors: 1,
            kept: files.models.len() as u64,
            ..Collected::default()
        };
        if !old(&files) {
            return Ok(collected);
        }
        let current = self.current(sensor).await?;
        let mut registry = self.registry(sensor).await?;
        if let Some(current) = &current {
            registry.catch_up(current, EventTime::now());
        }
        let shadow = shadows.get(sensor).map(|shadow| &**shadow);
        let doomed = doomed(&files, &registry, shadow, keep.last, since);
        collected.versions = doomed.versions.len() as u64;
        collected.kept = doomed.kept;
        collected.bytes = doomed.bytes;
        if !dry_run {
            collected.restored = self.delete(sensor, &doomed).await?;
            collected.versions -= collected.restored;
            collected.kept += collected.restored;
        }
        Ok(collected)
    }

    /// Deletes the files, and restores what was promoted at the same time. Returns how many were.
    async fn delete(&self, sensor: &SensorId, doomed: &Doomed) -> Result<u64, RepositoryError> {
        let mut restored = 0;
        for version in &doomed.versions {
            let path = model_path(sensor, version);
            let bytes = self.store.get(&path).await?;
            self.store.delete(&path).await?;
            if self.current(sensor).await?.as_ref() == Some(version)
                && let Some(bytes) = bytes
            {
                self.store.put(&path, bytes).await?;
                restored += 1;
            }
        }
        for version in &doomed.metadata {
            self.store.delete(&metadata_path(sensor, version)).await?;
        }
        Ok(restored)
    }
}

/// Chooses what to delete. `registry` ends with what is current.
fn doomed(files: &Files, registry: &Registry, shadow: Option<&str>, last: usize, since: EventTime) -> Doomed {
    let mut kept: HashSet<&str> = HashSet::new();
    kept.extend(registry.history.last().map(|last| last.version.as_str()));
    kept.extend(registry.previous());
    kept.extend(registry.candidate.as_deref());
    kept.extend(shadow);
    let mut lasts = HashSet::new();
    for version in registry.last_versions() {
        if lasts.len() >= last {
            break;
        }
        lasts.insert(version);
    }
    kept.extend(lasts);
    let is_needed = |version: &str| kept.contains(version) || registry.was_current_since(version, since);
    let (mut versions, mut bytes, mut left) = (Vec::new(), 0, HashSet::new());
    for file in &files.models {
        if is_needed(&file.version) || file.modified >= since {
            left.insert(&file.version);
        } else {
            versions.push(file.version.clone());
            bytes += file.bytes;
        }
    }
    let mut metadata = Vec::new();
    for file in &files.metadata {
        // Metadata and its model are written at the same time, so recent metadata may belong to a model that is about
        // to be stored.
        if !left.contains(&file.version) && file.modified < since {
            metadata.push(file.version.clone());
            bytes += file.bytes;
        }
    }
    Doomed {
        versions,
        metadata,
        bytes,
        kept: left.len() as u64,
    }
}

impl std::ops::Add for Collected {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            sensors: self.sensors + other.sensors,
            versions: self.versions + other.versions,
            kept: self.kept + other.kept,
            bytes: self.bytes + other.bytes,
            restored: self.restored + other.restored,
        }
    }
}

#[cfg(test)]
mod tests;
