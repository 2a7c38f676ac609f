//! Trains a fleet: gathers the rows of every sensor, fits on all cores, and stores the models.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use indicatif::ProgressBar;
use tokio::task::JoinSet;
use windrow_common::{EventTime, ScoringMessage, SensorId};
use windrow_model::{Features, Model, Replaced, TrainError, TrainOptions, train_windows};
use windrow_models::{Cause, Kind, Metadata, ModelRepository, Promoted, Release, Training, sha256_of_rows};
use windrow_producer::source::Source;
use windrow_producer::window::Windowing;
use windrow_producer::{HistoryCounts, read_history};

use super::Whose;
use super::groups::{GroupCounts, GroupPlan, Histories, train_groups};
use super::parameters::parameters;
use super::sample::Sample;
use crate::error::CliError;
use crate::progress::steps;
use crate::run::cores;

/// The result of training a fleet.
pub(crate) struct Trained {
    pub(crate) history: HistoryCounts,
    pub(crate) models: u64,
    /// Number of sensors that already had a model and keep it.
    pub(crate) kept: u64,
    /// The models of several tags of a device; `None` if none were wanted.
    pub(crate) groups: Option<GroupCounts>,
    /// Sensors whose model is not the plain fit, and why, by sensor.
    pub(crate) replaced: BTreeMap<SensorId, Replaced>,
    /// Pinned sensors, whose new model is a candidate.
    pub(crate) pinned: Vec<SensorId>,
    /// Sensors that could not be trained or whose model could not be stored, and why.
    pub(crate) failed: Vec<(SensorId, String)>,
}

/// How a fleet is trained.
pub(crate) struct Plan<'a> {
    pub(crate) features: &'a Features,
    pub(crate) options: &'a TrainOptions,
    /// How models of several tags of a device are trained; `None` if none are.
    pub(crate) groups: Option<&'a GroupPlan>,
    pub(crate) whose: Whose,
    pub(crate) release: Release,
}

/// Trains a model for every sensor of `source` and stores it.
pub(crate) async fn train_fleet(
    source: Box<dyn Source>,
    windowing: Windowing,
    repository: &ModelRepository,
    plan: Plan<'_>,
) -> Result<Trained, CliError> {
    let Plan {
        features,
        options,
        groups,
        whose,
        release,
    } = plan;
    let (rows_features, max_rows) = (features.clone(), options.max_rows);
    let histories = groups.map(Histories::new);
    let gathered =
        tokio::task::spawn_blocking(move || gather(source, windowing, &rows_features, max_rows, histories));
    let (mut rows, histories, history) = gathered.await.map_err(died)??;
    let mut there = HashSet::new();
    if whose == Whose::Missing {
        let entries = repository.list().await?.into_iter();
        there.extend(entries.filter_map(|entry| entry.current.then_some(entry.sensor)));
    }
    let in_all = rows.len();
    rows.retain(|sensor, _| !there.contains(sensor));
    let kept = (in_all - rows.len()) as u64;
    let bar = steps("training", rows.len() as u64);
    let mut rows = rows.into_iter();
    let mut training = JoinSet::new();
    let (mut models, mut replaced) = (0, BTreeMap::new());
    let (mut pinned, mut failed) = (Vec::new(), Vec::new());
    loop {
        while training.len() < cores()
            && let Some((sensor, sample)) = rows.next()
        {
            let (features, options) = (features.clone(), options.clone());
            training.spawn_blocking(move || {
                let fitted = train_windows(sample.windows(), features, &options);
                (sensor, fitted.map(|fitted| (fitted, sample)))
            });
        }
        let Some(ended) = training.join_next().await else {
            break;
        };
        let (sensor, fitted): (SensorId, Result<(Fitted, Sample), TrainError>) = ended.map_err(died)?;
        bar.inc(1);
        let ((model, why), sample) = match fitted {
            Ok(fitted) => fitted,
            Err(why) => {
                failed.push((sensor, why.to_string()));
                continue;
            }
        };
        let metadata = metadata(&model, &sample, options);
        let released = repository.release(&sensor, &model, Some(&metadata), Cause::Train, release);
        match released.await {
            Ok(released) if released.promoted == Some(Promoted::Pinned) => pinned.push(sensor.clone()),
            Ok(_) => {}
            Err(error) if error.is_of_one_model() => {
                failed.push((sensor, error.to_string()));
                continue;
            }
            Err(error) => return Err(error.into()),
        }
        models += 1;
        if let Some(why) = why {
            replaced.insert(sensor, why);
        }
    }
    bar.finish_and_clear();
    let mut trained = Trained {
        history,
        models,
        kept,
        groups: None,
        replaced,
        pinned,
        failed,
    };
    if let (Some(plan), Some(histories)) = (groups, histories) {
        let groups = train_groups(histories, plan, repository, &there, release).await?;
        trained.pinned.extend(groups.pinned);
        trained.failed.extend(groups.failed);
        trained.groups = Some(groups.counts);
    }
    Ok(trained)
}

/// A model, and why it is not the plain fit.
type Fitted = (Model, Option<Replaced>);

#[allow(clippy::needless_pass_by_value)] // `map_err` passes the error by value.
pub(super) fn died(error: tokio::task::JoinError) -> CliError {
    CliError::Panicked(error.to_string())
}

/// Returns what is known of a model that was trained on a sample.
pub(crate) fn metadata(model: &Model, sample: &Sample, options: &TrainOptions) -> Metadata {
    let (from, to) = sample
        .span
        .unwrap_or((EventTime::from_millis(0), EventTime::from_millis(0)));
    Metadata {
        created: EventTime::now(),
        kind: Kind::Trained,
        features: model.features().to_string(),
        provenance: model.provenance().to_owned(),
        training: Some(Training {
            from,
            to,
            window_ms: sample.window_ms,
            windows: sample.seen as u64,
            rows: (sample.values.len() / model.features().len()) as u64,
            rows_sha256: sha256_of_rows(&sample.values),
            parameters: parameters(options),
        }),
        files: Vec::new(),
    }
}

type Samples = BTreeMap<SensorId, Sample>;

fn gather(
    source: Box<dyn Source>,
    windowing: Windowing,
    features: &Features,
    max_rows: usize,
    mut histories: Option<Histories>,
) -> Result<(Samples, Option<Histories>, HistoryCounts), CliError> {
    let bar = ProgressBar::no_length();
    bar.set_style(crate::progress::style(
        "{spinner} reading history [{bar:24}] {percent:>3} %",
    ));
    let mut samples = Samples::new();
    let take = |message: ScoringMessage| {
        let sample = samples.entry(message.sensor.clone()).or_default();
        sample.take(&message, features, max_rows);
        if let Some(histories) = &mut histories {
            histories.take(message);
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
    Ok((samples, histories, history))
}
