//! Versions that are scored beside the current ones, for all sensors: `models/.shadows.json`.
//!
//! One blob for the fleet, and not a blob or a line beside each `current`: a worker has to learn that a sensor has a shadow
//! without another read for each sensor and refresh, and most fleets have no shadow at all. It reads this blob once for each
//! `--model-refresh`, whatever the number of sensors. Older workers read exactly one version from `current`, so a second
//! line there would stop them. The shadows of a million sensors take 45 MB of JSON. One conditional write sets or ends
//! all of them.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use windrow_common::SensorId;
use windrow_store::StoreError;

use crate::{ATTEMPTS, ModelRepository, RepositoryError, is_version};

/// No device is stored under a name that begins with a dot.
const PATH: &str = "models/.shadows.json";

/// The shadow versions, by sensor.
pub type Shadows = HashMap<SensorId, Arc<str>>;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Stored {
    sensors: BTreeMap<String, String>,
}

impl ModelRepository {
    /// Reads the shadow version of every sensor that has one.
    pub async fn shadows(&self) -> Result<Shadows, RepositoryError> {
        match self.store.get(PATH).await? {
            Some(bytes) => parse(&bytes),
            None => Ok(Shadows::new()),
        }
    }

    /// Changes the shadow versions, and returns the result of `change`. If another command writes at the same time,
    /// calls `change` again on what that command wrote.
    pub async fn change_shadows<T>(
        &self,
        mut change: impl FnMut(&mut Shadows) -> T,
    ) -> Result<T, RepositoryError> {
        for _ in 0..ATTEMPTS {
            let stored = self.store.get_versioned(PATH).await?;
            let before = match &stored {
                Some((bytes, _)) => parse(bytes)?,
                None => Shadows::new(),
            };
            let mut shadows = before.clone();
            let changed = change(&mut shadows);
            if shadows == before {
                return Ok(changed);
            }
            let sensors = shadows.iter();
            let sensors = sensors.map(|(sensor, version)| (sensor.to_string(), version.to_string()));
            let bytes = crate::json(
                PATH,
                &Stored {
                    sensors: sensors.collect(),
                },
            )?;
            let version = stored.as_ref().map(|(_, version)| version);
            match self.store.put_if(PATH, bytes, version).await {
                Ok(_) => return Ok(changed),
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(RepositoryError::Contended {
            path: PATH.to_owned(),
        })
    }
}

fn parse(bytes: &[u8]) -> Result<Shadows, RepositoryError> {
    let damaged = |why: String| RepositoryError::NotJson {
        path: PATH.to_owned(),
        why,
    };
    let stored: Stored = serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
    let parsed = stored.sensors.into_iter().map(|(sensor, version)| {
        let sensor: SensorId = sensor
            .parse()
            .map_err(|error| damaged(format!("`{sensor}`: {error}")))?;
        match is_version(&version) {
            true => Ok((sensor, Arc::from(version))),
            false => Err(damaged(format!("`{version}` is no version"))),
        }
    });
    parsed.collect()
}
