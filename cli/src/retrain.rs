//! `windrow retrain`: trains the models again on the last windows, from the predictions in the store.
//!
//! A prediction holds the aggregate that it was made from, so no reading is read again. A sensor keeps the features and options
//! of its model.

mod calibrate;
mod due;
mod gate;
mod groups;
mod outcome;
mod recent;

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use windrow_alerter::args::AnomalyArgs;
use windrow_common::{EventTime, SensorId, parse_duration};
use windrow_incidents::Rules;
use windrow_model::{Features, Model, TrainOptions, train_windows};
use windrow_models::{ModelRepository, Pins, Release};
use windrow_service::Shutdown;
use windrow_store::{Hour, Store, StoreArg};

use crate::budget::{Budget, Promise};
use crate::error::CliError;
use crate::fits::Fits;
use crate::label::{IncidentLabels, KeptOut};
use crate::output::{OutputArg, OutputFormat};
use crate::progress::steps;
use crate::show;
use crate::train::Sample;
use calibrate::{Counts, wanted};
use due::{at_once, most};
use gate::Gate;
use outcome::{Outcome, Retrained};

pub(crate) use due::{Due, due, hours};
pub(crate) use recent::RecentWindows;

/// Most sensors whose windows are held out to find the threshold.
const MOST_CALIBRATED: usize = 2_000;

#[derive(Args, Debug)]
#[command(after_help = "\
The windows of incidents that `windrow label` marks as true or maintenance are left out, and older ones take their place.

Example: every night, train on the last 5,000 windows of each sensor
  windrow retrain --store ./store

Example: see what it would do
  windrow retrain --store ./store --dry-run")]
pub(crate) struct RetrainArgs {
    #[command(flatten)]
    store: StoreArg,
    #[command(flatten)]
    how: HowArgs,
    /// Store the new models as candidates, which do not score until `windrow models promote`
    #[arg(long, env = "WINDROW_CANDIDATE")]
    candidate: bool,
    /// Store nothing, and say what would be stored
    #[arg(long, env = "WINDROW_DRY_RUN")]
    dry_run: bool,
    #[command(flatten)]
    rules: AnomalyArgs,
    #[command(flatten)]
    output: OutputArg,
}

/// How models are trained again.
#[derive(Args, Clone, Debug)]
pub(crate) struct HowArgs {
    /// Number of windows to train a sensor on, the newest that it has: 2 to 20,000, and at most 5,000 with other kernels than
    /// rbf
    #[arg(long, value_name = "N", default_value_t = HowArgs::default().windows, env = "WINDROW_RETRAIN_WINDOWS", value_parser = clap::value_parser!(u32).range(2..=20_000))]
    windows: u32,
    /// Windows that start longer ago than this, by event time, are not used
    #[arg(long, value_name = "DURATION", default_value = "90d", env = "WINDROW_RETRAIN_WITHIN", value_parser = parse_duration)]
    within: Duration,
    /// A sensor with fewer windows keeps its model
    #[arg(long, value_name = "N", default_value_t = HowArgs::default().least, env = "WINDROW_RETRAIN_LEAST")]
    least: u32,
    /// Most false incidents, such as '1 per sensor-month' (or -day, -week, -year). Sets the models' threshold so that
    /// windows not used for training keep this rate. A new model that raises more than this, and more than one, on its
    /// own training windows is not stored, unless the present model raises even more [default: 1 per sensor-month, and
    /// the threshold stays as it is]
    #[arg(long, value_name = "RATE", env = "WINDROW_BUDGET")]
    budget: Option<Budget>,
    /// Memory for windows, in MiB; a fleet that needs more is trained in several passes over the predictions
    #[arg(long, value_name = "MIB", default_value_t = HowArgs::default().memory_mib, env = "WINDROW_RETRAIN_MEMORY_MIB", value_parser = clap::value_parser!(u32).range(1..))]
    memory_mib: u32,
}

impl Default for HowArgs {
    fn default() -> Self {
        Self {
            windows: 5_000,
            within: Duration::from_secs(90 * 86_400),
            least: 300,
            budget: None,
            memory_mib: 1_024,
        }
    }
}

/// What retraining does with new models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Storing {
    /// They are stored and released.
    As(Release),
    /// They are dropped.
    Nothing,
}

impl RetrainArgs {
    pub(crate) async fn run(self) -> Result<(), CliError> {
        let rules = self
            .rules
            .rules()
            .map_err(|error| CliError::Usage(error.to_string()))?;
        let store = self.store.open()?;
        let storing = match (self.dry_run, self.candidate) {
            (true, _) => Storing::Nothing,
            (false, true) => Storing::As(Release::Candidate),
            (false, false) => Storing::As(Release::Promote(Pins::Respect)),
        };
        let retrained = retrain(&store, &self.how, &rules, storing).await?;
        match self.output.output {
            OutputFormat::Json => show::json(&retrained.json())?,
            OutputFormat::Table => retrained.say(storing)?,
        }
        match retrained.failed.len() {
            0 => Ok(()),
            failed => Err(CliError::Partial(format!(
                "{failed} sensors could not be trained again"
            ))),
        }
    }
}

/// What all parts of a retraining share.
struct Retraining<'a> {
    store: &'a Store,
    repository: ModelRepository,
    /// The hours whose predictions may be trained on.
    hours: Vec<Hour>,
    how: &'a HowArgs,
    rules: Rules,
    storing: Storing,
    /// What the labels keep out of training.
    kept_out: KeptOut,
}

impl Retraining<'_> {
    /// Returns the stretches of a sensor that are kept out of training.
    fn kept_out_of(&self, sensor: &SensorId) -> Vec<(EventTime, EventTime)> {
        self.kept_out.get(sensor).cloned().unwrap_or_default()
    }
}

/// Trains every sensor again whose model was trained here.
pub(crate) async fn retrain(
    store: &Store,
    how: &HowArgs,
    rules: &Rules,
    storing: Storing,
) -> Result<Retrained, CliError> {
    let mut labels = IncidentLabels::read(store).await?;
    labels.catch_up(store).await?;
    let retraining = Retraining {
        store,
        repository: ModelRepository::new(store.clone()),
        hours: hours(store, how.within).await?,
        how,
        rules: *rules,
        storing,
        kept_out: labels.kept_out_of_training(),
    };
    let found = due(&retraining.repository, |_| true).await?;
    let mut retrained = Retrained {
        imported: found.imported,
        failed: found.failed,
        ..Retrained::default()
    };
    groups::retrain(&retraining, found.of_devices, &mut retrained).await?;
    if let Some(budget) = how.budget {
        let counts = calibrate(&retraining, &found.due).await?;
        retrained.threshold = Some(counts.threshold(budget.per_month()));
    }
    retrain_sensors(&retraining, &found.due, &mut retrained).await?;
    if let (Some(budget), Some(Ok(threshold)), Storing::As(Release::Promote(_))) =
        (how.budget, retrained.threshold, storing)
    {
        let since = EventTime::now();
        let promise = Promise {
            budget,
            threshold,
            since,
        };
        promise.write(store).await?;
    }
    Ok(retrained)
}

/// Trains the models of single sensors again, a memory's worth of sensors at a time.
async fn retrain_sensors(
    retraining: &Retraining<'_>,
    due: &[Due],
    retrained: &mut Retrained,
) -> Result<(), CliError> {
    let Retraining {
        repository,
        how,
        rules,
        storing,
        ..
    } = retraining;
    let (rules, storing) = (*rules, *storing);
    let threshold = retrained.threshold.and_then(Result::ok);
    let bar = steps("retraining", due.len() as u64);
    let fits = Fits::on_all_cores();
    for due in due.chunks(at_once(due, how)) {
        let mut recent = RecentWindows::default();
        for due in due {
            let kept_out = retraining.kept_out_of(&due.sensor);
            recent.want(due.sensor.clone(), due.features.clone(), most(due, how), kept_out);
        }
        recent.read(retraining.store, &retraining.hours).await?;
        for windows in recent.left_out() {
            retrained.left_out_windows += windows;
            retrained.left_out_sensors += 1;
        }
        let mut samples: BTreeMap<SensorId, Sample> = recent.into_samples().into_iter().collect();
        let with_samples = due.iter().map(|due| (due.copy(), samples.remove(&due.sensor)));
        let with_samples: Vec<(Due, Option<Sample>)> = with_samples.collect();
        let work = |fits: Fits, (due, sample): (Due, Option<Sample>)| {
            let (repository, how) = (repository.clone(), (*how).clone());
            async move {
                // A damaged model counts as none. A failure of the store is an error, so that no new model is stored
                // without the comparison.
                let present = match repository.load(&due.sensor, &due.version).await {
                    Ok(present) => Some(present),
                    Err(error) if error.is_of_one_model() => None,
                    Err(error) => return Err(CliError::from(error)),
                };
                let fitted = fits.run(move || {
                    let outcome = fit(&due, sample, present.as_ref(), threshold, &how, &rules);
                    (due, outcome)
                });
                let (due, outcome) = fitted.await?;
                let ended = outcome.stored(&repository, &due, storing).await?;
                Ok((due.sensor, ended))
            }
        };
        fits.for_each(with_samples, work, |(sensor, ended)| {
            bar.inc(1);
            retrained.note(sensor, ended);
        })
        .await?;
    }
    bar.finish_and_clear();
    Ok(())
}

/// Retrains the fleet every `every`, beside a run, until the run stops. Logs a failure and tries again at the next
/// interval.
pub(crate) async fn retrain_every(every: Duration, store: Store, rules: Rules, mut shutdown: Shutdown) {
    let (how, storing) = (HowArgs::default(), Storing::As(Release::Promote(Pins::Respect)));
    loop {
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            () = shutdown.stopping() => return,
        }
        // A model is complete when it is stored, so a stop may come between any two.
        let retrained = tokio::select! {
            retrained = retrain(&store, &how, &rules, storing) => retrained,
            () = shutdown.stopping() => return,
        };
        match retrained {
            Ok(retrained) => tracing::info!(
                models = retrained.models,
                refused = retrained.refused.len(),
                few = retrained.few,
                left_out_windows = retrained.left_out_windows,
                failed = retrained.failed.len(),
                "models are trained again"
            ),
            Err(error) => {
                tracing::error!(%error, "models cannot be trained again; the present ones go on scoring");
            }
        }
    }
}

/// Counts the incidents in held-out windows of a sample of sensors, spread evenly over the fleet.
async fn calibrate(retraining: &Retraining<'_>, due: &[Due]) -> Result<Counts, CliError> {
    let Retraining { how, rules, .. } = retraining;
    let most_sensors = MOST_CALIBRATED.min((at_once(due, how) * 3 / 4).max(1));
    let every = due.len().div_ceil(most_sensors).max(1);
    let mut recent = RecentWindows::default();
    for due in due.iter().step_by(every) {
        let kept_out = retraining.kept_out_of(&due.sensor);
        let wanted = wanted(most(due, how));
        recent.want(due.sensor.clone(), due.features.clone(), wanted, kept_out);
    }
    recent.read(retraining.store, &retraining.hours).await?;
    let mut samples: BTreeMap<SensorId, Sample> = recent.into_samples().into_iter().collect();
    let bar = steps("calibrating", samples.len() as u64);
    let (mut counts, fits) = (Counts::default(), Fits::on_all_cores());
    let with_samples = due.iter().filter_map(|due| {
        let sample = samples.remove(&due.sensor)?;
        let is_enough = sample.starts.len() >= how.least as usize;
        is_enough.then(|| (due.features.clone(), due.options(how), sample))
    });
    let with_samples: Vec<_> = with_samples.collect();
    let work = |fits: Fits, (features, options, sample): (Features, TrainOptions, Sample)| {
        let rules = *rules;
        async move {
            fits.run(move || Counts::of(&sample, &features, &options, &rules))
                .await
        }
    };
    fits.for_each(with_samples, work, |counted| {
        counts.add(&counted);
        bar.inc(1);
    })
    .await?;
    bar.finish_and_clear();
    Ok(counts)
}

/// Fits a sensor's model and compares it with the present one.
fn fit(
    due: &Due,
    sample: Option<Sample>,
    present: Option<&Model>,
    threshold: Option<f64>,
    how: &HowArgs,
    rules: &Rules,
) -> Outcome {
    let Some(sample) = sample.filter(|sample| sample.starts.len() >= how.least as usize) else {
        return Outcome::Few;
    };
    // Without a new threshold the model keeps the one that it has.
    let threshold = threshold.or_else(|| present.and_then(Model::threshold));
    let trained = train_windows(sample.windows(), due.features.clone(), &due.options(how));
    let model = trained.and_then(|(model, _)| Ok(model.with_threshold(threshold)?));
    let model = match model {
        Ok(model) => model,
        Err(why) => return Outcome::Failed(why.to_string()),
    };
    if model.version().is_ok_and(|version| version == due.version) {
        return Outcome::Same;
    }
    let gate = Gate::of(
        &model,
        present,
        &sample,
        rules,
        how.budget.unwrap_or_default().per_month(),
    );
    match gate.is_open() {
        true => Outcome::New(Box::new((model, sample))),
        false => Outcome::Refused(gate),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use windrow_common::{EventTime, Length};
    use windrow_model::TrainOptions;

    /// Four hundred windows of a minute, around 20.
    fn sample() -> Sample {
        let starts = (0..400).map(|at| EventTime::from_millis(at * 60_000)).collect();
        let values = (0..400).map(|at| 20.0 + f64::from((at * 7_919) % 1_000) / 1_000.0);
        Sample::of_all(starts, values.collect(), Length::from_millis(60_000))
    }

    #[test]
    fn a_model_keeps_the_threshold_of_the_one_before_it_unless_there_is_a_new_one() {
        let due = Due {
            sensor: "d/t".parse().unwrap(),
            version: "0123456789abcdef".to_owned(),
            features: "mean".parse().unwrap(),
            options: TrainOptions::default(),
        };
        let windows = sample();
        let present = train_windows(windows.windows(), due.features.clone(), &due.options)
            .unwrap()
            .0;
        let present = present.with_threshold(Some(0.7)).unwrap();
        let threshold = |present: Option<&Model>, new| {
            let outcome = fit(
                &due,
                Some(sample()),
                present,
                new,
                &HowArgs::default(),
                &Rules::default(),
            );
            match outcome {
                Outcome::New(new) => new.0.threshold(),
                _ => panic!("a new model"),
            }
        };
        assert_eq!(threshold(Some(&present), None), Some(0.7));
        assert_eq!(threshold(Some(&present), Some(0.4)), Some(0.4));
        assert_eq!(threshold(None, None), None);
    }
}
