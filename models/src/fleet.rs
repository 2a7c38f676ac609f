//! The models of all sensors, from one listing.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt};
use windrow_common::{EventTime, GROUP_TAG, SensorId, encode_segment};
use windrow_store::Blob;

use crate::{ModelRepository, PREFIX, READS_IN_FLIGHT, Registry, RepositoryError, folder, is_version};

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

/// The models of a sensor, and what is recorded of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SensorModels {
    /// The sensor.
    pub sensor: SensorId,
    /// Its models, the oldest first.
    pub models: Vec<ModelEntry>,
    /// The version that scores; `None` if there is none, or none yet.
    pub current: Option<String>,
    /// What was current before, and what may become it.
    pub registry: Registry,
}

/// The blobs of a sensor that are named like a version.
#[derive(Debug, Default)]
pub(crate) struct Files {
    /// The `.model` files.
    pub(crate) models: Vec<File>,
    /// What is known of them: the `.json` files.
    pub(crate) metadata: Vec<File>,
    /// Whether there is a `registry.json`.
    pub(crate) has_registry: bool,
}

/// A blob that is named like a version.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) version: String,
    pub(crate) bytes: u64,
    pub(crate) modified: EventTime,
}

impl ModelRepository {
    /// Returns every stored model, ordered by sensor.
    pub async fn list(&self) -> Result<Vec<ModelEntry>, RepositoryError> {
        let of_sensors = futures::stream::iter(self.folders().await?)
            .map(|(folder, files)| async move {
                let Some(sensor) = self.sensor_of(&folder).await? else {
                    return Ok::<_, RepositoryError>(Vec::new());
                };
                let current = self.current(&sensor).await?;
                Ok(entries(&sensor, files, current.as_deref()))
            })
            .buffered(READS_IN_FLIGHT);
        let mut entries: Vec<ModelEntry> = of_sensors.try_concat().await?;
        entries.sort_by(|a, b| (&a.sensor, a.modified, &a.version).cmp(&(&b.sensor, b.modified, &b.version)));
        Ok(entries)
    }

    /// Returns the models of every sensor with what is recorded of them, ordered by sensor.
    pub async fn sensors(&self) -> Result<Vec<SensorModels>, RepositoryError> {
        let of_sensors = futures::stream::iter(self.folders().await?)
            .map(|(folder, files)| async move {
                let sensor = self.sensor_of(&folder).await?;
                match sensor {
                    Some(sensor) => self.of_files(sensor, files).await.map(Some),
                    None => Ok(None),
                }
            })
            .buffered(READS_IN_FLIGHT)
            .try_filter_map(|of_sensor| async move { Ok(of_sensor) });
        let mut sensors: Vec<SensorModels> = of_sensors.try_collect().await?;
        sensors.sort_by(|a, b| a.sensor.cmp(&b.sensor));
        Ok(sensors)
    }

    /// Returns the sensors that stand for several tags of a device and have a current model, each with its version, ordered by
    /// device.
    pub async fn groups(&self) -> Result<Vec<(SensorId, String)>, RepositoryError> {
        let current = format!("/{}/current", encode_segment(GROUP_TAG));
        let listed = self.store.list(PREFIX).await?;
        let folders = listed.iter().filter_map(|blob| {
            let folder = blob.path.strip_suffix("/current")?;
            blob.path.ends_with(&current).then(|| folder.to_owned())
        });
        let reads: Vec<_> = folders.map(|folder| self.current_in(folder)).collect();
        let current: Vec<Option<_>> = futures::stream::iter(reads)
            .buffered(READS_IN_FLIGHT)
            .try_collect()
            .await?;
        let mut groups: Vec<_> = current.into_iter().flatten().collect();
        groups.sort();
        Ok(groups)
    }

    /// Returns the sensor of a folder and the version that scores it; `None` if there is none.
    async fn current_in(&self, folder: String) -> Result<Option<(SensorId, String)>, RepositoryError> {
        let Some(sensor) = self.sensor_of(&folder).await? else {
            return Ok(None);
        };
        let version = self.current(&sensor).await?;
        Ok(version.map(|version| (sensor, version)))
    }

    /// Returns the models of one sensor with what is recorded of them; `None` if it has none.
    pub async fn sensor(&self, sensor: &SensorId) -> Result<Option<SensorModels>, RepositoryError> {
        let files = self.files(sensor).await?;
        if files.models.is_empty() {
            return Ok(None);
        }
        self.of_files(sensor.clone(), files).await.map(Some)
    }

    async fn of_files(&self, sensor: SensorId, files: Files) -> Result<SensorModels, RepositoryError> {
        let has_registry = files.has_registry;
        let current = self.current(&sensor).await?;
        // Most sensors of an old store have no registry, and skipping them saves up to a million reads.
        let mut registry = match has_registry {
            true => self.registry(&sensor).await?,
            false => Registry::default(),
        };
        if let Some(current) = &current {
            registry.catch_up(current, EventTime::now());
        }
        Ok(SensorModels {
            models: entries(&sensor, files, current.as_deref()),
            sensor,
            current,
            registry,
        })
    }

    /// Returns the files in one sensor's folder.
    pub(crate) async fn files(&self, sensor: &SensorId) -> Result<Files, RepositoryError> {
        let mut files = Files::default();
        for blob in self.store.list(&folder(sensor)).await? {
            files.add(&blob);
        }
        Ok(files)
    }

    /// Returns the files in the folder of each sensor; those of people or other programs are ignored.
    pub(crate) async fn folders(&self) -> Result<BTreeMap<String, Files>, RepositoryError> {
        let mut folders: BTreeMap<String, Files> = BTreeMap::new();
        for blob in self.store.list(PREFIX).await? {
            if let Some((folder, _)) = blob.path.rsplit_once('/') {
                folders.entry(folder.to_owned()).or_default().add(&blob);
            }
        }
        folders.retain(|_, files| !files.models.is_empty() || !files.metadata.is_empty());
        Ok(folders)
    }
}

impl Files {
    fn add(&mut self, blob: &Blob) {
        let name = blob.path.rsplit_once('/').map_or(&*blob.path, |(_, name)| name);
        self.has_registry |= name == "registry.json";
        let (version, of_kind) = match name.rsplit_once('.') {
            Some((version, "model")) => (version, &mut self.models),
            Some((version, "json")) => (version, &mut self.metadata),
            _ => return,
        };
        if is_version(version) {
            of_kind.push(File {
                version: version.to_owned(),
                bytes: blob.bytes,
                modified: blob.modified,
            });
        }
    }
}

fn entries(sensor: &SensorId, files: Files, current: Option<&str>) -> Vec<ModelEntry> {
    let entry = |file: File| ModelEntry {
        sensor: sensor.clone(),
        current: current == Some(&file.version),
        version: file.version,
        bytes: file.bytes,
        modified: file.modified,
    };
    let mut entries: Vec<ModelEntry> = files.models.into_iter().map(entry).collect();
    entries.sort_by(|a, b| (a.modified, &a.version).cmp(&(b.modified, &b.version)));
    entries
}
