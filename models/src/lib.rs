//! Models in a store, by sensor.
//!
//! `models/<device>/<tag>/<version>.model` never changes once written; `models/<device>/<tag>/current` names the
//! version that scores. If a name is too long for a path and was shortened, `models/<device>/<tag>/sensor` holds the
//! sensor's text.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt};
use windrow_common::{EventTime, HasRemedy, Remedy, SensorId, is_shortened};
use windrow_store::{Store, StoreError};

use windrow_model::{FormatError, Model, version_of};

const PREFIX: &str = "models";

/// How many `current` blobs to read at once when listing all models.
const READS_IN_FLIGHT: usize = 16;

/// A repository that holds the models of a store.
#[derive(Clone, Debug)]
pub struct ModelRepository {
    store: Store,
}

/// A model in a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelEntry {
    /// The sensor it scores.
    pub sensor: SensorId,
    /// Its version.
    pub version: String,
    /// Whether it is the version that scores.
    pub current: bool,
    /// Size of its file, in bytes.
    pub bytes: u64,
    /// When it was stored.
    pub modified: EventTime,
}

/// An error from the models of a store.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    /// The version does not exist.
    #[error("{sensor} has no model of version {version}: {path} does not exist")]
    Missing {
        /// The sensor.
        sensor: SensorId,
        /// The version that was asked for.
        version: String,
        /// The path of the missing file.
        path: String,
    },
    /// The file exists but is not a usable model.
    #[error("{path} cannot be used: {source}")]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong with it.
        source: FormatError,
    },
    /// The file holds a model of another version.
    #[error("{path} holds a model of version {found}: restore the file, or import the model again")]
    Misnamed {
        /// The file.
        path: String,
        /// The version that it holds.
        found: String,
    },
    /// The `current` blob does not name a version.
    #[error("{path} does not name a version (16 hexadecimal digits): import or train the model again")]
    Current {
        /// The blob.
        path: String,
    },
    /// The blob that holds the name of a sensor with a shortened path is missing or names another sensor.
    #[error("{path} does not name the sensor whose models are beside it: import or train its model again")]
    Unnamed {
        /// The blob.
        path: String,
    },
    /// The model cannot be written as a file.
    #[error("the model of {sensor} cannot be stored: {source}")]
    Encode {
        /// The sensor it scores.
        sensor: SensorId,
        /// What is wrong with it.
        source: FormatError,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl HasRemedy for RepositoryError {
    fn remedy(&self) -> Remedy {
        match self {
            Self::Store(error) => error.remedy(),
            _ => Remedy::GiveUp,
        }
    }
}

impl RepositoryError {
    /// Returns whether the error affects one model only.
    ///
    /// When the whole store refuses (missing rights, a wrong URL), every message would fail in the same way, and a
    /// person has to repair the store first.
    pub fn is_of_one_model(&self) -> bool {
        match self {
            Self::Store(error) => error.is_of_one_blob(),
            _ => true,
        }
    }

    /// Returns whether the model was moved to a tier from which it cannot be read.
    pub fn is_archived(&self) -> bool {
        matches!(self, Self::Store(StoreError::Archived { .. }))
    }
}

impl ModelRepository {
    /// Creates a repository of the models in `store`.
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    /// Stores a model, makes it the sensor's current one, and returns its version.
    ///
    /// Storing the same model twice has the effect of storing it once.
    pub async fn put(&self, sensor: &SensorId, model: &Model) -> Result<String, RepositoryError> {
        let bytes = model.to_bytes().map_err(|source| RepositoryError::Encode {
            sensor: sensor.clone(),
            source,
        })?;
        let version = version_of(&bytes);
        // First, so that no model is without the name of its sensor.
        self.put_name(sensor).await?;
        let path = model_path(sensor, &version);
        match self.store.put_if(&path, bytes.clone(), None).await {
            Ok(_) => {}
            // The name is a hash of the contents, so the model is already stored. If it was damaged since, this repairs
            // it.
            Err(StoreError::Conflict { .. }) => {
                if self.store.get(&path).await?.is_none_or(|stored| stored != bytes) {
                    self.store.put(&path, bytes).await?;
                }
            }
            Err(error) => return Err(error.into()),
        }
        // Last, so that `current` never names a model that does not exist.
        let current = self.current(sensor).await;
        if !matches!(&current, Ok(Some(current)) if *current == version) {
            self.store
                .put(&current_path(sensor), format!("{version}\n"))
                .await?;
        }
        Ok(version)
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
        let path = current_path(sensor);
        let Some(bytes) = self.store.get(&path).await? else {
            return Ok(None);
        };
        let text = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        match std::str::from_utf8(text) {
            Ok(version) if is_version(version) => Ok(Some(version.to_owned())),
            _ => Err(RepositoryError::Current { path }),
        }
    }

    /// Loads one version of the sensor's model.
    pub async fn load(&self, sensor: &SensorId, version: &str) -> Result<Model, RepositoryError> {
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
            found if found == version => Ok(model),
            found => Err(RepositoryError::Misnamed { path, found }),
        }
    }

    /// Returns the sensor's stored versions, the oldest first.
    pub async fn versions(&self, sensor: &SensorId) -> Result<Vec<String>, RepositoryError> {
        let mut files = self.files(&folder(sensor)).await?;
        files.sort_by(|a, b| (a.modified, &a.version).cmp(&(b.modified, &b.version)));
        Ok(files.into_iter().map(|file| file.version).collect())
    }

    /// Returns every stored model, ordered by sensor.
    pub async fn list(&self) -> Result<Vec<ModelEntry>, RepositoryError> {
        let mut files: BTreeMap<String, Vec<File>> = BTreeMap::new();
        for file in self.files(PREFIX).await? {
            files.entry(file.folder.clone()).or_default().push(file);
        }
        let of_sensors = futures::stream::iter(files)
            .map(|(folder, files)| async move { self.entries(&folder, files).await })
            .buffered(READS_IN_FLIGHT);
        let mut entries: Vec<ModelEntry> = of_sensors.try_concat().await?;
        entries.sort_by(|a, b| (&a.sensor, a.modified, &a.version).cmp(&(&b.sensor, b.modified, &b.version)));
        Ok(entries)
    }

    /// Returns the models in a sensor's folder.
    async fn entries(&self, folder: &str, files: Vec<File>) -> Result<Vec<ModelEntry>, RepositoryError> {
        let Some(sensor) = self.sensor_of(folder).await? else {
            return Ok(Vec::new());
        };
        let current = self.current(&sensor).await?;
        let entries = files.into_iter().map(|file| ModelEntry {
            sensor: sensor.clone(),
            current: current.as_ref() == Some(&file.version),
            version: file.version,
            bytes: file.bytes,
            modified: file.modified,
        });
        Ok(entries.collect())
    }

    /// Returns the files under `prefix` that have a model's name; files of people or other programs are ignored.
    async fn files(&self, prefix: &str) -> Result<Vec<File>, RepositoryError> {
        let blobs = self.store.list(prefix).await?;
        let file = |blob: windrow_store::Blob| {
            let (folder, name) = blob.path.rsplit_once('/')?;
            let version = name
                .strip_suffix(".model")
                .filter(|version| is_version(version))?;
            Some(File {
                folder: folder.to_owned(),
                version: version.to_owned(),
                bytes: blob.bytes,
                modified: blob.modified,
            })
        };
        Ok(blobs.into_iter().filter_map(file).collect())
    }
}

/// A file with a model's name.
struct File {
    folder: String,
    version: String,
    bytes: u64,
    modified: EventTime,
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

fn current_path(sensor: &SensorId) -> String {
    format!("{}/current", folder(sensor))
}

fn is_version(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests;
