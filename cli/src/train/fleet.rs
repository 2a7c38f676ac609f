//! Trains a fleet: gathers the rows of every sensor, fits on all cores, and stores the models.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use indicatif::ProgressBar;
use windrow_alerter::Habits;
use windrow_common::{EventTime, ScoringMessage, SensorId};
use windrow_model::{Features, Model, Replaced, TrainOptions, train_windows};
use windrow_models::{
    Kind, Metadata, ModelRepository, Promoted, PromotedBy, Release, Training, sha256_of_rows,
};
use windrow_producer::source::Source;
use windrow_producer::window::Windowing;
use windrow_producer::{HistoryCounts, read_history};

use super::Whose;
use super::groups::{GroupCounts, GroupPlan, Histories, train_groups};
use super::parameters::parameters;
use super::sample::Sample;
use crate::error::CliError;
use crate::fits::{Fits, died};
use crate::progress::steps;

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
    let Gathered {
        samples: mut rows,
        histories,
        habits,
        history,
    } = gathered.await.map_err(died)??;
    let entries = repository.list().await?.into_iter();
    let scored: HashSet<SensorId> = entries
        .filter_map(|entry| entry.current.then_some(entry.sensor))
        .collect();
    // Write the habits before the first models are stored: the alerter watches a sensor as soon as its model scores.
    let is_new = |sensor: &SensorId| !scored.contains(sensor);
    habits.write(repository.store(), is_new).await?;
    let there = match whose {
        Whose::Missing => scored,
        Whose::All => HashSet::new(),
    };
    let in_all = rows.len();
    rows.retain(|sensor, _| !there.contains(sensor));
    let kept = (in_all - rows.len()) as u64;
    let bar = steps("training", rows.len() as u64);
    let fits = Fits::on_all_cores();
    let (mut models, mut replaced) = (0, BTreeMap::new());
    let (mut pinned, mut failed) = (Vec::new(), Vec::new());
    let work = |fits: Fits, (sensor, sample): (SensorId, Sample)| {
        let (features, options, repository) = (features.clone(), options.clone(), repository.clone());
        async move {
            let fitted = fits.run(move || {
                let fitted = train_windows(sample.windows(), features, &options);
                fitted.map(|(model, why)| {
                    let metadata = metadata(&model, &sample, &options);
                    (model, metadata, why)
                })
            });
            let (model, metadata, why) = match fitted.await? {
                Ok(fitted) => fitted,
                Err(why) => return Ok((sensor, Err(why.to_string()))),
            };
            let stored = store(&repository, &sensor, (&model, &metadata), release).await?;
            Ok((sensor, stored.map(|is_pinned| (is_pinned, why))))
        }
    };
    let note = |(sensor, stored): (SensorId, Result<(bool, Option<Replaced>), String>)| {
        bar.inc(1);
        let (is_pinned, why) = match stored {
            Ok(stored) => stored,
            Err(why) => return failed.push((sensor, why)),
        };
        models += 1;
        if is_pinned {
            pinned.push(sensor.clone());
        }
        if let Some(why) = why {
            replaced.insert(sensor, why);
        }
    };
    fits.for_each(rows, work, note).await?;
    // They end in any order.
    pinned.sort();
    failed.sort();
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

/// Stores a trained model. Returns whether its sensor is pinned, in which case the model becomes a candidate, or the
/// error that concerns only this model.
pub(super) async fn store(
    repository: &ModelRepository,
    sensor: &SensorId,
    (model, metadata): (&Model, &Metadata),
    release: Release,
) -> Result<Result<bool, String>, CliError> {
    let released = repository.release(sensor, model, Some(metadata), PromotedBy::Train, release);
    match released.await {
        Ok(released) => Ok(Ok(released.promoted == Some(Promoted::Pinned))),
        Err(error) if error.is_of_one_model() => Ok(Err(error.to_string())),
        Err(error) => Err(error.into()),
    }
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
            window_ms: sample.window_length.as_millis(),
            windows: sample.seen as u64,
            rows: (sample.values.len() / model.features().len()) as u64,
            rows_sha256: sha256_of_rows(&sample.values),
            parameters: parameters(options),
        }),
        files: Vec::new(),
    }
}

/// What was read of a history.
struct Gathered {
    samples: BTreeMap<SensorId, Sample>,
    histories: Option<Histories>,
    habits: Habits,
    history: HistoryCounts,
}

fn gather(
    source: Box<dyn Source>,
    windowing: Windowing,
    features: &Features,
    max_rows: usize,
    mut histories: Option<Histories>,
) -> Result<Gathered, CliError> {
    let bar = ProgressBar::no_length();
    bar.set_style(crate::progress::style(
        "{spinner} reading history [{bar:24}] {percent:>3} %",
    ));
    let (mut samples, mut habits) = (BTreeMap::new(), Habits::default());
    let take = |message: ScoringMessage| {
        habits.take(&message);
        let sample: &mut Sample = samples.entry(message.sensor.clone()).or_default();
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
    Ok(Gathered {
        samples,
        histories,
        habits,
        history,
    })
}
