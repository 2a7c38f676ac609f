//! `windrow models train`: trains a model per sensor on the windows of the past.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use clap::{Args, ValueEnum};
use indicatif::ProgressBar;
use serde_json::json;
use tokio::task::JoinSet;
use windrow_common::{ScoringMessage, SensorId};
use windrow_model::{
    Features, Gamma, Model, Replaced, TrainError, TrainKernel, TrainOptions, train_and_tell,
};
use windrow_models::ModelRepository;
use windrow_producer::args::{SourceArgs, WindowArgs};
use windrow_producer::source::{Source, Until};
use windrow_producer::window::Windowing;
use windrow_producer::{HistoryCounts, read_history};
use windrow_store::StoreArg;

use crate::error::CliError;
use crate::output::{OutputArg, OutputFormat};
use crate::progress::steps;
use crate::run::cores;
use crate::show;

#[derive(Args, Debug)]
#[command(after_help = "\
Example: train a model per sensor on a folder of history, with four features of each one-minute window
  windrow models train --source history/ --store ./store --window 1m --features mean,std,min,max")]
pub(crate) struct TrainArgs {
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    store: StoreArg,
    #[command(flatten)]
    windows: WindowArgs,
    /// Features of a window that the models use, separated by commas: mean, std, min, max, first, last, count,
    /// std_sample (pandas' std), rms, range
    #[arg(
        long,
        value_name = "LIST",
        default_value = "mean,std,min,max",
        env = "WINDROW_FEATURES"
    )]
    features: Features,
    /// Approximate share of the history that is anomalous, between 0 and 1 (nu of the one-class SVM)
    #[arg(long, value_name = "SHARE", default_value_t = 0.01, env = "WINDROW_NU")]
    nu: f64,
    /// Kernel of the one-class SVM
    #[arg(long, value_enum, default_value = "rbf", env = "WINDROW_KERNEL")]
    kernel: KernelArg,
    /// Gamma of the rbf and poly kernels: scale or auto (as in scikit-learn), a number above 0, or such a number per
    /// feature, as in 3/d; a larger gamma draws a tighter boundary
    #[arg(long, default_value_t = Gamma::Scale, env = "WINDROW_GAMMA")]
    gamma: Gamma,
    /// Constant term (coef0) of the poly kernel
    #[arg(long, value_name = "NUMBER", default_value_t = 1.0, env = "WINDROW_COEF0")]
    coef0: f64,
    /// Degree of the poly kernel, 1 to 64
    #[arg(long, value_name = "N", default_value_t = 3, env = "WINDROW_DEGREE")]
    degree: u32,
    /// Train on the raw features, without centring and scaling them first
    #[arg(long, env = "WINDROW_NO_SCALER")]
    no_scaler: bool,
    /// Maximum number of windows per sensor to train on, spread evenly over the history: up to 20,000, and 5,000 with
    /// other kernels than rbf; training time grows with its square
    #[arg(long, value_name = "N", default_value_t = 2_000, env = "WINDROW_MAX_ROWS")]
    max_rows: usize,
    /// Train only sensors without a model, to resume after an interruption or to add new sensors
    #[arg(long, env = "WINDROW_MISSING")]
    missing: bool,
    #[command(flatten)]
    output: OutputArg,
}

/// The sensors to train.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// Every sensor in the source.
    All,
    /// Only sensors without a model.
    Missing,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum KernelArg {
    Rbf,
    Linear,
    Poly,
}

impl TrainArgs {
    pub(crate) async fn run(self) -> Result<(), CliError> {
        let options = TrainOptions {
            nu: self.nu,
            kernel: match self.kernel {
                KernelArg::Rbf => TrainKernel::Rbf,
                KernelArg::Linear => TrainKernel::Linear,
                KernelArg::Poly => TrainKernel::Polynomial {
                    coef0: self.coef0,
                    degree: self.degree,
                },
            },
            gamma: self.gamma,
            standardise: !self.no_scaler,
            max_rows: self.max_rows,
            ..TrainOptions::default()
        };
        options
            .check()
            .map_err(|error| CliError::Usage(error.to_string()))?;
        let windowing = self.windows.windowing()?;
        let source = self.source.open(Until::CaughtUp)?;
        let repository = ModelRepository::new(self.store.create().await?);
        let whose = match self.missing {
            true => Whose::Missing,
            false => Whose::All,
        };
        let trained = train_fleet(source, windowing, &self.features, &options, &repository, whose).await?;
        for (sensor, why) in &trained.failed {
            eprintln!("windrow: {sensor}: {why}");
        }
        if self.output.output == OutputFormat::Json {
            show::json(&json!({
                "readings": trained.history.readings, "left_out": trained.history.left_out,
                "models": trained.models, "failed": trained.failed.len(), "kept": trained.kept,
                "replaced": trained.replaced.iter().map(|(sensor, why)| json!({
                    "sensor": sensor.to_string(), "why": why.to_string(),
                })).collect::<Vec<_>>(),
            }))?;
        } else {
            let mut line = format!(
                "trained {} models on {} readings ({} left out)",
                show::count(trained.models),
                show::count(trained.history.readings),
                show::count(trained.history.left_out)
            );
            if trained.kept > 0 {
                line += &format!("; {} sensors had one", show::count(trained.kept));
            }
            show::line(&line)?;
            if !trained.replaced.is_empty() {
                show::line(&replaced_text(&trained.replaced))?;
            }
        }
        match trained.failed.len() {
            0 if trained.models + trained.kept == 0 => Err(CliError::Partial(
                "the source holds no readings to train on".to_owned(),
            )),
            0 => Ok(()),
            failed => Err(CliError::Partial(format!("{failed} sensors have no new model"))),
        }
    }
}

/// The result of training a fleet.
pub(crate) struct Trained {
    pub(crate) history: HistoryCounts,
    pub(crate) models: u64,
    /// Number of sensors that already had a model and keep it.
    pub(crate) kept: u64,
    /// Sensors whose model is not the plain fit, and why, by sensor.
    pub(crate) replaced: BTreeMap<SensorId, Replaced>,
    /// Sensors that could not be trained, and why.
    pub(crate) failed: Vec<(SensorId, TrainError)>,
}

/// Most sensors to name in a text for people.
const MOST_NAMED: usize = 10;

/// Names the sensors whose models are not plain fits, with the reasons.
fn replaced_text(replaced: &BTreeMap<SensorId, Replaced>) -> String {
    let count = show::count(replaced.len() as u64);
    let mut lines = vec![format!("{count} of them are not the solver's plain fit:")];
    let named = replaced.iter().take(MOST_NAMED);
    lines.extend(named.map(|(sensor, why)| format!("  {sensor}: {why}")));
    if let Some(more @ 1..) = replaced.len().checked_sub(MOST_NAMED) {
        lines.push(format!(
            "  and {} more; --output json names all",
            show::count(more as u64)
        ));
    }
    lines.join("\n")
}

/// Trains a model for every sensor of `source` and stores it as the current one.
pub(crate) async fn train_fleet(
    source: Box<dyn Source>,
    windowing: Windowing,
    features: &Features,
    options: &TrainOptions,
    repository: &ModelRepository,
    whose: Whose,
) -> Result<Trained, CliError> {
    let (rows_features, max_rows) = (features.clone(), options.max_rows);
    let gathered = tokio::task::spawn_blocking(move || gather(source, windowing, &rows_features, max_rows));
    let (mut rows, history) = gathered.await.map_err(died)??;
    let in_all = rows.len();
    if whose == Whose::Missing {
        let entries = repository.list().await?.into_iter();
        let there: HashSet<SensorId> = entries
            .filter_map(|entry| entry.current.then_some(entry.sensor))
            .collect();
        rows.retain(|sensor, _| !there.contains(sensor));
    }
    let kept = (in_all - rows.len()) as u64;
    let bar = steps("training", rows.len() as u64);
    let mut rows = rows.into_iter();
    let mut training = JoinSet::new();
    let (mut models, mut replaced, mut failed) = (0, BTreeMap::new(), Vec::new());
    loop {
        while training.len() < cores()
            && let Some((sensor, sample)) = rows.next()
        {
            let (features, options) = (features.clone(), options.clone());
            training.spawn_blocking(move || (sensor, train_and_tell(&sample.values, features, &options)));
        }
        let Some(ended) = training.join_next().await else {
            break;
        };
        let (sensor, fitted): (SensorId, Result<Fitted, TrainError>) = ended.map_err(died)?;
        bar.inc(1);
        match fitted {
            Ok((model, why)) => {
                repository.put(&sensor, &model).await?;
                models += 1;
                if let Some(why) = why {
                    replaced.insert(sensor, why);
                }
            }
            Err(why) => failed.push((sensor, why)),
        }
    }
    bar.finish_and_clear();
    Ok(Trained {
        history,
        models,
        kept,
        replaced,
        failed,
    })
}

/// A model, and why it is not the plain fit.
type Fitted = (Model, Option<Replaced>);

#[allow(clippy::needless_pass_by_value)] // `map_err` passes the error by value.
fn died(error: tokio::task::JoinError) -> CliError {
    CliError::Panicked(error.to_string())
}

type Samples = BTreeMap<SensorId, Sample>;

fn gather(
    source: Box<dyn Source>,
    windowing: Windowing,
    features: &Features,
    max_rows: usize,
) -> Result<(Samples, HistoryCounts), CliError> {
    let bar = ProgressBar::no_length();
    bar.set_style(crate::progress::style(
        "{spinner} reading history [{bar:24}] {percent:>3} %",
    ));
    let mut samples = Samples::new();
    let take = |message: ScoringMessage| {
        let sample = samples.entry(message.sensor).or_default();
        for aggregate in message.aggregates {
            sample.add(&aggregate, features, max_rows);
        }
    };
    let last = AtomicU64::new(0);
    let history = read_history(source, windowing, take, |progress| {
        if let Some(total) = progress.total
            && last.swap(progress.done, Relaxed) != progress.done
        {
            bar.set_length(total);
            bar.set_position(progress.done);
        }
    })?;
    bar.finish_and_clear();
    Ok((samples, history))
}

/// A sensor's training rows, thinned evenly so that memory stays bounded for any length of history.
#[derive(Debug)]
struct Sample {
    values: Vec<f64>,
    seen: usize,
    keep_every: usize,
}

impl Default for Sample {
    fn default() -> Self {
        Self {
            values: Vec::new(),
            seen: 0,
            keep_every: 1,
        }
    }
}

impl Sample {
    fn add(&mut self, aggregate: &windrow_common::Aggregate, features: &Features, max_rows: usize) {
        if self.seen.is_multiple_of(self.keep_every) {
            features.extract(std::slice::from_ref(aggregate), &mut self.values);
        }
        self.seen += 1;
        let row = features.len();
        if self.values.len() >= 2 * max_rows * row {
            let rows = self.values.len() / row;
            for kept in 0..rows.div_ceil(2) {
                self.values
                    .copy_within(2 * kept * row..(2 * kept + 1) * row, kept * row);
            }
            self.values.truncate(rows.div_ceil(2) * row);
            self.keep_every *= 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use windrow_common::{Aggregate, EventTime};

    #[test]
    fn a_long_history_is_thinned_evenly() {
        let features: Features = "mean,count".parse().unwrap();
        let mut sample = Sample::default();
        for at in 0..100_u32 {
            let mean = f64::from(at);
            let aggregate = Aggregate {
                window_start: EventTime::from_millis(0),
                count: 1,
                mean,
                std: 0.0,
                min: mean,
                max: mean,
                first: mean,
                last: mean,
            };
            sample.add(&aggregate, &features, 8);
        }
        let means: Vec<f64> = sample.values.iter().step_by(2).copied().collect();
        let right: Vec<f64> = (0..100_u32).step_by(8).map(f64::from).collect();
        assert_eq!(means, right);
        assert!(sample.values.iter().skip(1).step_by(2).all(|count| *count == 1.0));
    }
}
