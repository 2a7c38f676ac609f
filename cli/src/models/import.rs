//! `windrow models import`: imports models that other programs fitted.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use windrow_common::SensorId;
use windrow_model::{Features, ImportOptions, Imported, MAX_IMPORT_BYTES, import_with};
use windrow_models::ModelRepository;
use windrow_producer::args::{ColumnArgs, SourceArgs};
use windrow_producer::read_history;
use windrow_producer::source::{Source, Until};
use windrow_producer::window::WindowConfig;
use windrow_store::StoreArg;

use super::names::NamePattern;
use crate::error::CliError;
use crate::output::{OutputArg, OutputFormat};
use crate::progress::steps;
use crate::show;

/// Most sensors to name in a text for people.
const MOST_NAMED: usize = 20;

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
    #[arg(long, value_name = "NAME", env = "WINDROW_DEVICE")]
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
    /// Readings to compare the sensors with: files or a folder, as --source of other commands. Shows the models that no
    /// reading is for and the sensors without a model, and decides between several readings of a file's name
    #[arg(long, value_name = "SOURCE", env = "WINDROW_AGAINST")]
    against: Option<String>,
    #[command(flatten)]
    columns: ColumnArgs,
    #[command(flatten)]
    output: OutputArg,
    /// Files to import: pickles or files of joblib, also compressed
    #[arg(required = true, value_name = "FILES")]
    files: Vec<PathBuf>,
}

/// What became of the files.
#[derive(Default)]
struct Report {
    imported: BTreeMap<SensorId, One>,
    failed: Vec<(PathBuf, String)>,
    scalers: usize,
    /// What was guessed or ignored, and in which files.
    notes: BTreeMap<String, Vec<PathBuf>>,
}

/// An imported model.
struct One {
    file: PathBuf,
    version: String,
    detector: &'static str,
    features: String,
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
        for file in &self.files {
            bar.inc(1);
            if patterns.is_scaler(file) {
                report.scalers += 1;
                continue;
            }
            let known = |sensor: &SensorId| known.as_ref().is_some_and(|known| known.contains(sensor));
            match self.read(file, &patterns, known) {
                Ok((sensor, _)) if report.imported.contains_key(&sensor) => {
                    let other = &report.imported[&sensor].file;
                    let why = format!(
                        "it is a model of {sensor}, and so is {}: give one of them",
                        other.display()
                    );
                    report.failed.push((file.clone(), why));
                }
                Ok((sensor, Imported { model, notes })) => {
                    let one = One {
                        file: file.clone(),
                        version: repository.put(&sensor, &model).await?,
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
    ) -> Result<(SensorId, Imported), String> {
        let sensor = patterns.model.sensor_of(file, known)?;
        let model = contents(file)?;
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
        Ok((sensor, imported))
    }
}

fn contents(file: &Path) -> Result<Vec<u8>, String> {
    if file.is_dir() {
        return Err("it is a folder: name the files in it".to_owned());
    }
    let failed = |error: std::io::Error| format!("cannot read {}: {error}", file.display());
    // Before it is read, so that a file of readings by mistake does not fill the memory.
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

impl Report {
    fn show(&self, format: OutputFormat, known: Option<&BTreeSet<SensorId>>) -> Result<(), CliError> {
        let without_readings: Vec<&SensorId> = match known {
            Some(known) => self
                .imported
                .keys()
                .filter(|sensor| !known.contains(sensor))
                .collect(),
            None => Vec::new(),
        };
        let without_models: Vec<&SensorId> = match known {
            Some(known) => known
                .iter()
                .filter(|sensor| !self.imported.contains_key(*sensor))
                .collect(),
            None => Vec::new(),
        };
        for (file, why) in &self.failed {
            eprintln!("windrow: {}: {why}", file.display());
        }
        for (note, files) in &self.notes {
            match &files[..] {
                [file] => eprintln!("windrow: {}: {note}", file.display()),
                [file, ..] => eprintln!("windrow: {} and {} more: {note}", file.display(), files.len() - 1),
                [] => {}
            }
        }
        if format == OutputFormat::Json {
            show::json(&json!({
                "imported": self.imported.iter().map(|(sensor, one)| json!({
                    "sensor": sensor.to_string(), "file": one.file, "version": one.version,
                    "detector": one.detector, "features": one.features,
                })).collect::<Vec<_>>(),
                "failed": self.failed.iter().map(|(file, why)| json!({"file": file, "why": why})).collect::<Vec<_>>(),
                "scalers": self.scalers, "notes": self.notes,
                "without_readings": without_readings.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "without_models": without_models.iter().map(ToString::to_string).collect::<Vec<_>>(),
            }))?;
        } else {
            self.show_table()?;
            for (what, sensors) in [
                ("no reading is for the models of", &without_readings),
                ("no model was imported for", &without_models),
            ] {
                if !sensors.is_empty() {
                    show::line(&format!("{what} {}", named(sensors)))?;
                }
            }
        }
        match self.failed.len() {
            0 => Ok(()),
            failed => Err(CliError::Partial(format!("{failed} files could not be imported"))),
        }
    }

    fn show_table(&self) -> Result<(), CliError> {
        let rows = self.imported.iter().take(MOST_NAMED).map(|(sensor, one)| {
            let file = one.file.file_name().unwrap_or_default().to_string_lossy();
            vec![
                sensor.to_string(),
                one.detector.to_owned(),
                one.features.clone(),
                file.into_owned(),
            ]
        });
        if !self.imported.is_empty() {
            show::table(&["sensor", "detector", "features", "file"], rows.collect())?;
        }
        if let Some(more @ 1..) = self.imported.len().checked_sub(MOST_NAMED) {
            let more = show::count(more as u64);
            show::line(&format!("and {more} more; `windrow models list` shows all"))?;
        }
        let models = self.imported.len() + self.failed.len();
        show::line(&format!("imported {} of {models} models", self.imported.len()))
    }
}

/// Names the first of the sensors, and says how many there are.
fn named(sensors: &[&SensorId]) -> String {
    let first: Vec<String> = sensors.iter().take(MOST_NAMED).map(ToString::to_string).collect();
    let count = show::count(sensors.len() as u64);
    match sensors.len() {
        1 => format!("1 sensor: {}", first.join(", ")),
        all if all > MOST_NAMED => format!("{count} sensors: {}, …", first.join(", ")),
        _ => format!("{count} sensors: {}", first.join(", ")),
    }
}
