//! Which version is current: changed by conditional write of `current`, then recorded (see `registry.rs`).

use futures::try_join;
use windrow_common::{EventTime, SensorId};
use windrow_model::{Model, version_of};
use windrow_store::{StoreError, Version};

use crate::metadata::Metadata;
use crate::registry::{PromotedBy, Promotion, Registry};
use crate::{ATTEMPTS, ModelRepository, RepositoryError, current_path, folder};

/// How a change treats pinned sensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pins {
    /// A pinned sensor keeps its version.
    Respect,
    /// A pinned sensor gets the new version, and is pinned to it.
    Override,
}

/// What to do with a new model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// It becomes current; for a pinned sensor under [`Pins::Respect`], the candidate.
    Promote(Pins),
    /// It becomes the candidate: the version that waits to be promoted.
    Candidate,
}

/// What a promotion did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Promoted {
    /// The version is current now, instead of `replaced`.
    Now {
        /// What was current before; `None` if nothing was.
        replaced: Option<String>,
    },
    /// The version was current already.
    Already,
    /// Nothing: the sensor is pinned.
    Pinned,
}

/// A model that was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Released {
    /// Its version.
    pub version: String,
    /// What its promotion did; `None` if it was not to be promoted.
    pub promoted: Option<Promoted>,
}

/// How far to go back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Back {
    /// To the version before the current one.
    Previous,
    /// To the version that was current before the first promotion at or after this time.
    Before(EventTime),
}

/// What a rollback did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RolledBack {
    /// The version is current again, instead of `replaced`.
    To {
        /// The version.
        version: String,
        /// What was current before.
        replaced: String,
    },
    /// Nothing: no earlier version is recorded, or none was promoted since the time.
    Nothing,
    /// Nothing: the sensor is pinned.
    Pinned,
}

/// What was read of a sensor, with the versions of both blobs.
struct State {
    current: Option<String>,
    current_read: Option<Version>,
    registry: Registry,
    registry_read: Option<Version>,
}

fn registry_path(sensor: &SensorId) -> String {
    format!("{}/registry.json", folder(sensor))
}

impl ModelRepository {
    /// Stores a model with what is known of it, and promotes it or makes it the candidate.
    ///
    /// `current` is written after the model and its metadata, so that it never names a model that does not exist.
    pub async fn release(
        &self,
        sensor: &SensorId,
        model: &Model,
        metadata: Option<&Metadata>,
        by: PromotedBy,
        release: Release,
    ) -> Result<Released, RepositoryError> {
        let bytes = model.to_bytes().map_err(|source| RepositoryError::Encode {
            sensor: sensor.clone(),
            source,
        })?;
        let version = version_of(&bytes);
        // First, so that no model is without the name of its sensor.
        self.put_name(sensor).await?;
        let (was_stored, (), state) = try_join!(
            self.put_model(sensor, &version, bytes.clone()),
            self.put_metadata(sensor, &version, metadata),
            self.state(sensor),
        )?;
        let Release::Promote(pins) = release else {
            self.nominate(sensor, &version, state).await?;
            return Ok(Released {
                version,
                promoted: None,
            });
        };
        let promoted = self.replace(sensor, &version, by, pins, state).await?;
        if promoted == Promoted::Pinned {
            let state = self.state(sensor).await?;
            self.nominate(sensor, &version, state).await?;
        }
        // A file that was just written is too young to be deleted.
        if was_stored {
            self.restore(sensor, &version, &promoted, bytes).await?;
        }
        Ok(Released {
            version,
            promoted: Some(promoted),
        })
    }

    /// Makes a stored version current, after it has been read as a worker reads it.
    pub async fn promote(
        &self,
        sensor: &SensorId,
        version: &str,
        pins: Pins,
    ) -> Result<Promoted, RepositoryError> {
        let (_, bytes) = self.load_with_bytes(sensor, version).await?;
        let state = self.state(sensor).await?;
        let promoted = self
            .replace(sensor, version, PromotedBy::Promote, pins, state)
            .await?;
        self.restore(sensor, version, &promoted, bytes).await?;
        Ok(promoted)
    }

    /// Writes a version again if it was deleted while it was promoted. [`ModelRepository::collect`] deletes and then looks at
    /// `current`, and a promotion writes `current` and then looks at the file: one of the two sees the other.
    async fn restore(
        &self,
        sensor: &SensorId,
        version: &str,
        promoted: &Promoted,
        bytes: impl Into<Vec<u8>>,
    ) -> Result<(), RepositoryError> {
        let path = crate::model_path(sensor, version);
        if matches!(promoted, Promoted::Now { .. }) && self.store.get(&path).await?.is_none() {
            self.store.put(&path, bytes.into()).await?;
        }
        Ok(())
    }

    /// Makes an earlier version current again. Fails if another command promotes at the same time, because it is then
    /// unclear which version to go back from.
    pub async fn roll_back(
        &self,
        sensor: &SensorId,
        back: Back,
        pins: Pins,
    ) -> Result<RolledBack, RepositoryError> {
        let state = self.state(sensor).await?;
        self.roll_back_from(sensor, back, pins, state).await
    }

    async fn roll_back_from(
        &self,
        sensor: &SensorId,
        back: Back,
        pins: Pins,
        mut state: State,
    ) -> Result<RolledBack, RepositoryError> {
        let Some(replaced) = state.current.clone() else {
            return Ok(RolledBack::Nothing);
        };
        state.registry.catch_up(&replaced, EventTime::now());
        let version = match back {
            Back::Previous => state.registry.previous(),
            Back::Before(time) => state.registry.before(time),
        };
        let Some(version) = version.filter(|version| *version != replaced).map(str::to_owned) else {
            return Ok(RolledBack::Nothing);
        };
        if pins == Pins::Respect && state.registry.pinned.is_some() {
            return Ok(RolledBack::Pinned);
        }
        let (_, bytes) = self.load_with_bytes(sensor, &version).await?;
        match self.write_current(sensor, &version, &state).await {
            Err(RepositoryError::Store(StoreError::Conflict { .. })) => {
                return Err(RepositoryError::Changed {
                    sensor: sensor.clone(),
                });
            }
            written => written?,
        }
        let promotion = Promotion {
            at: EventTime::now(),
            version: version.clone(),
            replaced: Some(replaced.clone()),
            by: PromotedBy::Rollback,
        };
        self.record(sensor, promotion, None).await?;
        let replaced_now = Promoted::Now {
            replaced: Some(replaced.clone()),
        };
        self.restore(sensor, &version, &replaced_now, bytes).await?;
        Ok(RolledBack::To { version, replaced })
    }

    /// Pins the sensor to its current version. Returns that version, or `None` if the sensor has none.
    pub async fn pin(&self, sensor: &SensorId) -> Result<Option<String>, RepositoryError> {
        let state = self.state(sensor).await?;
        let Some(current) = state.current.clone() else {
            return Ok(None);
        };
        let now = EventTime::now();
        self.change_registry(sensor, Some(state), |registry| {
            registry.catch_up(&current, now);
            registry.pinned.get_or_insert(now);
        })
        .await?;
        // A promotion that was decided before the pin may have ended after it.
        self.current(sensor).await
    }

    /// Releases the sensor's pin. Returns whether there was one.
    pub async fn unpin(&self, sensor: &SensorId) -> Result<bool, RepositoryError> {
        let mut was_pinned = false;
        self.change_registry(sensor, None, |registry| {
            was_pinned = registry.pinned.take().is_some();
        })
        .await?;
        Ok(was_pinned)
    }

    /// Returns what is recorded of the sensor's versions.
    pub async fn registry(&self, sensor: &SensorId) -> Result<Registry, RepositoryError> {
        Ok(self.read_registry(sensor).await?.0)
    }

    /// Makes a stored version the candidate, unless it is current.
    async fn nominate(&self, sensor: &SensorId, version: &str, state: State) -> Result<(), RepositoryError> {
        if state.current.as_deref() == Some(version) {
            return Ok(());
        }
        let candidate = |registry: &mut Registry| registry.candidate = Some(version.to_owned());
        self.change_registry(sensor, Some(state), candidate).await
    }

    /// Makes a version current. If another command changes `current` at the same time, decides again on what it wrote.
    async fn replace(
        &self,
        sensor: &SensorId,
        version: &str,
        by: PromotedBy,
        pins: Pins,
        mut state: State,
    ) -> Result<Promoted, RepositoryError> {
        for _ in 0..ATTEMPTS {
            if state.current.as_deref() == Some(version) {
                let now = EventTime::now();
                self.change_registry(sensor, Some(state), |registry| {
                    registry.catch_up(version, now);
                    registry.candidate.take_if(|candidate| candidate == version);
                })
                .await?;
                return Ok(Promoted::Already);
            }
            if pins == Pins::Respect && state.registry.pinned.is_some() {
                return Ok(Promoted::Pinned);
            }
            match self.write_current(sensor, version, &state).await {
                Ok(()) => {
                    let replaced = state.current.clone();
                    let promotion = Promotion {
                        at: EventTime::now(),
                        version: version.to_owned(),
                        replaced: replaced.clone(),
                        by,
                    };
                    self.record(sensor, promotion, Some(state)).await?;
                    return Ok(Promoted::Now { replaced });
                }
                Err(RepositoryError::Store(StoreError::Conflict { .. })) => {
                    state = self.state(sensor).await?;
                }
                Err(error) => return Err(error),
            }
        }
        Err(RepositoryError::Contended {
            path: current_path(sensor),
        })
    }

    async fn write_current(
        &self,
        sensor: &SensorId,
        version: &str,
        state: &State,
    ) -> Result<(), RepositoryError> {
        let (path, line) = (current_path(sensor), format!("{version}\n"));
        self.store
            .put_if(&path, line, state.current_read.as_ref())
            .await?;
        Ok(())
    }

    async fn record(
        &self,
        sensor: &SensorId,
        promotion: Promotion,
        read: Option<State>,
    ) -> Result<(), RepositoryError> {
        let record = |registry: &mut Registry| registry.record(promotion.clone());
        self.change_registry(sensor, read, record).await
    }

    /// Changes the registry by conditional write, beginning with what was `read` already. Repeats the change on what
    /// another command has written in the meantime.
    async fn change_registry(
        &self,
        sensor: &SensorId,
        read: Option<State>,
        mut change: impl FnMut(&mut Registry),
    ) -> Result<(), RepositoryError> {
        let path = registry_path(sensor);
        let mut read = read.map(|state| (state.registry, state.registry_read));
        for _ in 0..ATTEMPTS {
            let (before, version) = match read.take() {
                Some(read) => read,
                None => self.read_registry(sensor).await?,
            };
            let mut registry = before.clone();
            change(&mut registry);
            if registry == before {
                return Ok(());
            }
            let bytes = crate::json(&path, &registry)?;
            match self.store.put_if(&path, bytes, version.as_ref()).await {
                Ok(_) => return Ok(()),
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(RepositoryError::Contended { path })
    }

    async fn state(&self, sensor: &SensorId) -> Result<State, RepositoryError> {
        let (current, (registry, registry_read)) =
            try_join!(self.read_current(sensor), self.read_registry(sensor))?;
        let (current, current_read) = match current {
            // A blob that names no version is replaced like any other.
            Some((current, read)) => (current, Some(read)),
            None => (None, None),
        };
        Ok(State {
            current,
            current_read,
            registry,
            registry_read,
        })
    }

    async fn read_registry(&self, sensor: &SensorId) -> Result<(Registry, Option<Version>), RepositoryError> {
        let path = registry_path(sensor);
        let Some((bytes, version)) = self.store.get_versioned(&path).await? else {
            return Ok((Registry::default(), None));
        };
        match serde_json::from_slice(&bytes) {
            Ok(registry) => Ok((registry, Some(version))),
            Err(error) => Err(RepositoryError::NotJson {
                path,
                why: error.to_string(),
            }),
        }
    }
}

#[cfg(test)]
mod tests;
