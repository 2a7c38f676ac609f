//! `windrow models import`: imports models that other programs fitted.

mod mlflow;
mod report;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Args;
use windrow_common::{EventTime, SensorId};
use windrow_model::{Features, ImportOptions, Imported, MAX_IMPORT_BYTES, import_with};
use windrow_models::{Kind, Metadata, ModelRepository, Promoted, PromotedBy, SourceFile, sha256_of};
use windrow_producer::args::{ColumnArgs, SourceArgs};
use windrow_producer::read_history;
use windrow_producer::source::{Source, Until};
use windrow_producer::window::WindowConfig;
use windrow_store::StoreArg;

use super::names::NamePattern;
use crate::error::CliError;
use crate::output::OutputArg;
use crate::progress::steps;
use crate::train::ReleaseArgs;
use report::{One, Report};

#[derive(Args, Debug)]
#[command(after_help = "\
Example: import files named model_<device>_<tag>, trained on the mean of each window
  windrow models import --store ./store --name-pattern 'model_{device}_{tag}' models/*

Example: models in folders of their devices, each with a scaler in a second file, checked against the readings
  windrow models import --store ./store --name-pattern '{device}/{tag}' --scaler-pattern '{device}/{tag}_scaler' \
    --features mean,std,min,max --against readings/ models/*/*")]
pub(crate) struct ImportArgs {
    #[command(flatten)]
    store: StoreArg,
    /// Pattern of the files' names; {device} and {tag} stand for the sensor's device and tag. Endings such as .pkl,
    /// .joblib.gz or .sav are no part of it. With slashes, it is the pattern of the last parts of the path
    #[arg(
        long,
        value_name = "PATTERN",
        default_value = "model_{device}_{tag}",
        env = "WINDROW_NAME_PATTERN"
    )]
    name_pattern: String,
    /// Device of all files, if the pattern has no {device}
    #[arg(long, value_name = "DEVICE", env = "WINDROW_DEVICE")]
    device: Option<String>,
    /// Tag of all files, if the pattern has no {tag}
    #[arg(long, value_name = "NAME", env = "WINDROW_TAG")]
    tag: Option<String>,
    /// Pattern of the names of files with the models' scalers, beside the models; among FILES they are no models
    #[arg(long, value_name = "PATTERN", env = "WINDROW_SCALER_PATTERN")]
    scaler_pattern: Option<String>,
    /// Features that the models were trained on, in that order, separated by commas: mean, std, min, max, first, last,
    /// count, std_sample (pandas' std), rms, range [default: what a model's columns are named, or else mean]
    #[arg(long, value_name = "LIST", env = "WINDROW_FEATURES")]
    features: Option<Features>,
    /// Readings to compare the sensors with: files or a folder, as for --source of other commands. Lists models without
    /// readings and sensors without a model, and decides if a file name can be read in several ways
    #[arg(long, value_name = "SOURCE", env = "WINDROW_AGAINST")]
    against: Option<String>,
    #[command(flatten)]
    columns: ColumnArgs,
    #[command(flatten)]
    release: ReleaseArgs,
    #[command(flatten)]
    output: OutputArg,
    /// Files to import: pickles or files of joblib, also compressed, and other formats; or model directories of MLflow,
    /// whose own names tell the sensors
    #[arg(required = true, value_name = "FILES")]
    files: Vec<PathBuf>,
}

/// The patterns of the names of models and scalers.
struct Patterns {
    model: NamePattern,
    scaler: Option<NamePattern>,
}

impl ImportArgs {
    pub(super) async fn run(mut self) -> Result<(), CliError> {
        let (device, tag) = (self.device.as_deref(), self.tag.as_deref());
        let model = NamePattern::new("--name-pattern", &self.name_pattern, device, tag)?;
        let scaler = |pattern: &String| {
            // The scaler of all sensors of a device has no tag in its name.
            let given = |name: &str, given: Option<&'static str>| given.filter(|_| !pattern.contains(name));
            let (device, tag) = (given("{device}", Some("-")), given("{tag}", Some("-")));
            NamePattern::new("--scaler-pattern", pattern, device, tag)
        };
        let scaler = self.scaler_pattern.as_ref().map(scaler).transpose()?;
        let patterns = Patterns { model, scaler };
        let known = match self.against.take() {
            Some(source) => Some(sensors_of(SourceArgs::new(source, self.columns.clone())).await?),
            None => None,
        };
        let repository = ModelRepository::new(self.store.create().await?);
        let mut report = Report::default();
        let bar = steps("importing", self.files.len() as u64);
        let release = self.release.release();
        for file in &self.files {
            bar.inc(1);
            let file = &mlflow::directory(file).unwrap_or(file).to_owned();
            if patterns.is_scaler(file) {
                report.scalers += 1;
                continue;
            }
            let known = |sensor: &SensorId| known.as_ref().is_some_and(|known| known.contains(sensor));
            match self.read(file, &patterns, known) {
                Ok((sensor, ..)) if report.imported.contains_key(&sensor) => {
                    let other = &report.imported[&sensor].file;
                    let why = format!(
                        "it is a model of {sensor}, and so is {}: give one of them",
                        other.display()
                    );
                    report.failed.push((file.clone(), why));
                }
                Ok((sensor, Imported { model, notes }, files)) => {
                    let metadata = Metadata {
                        created: EventTime::now(),
                        kind: Kind::Imported,
                        features: model.features().to_string(),
                        provenance: model.provenance().to_owned(),
                        training: None,
                        files,
                    };
                    let released =
                        repository.release(&sensor, &model, Some(&metadata), PromotedBy::Import, release);
                    let released = match released.await {
                        Err(error) if error.is_of_one_model() => {
                            report.failed.push((file.clone(), error.to_string()));
                            continue;
                        }
                        released => released?,
                    };
                    if released.promoted == Some(Promoted::Pinned) {
                        report.pinned.push(sensor.clone());
                    }
                    let one = One {
                        file: file.clone(),
                        version: released.version,
                        is_current: matches!(
                            released.promoted,
                            Some(Promoted::Now { .. } | Promoted::Already)
                        ),
                        detector: model.detector().name(),
                        features: model.features().to_string(),
                    };
                    report.imported.insert(sensor, one);
                    for note in notes {
                        report.notes.entry(note).or_default().push(file.clone());
                    }
                }
                Err(why) => report.failed.push((file.clone(), why)),
            }
        }
        bar.finish_and_clear();
        report.show(self.output.output, known.as_ref())
    }

    /// Reads one file; an error concerns this file only, so the import continues with the others.
    fn read(
        &self,
        file: &Path,
        patterns: &Patterns,
        known: impl Fn(&SensorId) -> bool,
    ) -> Result<(SensorId, Imported, Vec<SourceFile>), String> {
        let sensor = patterns.model.sensor_of(file, known)?;
        let mut files = Vec::new();
        let mut contents = |path: &Path| {
            let bytes = contents(path)?;
            files.push(SourceFile {
                path: path.display().to_string(),
                sha256: sha256_of(&bytes),
            });
            Ok::<_, String>(bytes)
        };
        let model = match mlflow::directory(file) {
            Some(directory) => contents(&mlflow::model_in(directory)?)?,
            None => contents(file)?,
        };
        let scaler = match &patterns.scaler {
            Some(pattern) => {
                let paths = pattern.beside(file, &patterns.model, &sensor);
                let path = paths.iter().find(|path| path.is_file()).ok_or_else(|| {
                    format!(
                        "its scaler does not exist: {} or another ending",
                        paths[0].display()
                    )
                })?;
                Some(contents(path)?)
            }
            None => None,
        };
        let options = ImportOptions {
            features: self.features.as_ref(),
            scaler: scaler.as_deref(),
        };
        let imported = import_with(&model, &options).map_err(|error| error.to_string())?;
        Ok((sensor, imported, files))
    }
}

fn contents(file: &Path) -> Result<Vec<u8>, String> {
    if file.is_dir() {
        return Err("it is a folder: name the files in it".to_owned());
    }
    let failed = |error: std::io::Error| format!("cannot read {}: {error}", file.display());
    // Check the size before reading, so that a file of readings named by mistake does not fill the memory.
    let bytes = file.metadata().map_err(failed)?.len();
    if bytes > MAX_IMPORT_BYTES as u64 {
        return Err(format!(
            "it has {bytes} bytes; the limit of a model is {MAX_IMPORT_BYTES}"
        ));
    }
    std::fs::read(file).map_err(failed)
}

impl Patterns {
    /// Returns whether a file is a scaler's. A name may fit both patterns; then the one with more text counts.
    fn is_scaler(&self, file: &Path) -> bool {
        let fits = |pattern: &NamePattern| pattern.readings(file).is_ok_and(|readings| !readings.is_empty());
        self.scaler.as_ref().is_some_and(|scaler| {
            fits(scaler) && (!fits(&self.model) || scaler.literal_length() > self.model.literal_length())
        })
    }
}

/// Returns the sensors of a source.
async fn sensors_of(source: SourceArgs) -> Result<BTreeSet<SensorId>, CliError> {
    let source = source.open(Until::CaughtUp)?;
    let windowing = WindowConfig::default().validate()?;
    let read = move |source: Box<dyn Source>| {
        let mut sensors = BTreeSet::new();
        read_history(
            source,
            windowing,
            |message| {
                sensors.insert(message.sensor);
            },
            |_| {},
        )?;
        Ok::<_, CliError>(sensors)
    };
    let reading = tokio::task::spawn_blocking(move || read(source));
    reading
        .await
        .map_err(|error| CliError::Panicked(error.to_string()))?
}
