//! Selects the sensors of a command, and collects the outcome for each.

use std::collections::BTreeMap;
use std::future::Future;

use futures::{StreamExt, TryStreamExt};
use serde_json::json;
use windrow_common::SensorId;
use windrow_models::RepositoryError;

use crate::error::CliError;
use crate::output::OutputFormat;
use crate::show;

/// How many sensors are changed at the same time.
const IN_FLIGHT: usize = 16;

/// Most sensors to name in a text for people.
const MOST_NAMED: usize = 20;

/// What became of the sensors that a command was for.
#[derive(Default)]
pub(super) struct Outcomes {
    /// The changes, by sensor.
    pub(super) changed: BTreeMap<SensorId, Change>,
    /// The sensors left unchanged, by reason.
    pub(super) left: BTreeMap<&'static str, Vec<SensorId>>,
    failed: Vec<(SensorId, String)>,
}

/// A version that took the place of another one.
pub(super) struct Change {
    pub(super) version: String,
    pub(super) replaced: Option<String>,
}

/// What became of one sensor.
pub(super) enum Outcome {
    Changed(Change),
    Left(&'static str),
}

impl Outcomes {
    /// Does something for many sensors at the same time. An error of one model leaves the others alone.
    pub(super) async fn of<T, F>(
        sensors: impl IntoIterator<Item = (SensorId, T)>,
        change: impl Fn(SensorId, T) -> F,
    ) -> Result<Self, CliError>
    where
        F: Future<Output = Result<Outcome, RepositoryError>>,
    {
        let mut outcomes = futures::stream::iter(sensors)
            .map(|(sensor, with)| {
                let changing = change(sensor.clone(), with);
                async move {
                    match changing.await {
                        Ok(outcome) => Ok((sensor, Ok(outcome))),
                        Err(error) if error.is_of_one_model() => Ok((sensor, Err(error.to_string()))),
                        Err(error) => Err(error),
                    }
                }
            })
            .buffer_unordered(IN_FLIGHT);
        let mut all = Self::default();
        loop {
            let (sensor, outcome) = match outcomes.try_next().await {
                Ok(Some(one)) => one,
                Ok(None) => break,
                Err(error) => {
                    let done = show::count(all.changed.len() as u64);
                    eprintln!(
                        "windrow: {done} sensors were changed before the store failed: run the command again"
                    );
                    return Err(error.into());
                }
            };
            match outcome {
                Ok(Outcome::Changed(change)) => _ = all.changed.insert(sensor, change),
                Ok(Outcome::Left(why)) => all.leave(sensor, why),
                Err(why) => all.failed.push((sensor, why)),
            }
        }
        Ok(all)
    }

    /// Adds a sensor that is left as it is.
    pub(super) fn leave(&mut self, sensor: SensorId, why: &'static str) {
        self.left.entry(why).or_default().push(sensor);
    }

    /// Shows all of them; `verb` says what was done, as in `promoted`.
    pub(super) fn show(mut self, verb: &str, format: OutputFormat) -> Result<(), CliError> {
        self.failed.sort();
        for (sensor, why) in &self.failed {
            eprintln!("windrow: {sensor}: {why}");
        }
        match format {
            OutputFormat::Json => show::json(&self.json(verb))?,
            OutputFormat::Table => self.show_table(verb)?,
        }
        match self.failed.len() {
            0 => Ok(()),
            failed => Err(CliError::Partial(format!(
                "{} could not be {verb}",
                counted(failed)
            ))),
        }
    }

    fn json(&self, verb: &str) -> serde_json::Value {
        let changed = self.changed.iter().map(|(sensor, change)| {
            json!({"sensor": sensor.to_string(), "version": change.version, "replaced": change.replaced})
        });
        let left = self.left.iter().flat_map(|(why, sensors)| {
            sensors
                .iter()
                .map(move |sensor| json!({"sensor": sensor.to_string(), "why": why}))
        });
        let failed = self.failed.iter();
        let failed = failed.map(|(sensor, why)| json!({"sensor": sensor.to_string(), "why": why}));
        json!({
            verb.replace(' ', "_"): changed.collect::<Vec<_>>(), "left": left.collect::<Vec<_>>(),
            "failed": failed.collect::<Vec<_>>(),
        })
    }

    fn show_table(&self, verb: &str) -> Result<(), CliError> {
        let mut headings = vec!["sensor", "version"];
        if self.changed.values().any(|change| change.replaced.is_some()) {
            headings.push("instead of");
        }
        let rows = self.changed.iter().take(MOST_NAMED).map(|(sensor, change)| {
            let replaced = change.replaced.clone().unwrap_or_default();
            let mut row = vec![sensor.to_string(), change.version.clone(), replaced];
            row.truncate(headings.len());
            row
        });
        if !self.changed.is_empty() {
            show::table(&headings, rows.collect())?;
        }
        if let Some(more @ 1..) = self.changed.len().checked_sub(MOST_NAMED) {
            let more = show::count(more as u64);
            show::line(&format!("and {more} more; --output json names all"))?;
        }
        show::line(&format!("{verb}: {}", counted(self.changed.len())))?;
        for (why, sensors) in &self.left {
            let named: Vec<String> = sensors.iter().take(3).map(ToString::to_string).collect();
            let more = if sensors.len() > 3 { ", …" } else { "" };
            show::line(&format!(
                "left as is: {}, {why}: {}{more}",
                counted(sensors.len()),
                named.join(", ")
            ))?;
        }
        Ok(())
    }
}

/// Formats a number of sensors.
fn counted(sensors: usize) -> String {
    match sensors {
        1 => "1 sensor".to_owned(),
        sensors => format!("{} sensors", show::count(sensors as u64)),
    }
}
