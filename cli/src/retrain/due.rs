//! The sensors to train again, and where their windows are.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use windrow_common::{EventTime, SensorId};
use windrow_model::{Features, TrainOptions};
use windrow_models::{ModelEntry, ModelRepository};
use windrow_store::{Hour, Store};

use super::HowArgs;
use crate::error::CliError;
use crate::train::options_of;

/// Number of models whose metadata are read at once.
const READS_IN_FLIGHT: usize = 16;

/// A sensor to train, and how its present model was trained.
pub(crate) struct Due {
    pub(crate) sensor: SensorId,
    pub(crate) version: String,
    pub(crate) features: Features,
    pub(crate) options: TrainOptions,
}

/// The sensors that have a model.
#[derive(Default)]
pub(crate) struct Found {
    /// Those whose model was trained here, ordered by name.
    pub(crate) due: Vec<Due>,
    /// How many have a model that was not.
    pub(crate) imported: u64,
    /// The models of several tags of a device.
    pub(crate) of_devices: Vec<ModelEntry>,
    /// Sensors whose training parameters cannot be read, with the reason.
    pub(crate) failed: BTreeMap<SensorId, String>,
}

impl Due {
    /// Returns how it is trained on its newest windows.
    pub(super) fn options(&self, how: &HowArgs) -> TrainOptions {
        TrainOptions {
            max_rows: most(self, how),
            ..self.options.clone()
        }
    }

    pub(super) fn copy(&self) -> Self {
        Self {
            sensor: self.sensor.clone(),
            version: self.version.clone(),
            features: self.features.clone(),
            options: self.options.clone(),
        }
    }
}

/// Finds the wanted sensors that have a model, and how it was trained.
pub(crate) async fn due(
    repository: &ModelRepository,
    is_wanted: impl Fn(&SensorId) -> bool,
) -> Result<Found, CliError> {
    let entries = repository.list().await?.into_iter();
    let (of_devices, entries): (Vec<_>, Vec<_>) = entries
        .filter(|entry| entry.current && is_wanted(&entry.sensor))
        .partition(|entry| entry.sensor.is_group());
    let read = futures::stream::iter(entries)
        .map(|entry| async move {
            let metadata = repository.metadata(&entry.sensor, &entry.version).await?;
            Ok::<_, CliError>((entry, metadata))
        })
        .buffered(READS_IN_FLIGHT);
    let mut found = Found {
        of_devices,
        ..Found::default()
    };
    let read: Vec<_> = read.try_collect().await?;
    for (entry, metadata) in read {
        let Some((metadata, training)) = metadata.and_then(|metadata| {
            let training = metadata.training.clone()?;
            Some((metadata, training))
        }) else {
            found.imported += 1;
            continue;
        };
        let features = metadata
            .features
            .parse()
            .map_err(|error| format!("its features cannot be read: {error}"));
        match features.and_then(|features| Ok((features, options_of(&training.parameters)?))) {
            Ok((features, options)) => found.due.push(Due {
                sensor: entry.sensor,
                version: entry.version,
                features,
                options,
            }),
            Err(why) => _ = found.failed.insert(entry.sensor, why),
        }
    }
    Ok(found)
}

/// Returns the hours of predictions that are not too old, oldest first.
pub(crate) async fn hours(store: &Store, within: Duration) -> Result<Vec<Hour>, CliError> {
    let days = store.folders("predictions").await?;
    let newest = days.iter().filter_map(|day| day.strip_prefix("date=")).max();
    let newest: Option<EventTime> = newest.and_then(|day| format!("{day}T23:59:59Z").parse().ok());
    let from = newest.map(|newest| newest.saturating_sub(within));
    Ok(store.hours("predictions", from, None).await?)
}

/// Returns how many windows a sensor is trained on at most.
pub(super) fn most(due: &Due, how: &HowArgs) -> usize {
    due.options.most_rows().min(how.windows as usize)
}

/// Returns how many sensors' windows fit into the memory.
pub(super) fn at_once(due: &[Due], how: &HowArgs) -> usize {
    let bytes = |due: &Due| most(due, how) * 8 * (1 + due.features.len());
    let largest = due.iter().map(bytes).max().unwrap_or(1);
    ((how.memory_mib as usize) << 20).div_euclid(largest).max(1)
}
