//! `windrow models tune`: chooses detector, kernel and features of each sensor by back-test, and says why.

mod outcome;
mod windows;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use windrow_alerter::args::AnomalyArgs;
use windrow_common::{Aggregate, EventTime, SensorId, SensorPattern, parse_duration};
use windrow_incidents::Rules;
use windrow_model::Model;
use windrow_models::{Metadata, ModelRepository, Pins, Promoted, PromotedBy, Release};
use windrow_producer::args::{ColumnArgs, WindowArgs};
use windrow_store::StoreArg;
use windrow_tuning::{History, Trial, TuneError, recipes, tune};

use crate::budget::Budget;
use crate::error::CliError;
use crate::fits::Fits;
use crate::label::{IncidentLabel, IncidentLabels, KeptOut};
use crate::output::{OutputArg, OutputFormat};
use crate::progress::steps;
use crate::retrain::Storing;
use crate::show;
use crate::train::{Sample, metadata};
use outcome::{Change, Ended, Report};
use windows::{Gathered, Passes};

#[derive(Args, Debug)]
#[command(after_help = "\
Each recipe is trained on the older three quarters of a sensor's windows. Counted are its incidents on the newest quarter, and the
anomalies that it finds, of 60 that are put into copies of these windows and of those that `windrow label` says were true. The
present model stays unless another finds a tenth more. Using up --budget once more than chance allows costs as much as a tenth of
the anomalies.

Example: see what suits each sensor of a machine
  windrow models tune --store ./store 'pump-7/*' --dry-run --trials

Example: choose for the whole fleet, and let the present models score until `windrow models promote`
  windrow models tune --store ./store --candidate")]
pub(crate) struct TuneArgs {
    #[command(flatten)]
    store: StoreArg,
    /// Sensors to tune, as DEVICE/TAG with * for any text; all sensors if none is named
    #[arg(value_name = "SENSOR")]
    sensors: Vec<SensorPattern>,
    /// Read the windows from this source, as `windrow models train` does, instead of the stored predictions
    #[arg(long, value_name = "SOURCE", env = "WINDROW_TUNE_SOURCE")]
    source: Option<String>,
    #[command(flatten)]
    columns: ColumnArgs,
    #[command(flatten)]
    window: WindowArgs,
    /// Number of windows of a sensor to look at, the newest that it has: 100 to 20,000
    #[arg(long, value_name = "N", default_value_t = 10_000, env = "WINDROW_TUNE_WINDOWS", value_parser = clap::value_parser!(u32).range(100..=20_000))]
    windows: u32,
    /// Predictions of windows that start longer ago than this, by event time, are not read
    #[arg(long, value_name = "DURATION", default_value = "90d", env = "WINDROW_TUNE_WITHIN", value_parser = parse_duration)]
    within: Duration,
    /// A sensor with fewer windows keeps its model
    #[arg(long, value_name = "N", default_value_t = 300, env = "WINDROW_TUNE_LEAST")]
    least: u32,
    /// Most false incidents, such as '1 per sensor-month' (or -day, -week, -year) [default: 1 per sensor-month]
    #[arg(long, value_name = "RATE", env = "WINDROW_BUDGET")]
    budget: Option<Budget>,
    /// Memory for windows, in MiB; a fleet that needs more is tuned in several passes over the predictions. A source is read
    /// once, with all of its windows in memory
    #[arg(long, value_name = "MIB", default_value_t = 1_024, env = "WINDROW_TUNE_MEMORY_MIB", value_parser = clap::value_parser!(u32).range(1..))]
    memory_mib: u32,
    /// Report the result of every recipe, not only of the present and the chosen one
    #[arg(long, env = "WINDROW_TRIALS")]
    trials: bool,
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

impl TuneArgs {
    pub(crate) async fn run(self) -> Result<(), CliError> {
        let rules = self
            .rules
            .rules()
            .map_err(|error| CliError::Usage(error.to_string()))?;
        let storing = match (self.dry_run, self.candidate) {
            (true, _) => Storing::Nothing,
            (false, true) => Storing::As(Release::Candidate),
            (false, false) => Storing::As(Release::Promote(Pins::Respect)),
        };
        // A source may be the first thing that a store hears of.
        let store = match self.source {
            Some(_) => self.store.create().await?,
            None => self.store.open()?,
        };
        let repository = ModelRepository::new(store.clone());
        let mut labels = IncidentLabels::read(&store).await?;
        labels.catch_up(&store).await?;
        let how = How {
            rules,
            per_month: self.budget.unwrap_or_default().per_month(),
            least: self.least as usize,
            storing,
            wrong: labels.stretches(IncidentLabel::is_anomaly),
            left_out: labels.stretches(|label| label.is_kept_out_of_training() && !label.is_anomaly()),
        };
        let mut report = Report::new(self.trials, storing);
        let mut passes = Passes::new(&self, &repository, &store, &mut report).await?;
        let (how, fits) = (Arc::new(how), Fits::on_all_cores());
        let bar = steps("tuning", passes.sensors());
        while let Some(gathered) = passes.next(&store).await? {
            let work = |fits: Fits, one: Gathered| {
                let (how, repository) = (Arc::clone(&how), repository.clone());
                async move {
                    let sensor = one.sensor.clone();
                    Ok((sensor, how.tune(one, &repository, fits).await?))
                }
            };
            fits.for_each(gathered, work, |(sensor, ended)| {
                bar.inc(1);
                report.note(sensor, ended);
            })
            .await?;
        }
        bar.finish_and_clear();
        match self.output.output {
            OutputFormat::Json => show::json(&report.json())?,
            OutputFormat::Table => report.say()?,
        }
        report.verdict()
    }

    fn is_wanted(&self, sensor: &SensorId) -> bool {
        self.sensors.is_empty() || self.sensors.iter().any(|pattern| pattern.matches(sensor))
    }
}

/// How each sensor is tuned.
struct How {
    rules: Rules,
    per_month: f64,
    least: usize,
    storing: Storing,
    /// Stretches in which people found something wrong that a model should detect.
    wrong: KeptOut,
    /// Stretches of other events that no model should learn.
    left_out: KeptOut,
}

impl How {
    /// Tunes one sensor, and stores its new model if there is one.
    async fn tune(
        &self,
        gathered: Gathered,
        repository: &ModelRepository,
        fits: Fits,
    ) -> Result<Ended, CliError> {
        if gathered.windows.len() < self.least {
            return Ok(Ended::Few);
        }
        let sensor = gathered.sensor.clone();
        // A damaged model counts as none. A failure of the store is an error, so that the threshold is not lost.
        let threshold = match &gathered.version {
            None => None,
            Some(version) => match repository.load(&sensor, version).await {
                Ok(present) => present.threshold(),
                Err(error) if error.is_of_one_model() => None,
                Err(error) => return Err(error.into()),
            },
        };
        let rules = Rules {
            threshold: threshold.unwrap_or(self.rules.threshold),
            ..self.rules
        };
        let (wrong, left_out) = (ranges(&self.wrong, &sensor), ranges(&self.left_out, &sensor));
        let per_month = self.per_month;
        let chosen = fits.run(move || {
            let history = History {
                windows: &gathered.windows,
                length: gathered.length,
                anomalies: &wrong,
                left_out: &left_out,
            };
            let tuned = tune(history, &recipes(&gathered.present), &rules, per_month)?;
            // A sensor without a model gets one, also if what any sensor is trained with suits it best.
            let model = match tuned.stays() && gathered.version.is_some() {
                true => None,
                false => Some(fit(tuned.choice(), &gathered, &wrong, &left_out, threshold)),
            };
            Ok::<_, TuneError>((tuned, model))
        });
        let (tuned, model) = match chosen.await? {
            Ok(chosen) => chosen,
            Err(why) => return Ok(Ended::Failed(why.to_string())),
        };
        let Some(model) = model else {
            return Ok(Ended::Tuned(tuned, Change::None));
        };
        let (model, metadata) = match model {
            Ok(fitted) => fitted,
            Err(why) => return Ok(Ended::Failed(why)),
        };
        let Storing::As(release) = self.storing else {
            return Ok(Ended::Tuned(tuned, Change::Stored));
        };
        let released = repository.release(&sensor, &model, Some(&metadata), PromotedBy::Tune, release);
        match released.await {
            Ok(released) if released.promoted == Some(Promoted::Pinned) => {
                Ok(Ended::Tuned(tuned, Change::Pinned))
            }
            Ok(_) => Ok(Ended::Tuned(tuned, Change::Stored)),
            Err(error) if error.is_of_one_model() => Ok(Ended::Failed(error.to_string())),
            Err(error) => Err(error.into()),
        }
    }
}

/// Trains what was chosen on the newest windows that no label keeps out.
fn fit(
    chosen: &Trial,
    gathered: &Gathered,
    wrong: &[Range<EventTime>],
    left_out: &[Range<EventTime>],
    threshold: Option<f64>,
) -> Result<(Model, Metadata), String> {
    let length = gathered.length.as_duration();
    let is_kept = |window: &&Aggregate| {
        let (start, end) = (window.window_start, window.window_start.saturating_add(length));
        let mut stretches = wrong.iter().chain(left_out);
        !stretches.any(|when| start < when.end && end > when.start)
    };
    let windows: Vec<Aggregate> = gathered.windows.iter().filter(is_kept).copied().collect();
    let windows = &windows[windows.len().saturating_sub(chosen.recipe.most_windows())..];
    let mut rows = Vec::new();
    chosen.recipe.features.extract(windows, &mut rows);
    let starts = windows.iter().map(|window| window.window_start).collect();
    let sample = Sample::of_all(starts, rows, gathered.length);
    let trained = chosen.train(sample.windows());
    let (model, options) = trained.map_err(|error| error.to_string())?;
    let model = model
        .with_threshold(threshold)
        .map_err(|error| error.to_string())?;
    let metadata = metadata(&model, &sample, &options);
    Ok((model, metadata))
}

fn ranges(stretches: &KeptOut, sensor: &SensorId) -> Vec<Range<EventTime>> {
    let of_sensor = stretches.get(sensor).into_iter().flatten();
    of_sensor.map(|(from, to)| *from..*to).collect()
}
