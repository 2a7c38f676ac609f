//! `windrow retrain`: trains the models again on the last windows, from the predictions in the store.
//!
//! A prediction holds the aggregate that it was made from, so no reading is read again. A sensor keeps the features and options
//! of its model.

mod gate;
mod recent;

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use futures::{StreamExt, TryStreamExt};
use serde_json::json;
use tokio::task::JoinSet;
use windrow_alerter::args::RulesArgs;
use windrow_alerter::incident::Rules;
use windrow_common::{EventTime, SensorId, parse_duration};
use windrow_model::{Features, Model, TrainOptions, train_windows};
use windrow_models::{Cause, ModelRepository, Pins, Promoted, Release};
use windrow_service::Shutdown;
use windrow_store::{Hour, Store, StoreArg};

use crate::budget::Budget;
use crate::error::CliError;
use crate::label::IncidentLabels;
use crate::output::{OutputArg, OutputFormat};
use crate::progress::steps;
use crate::run::cores;
use crate::show;
use crate::train::{Sample, metadata, options_of};
use gate::Gate;
use recent::RecentWindows;

/// Number of models whose metadata are read at once.
const READS_IN_FLIGHT: usize = 16;
/// Most sensors to name in a text for people.
const MOST_NAMED: usize = 10;

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
    rules: RulesArgs,
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
    /// A new model may raise no more incidents than this on the windows that it was trained on, and always one; otherwise
    /// the sensor keeps its model, unless that one raises even more
    #[arg(long, value_name = "RATE", default_value_t = Budget::default(), env = "WINDROW_BUDGET")]
    budget: Budget,
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
            budget: Budget::default(),
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

/// A sensor to train, and how its present model was trained.
struct Due {
    sensor: SensorId,
    version: String,
    features: Features,
    options: TrainOptions,
}

/// The result of training a fleet again.
#[derive(Debug, Default)]
pub(crate) struct Retrained {
    /// Sensors with a new model.
    models: u64,
    /// Sensors whose new model is the present one, bit for bit.
    unchanged: u64,
    /// Pinned sensors, whose new model is a candidate.
    pinned: u64,
    /// Sensors that keep a model that was not trained here.
    imported: u64,
    /// Sensors with too few windows, which keep their model.
    few: u64,
    /// Windows that were left out, because they belong to incidents that were labelled true or maintenance.
    left_out_windows: u64,
    /// Sensors with such windows.
    left_out_sensors: u64,
    /// Sensors whose new model raised too many incidents, which keep theirs.
    refused: BTreeMap<SensorId, Gate>,
    /// Sensors that could not be trained, and why.
    failed: BTreeMap<SensorId, String>,
}

/// What came of one sensor.
enum Outcome {
    Few,
    Same,
    Refused(Gate),
    New(Box<(Model, Sample)>),
    Failed(String),
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

/// Trains every sensor again whose model was trained here.
pub(crate) async fn retrain(
    store: &Store,
    how: &HowArgs,
    rules: &Rules,
    storing: Storing,
) -> Result<Retrained, CliError> {
    let repository = ModelRepository::new(store.clone());
    let mut retrained = Retrained::default();
    let due = due(&repository, &mut retrained).await?;
    let hours = hours(store, how.within).await?;
    let mut labels = IncidentLabels::read(store).await?;
    labels.catch_up(store).await?;
    let mut kept_out = labels.kept_out_of_training();
    let bar = steps("retraining", due.len() as u64);
    for due in due.chunks(at_once(&due, how)) {
        let mut recent = RecentWindows::default();
        for due in due {
            let kept_out = kept_out.remove(&due.sensor).unwrap_or_default();
            recent.want(due.sensor.clone(), due.features.clone(), most(due, how), kept_out);
        }
        recent.read(store, &hours).await?;
        for windows in recent.left_out() {
            retrained.left_out_windows += windows;
            retrained.left_out_sensors += 1;
        }
        let mut samples: BTreeMap<SensorId, Sample> = recent.into_samples().into_iter().collect();
        let mut waiting = due.iter();
        let mut training = JoinSet::new();
        loop {
            while training.len() < cores()
                && let Some(due) = waiting.next()
            {
                let sample = samples.remove(&due.sensor);
                let present = repository.load(&due.sensor, &due.version).await.ok();
                let (due, how, rules) = (due.copy(), how.clone(), *rules);
                training.spawn_blocking(move || {
                    let outcome = fit(&due, sample, present.as_ref(), &how, &rules);
                    (due, outcome)
                });
            }
            let Some(ended) = training.join_next().await else {
                break;
            };
            let (due, outcome) = ended.map_err(|error| CliError::Panicked(error.to_string()))?;
            bar.inc(1);
            retrained.note(&repository, due, outcome, storing).await?;
        }
    }
    bar.finish_and_clear();
    Ok(retrained)
}

/// Trains the fleet again every so often, beside a run, until it stops. A failure is logged, and tried again the next time.
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

/// Returns the sensors whose present model was trained here, ordered by name.
async fn due(repository: &ModelRepository, retrained: &mut Retrained) -> Result<Vec<Due>, CliError> {
    let entries = repository.list().await?.into_iter().filter(|entry| entry.current);
    let read = futures::stream::iter(entries)
        .map(|entry| async move {
            let metadata = repository.metadata(&entry.sensor, &entry.version).await?;
            Ok::<_, CliError>((entry, metadata))
        })
        .buffered(READS_IN_FLIGHT);
    let mut due = Vec::new();
    let read: Vec<_> = read.try_collect().await?;
    for (entry, metadata) in read {
        let Some((metadata, training)) = metadata.and_then(|metadata| {
            let training = metadata.training.clone()?;
            Some((metadata, training))
        }) else {
            retrained.imported += 1;
            continue;
        };
        let features = metadata
            .features
            .parse()
            .map_err(|error| format!("its features cannot be read: {error}"));
        match features.and_then(|features| Ok((features, options_of(&training.parameters)?))) {
            Ok((features, options)) => due.push(Due {
                sensor: entry.sensor,
                version: entry.version,
                features,
                options,
            }),
            Err(why) => _ = retrained.failed.insert(entry.sensor, why),
        }
    }
    Ok(due)
}

/// Returns the hours of predictions that are not too old, oldest first.
async fn hours(store: &Store, within: Duration) -> Result<Vec<Hour>, CliError> {
    let days = store.folders("predictions").await?;
    let newest = days.iter().filter_map(|day| day.strip_prefix("date=")).max();
    let newest: Option<EventTime> = newest.and_then(|day| format!("{day}T23:59:59Z").parse().ok());
    let from = newest.map(|newest| newest.saturating_sub(within));
    Ok(store.hours("predictions", from, None).await?)
}

/// Returns how many windows a sensor is trained on at most.
fn most(due: &Due, how: &HowArgs) -> usize {
    due.options.most_rows().min(how.windows as usize)
}

/// Returns how many sensors' windows fit into the memory.
fn at_once(due: &[Due], how: &HowArgs) -> usize {
    let bytes = |due: &Due| most(due, how) * 8 * (1 + due.features.len());
    let largest = due.iter().map(bytes).max().unwrap_or(1);
    ((how.memory_mib as usize) << 20).div_euclid(largest).max(1)
}

/// Fits a sensor's model and compares it with the present one.
fn fit(due: &Due, sample: Option<Sample>, present: Option<&Model>, how: &HowArgs, rules: &Rules) -> Outcome {
    let Some(sample) = sample.filter(|sample| sample.starts.len() >= how.least as usize) else {
        return Outcome::Few;
    };
    let options = TrainOptions {
        max_rows: most(due, how),
        ..due.options.clone()
    };
    let model = match train_windows(sample.windows(), due.features.clone(), &options) {
        Ok((model, _)) => model,
        Err(why) => return Outcome::Failed(why.to_string()),
    };
    if model.version().is_ok_and(|version| version == due.version) {
        return Outcome::Same;
    }
    let gate = Gate::of(&model, present, &sample, rules, how.budget.per_month());
    match gate.is_open() {
        true => Outcome::New(Box::new((model, sample))),
        false => Outcome::Refused(gate),
    }
}

impl Due {
    fn copy(&self) -> Self {
        Self {
            sensor: self.sensor.clone(),
            version: self.version.clone(),
            features: self.features.clone(),
            options: self.options.clone(),
        }
    }
}

impl Retrained {
    /// Stores what came of a sensor, and counts it.
    async fn note(
        &mut self,
        repository: &ModelRepository,
        due: Due,
        outcome: Outcome,
        storing: Storing,
    ) -> Result<(), CliError> {
        match outcome {
            Outcome::Few => self.few += 1,
            Outcome::Same => self.unchanged += 1,
            Outcome::Refused(gate) => _ = self.refused.insert(due.sensor, gate),
            Outcome::Failed(why) => _ = self.failed.insert(due.sensor, why),
            Outcome::New(new) => {
                let (model, sample) = *new;
                let Storing::As(release) = storing else {
                    self.models += 1;
                    return Ok(());
                };
                let metadata = metadata(&model, &sample, &due.options);
                let released =
                    repository.release(&due.sensor, &model, Some(&metadata), Cause::Retrain, release);
                match released.await {
                    Ok(released) if released.promoted == Some(Promoted::Pinned) => self.pinned += 1,
                    Ok(_) => self.models += 1,
                    Err(error) if error.is_of_one_model() => {
                        self.failed.insert(due.sensor, error.to_string());
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    fn json(&self) -> serde_json::Value {
        json!({
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

    fn say(&self, storing: Storing) -> Result<(), CliError> {
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
