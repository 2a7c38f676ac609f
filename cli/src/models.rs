//! `windrow models`: imports, trains, lists and shows the models of a store.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;
use windrow_common::SensorId;
use windrow_model::{Features, import};
use windrow_models::{ModelEntry, ModelRepository};
use windrow_store::StoreArg;

use crate::error::CliError;
use crate::output::{OutputArg, OutputFormat};
use crate::progress::steps;
use crate::show;
use crate::train::TrainArgs;

#[derive(Subcommand, Debug)]
pub(crate) enum ModelsCommand {
    /// Import one-class SVMs from scikit-learn pickles, which are read as data; none of their code is run
    Import(ImportArgs),
    /// Train a model per sensor on history
    Train(Box<TrainArgs>),
    /// List the models of a store
    List(ListArgs),
    /// Show a sensor's current model
    Show(ShowArgs),
}

#[derive(Args, Debug)]
#[command(after_help = "\
Example: import files named model_<device>_<tag>, trained on the mean of each window
  windrow models import --store ./store --name-pattern 'model_{device}_{tag}' models/*")]
pub(crate) struct ImportArgs {
    #[command(flatten)]
    store: StoreArg,
    /// Pattern of the file names without .pkl or .pickle; {device} and {tag} stand for the sensor's device and tag
    #[arg(
        long,
        value_name = "PATTERN",
        default_value = "model_{device}_{tag}",
        env = "WINDROW_NAME_PATTERN"
    )]
    name_pattern: String,
    /// Features that the models were trained on, in that order, separated by commas: mean, std, min, max, first, last,
    /// count
    #[arg(long, value_name = "LIST", default_value = "mean", env = "WINDROW_FEATURES")]
    features: Features,
    /// Pickle files to import
    #[arg(required = true, value_name = "FILES")]
    files: Vec<PathBuf>,
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

impl ImportArgs {
    async fn run(self) -> Result<(), CliError> {
        let pattern = NamePattern::new(&self.name_pattern)?;
        let repository = ModelRepository::new(self.store.create().await?);
        let bar = steps("importing", self.files.len() as u64);
        let mut failed = 0;
        for file in &self.files {
            bar.inc(1);
            if let Err(why) = import_file(file, &pattern, &self.features, &repository).await? {
                failed += 1;
                bar.suspend(|| eprintln!("windrow: {}: {why}", file.display()));
            }
        }
        bar.finish_and_clear();
        show::line(&format!(
            "imported {} of {} models",
            self.files.len() - failed,
            self.files.len()
        ))?;
        if failed > 0 {
            return Err(CliError::Partial(format!("{failed} files could not be imported")));
        }
        Ok(())
    }
}

/// Imports one file. The inner error concerns this file only, so the import continues with the others.
async fn import_file(
    file: &Path,
    pattern: &NamePattern<'_>,
    features: &Features,
    repository: &ModelRepository,
) -> Result<Result<(), String>, CliError> {
    let sensor = match pattern.sensor_of(file) {
        Ok(sensor) => sensor,
        Err(why) => return Ok(Err(why)),
    };
    let bytes = match std::fs::read(file) {
        Ok(bytes) => bytes,
        Err(error) => return Ok(Err(error.to_string())),
    };
    match import(&bytes, features.clone()) {
        Ok(model) => {
            repository.put(&sensor, &model).await?;
            Ok(Ok(()))
        }
        Err(error) => Ok(Err(error.to_string())),
    }
}

/// A pattern `before{device}between{tag}after`, with either name first.
struct NamePattern<'a> {
    before: &'a str,
    between: &'a str,
    after: &'a str,
    device_first: bool,
}

impl<'a> NamePattern<'a> {
    fn new(pattern: &'a str) -> Result<Self, CliError> {
        let wrong = || {
            CliError::Usage(format!(
                "--name-pattern `{pattern}` is invalid: give {{device}} and {{tag}} once each, with text between them"
            ))
        };
        let split = |first: &str, second: &str| -> Option<(&'a str, &'a str, &'a str)> {
            let (before, rest) = pattern.split_once(first)?;
            let (between, after) = rest.split_once(second)?;
            Some((before, between, after))
        };
        let (parts, device_first) = match split("{device}", "{tag}") {
            Some(parts) => (parts, true),
            None => (split("{tag}", "{device}").ok_or_else(wrong)?, false),
        };
        let (before, between, after) = parts;
        let repeated = [before, between, after]
            .iter()
            .any(|part| part.contains(['{', '}']));
        if between.is_empty() || repeated {
            return Err(wrong());
        }
        Ok(Self {
            before,
            between,
            after,
            device_first,
        })
    }

    fn sensor_of(&self, file: &Path) -> Result<SensorId, String> {
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or("");
        let stem = name
            .strip_suffix(".pkl")
            .or_else(|| name.strip_suffix(".pickle"))
            .unwrap_or(name);
        let names = stem
            .strip_prefix(self.before)
            .and_then(|rest| rest.strip_suffix(self.after))
            .and_then(|rest| rest.split_once(self.between));
        let Some((first, second)) = names else {
            return Err("its name does not match --name-pattern".to_owned());
        };
        let (device, tag) = if self.device_first {
            (first, second)
        } else {
            (second, first)
        };
        SensorId::new(device, tag).map_err(|error| error.to_string())
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
        let svm = model.svm();
        if self.output.output == OutputFormat::Json {
            return show::json(&json!({
                "sensor": self.sensor.to_string(), "version": version,
                "features": model.features().to_string(), "kernel": format!("{:?}", svm.kernel()),
                "support_vectors": svm.coefficients().len(), "intercept": svm.intercept(),
                "scaler_mean": model.scaler().map(|scaler| scaler.mean()),
                "scaler_scale": model.scaler().map(|scaler| scaler.scale()),
                "provenance": model.provenance(), "versions": repository.versions(&self.sensor).await?,
            }));
        }
        show::facts(&[
            ("sensor", self.sensor.to_string()),
            ("version", version),
            ("features", model.features().to_string()),
            ("kernel", format!("{:?}", svm.kernel())),
            ("support vectors", show::count(svm.coefficients().len() as u64)),
            (
                "scaler",
                if model.scaler().is_some() { "yes" } else { "no" }.to_owned(),
            ),
            ("provenance", model.provenance().to_owned()),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_tells_the_sensor() {
        let of = |pattern: &str, file: &str| {
            NamePattern::new(pattern)
                .ok()?
                .sensor_of(Path::new(file))
                .ok()
                .map(|sensor| sensor.to_string())
        };
        assert_eq!(of("model_{device}_{tag}", "x/model_3_4").as_deref(), Some("3/4"));
        assert_eq!(
            of("{tag}@{device}", "temp@pump-7.pkl").as_deref(),
            Some("pump-7/temp")
        );
        assert_eq!(of("model_{device}_{tag}", "model_3"), None);
        assert_eq!(of("{device}{tag}", "ab"), None);
        assert_eq!(of("{device}", "a"), None);
    }
}
