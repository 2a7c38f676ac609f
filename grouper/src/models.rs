//! The devices whose tags are scored together, from the models in the store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use windrow_common::SensorId;
use windrow_model::Group;
use windrow_models::{ModelRepository, RepositoryError};
use windrow_store::Store;

/// The groups of a store's devices.
#[derive(Debug)]
pub(crate) struct Groups {
    repository: ModelRepository,
    known: BTreeMap<Arc<str>, Known>,
    refresh_after: Duration,
    listed: Option<Instant>,
}

#[derive(Debug)]
struct Known {
    version: String,
    group: Option<Group>,
}

impl Groups {
    pub(crate) fn new(store: Store, refresh_after: Duration) -> Self {
        Self {
            repository: ModelRepository::new(store),
            known: BTreeMap::new(),
            refresh_after,
            listed: None,
        }
    }

    /// Lists the models again if that is due. Returns whether tags are brought together in another way than before.
    pub(crate) async fn refresh(&mut self) -> Result<bool, Arc<RepositoryError>> {
        if self
            .listed
            .is_some_and(|listed| listed.elapsed() < self.refresh_after)
        {
            return Ok(false);
        }
        let mut known = BTreeMap::new();
        let mut changed = false;
        for (sensor, version) in self.repository.groups().await? {
            let before = self.known.remove(&sensor.device);
            let now = match before {
                Some(before) if before.version == version => before,
                before => {
                    let group = self.load(&sensor, &version).await?;
                    changed |= before.and_then(|before| before.group) != group;
                    Known { version, group }
                }
            };
            known.insert(sensor.device, now);
        }
        changed |= !self.known.is_empty();
        self.known = known;
        self.listed = Some(Instant::now());
        Ok(changed)
    }

    /// Returns the tags of a model; `None` if it cannot be read, or scores one sensor.
    async fn load(&self, sensor: &SensorId, version: &str) -> Result<Option<Group>, Arc<RepositoryError>> {
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
            Err(error) => Err(Arc::new(error)),
        }
    }

    /// Returns the group of a device.
    pub(crate) fn of(&self, device: &str) -> Option<&Group> {
        self.known.get(device)?.group.as_ref()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.known.values().all(|known| known.group.is_none())
    }

    /// Returns the longest time before a window that its row is made of.
    pub(crate) fn context(&self) -> Duration {
        let groups = self.known.values().filter_map(|known| known.group.as_ref());
        groups.map(Group::context).max().unwrap_or_default()
    }
}
