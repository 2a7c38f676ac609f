//! The sections of a report that say what needs attention: the budget, drifting sensors, and models that no longer fit.

use serde_json::{Value, json};
use windrow_common::{EventTime, SensorId};
use windrow_models::{ModelRepository, RepositoryError};

use super::level::Drift;
use super::report::{Findings, date};
use super::sensors::Known;
use super::spending::{Rate, Spending, Verdict};
use crate::budget::{Budget, MONTH, Promise};
use crate::error::CliError;
use crate::show;

/// A model with fewer windows says little about the share that it flags.
const LEAST_SCORED: u64 = 100;

/// What became of the budget.
#[derive(Debug)]
pub(super) struct BudgetKept {
    budget: Budget,
    /// The promise, if `retrain --budget` made it.
    promise: Option<Promise>,
    /// Months of all sensors, counted by scored windows.
    months: f64,
    /// Sensors whose last threshold differs from the promised one.
    elsewhere: u64,
    rate: Rate,
    spending: Spending,
}

/// A model that flags more of its windows than others do.
#[derive(Debug)]
pub(super) struct LoudModel {
    sensor: SensorId,
    /// Share of its windows that are beyond its boundary.
    flagged: f64,
    /// When it was stored, if that is known.
    created: Option<EventTime>,
}

impl BudgetKept {
    /// Judges the budget that is asked for, or else the one that was promised; `None` if there is none, or nothing was scored.
    pub(super) fn of(
        asked: Option<Budget>,
        promise: Option<Promise>,
        spending: Spending,
        sensors: &[Known<'_>],
    ) -> Option<Self> {
        let promise = promise.filter(|promise| asked.is_none_or(|asked| asked == promise.budget));
        let budget = asked.or(promise.as_ref().map(|promise| promise.budget))?;
        #[allow(clippy::cast_precision_loss)] // A share of a month.
        let months = sensors
            .iter()
            .map(|known| known.scored_time.as_secs_f64() / MONTH.as_secs_f64())
            .sum();
        let promised = promise.as_ref().map(|promise| promise.threshold);
        let is_elsewhere = |known: &&Known<'_>| {
            known
                .newest
                .is_some_and(|(_, threshold)| promised.is_some() && threshold != promised)
        };
        let elsewhere = sensors.iter().filter(is_elsewhere).count() as u64;
        Some(Self {
            budget,
            promise,
            months,
            elsewhere,
            rate: spending.rate(months)?,
            spending,
        })
    }

    fn verdict(&self) -> Verdict {
        self.rate.verdict(self.budget.per_month())
    }

    fn show(&self, most: usize) -> Result<(), CliError> {
        let Rate { rate, low, high } = self.rate;
        show::line(&format!("\nBudget: {} false incidents", self.budget))?;
        if let Some(Promise { threshold, since, .. }) = &self.promise {
            let day = date(*since);
            show::line(&format!(
                "promised by `windrow retrain --budget` since {day}, now with the threshold {threshold:.2}; windows before that day count, too"
            ))?;
        }
        if self.elsewhere > 0 {
            show::line(&format!(
                "{} sensors were last scored by another threshold: they have another model since, or no windows since; `windrow \
                 retrain --budget '{}'` gives this one to all but imported models",
                show::count(self.elsewhere),
                self.budget
            ))?;
        }
        show::line(&format!(
            "achieved: {rate:.2} a sensor-month ({low:.2} to {high:.2} by chance), {} incidents labelled false or not labelled in \
             {:.1} sensor-months: {}",
            show::count(self.spending.incidents),
            self.months,
            self.verdict().text()
        ))?;
        let rows = self.spending.most(most).into_iter().map(|(sensor, count)| {
            let share = 100.0 * self.spending.share(count);
            vec![sensor.to_string(), show::count(count), format!("{share:.1} %")]
        });
        show::table(&["sensor", "incidents", "of all"], rows.collect())
    }

    fn json(&self, most: usize) -> Value {
        let sensors = self.spending.most(most).into_iter().map(|(sensor, count)| {
            json!({ "sensor": sensor.to_string(), "incidents": count, "share": self.spending.share(count) })
        });
        json!({
            "budget": self.budget.to_string(), "promised_per_sensor_month": self.budget.per_month(),
            "promised_at": self.promise.as_ref().map(|promise| promise.since.to_string()),
            "threshold": self.promise.as_ref().map(|promise| promise.threshold),
            "other_threshold": self.elsewhere, "sensor_months": self.months, "incidents": self.spending.incidents,
            "per_sensor_month": self.rate.rate, "low": self.rate.low, "high": self.rate.high,
            "verdict": self.verdict().name(), "sensors": sensors.collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
impl LoudModel {
    pub(super) fn flagged(&self) -> (&SensorId, f64) {
        (&self.sensor, self.flagged)
    }
}

/// Returns the sensors that drift, the furthest first.
pub(super) fn drifting(sensors: &mut [Known<'_>]) -> Vec<(SensorId, Drift)> {
    let drift = |known: &mut Known<'_>| Some((known.sensor.clone(), known.level.drift()?));
    let mut drifting: Vec<_> = sensors.iter_mut().filter_map(drift).collect();
    // A sensor that does not move within a day counts as infinitely far.
    let times = |drift: &Drift| drift.times().unwrap_or(f64::INFINITY);
    drifting.sort_by(|(a, of_a), (b, of_b)| times(of_b).total_cmp(&times(of_a)).then_with(|| a.cmp(b)));
    drifting
}

/// Returns the models that flag the largest share of their windows.
pub(super) async fn loud_models(
    models: &ModelRepository,
    sensors: &[Known<'_>],
    most: usize,
) -> Result<Vec<LoudModel>, RepositoryError> {
    #[allow(clippy::cast_precision_loss)] // Far below 2^53. Repeats count twice, and are few.
    let flagged = |known: &Known<'_>| (known.anomalies.min(known.scored)) as f64 / known.scored as f64;
    let known = sensors
        .iter()
        .filter(|known| known.scored >= LEAST_SCORED && known.anomalies > 0);
    let mut loud: Vec<_> = known.map(|known| (&known.sensor, flagged(known))).collect();
    loud.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(b.0)));
    let mut found = Vec::new();
    for (sensor, flagged) in loud.into_iter().take(most) {
        let created = match created(models, sensor).await {
            Ok(created) => created,
            // List a damaged model too, without the time when it was stored.
            Err(error) if error.is_of_one_model() => None,
            Err(error) => return Err(error),
        };
        found.push(LoudModel {
            sensor: sensor.clone(),
            flagged,
            created,
        });
    }
    Ok(found)
}

/// Returns when the current version of a sensor's model was stored.
async fn created(models: &ModelRepository, sensor: &SensorId) -> Result<Option<EventTime>, RepositoryError> {
    let Some(version) = models.current(sensor).await? else {
        return Ok(None);
    };
    let metadata = models.metadata(sensor, &version).await?;
    Ok(metadata.map(|metadata| metadata.created))
}

impl Findings<'_> {
    pub(super) fn show_attention(&self) -> Result<(), CliError> {
        if let Some(budget) = &self.budget {
            budget.show(self.most)?;
        }
        self.show_drifting()?;
        self.show_loud()
    }

    /// Adds these sections to the report.
    pub(super) fn add_attention(&self, report: &mut Value) {
        let drifting = self.drifting.iter().map(|(sensor, drift)| {
            json!({
                "sensor": sensor.to_string(), "moved": drift.moved, "usual": drift.usual, "days": drift.days,
                "tau": drift.tau,
            })
        });
        let loud = self.loud.iter().map(|model| {
            json!({
                "sensor": model.sensor.to_string(), "flagged": model.flagged, "incidents": self.incidents.anomalies(&model.sensor),
                "created": model.created.map(|created| created.to_string()),
            })
        });
        report["budget"] = json!(self.budget.as_ref().map(|budget| budget.json(self.most)));
        report["drifting"] = drifting.collect();
        report["loud_models"] = loud.collect();
    }

    fn show_drifting(&self) -> Result<(), CliError> {
        if self.drifting.is_empty() {
            return Ok(());
        }
        let number = show::count(self.drifting.len() as u64);
        show::line(&format!(
            "\n{number} drifting sensors: their level moves from day to day"
        ))?;
        let rows = self.drifting.iter().take(self.most).map(|(sensor, drift)| {
            let times = drift.times().map(|times| format!("{times:.1}"));
            vec![
                sensor.to_string(),
                format!("{:+.4e}", drift.moved),
                drift.days.to_string(),
                times.unwrap_or_default(),
            ]
        });
        show::table(
            &["sensor", "moved by", "in days", "times a usual day"],
            rows.collect(),
        )
    }

    fn show_loud(&self) -> Result<(), CliError> {
        if self.loud.is_empty() {
            return Ok(());
        }
        show::line("\nModels that flag the largest share of their windows")?;
        let rows = self.loud.iter().map(|model| {
            vec![
                model.sensor.to_string(),
                format!("{:.2} %", 100.0 * model.flagged),
                show::count(self.incidents.anomalies(&model.sensor)),
                model.created.map(date).unwrap_or_default(),
            ]
        });
        show::table(&["sensor", "flagged", "incidents", "model of"], rows.collect())
    }
}
