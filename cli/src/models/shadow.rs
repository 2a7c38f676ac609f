//! `windrow models shadow`: which versions are scored beside the current ones.

use clap::Args;
use windrow_common::SensorId;
use windrow_models::{ModelRepository, Share};
use windrow_store::StoreArg;

use super::chosen::{Change, Outcome, Outcomes};
use super::promote::versions;
use crate::error::CliError;
use crate::output::OutputArg;

#[derive(Args, Debug)]
#[command(after_help = "\
Example: score all candidates beside the current models, compare one of them, and end the comparison
  windrow models shadow --store ./store
  windrow models diff --store ./store pump-7/temp current shadow
  windrow models shadow --store ./store --stop")]
pub(crate) struct ShadowArgs {
    #[command(flatten)]
    store: StoreArg,
    /// Version to score beside the current one [default: the sensor's candidate]
    #[arg(long, value_name = "VERSION", requires = "sensors", env = "WINDROW_VERSION")]
    version: Option<String>,
    /// Only this share of the sensors, such as 10%. A larger share holds the sensors of a smaller one
    #[arg(long, value_name = "PERCENT", default_value_t = Share::ALL, env = "WINDROW_SHARE")]
    share: Share,
    /// Score no version beside the current one any more
    #[arg(long, conflicts_with_all = ["version", "share"], env = "WINDROW_STOP")]
    stop: bool,
    #[command(flatten)]
    output: OutputArg,
    /// Sensors, as DEVICE/TAG; write a slash inside a name as %2F [default: all that have a candidate, or with --stop a
    /// shadow]
    #[arg(value_name = "SENSORS")]
    sensors: Vec<SensorId>,
}

impl ShadowArgs {
    pub(super) async fn run(self) -> Result<(), CliError> {
        let repository = ModelRepository::new(self.store.open()?);
        let outcomes = match self.stop {
            true => self.stop(&repository).await?,
            false => self.begin(&repository).await?,
        };
        let verb = if self.stop { "stopped" } else { "shadowed" };
        outcomes.show(verb, self.output.output)
    }

    async fn begin(&self, repository: &ModelRepository) -> Result<Outcomes, CliError> {
        let chosen = versions(repository, &self.sensors, self.version.as_deref()).await?;
        let (chosen, outside): (Vec<_>, Vec<_>) = chosen
            .into_iter()
            .partition(|(sensor, _)| self.share.holds(sensor));
        let check = |sensor: SensorId, version: Option<String>| {
            let repository = repository.clone();
            async move {
                let Some(version) = version else {
                    return Ok(Outcome::Left("without a candidate"));
                };
                // As a worker reads it, so that nobody waits for decisions that never come.
                repository.load(&sensor, &version).await?;
                Ok(match repository.current(&sensor).await? {
                    None => Outcome::Left("without a current model"),
                    Some(current) if current == version => Outcome::Left("its version is current already"),
                    Some(_) => Outcome::Changed(Change {
                        version,
                        replaced: None,
                    }),
                })
            }
        };
        let mut outcomes = Outcomes::of(chosen, check).await?;
        for (sensor, _) in outside {
            outcomes.leave(sensor, "outside of the share");
        }
        let replaced = repository.change_shadows(|shadows| {
            let set = outcomes.changed.iter().map(|(sensor, change)| {
                let before = shadows.insert(sensor.clone(), change.version.as_str().into());
                before.map(|before| before.to_string())
            });
            set.collect::<Vec<_>>()
        });
        let replaced = replaced.await?;
        for (change, replaced) in outcomes.changed.values_mut().zip(replaced) {
            change.replaced = replaced;
        }
        Ok(outcomes)
    }

    async fn stop(&self, repository: &ModelRepository) -> Result<Outcomes, CliError> {
        let ended = repository.change_shadows(|shadows| {
            let sensors: Vec<SensorId> = match self.sensors.is_empty() {
                true => shadows.keys().cloned().collect(),
                false => self.sensors.clone(),
            };
            let ended = sensors.into_iter().map(|sensor| {
                let version = shadows.remove(&sensor);
                (sensor, version.map(|version| version.to_string()))
            });
            ended.collect::<Vec<_>>()
        });
        let mut outcomes = Outcomes::default();
        for (sensor, version) in ended.await? {
            match version {
                Some(version) => {
                    let change = Change {
                        version,
                        replaced: None,
                    };
                    outcomes.changed.insert(sensor, change);
                }
                None => outcomes.leave(sensor, "without a shadow"),
            }
        }
        Ok(outcomes)
    }
}
