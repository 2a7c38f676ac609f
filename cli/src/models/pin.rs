//! `windrow models pin` and `unpin`.

use clap::Args;
use windrow_common::SensorId;
use windrow_models::ModelRepository;
use windrow_store::StoreArg;

use super::chosen::{Change, Outcome, Outcomes};
use crate::error::CliError;
use crate::output::OutputArg;

#[derive(Args, Debug)]
pub(crate) struct PinArgs {
    #[command(flatten)]
    store: StoreArg,
    #[command(flatten)]
    output: OutputArg,
    /// Sensors, as DEVICE/TAG; write a slash inside a name as %2F
    #[arg(value_name = "SENSORS", required = true)]
    sensors: Vec<SensorId>,
}

impl PinArgs {
    pub(super) async fn pin(self) -> Result<(), CliError> {
        let repository = ModelRepository::new(self.store.open()?);
        let pin = |sensor: SensorId, ()| {
            let repository = repository.clone();
            async move {
                Ok(match repository.pin(&sensor).await? {
                    Some(version) => Outcome::Changed(Change {
                        version,
                        replaced: None,
                    }),
                    None => Outcome::Left("without a current model"),
                })
            }
        };
        let sensors = self.sensors.into_iter().map(|sensor| (sensor, ()));
        Outcomes::of(sensors, pin)
            .await?
            .show("pinned", self.output.output)
    }

    pub(super) async fn unpin(self) -> Result<(), CliError> {
        let repository = ModelRepository::new(self.store.open()?);
        let unpin = |sensor: SensorId, ()| {
            let repository = repository.clone();
            async move {
                if !repository.unpin(&sensor).await? {
                    return Ok(Outcome::Left("not pinned"));
                }
                let version = repository.current(&sensor).await?.unwrap_or_default();
                Ok(Outcome::Changed(Change {
                    version,
                    replaced: None,
                }))
            }
        };
        let sensors = self.sensors.into_iter().map(|sensor| (sensor, ()));
        Outcomes::of(sensors, unpin)
            .await?
            .show("released", self.output.output)
    }
}
