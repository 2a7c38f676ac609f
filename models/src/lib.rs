//! Models in a store, by sensor.
//!
//! `models/<device>/<tag>/<version>.model` never changes once written, and `<version>.json` beside it tells where the version
//! comes from; `models/<device>/<tag>/current` names the version that scores, and `registry.json` what was current before.
//! If a name is too long for a path and was shortened, `models/<device>/<tag>/sensor` holds the sensor's text.

mod error;
mod fleet;
mod gc;
mod metadata;
mod promote;
mod registry;
mod shadows;
mod share;
mod time_text;

use serde::Serialize;
use windrow_common::{SensorId, is_shortened};
use windrow_model::{Model, version_of};
use windrow_store::{Store, StoreError, Version};

pub use error::RepositoryError;
pub use fleet::{ModelEntry, SensorModels};
pub use gc::{Collected, Keep};
pub use metadata::{Kind, Metadata, SourceFile, Training, sha256_of, sha256_of_rows};
pub use promote::{Back, Pins, Promoted, Release, Released, RolledBack};
pub use registry::{PromotedBy, Promotion, Registry};
pub use shadows::Shadows;
pub use share::{Share, ShareError};

const PREFIX: &str = "models";

/// How many blobs to read at once where those of all sensors are read.
const READS_IN_FLIGHT: usize = 16;

/// How often a conditional write is tried when other commands write the same blob.
const ATTEMPTS: usize = 20;

/// A repository that holds the models of a store.
#[derive(Clone, Debug)]
pub struct ModelRepository {
    store: Store,
}

impl ModelRepository {
    /// Creates a repository of the models in `store`.
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    /// Returns the store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Stores a model and makes it the sensor's current one, and returns its version. It is an error if the sensor is
    /// pinned.
    ///
    /// Storing the same model twice has the effect of storing it once. [`ModelRepository::release`] does more.
    pub async fn put(&self, sensor: &SensorId, model: &Model) -> Result<String, RepositoryError> {
        let release = Release::Promote(Pins::Respect);
        let released = self
            .release(sensor, model, None, PromotedBy::Put, release)
            .await?;
        match released.promoted {
            Some(Promoted::Pinned) => Err(RepositoryError::Pinned {
                sensor: sensor.clone(),
            }),
            _ => Ok(released.version),
        }
    }

    /// Stores a model's file under its version, which is a hash of the contents. Returns whether it was stored already.
    async fn put_model(
        &self,
        sensor: &SensorId,
        version: &str,
        bytes: Vec<u8>,
    ) -> Result<bool, RepositoryError> {
        let path = model_path(sensor, version);
        match self.store.put_if(&path, bytes.clone(), None).await {
            Ok(_) => Ok(false),
            // If it was damaged since, this repairs it.
            Err(StoreError::Conflict { .. }) => {
                if self.store.get(&path).await?.is_none_or(|stored| stored != bytes) {
                    self.store.put(&path, bytes).await?;
                }
                Ok(true)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Stores the sensor's name if its path does not tell it.
    async fn put_name(&self, sensor: &SensorId) -> Result<(), RepositoryError> {
        if !is_shortened(&folder(sensor)) {
            return Ok(());
        }
        let (path, name) = (name_path(&folder(sensor)), format!("{sensor}\n"));
        if self.store.get(&path).await?.is_none_or(|stored| stored != name) {
            self.store.put(&path, name).await?;
        }
        Ok(())
    }

    /// Returns the sensor whose models are in `folder`, or `None` if the folder is not one of models.
    async fn sensor_of(&self, folder: &str) -> Result<Option<SensorId>, RepositoryError> {
        let path = folder
            .strip_prefix(PREFIX)
            .and_then(|path| path.strip_prefix('/'));
        if !is_shortened(folder) {
            return Ok(path.and_then(|path| path.parse().ok()));
        }
        let at = name_path(folder);
        let stored = self.store.get(&at).await?.unwrap_or_default();
        let text = std::str::from_utf8(&stored).ok();
        let sensor = text.and_then(|text| text.trim_end().parse::<SensorId>().ok());
        match sensor {
            Some(sensor) if path == Some(&sensor.path()) => Ok(Some(sensor)),
            _ => Err(RepositoryError::Unnamed { path: at }),
        }
    }

    /// Returns the version that scores the sensor, or `None` if it has no model.
    pub async fn current(&self, sensor: &SensorId) -> Result<Option<String>, RepositoryError> {
        match self.read_current(sensor).await? {
            Some((Some(version), _)) => Ok(Some(version)),
            Some((None, _)) => Err(RepositoryError::Current {
                path: current_path(sensor),
            }),
            None => Ok(None),
        }
    }

    /// Reads `current` for a conditional write; the version in it is `None` if it names none.
    async fn read_current(
        &self,
        sensor: &SensorId,
    ) -> Result<Option<(Option<String>, Version)>, RepositoryError> {
        let Some((bytes, stored)) = self.store.get_versioned(&current_path(sensor)).await? else {
            return Ok(None);
        };
        let text = std::str::from_utf8(bytes.strip_suffix(b"\n").unwrap_or(&bytes));
        let version = text.ok().filter(|text| is_version(text)).map(str::to_owned);
        Ok(Some((version, stored)))
    }

    /// Loads one version of the sensor's model.
    pub async fn load(&self, sensor: &SensorId, version: &str) -> Result<Model, RepositoryError> {
        Ok(self.load_with_bytes(sensor, version).await?.0)
    }

    /// Loads one version, and returns the bytes of its file too.
    async fn load_with_bytes(
        &self,
        sensor: &SensorId,
        version: &str,
    ) -> Result<(Model, Vec<u8>), RepositoryError> {
        let path = model_path(sensor, version);
        let missing = || RepositoryError::Missing {
            sensor: sensor.clone(),
            version: version.to_owned(),
            path: path.clone(),
        };
        if !is_version(version) {
            return Err(missing());
        }
        let bytes = self.store.get(&path).await?.ok_or_else(missing)?;
        let model = Model::from_bytes(&bytes).map_err(|source| RepositoryError::Damaged {
            path: path.clone(),
            source,
        })?;
        match version_of(&bytes) {
            found if found == version => Ok((model, bytes.into())),
            found => Err(RepositoryError::Misnamed { path, found }),
        }
    }

    /// Returns the sensor's stored versions, the oldest first.
    pub async fn versions(&self, sensor: &SensorId) -> Result<Vec<String>, RepositoryError> {
        let mut files = self.files(sensor).await?.models;
        files.sort_by(|a, b| (a.modified, &a.version).cmp(&(b.modified, &b.version)));
        Ok(files.into_iter().map(|file| file.version).collect())
    }
}

fn folder(sensor: &SensorId) -> String {
    format!("{PREFIX}/{}", sensor.path())
}

fn name_path(folder: &str) -> String {
    format!("{folder}/sensor")
}

fn model_path(sensor: &SensorId, version: &str) -> String {
    format!("{}/{version}.model", folder(sensor))
}

/// Returns a record as indented JSON, which people read too.
fn json(path: &str, record: &impl Serialize) -> Result<Vec<u8>, RepositoryError> {
    let mut bytes = serde_json::to_vec_pretty(record).map_err(|error| RepositoryError::NoJson {
        path: path.to_owned(),
        why: error.to_string(),
    })?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn current_path(sensor: &SensorId) -> String {
    format!("{}/current", folder(sensor))
}

fn is_version(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests;
