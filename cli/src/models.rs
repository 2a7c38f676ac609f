//! `windrow models`: the models of a store, from import and training to promotion, rollback and deletion.

mod chosen;
mod diff;
mod gc;
mod import;
mod names;
mod pin;
mod promote;
mod rollback;
mod shadow;
mod show_one;

use clap::{Args, Subcommand};
use serde_json::json;
use windrow_models::{ModelEntry, ModelRepository, SensorModels, Shadows};
use windrow_store::StoreArg;

use crate::error::CliError;
use crate::output::{OutputArg, OutputFormat};
use crate::show;
use crate::train::TrainArgs;
use crate::tune::TuneArgs;
use diff::DiffArgs;
use gc::GcArgs;
use import::ImportArgs;
use pin::PinArgs;
use promote::PromoteArgs;
use rollback::RollbackArgs;
use shadow::ShadowArgs;
use show_one::ShowArgs;

pub(crate) use show_one::Named;

#[derive(Subcommand, Debug)]
pub(crate) enum ModelsCommand {
    /// Import models that scikit-learn fitted; their files are read as data, and none of their code is run
    Import(Box<ImportArgs>),
    /// Train a model per sensor on history
    Train(Box<TrainArgs>),
    /// Choose what to train for each sensor by back-test: detector, kernel and features
    Tune(Box<TuneArgs>),
    /// List the models of a store
    List(ListArgs),
    /// Show a model of a sensor: where it comes from, and what was current before it
    Show(ShowArgs),
    /// Make candidates, or a given version, the current models
    Promote(PromoteArgs),
    /// Make the models current again that were current before
    Rollback(RollbackArgs),
    /// Keep the current models of sensors: training, import and promotion do not replace them
    Pin(PinArgs),
    /// Let the current models of sensors be replaced again
    Unpin(PinArgs),
    /// Score a version beside the current one, without raising anomalies, to compare them
    Shadow(ShadowArgs),
    /// Compare two versions of a sensor's model, also on its stored predictions
    Diff(DiffArgs),
    /// Delete versions that are neither in use nor among the last ones
    Gc(GcArgs),
}

#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    store: StoreArg,
    #[command(flatten)]
    output: OutputArg,
}

impl ModelsCommand {
    pub(crate) async fn run(self) -> Result<(), CliError> {
        match self {
            Self::Import(args) => args.run().await,
            Self::Train(args) => args.run().await,
            Self::Tune(args) => args.run().await,
            Self::List(args) => args.run().await,
            Self::Show(args) => args.run().await,
            Self::Promote(args) => args.run().await,
            Self::Rollback(args) => args.run().await,
            Self::Pin(args) => args.pin().await,
            Self::Unpin(args) => args.unpin().await,
            Self::Shadow(args) => args.run().await,
            Self::Diff(args) => args.run().await,
            Self::Gc(args) => args.run().await,
        }
    }
}

impl ListArgs {
    async fn run(self) -> Result<(), CliError> {
        let repository = ModelRepository::new(self.store.open()?);
        let (sensors, shadows) = futures::try_join!(repository.sensors(), repository.shadows())?;
        let entries = sensors.iter().flat_map(|sensor| {
            let marks = |entry| (entry, marks(sensor, entry, &shadows));
            sensor.models.iter().map(marks)
        });
        if self.output.output == OutputFormat::Json {
            return show::json(&entries.map(|(entry, marks)| entry_json(entry, &marks)).collect());
        }
        let rows = entries.map(|(entry, marks)| {
            vec![
                entry.sensor.to_string(),
                entry.version.clone(),
                marks.join(", "),
                show::count(entry.bytes),
                entry.modified.to_string(),
            ]
        });
        show::table(&["sensor", "version", "", "bytes", "stored"], rows.collect())
    }
}

/// Returns what a version is to its sensor.
fn marks(sensor: &SensorModels, entry: &ModelEntry, shadows: &Shadows) -> Vec<&'static str> {
    let shadow = shadows.get(&sensor.sensor);
    let marks = [
        (entry.current, "current"),
        (entry.current && sensor.registry.pinned.is_some(), "pinned"),
        (
            sensor.registry.candidate.as_ref() == Some(&entry.version),
            "candidate",
        ),
        (shadow.is_some_and(|shadow| **shadow == *entry.version), "shadow"),
    ];
    let marks = marks.into_iter().filter(|(is, _)| *is);
    marks.map(|(_, mark)| mark).collect()
}

fn entry_json(entry: &ModelEntry, marks: &[&str]) -> serde_json::Value {
    let is = |mark| marks.contains(&mark);
    json!({
        "sensor": entry.sensor.to_string(), "version": entry.version, "current": entry.current,
        "pinned": is("pinned"), "candidate": is("candidate"), "shadow": is("shadow"),
        "bytes": entry.bytes, "stored": entry.modified.to_string(),
    })
}
