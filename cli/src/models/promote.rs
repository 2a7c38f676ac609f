//! `windrow models promote`: makes versions current.

use std::collections::BTreeSet;

use clap::Args;
use windrow_common::SensorId;
use windrow_models::{ModelRepository, Pins, Promoted, Share};
use windrow_store::StoreArg;

use super::chosen::{Change, Outcome, Outcomes};
use crate::error::CliError;
use crate::output::OutputArg;

#[derive(Args, Debug)]
#[command(after_help = "\
Example: let the candidates of a tenth of the sensors score, and a day later all of them
  windrow models promote --store ./store --share 10%
  windrow models promote --store ./store")]
pub(crate) struct PromoteArgs {
    #[command(flatten)]
    store: StoreArg,
    /// Version to promote [default: the sensor's candidate]
    #[arg(long, value_name = "VERSION", requires = "sensors", env = "WINDROW_VERSION")]
    version: Option<String>,
    /// Promote only this share of the sensors, such as 10%. A larger share holds the sensors of a smaller one
    #[arg(long, value_name = "PERCENT", default_value_t = Share::ALL, env = "WINDROW_SHARE")]
    share: Share,
    /// Promote pinned sensors too
    #[arg(long, env = "WINDROW_FORCE")]
    force: bool,
    #[command(flatten)]
    output: OutputArg,
    /// Sensors, as DEVICE/TAG; write a slash inside a name as %2F [default: all that have a candidate]
    #[arg(value_name = "SENSORS")]
    sensors: Vec<SensorId>,
}

impl PromoteArgs {
    pub(super) async fn run(self) -> Result<(), CliError> {
        let repository = ModelRepository::new(self.store.open()?);
        let chosen = versions(&repository, &self.sensors, self.version.as_deref()).await?;
        let (chosen, outside): (Vec<_>, Vec<_>) = chosen
            .into_iter()
            .partition(|(sensor, _)| self.share.holds(sensor));
        let pins = match self.force {
            true => Pins::Override,
            false => Pins::Respect,
        };
        let promote = |sensor: SensorId, version: Option<String>| {
            let repository = repository.clone();
            async move {
                let Some(version) = version else {
                    return Ok(Outcome::Left("without a candidate"));
                };
                Ok(match repository.promote(&sensor, &version, pins).await? {
                    Promoted::Now { replaced } => Outcome::Changed(Change { version, replaced }),
                    Promoted::Already => Outcome::Left("its version is current already"),
                    Promoted::Pinned => Outcome::Left("pinned (--force promotes it)"),
                })
            }
        };
        let mut outcomes = Outcomes::of(chosen, promote).await?;
        for (sensor, _) in outside {
            outcomes.leave(sensor, "outside of the share");
        }
        end_shadows(&repository, &outcomes).await?;
        outcomes.show("promoted", self.output.output)
    }
}

/// Returns the sensors to work on, each with the version: the given one, or its candidate.
pub(super) async fn versions(
    repository: &ModelRepository,
    sensors: &[SensorId],
    version: Option<&str>,
) -> Result<Vec<(SensorId, Option<String>)>, CliError> {
    if sensors.is_empty() {
        let all = repository.sensors().await?.into_iter();
        let candidates = all.filter(|models| models.registry.candidate.is_some());
        return Ok(candidates
            .map(|models| (models.sensor, models.registry.candidate))
            .collect());
    }
    let mut versions = Vec::new();
    // A sensor that is named twice is one.
    for sensor in BTreeSet::from_iter(sensors) {
        let version = match version {
            Some(version) => Some(version.to_owned()),
            None => repository.registry(sensor).await?.candidate,
        };
        versions.push((sensor.clone(), version));
    }
    Ok(versions)
}

/// Takes versions that are current now from the list of shadows.
async fn end_shadows(repository: &ModelRepository, outcomes: &Outcomes) -> Result<(), CliError> {
    if outcomes.changed.is_empty() {
        return Ok(());
    }
    let ended = repository.change_shadows(|shadows| {
        shadows.retain(|sensor, shadow| {
            let change = outcomes.changed.get(sensor);
            change.is_none_or(|change| *change.version != **shadow)
        });
    });
    ended.await?;
    Ok(())
}
