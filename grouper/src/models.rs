//! The devices whose tags are scored together, from the models in the store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use tokio::time::Instant;
use windrow_common::SensorId;
use windrow_model::Group;
use windrow_models::{ModelRepository, RepositoryError};
use windrow_store::Store;

/// Number of models that are loaded at once.
const LOADS_IN_FLIGHT: usize = 16;

/// The groups of a store's devices.
#[derive(Debug)]
pub struct Groups {
    repository: ModelRepository,
    known: BTreeMap<Arc<str>, Known>,
    refresh_after: Duration,
    listed: Option<Instant>,
}

#[derive(Clone, Debug)]
struct Known {
    version: String,
    group: Option<Group>,
}

impl Groups {
    /// Creates a list of the groups in `store`, which is empty before the first [`Groups::refresh`].
    pub fn new(store: Store, refresh_after: Duration) -> Self {
        Self {
            repository: ModelRepository::new(store),
            known: BTreeMap::new(),
            refresh_after,
            listed: None,
        }
    }

    /// Lists the models again if that is due. Returns whether any group of tags has changed.
    pub async fn refresh(&mut self) -> Result<bool, RepositoryError> {
        if self
            .listed
            .is_some_and(|listed| listed.elapsed() < self.refresh_after)
        {
            return Ok(false);
        }
        let current = self.repository.groups().await?.into_iter();
        let loads: Vec<_> = current
            .map(|(sensor, version)| self.known_of(sensor, version))
            .collect();
        let known = futures::stream::iter(loads)
            .buffered(LOADS_IN_FLIGHT)
            .try_collect::<BTreeMap<_, _>>()
            .await?;
        let group = |(device, known): (&Arc<str>, &Known)| (Arc::clone(device), known.group.clone());
        let changed = known.iter().map(group).ne(self.known.iter().map(group));
        self.known = known;
        self.listed = Some(Instant::now());
        Ok(changed)
    }

    /// Returns a device with its known model. Reads the model from the store if its version has changed.
    async fn known_of(
        &self,
        sensor: SensorId,
        version: String,
    ) -> Result<(Arc<str>, Known), RepositoryError> {
        let known = match self.known.get(&sensor.device) {
            Some(before) if before.version == version => before.clone(),
            _ => Known {
                group: self.load(&sensor, &version).await?,
                version,
            },
        };
        Ok((sensor.device, known))
    }

    /// Returns the tags of a model; `None` if it cannot be read, or scores one sensor.
    async fn load(&self, sensor: &SensorId, version: &str) -> Result<Option<Group>, RepositoryError> {
        match self.repository.load(sensor, version).await {
            Ok(model) => {
                if model.group().is_none() {
                    tracing::warn!(%sensor, version, "this model scores one sensor, and not several tags together");
                }
                Ok(model.group().cloned())
            }
            Err(error) if error.is_of_one_model() => {
                tracing::warn!(%sensor, version, %error, "cannot read the model; its device is left out");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Returns the group of a device.
    pub fn of(&self, device: &str) -> Option<&Group> {
        self.known.get(device)?.group.as_ref()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.known.values().all(|known| known.group.is_none())
    }

    /// Returns the version of the model of a device's group.
    pub fn version(&self, device: &str) -> Option<&str> {
        Some(&self.known.get(device)?.version)
    }

    /// Returns the longest time before a window that any group's rows cover.
    pub fn context(&self) -> Duration {
        let groups = self.known.values().filter_map(|known| known.group.as_ref());
        groups.map(Group::context).max().unwrap_or_default()
    }
}
