//! Stores, counts and reports the results of retraining a fleet.

use std::collections::BTreeMap;

use serde_json::json;
use windrow_common::SensorId;
use windrow_model::Model;
use windrow_models::{ModelRepository, Promoted, PromotedBy, Release};

use super::Storing;
use super::calibrate::TooShort;
use super::due::Due;
use super::gate::Gate;
use crate::error::CliError;
use crate::show;
use crate::train::{Sample, metadata};

/// Most sensors to name in a text for people.
const MOST_NAMED: usize = 10;

/// The result of training a fleet again.
#[derive(Debug, Default)]
pub(crate) struct Retrained {
    /// The threshold that keeps the budget, if there is one.
    pub(super) threshold: Option<Result<f64, TooShort>>,
    /// Sensors with a new model.
    pub(super) models: u64,
    /// Sensors whose new model is the present one, bit for bit.
    pub(super) unchanged: u64,
    /// Pinned sensors, whose new model is a candidate.
    pub(super) pinned: u64,
    /// Sensors that keep a model that was not trained here.
    pub(super) imported: u64,
    /// Sensors with too few windows, which keep their model.
    pub(super) few: u64,
    /// Windows of single sensors that were left out, because they belong to incidents that were labelled true or maintenance.
    pub(super) left_out_windows: u64,
    /// Sensors with such windows.
    pub(super) left_out_sensors: u64,
    /// Sensors whose new model raised too many incidents, which keep theirs.
    pub(super) refused: BTreeMap<SensorId, Gate>,
    /// Sensors that could not be trained, and why.
    pub(super) failed: BTreeMap<SensorId, String>,
}

/// What came of one sensor's training.
pub(super) enum Outcome {
    Few,
    Same,
    Refused(Gate),
    New(Box<(Model, Sample)>),
    Failed(String),
}

/// What came of one sensor.
pub(super) enum Ended {
    Few,
    Unchanged,
    Refused(Gate),
    /// It has a new model, or would have.
    New,
    /// Its new model is a candidate, because it is pinned.
    Pinned,
    Failed(String),
}

impl Outcome {
    /// Stores a new model.
    pub(super) async fn stored(
        self,
        repository: &ModelRepository,
        due: &Due,
        storing: Storing,
    ) -> Result<Ended, CliError> {
        let (model, sample) = match self {
            Self::Few => return Ok(Ended::Few),
            Self::Same => return Ok(Ended::Unchanged),
            Self::Refused(gate) => return Ok(Ended::Refused(gate)),
            Self::Failed(why) => return Ok(Ended::Failed(why)),
            Self::New(new) => *new,
        };
        let Storing::As(release) = storing else {
            return Ok(Ended::New);
        };
        let metadata = metadata(&model, &sample, &due.options);
        let released = repository.release(&due.sensor, &model, Some(&metadata), PromotedBy::Retrain, release);
        match released.await {
            Ok(released) if released.promoted == Some(Promoted::Pinned) => Ok(Ended::Pinned),
            Ok(_) => Ok(Ended::New),
            Err(error) if error.is_of_one_model() => Ok(Ended::Failed(error.to_string())),
            Err(error) => Err(error.into()),
        }
    }
}

impl Retrained {
    /// Counts what came of a sensor.
    pub(super) fn note(&mut self, sensor: SensorId, ended: Ended) {
        match ended {
            Ended::Few => self.few += 1,
            Ended::Unchanged => self.unchanged += 1,
            Ended::New => self.models += 1,
            Ended::Pinned => self.pinned += 1,
            Ended::Refused(gate) => _ = self.refused.insert(sensor, gate),
            Ended::Failed(why) => _ = self.failed.insert(sensor, why),
        }
    }

    pub(super) fn json(&self) -> serde_json::Value {
        let threshold = self.threshold.and_then(Result::ok);
        let too_short = self.threshold.and_then(Result::err);
        json!({
            "threshold": threshold,
            "held_out_months": too_short.map(|short| short.months), "needed_months": too_short.map(|short| short.needed),
            "models": self.models, "unchanged": self.unchanged, "pinned": self.pinned, "imported": self.imported,
            "few": self.few, "left_out_windows": self.left_out_windows, "left_out_sensors": self.left_out_sensors,
            "refused": self.refused.iter().map(|(sensor, gate)| json!({
                "sensor": sensor.to_string(), "incidents": gate.new, "allowed": gate.allowed,
                "present_incidents": gate.present,
            })).collect::<Vec<_>>(),
            "failed": self.failed.iter().map(|(sensor, why)| json!({
                "sensor": sensor.to_string(), "why": why,
            })).collect::<Vec<_>>(),
        })
    }

    pub(super) fn say(&self, storing: Storing) -> Result<(), CliError> {
        for (sensor, why) in &self.failed {
            eprintln!("windrow: {sensor}: {why}");
        }
        let what = match storing {
            Storing::As(Release::Promote(_)) => "new models",
            Storing::As(Release::Candidate) => {
                "new models, which are candidates until `windrow models promote`"
            }
            Storing::Nothing => "new models would be stored",
        };
        show::line(&format!("{} {what}", show::count(self.models)))?;
        match self.threshold {
            Some(Ok(threshold)) => show::line(&format!(
                "their threshold is {threshold:.2}, which keeps the budget"
            ))?,
            Some(Err(TooShort { months, needed })) => show::line(&format!(
                "the threshold stays as it was: {months:.1} sensor-months could be held out, and this budget needs {needed:.1}; \
                 train on more windows (--windows), or allow more"
            ))?,
            None => {}
        }
        for (count, what) in [
            (self.unchanged, "sensors have no new windows"),
            (self.pinned, "sensors are pinned: their new models are candidates"),
            (self.imported, "sensors keep a model that was not trained here"),
            (self.few, "sensors have too few windows, and keep their model"),
        ] {
            if count > 0 {
                show::line(&format!("{} {what}", show::count(count)))?;
            }
        }
        if self.left_out_windows > 0 {
            let (windows, sensors) = (self.left_out_windows, self.left_out_sensors);
            show::line(&format!(
                "{} windows of {} sensors were left out: they belong to incidents that are labelled true or maintenance",
                show::count(windows),
                show::count(sensors)
            ))?;
        }
        if self.refused.is_empty() {
            return Ok(());
        }
        show::line(&format!(
            "{} sensors keep their model, because a new one would raise more incidents on its own past than it may:",
            show::count(self.refused.len() as u64)
        ))?;
        for (sensor, gate) in self.refused.iter().take(MOST_NAMED) {
            let present = gate
                .present
                .map_or_else(|| "cannot score them".to_owned(), |present| present.to_string());
            let (new, allowed) = (gate.new, gate.allowed);
            show::line(&format!(
                "  {sensor}: {new} of {allowed:.1} allowed; the present model: {present}"
            ))?;
        }
        if let Some(more @ 1..) = self.refused.len().checked_sub(MOST_NAMED) {
            show::line(&format!("  and {more} more; --output json names all"))?;
        }
        Ok(())
    }
}
