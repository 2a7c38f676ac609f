//! `windrow models`: imports, trains, lists and shows the models of a store.

mod import;
mod names;

use clap::{Args, Subcommand};
use serde_json::json;
use windrow_common::SensorId;
use windrow_model::{Detector, Model, Step};
use windrow_models::{ModelEntry, ModelRepository};
use windrow_store::StoreArg;

use crate::error::CliError;
use crate::output::{OutputArg, OutputFormat};
use crate::show;
use crate::train::TrainArgs;
use import::ImportArgs;

#[derive(Subcommand, Debug)]
pub(crate) enum ModelsCommand {
    /// Import models that scikit-learn fitted; their files are read as data, and none of their code is run
    Import(Box<ImportArgs>),
    /// Train a model per sensor on history
    Train(Box<TrainArgs>),
    /// List the models of a store
    List(ListArgs),
    /// Show a sensor's current model
    Show(ShowArgs),
}

#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    store: StoreArg,
    #[command(flatten)]
    output: OutputArg,
}

#[derive(Args, Debug)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    store: StoreArg,
    /// Sensor, as DEVICE/TAG; write a slash inside a name as %2F
    sensor: SensorId,
    #[command(flatten)]
    output: OutputArg,
}

impl ModelsCommand {
    pub(crate) async fn run(self) -> Result<(), CliError> {
        match self {
            Self::Import(args) => args.run().await,
            Self::Train(args) => args.run().await,
            Self::List(args) => args.run().await,
            Self::Show(args) => args.run().await,
        }
    }
}

impl ListArgs {
    async fn run(self) -> Result<(), CliError> {
        let entries = ModelRepository::new(self.store.open()?).list().await?;
        if self.output.output == OutputFormat::Json {
            return show::json(&entries.iter().map(entry_json).collect());
        }
        let rows = entries.iter().map(|entry| {
            vec![
                entry.sensor.to_string(),
                entry.version.clone(),
                if entry.current { "current" } else { "" }.to_owned(),
                show::count(entry.bytes),
                entry.modified.to_string(),
            ]
        });
        show::table(&["sensor", "version", "", "bytes", "stored"], rows.collect())
    }
}

fn entry_json(entry: &ModelEntry) -> serde_json::Value {
    json!({
        "sensor": entry.sensor.to_string(), "version": entry.version, "current": entry.current,
        "bytes": entry.bytes, "stored": entry.modified.to_string(),
    })
}

impl ShowArgs {
    async fn run(self) -> Result<(), CliError> {
        let repository = ModelRepository::new(self.store.open()?);
        let Some(version) = repository.current(&self.sensor).await? else {
            return Err(CliError::Usage(format!(
                "{} has no model in this store; `windrow models list` shows the sensors that have one",
                self.sensor
            )));
        };
        let model = repository.load(&self.sensor, &version).await?;
        if self.output.output == OutputFormat::Json {
            let mut shown = json!({
                "sensor": self.sensor.to_string(), "version": version,
                "features": model.features().to_string(), "detector": model.detector().name(),
                "steps": model.steps().iter().map(step_name).collect::<Vec<_>>(),
                "provenance": model.provenance(), "versions": repository.versions(&self.sensor).await?,
            });
            if let Some(svm) = model.svm() {
                shown["kernel"] = json!(format!("{:?}", svm.kernel()));
                shown["support_vectors"] = json!(svm.coefficients().len());
                shown["intercept"] = json!(svm.intercept());
                shown["scaler_mean"] = json!(model.scaler().map(|scaler| scaler.mean()));
                shown["scaler_scale"] = json!(model.scaler().map(|scaler| scaler.scale()));
            }
            return show::json(&shown);
        }
        let mut facts = vec![
            ("sensor", self.sensor.to_string()),
            ("version", version),
            ("features", model.features().to_string()),
            ("detector", model.detector().name().to_owned()),
        ];
        facts.extend(detector_facts(&model));
        facts.push(("provenance", model.provenance().to_owned()));
        show::facts(&facts)
    }
}

fn step_name(step: &Step) -> &'static str {
    match step {
        Step::Scale(_) => "scale",
        Step::Stretch(_) => "stretch",
        Step::Project(_) => "project",
    }
}

/// Returns what people ask about a model of its kind.
fn detector_facts(model: &Model) -> Vec<(&'static str, String)> {
    let count = |count: usize| show::count(count as u64);
    let mut facts = match model.detector() {
        Detector::OneClassSvm(svm) => vec![
            ("kernel", format!("{:?}", svm.kernel())),
            ("support vectors", count(svm.coefficients().len())),
        ],
        Detector::IsolationForest(forest) => vec![("trees", count(forest.trees().len()))],
        Detector::EllipticEnvelope(envelope) => vec![("centre", format!("{:?}", envelope.location()))],
        Detector::LocalOutlierFactor(factor) => vec![
            ("neighbours", count(factor.neighbours())),
            ("training rows", count(factor.densities().len())),
        ],
    };
    let steps: Vec<&str> = model.steps().iter().map(step_name).collect();
    let scaler = match model.scaler() {
        Some(_) => "yes".to_owned(),
        None if steps.is_empty() => "no".to_owned(),
        None => steps.join(", "),
    };
    facts.push(("scaler", scaler));
    facts
}
