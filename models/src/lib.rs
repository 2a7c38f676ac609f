//! Models in a store, by sensor.
//!
//! `models/<device>/<tag>/<version>.model` never changes once written; `models/<device>/<tag>/current` names the
//! version that scores.

use futures::{StreamExt, TryStreamExt};
use windrow_common::{EventTime, HasRemedy, Remedy, SensorId};
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
            Self::Store(error) => matches!(
                error,
                StoreError::Damaged { .. } | StoreError::TooLarge { .. } | StoreError::OtherCase { .. }
            ),
            _ => true,
        }
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
        let mut entries = self.entries(&format!("{PREFIX}/{sensor}")).await?;
        entries.sort_by(|a, b| (a.modified, &a.version).cmp(&(b.modified, &b.version)));
        Ok(entries.into_iter().map(|entry| entry.version).collect())
    }

    /// Returns every stored model, ordered by sensor.
    pub async fn list(&self) -> Result<Vec<ModelEntry>, RepositoryError> {
        let mut entries = self.entries(PREFIX).await?;
        let mut sensors: Vec<SensorId> = entries.iter().map(|entry| entry.sensor.clone()).collect();
        sensors.sort();
        sensors.dedup();
        let current = futures::stream::iter(sensors)
            .map(|sensor| async move { self.current(&sensor).await.map(|current| (sensor, current)) })
            .buffered(READS_IN_FLIGHT);
        let current: Vec<(SensorId, Option<String>)> = current.try_collect().await?;
        for entry in &mut entries {
            let at = current.binary_search_by(|(sensor, _)| sensor.cmp(&entry.sensor));
            let version = at.ok().and_then(|at| current[at].1.as_deref());
            entry.current = version == Some(&entry.version);
        }
        entries.sort_by(|a, b| (&a.sensor, a.modified, &a.version).cmp(&(&b.sensor, b.modified, &b.version)));
        Ok(entries)
    }

    /// Returns the files under `prefix` that have a model's name; files of people or other programs are ignored.
    async fn entries(&self, prefix: &str) -> Result<Vec<ModelEntry>, RepositoryError> {
        let blobs = self.store.list(prefix).await?;
        let entry = |blob: windrow_store::Blob| {
            let (sensor, file) = blob
                .path
                .strip_prefix(PREFIX)?
                .strip_prefix('/')?
                .rsplit_once('/')?;
            let version = file
                .strip_suffix(".model")
                .filter(|version| is_version(version))?;
            Some(ModelEntry {
                sensor: sensor.parse().ok()?,
                version: version.to_owned(),
                current: false,
                bytes: blob.bytes,
                modified: blob.modified,
            })
        };
        Ok(blobs.into_iter().filter_map(entry).collect())
    }
}

fn model_path(sensor: &SensorId, version: &str) -> String {
    format!("{PREFIX}/{sensor}/{version}.model")
}

fn current_path(sensor: &SensorId) -> String {
    format!("{PREFIX}/{sensor}/current")
}

fn is_version(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use windrow_model::{Kernel, OneClassSvm};

    fn model(intercept: f64) -> Model {
        let svm = OneClassSvm::new(1, vec![1.0], vec![1.0], intercept, Kernel::Rbf { gamma: 1.0 }).unwrap();
        Model::new("mean".parse().unwrap(), None, svm, "test").unwrap()
    }

    fn repository() -> (ModelRepository, Store, SensorId) {
        let store = Store::create("memory:///").unwrap();
        (
            ModelRepository::new(store.clone()),
            store,
            SensorId::new("pump-7/a", "temp").unwrap(),
        )
    }

    #[tokio::test]
    async fn the_last_model_put_is_current_and_all_stay_readable() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::create(folder.path().to_str().unwrap()).unwrap();
        let (repository, sensor) = (
            ModelRepository::new(store),
            SensorId::new("pump-7/a", "temp").unwrap(),
        );
        assert_eq!(repository.current(&sensor).await.unwrap(), None);
        let first = repository.put(&sensor, &model(-0.5)).await.unwrap();
        let second = repository.put(&sensor, &model(-0.25)).await.unwrap();
        assert_eq!(repository.current(&sensor).await.unwrap(), Some(second.clone()));
        assert_eq!(repository.load(&sensor, &first).await.unwrap(), model(-0.5));
        assert_eq!(repository.load(&sensor, &second).await.unwrap(), model(-0.25));
        let mut versions = repository.versions(&sensor).await.unwrap();
        versions.sort();
        let mut both = [first, second];
        both.sort();
        assert_eq!(versions, both);
        let current = folder.path().join("models/pump-7%2Fa/temp/current");
        assert_eq!(std::fs::read_to_string(current).unwrap().len(), 17);
    }

    #[tokio::test]
    async fn putting_a_model_twice_is_putting_it_once() {
        let (repository, store, sensor) = repository();
        let first = repository.put(&sensor, &model(-0.5)).await.unwrap();
        let before = store.list("models").await.unwrap();
        let again = repository.put(&sensor, &model(-0.5)).await.unwrap();
        let after = store.list("models").await.unwrap();
        assert_eq!(first, again);
        let stamps = |blobs: &[windrow_store::Blob]| -> Vec<_> {
            blobs
                .iter()
                .map(|blob| (blob.path.clone(), blob.modified))
                .collect()
        };
        assert_eq!(stamps(&before), stamps(&after));
    }

    #[tokio::test]
    async fn the_list_names_every_sensor_and_its_current_version() {
        let (repository, store, sensor) = repository();
        let other = SensorId::new("a", "b").unwrap();
        let first = repository.put(&sensor, &model(-0.5)).await.unwrap();
        let second = repository.put(&sensor, &model(-0.25)).await.unwrap();
        let third = repository.put(&other, &model(-0.125)).await.unwrap();
        store.put("models/README.txt", "not a model").await.unwrap();
        let listed = repository.list().await.unwrap();
        let mut listed: Vec<_> = listed
            .into_iter()
            .map(|entry| (entry.sensor, entry.version, entry.current))
            .collect();
        listed.sort();
        let mut expected = vec![
            (sensor.clone(), first, false),
            (sensor, second, true),
            (other, third, true),
        ];
        expected.sort();
        assert_eq!(listed, expected);
    }

    #[tokio::test]
    async fn missing_and_damaged_models_name_the_file() {
        let (repository, store, sensor) = repository();
        let version = repository.put(&sensor, &model(-0.5)).await.unwrap();
        for absent in ["0123456789abcdef", "../../secrets", ""] {
            let error = repository.load(&sensor, absent).await.unwrap_err();
            assert!(matches!(error, RepositoryError::Missing { .. }), "{error}");
        }
        let path = model_path(&sensor, &version);
        store.put(&path, "WNDM?").await.unwrap();
        let error = repository.load(&sensor, &version).await.unwrap_err();
        assert!(
            error.remedy() != Remedy::Wait && error.to_string().contains(&path),
            "{error}"
        );
        store.put(&path, model(-0.75).to_bytes().unwrap()).await.unwrap();
        let error = repository.load(&sensor, &version).await.unwrap_err();
        assert!(matches!(error, RepositoryError::Misnamed { .. }), "{error}");
        store.put(&current_path(&sensor), "latest").await.unwrap();
        let error = repository.current(&sensor).await.unwrap_err();
        assert!(
            error.to_string().contains("models/pump-7%2Fa/temp/current"),
            "{error}"
        );

        repository.put(&sensor, &model(-0.5)).await.unwrap();
        assert_eq!(repository.load(&sensor, &version).await.unwrap(), model(-0.5));
        assert_eq!(repository.current(&sensor).await.unwrap(), Some(version));
    }
}
