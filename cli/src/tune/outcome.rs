//! Counts the results of tuning, and reports them with the reasons.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use windrow_common::SensorId;
use windrow_models::Release;
use windrow_tuning::{INJECTIONS, Trial, Tuned};

use crate::error::CliError;
use crate::retrain::Storing;
use crate::show;

/// Most sensors to name in a text for people.
const MOST_NAMED: usize = 20;

/// What came of one sensor.
pub(super) enum Ended {
    /// It has too few windows.
    Few,
    Failed(String),
    Tuned(Tuned, Change),
}

/// What became of the sensor's model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The present one stays.
    None,
    /// It has a new model, or would have.
    Stored,
    /// Its new model is a candidate, because it is pinned.
    Pinned,
}

/// What came of all sensors.
pub(super) struct Report {
    trials: bool,
    storing: Storing,
    tuned: BTreeMap<SensorId, (Tuned, Change)>,
    few: u64,
    /// Sensors that keep a model that was not trained here.
    pub(super) imported: u64,
    /// Models of several tags together, which are not tuned.
    pub(super) groups: u64,
    pub(super) failed: BTreeMap<SensorId, String>,
}

impl Report {
    pub(super) fn new(trials: bool, storing: Storing) -> Self {
        Self {
            trials,
            storing,
            tuned: BTreeMap::new(),
            few: 0,
            imported: 0,
            groups: 0,
            failed: BTreeMap::new(),
        }
    }

    pub(super) fn note(&mut self, sensor: SensorId, ended: Ended) {
        match ended {
            Ended::Few => self.few += 1,
            Ended::Failed(why) => _ = self.failed.insert(sensor, why),
            Ended::Tuned(mut tuned, change) => {
                if !self.trials {
                    // A fleet has many sensors.
                    let kept = [0, tuned.chosen];
                    let mut at = 0..;
                    tuned
                        .trials
                        .retain(|_| at.next().is_some_and(|at| kept.contains(&at)));
                    tuned.chosen = tuned.chosen.min(1);
                }
                self.tuned.insert(sensor, (tuned, change));
            }
        }
    }

    fn count(&self, change: Change) -> u64 {
        self.tuned.values().filter(|(_, of)| *of == change).count() as u64
    }

    pub(super) fn json(&self) -> Value {
        let sensors = self.tuned.iter().map(|(sensor, (tuned, change))| {
            let mut one = json!({
                "sensor": sensor.to_string(), "stays": *change == Change::None, "why": tuned.why(), "allowed": tuned.allowed,
                "pinned": *change == Change::Pinned, "put_in": INJECTIONS,
                "present": trial_json(tuned, tuned.present()), "chosen": trial_json(tuned, tuned.choice()),
            });
            if self.trials {
                one["trials"] = tuned.trials.iter().map(|trial| trial_json(tuned, trial)).collect();
            }
            one
        });
        json!({
            "sensors": sensors.collect::<Vec<_>>(), "models": self.count(Change::Stored),
            "stay": self.count(Change::None), "pinned": self.count(Change::Pinned), "few": self.few,
            "imported": self.imported, "groups": self.groups,
            "failed": self.failed.iter().map(|(sensor, why)| json!({
                "sensor": sensor.to_string(), "why": why,
            })).collect::<Vec<_>>(),
        })
    }

    pub(super) fn say(&self) -> Result<(), CliError> {
        for (sensor, why) in &self.failed {
            eprintln!("windrow: {sensor}: {why}");
        }
        let changed = || {
            self.tuned
                .iter()
                .filter(|(_, (_, change))| *change != Change::None)
        };
        let named = match self.trials {
            true => self.tuned.iter().take(MOST_NAMED).collect::<Vec<_>>(),
            false => changed().take(MOST_NAMED).collect(),
        };
        for (sensor, (tuned, change)) in named {
            let choice = &tuned.choice().recipe;
            let what = match (tuned.stays(), *change == Change::None) {
                (true, true) => format!("keeps {choice}"),
                (true, false) => format!("{choice}, as any sensor without a model"),
                (false, _) => format!("{choice} instead of {}", tuned.present().recipe),
            };
            show::line(&format!("{sensor}: {what}: {}", tuned.why()))?;
            if self.trials {
                show::table(
                    &["", "recipe", "profile", "found", "labelled", "incidents", "worth"],
                    rows(tuned),
                )?;
            }
        }
        let all = if self.trials {
            self.tuned.len()
        } else {
            changed().count()
        };
        if let Some(more @ 1..) = all.checked_sub(MOST_NAMED) {
            let more = show::count(more as u64);
            show::line(&format!("and {more} more; --output json tells all"))?;
        }
        let what = match self.storing {
            Storing::As(Release::Promote(_)) => "sensors have a new model",
            Storing::As(Release::Candidate) => {
                "sensors have a new model, which is a candidate until `windrow models promote`"
            }
            Storing::Nothing => "sensors would have a new model",
        };
        show::line(&format!("{} {what}", show::count(self.count(Change::Stored))))?;
        for (count, what) in [
            (
                self.count(Change::None),
                "sensors keep theirs, because no other is better by a tenth",
            ),
            (
                self.count(Change::Pinned),
                "sensors are pinned: their new models are candidates",
            ),
            (self.imported, "sensors keep a model that was not trained here"),
            (
                self.groups,
                "models of several tags together stay; they are not tuned",
            ),
            (self.few, "sensors have too few windows, and keep what they have"),
        ] {
            if count > 0 {
                show::line(&format!("{} {what}", show::count(count)))?;
            }
        }
        Ok(())
    }

    pub(super) fn verdict(&self) -> Result<(), CliError> {
        match self.failed.len() {
            0 => Ok(()),
            failed => Err(CliError::Partial(format!("{failed} sensors could not be tuned"))),
        }
    }
}

/// Returns a row for each trial, the best first.
fn rows(tuned: &Tuned) -> Vec<Vec<String>> {
    let mut order: Vec<usize> = (0..tuned.trials.len()).collect();
    order.sort_by(|a, b| {
        let worth = |at: &usize| tuned.worth(&tuned.trials[*at]);
        worth(b).total_cmp(&worth(a))
    });
    let row = |at: usize| {
        let trial = &tuned.trials[at];
        let mark = match at {
            at if at == tuned.chosen => "chosen",
            0 => "present",
            _ => "",
        };
        let profile = if trial.profile { "yes" } else { "no" };
        let mut row = vec![mark.to_owned(), trial.recipe.to_string(), profile.to_owned()];
        row.extend(match &trial.failed {
            Some(why) => [why.clone(), String::new(), String::new(), String::new()],
            None => [
                format!("{} of {INJECTIONS}", trial.found),
                format!("{} of {}", trial.labelled_found, trial.labelled),
                format!("{} of {}", trial.incidents, tuned.allowed),
                format!("{:.2}", tuned.worth(trial)),
            ],
        });
        row
    };
    order.into_iter().map(row).collect()
}

fn trial_json(tuned: &Tuned, trial: &Trial) -> Value {
    let worth = trial.failed.is_none().then(|| tuned.worth(trial));
    json!({
        "recipe": trial.recipe.to_string(), "detector": trial.recipe.options.detector.name(),
        "features": trial.recipe.features.to_string(), "profile": trial.profile, "found": trial.found,
        "labelled": trial.labelled, "labelled_found": trial.labelled_found, "incidents": trial.incidents,
        "worth": worth, "failed": trial.failed,
    })
}
