//! What an import tells.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde_json::json;
use windrow_common::SensorId;

use crate::error::CliError;
use crate::output::OutputFormat;
use crate::show;
use crate::train::pinned_text;

/// Most sensors to name in a text for people.
const MOST_NAMED: usize = 20;

/// What became of the files.
#[derive(Default)]
pub(super) struct Report {
    pub(super) imported: BTreeMap<SensorId, One>,
    pub(super) failed: Vec<(PathBuf, String)>,
    pub(super) scalers: usize,
    /// Pinned sensors, whose model is a candidate.
    pub(super) pinned: Vec<SensorId>,
    /// What was guessed or ignored, and in which files.
    pub(super) notes: BTreeMap<String, Vec<PathBuf>>,
}

/// An imported model.
pub(super) struct One {
    pub(super) file: PathBuf,
    pub(super) version: String,
    /// Whether it scores now; otherwise it is a candidate.
    pub(super) is_current: bool,
    pub(super) detector: &'static str,
    pub(super) features: String,
}

impl Report {
    pub(super) fn show(
        &self,
        format: OutputFormat,
        known: Option<&BTreeSet<SensorId>>,
    ) -> Result<(), CliError> {
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
                    "current": one.is_current,
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
        let waiting = self.imported.values().filter(|one| !one.is_current).count();
        let waiting = match waiting {
            0 => String::new(),
            waiting => format!("; {waiting} are candidates, until `windrow models promote`"),
        };
        show::line(&format!(
            "imported {} of {models} models{waiting}",
            self.imported.len()
        ))?;
        match self.pinned.is_empty() {
            true => Ok(()),
            false => show::line(&pinned_text(&self.pinned)),
        }
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
