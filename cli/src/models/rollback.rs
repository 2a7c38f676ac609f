//! `windrow models rollback`: makes earlier versions current again.

use std::collections::BTreeSet;

use clap::Args;
use windrow_common::{EventTime, SensorId, parse_duration};
use windrow_models::{Back, ModelRepository, Pins, RolledBack};
use windrow_store::StoreArg;

use super::chosen::{Change, Outcome, Outcomes};
use crate::error::CliError;
use crate::output::OutputArg;

#[derive(Args, Debug)]
#[command(after_help = "\
Example: undo all promotions of the last two hours
  windrow models rollback --store ./store --since 2h")]
pub(crate) struct RollbackArgs {
    #[command(flatten)]
    store: StoreArg,
    /// Go back to what was current at this time, such as 2026-01-05T00:00:00Z, or this long ago, such as 2h, instead of one
    /// version
    #[arg(long, value_name = "TIME", required_unless_present = "sensors", env = "WINDROW_SINCE", value_parser = since)]
    since: Option<EventTime>,
    /// Roll pinned sensors back too
    #[arg(long, env = "WINDROW_FORCE")]
    force: bool,
    #[command(flatten)]
    output: OutputArg,
    /// Sensors, as DEVICE/TAG; write a slash inside a name as %2F [default: all that were promoted since --since]
    #[arg(value_name = "SENSORS")]
    sensors: Vec<SensorId>,
}

/// Reads a time, or how long ago it was.
fn since(text: &str) -> Result<EventTime, String> {
    match parse_duration(text) {
        Ok(ago) => Ok(EventTime::now().saturating_sub(ago)),
        Err(_) => text
            .parse()
            .map_err(|_| "expected a time such as 2026-01-05T00:00:00Z, or a duration such as 2h".to_owned()),
    }
}

impl RollbackArgs {
    pub(super) async fn run(self) -> Result<(), CliError> {
        let repository = ModelRepository::new(self.store.open()?);
        let mut sensors = BTreeSet::from_iter(self.sensors);
        if let Some(since) = self.since
            && sensors.is_empty()
        {
            let all = repository.sensors().await?.into_iter();
            let promoted = all.filter(|models| models.registry.first_since(since).is_some());
            sensors.extend(promoted.map(|models| models.sensor));
        }
        let (back, pins) = (
            self.since.map_or(Back::Previous, Back::Before),
            match self.force {
                true => Pins::Override,
                false => Pins::Respect,
            },
        );
        let roll_back = |sensor: SensorId, ()| {
            let repository = repository.clone();
            async move {
                Ok(match repository.roll_back(&sensor, back, pins).await? {
                    RolledBack::To { version, replaced } => Outcome::Changed(Change {
                        version,
                        replaced: Some(replaced),
                    }),
                    RolledBack::Nothing => Outcome::Left("no other version is recorded to go back to"),
                    RolledBack::Pinned => Outcome::Left("pinned (--force rolls it back)"),
                })
            }
        };
        let sensors = sensors.into_iter().map(|sensor| (sensor, ()));
        let outcomes = Outcomes::of(sensors, roll_back).await?;
        outcomes.show("rolled back", self.output.output)
    }
}
