//! Trains the models of all tags of a device again, on the newest windows of the tags.

use std::collections::BTreeMap;
use std::sync::Arc;

use windrow_common::{Aggregate, EventTime, SensorId};
use windrow_incidents::Rules;
use windrow_model::{CodePath, Group, Model, Scores, Scratch, TrainOptions};
use windrow_models::{ModelEntry, ModelRepository, Promoted, PromotedBy};
use windrow_store::{Hour, ScoredWindow, Store};

use super::gate::{Gate, opened};
use super::outcome::Ended;
use super::{HowArgs, Retrained, Retraining, Storing};
use crate::error::CliError;
use crate::fits::Fits;
use crate::label::KeptOut;
use crate::progress::steps;
use crate::sensor_lookup::SensorLookup;
use crate::train::{GroupPlan, GroupSample, options_of};

/// A device whose model is trained again, and the newest windows of its tags, the newest first.
struct Due {
    sensor: SensorId,
    version: String,
    present: Model,
    plan: GroupPlan,
    windows: BTreeMap<Arc<str>, Vec<Aggregate>>,
    /// Number of windows of a tag to gather.
    most: usize,
}

/// Trains the models of devices again that were trained here.
pub(super) async fn retrain(
    retraining: &Retraining<'_>,
    entries: Vec<ModelEntry>,
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
    let mut all = Vec::new();
    for entry in entries {
        match due(repository, entry, how).await? {
            Ok(Some(due)) => all.push(due),
            Ok(None) => retrained.imported += 1,
            Err((sensor, why)) => _ = retrained.failed.insert(sensor, why),
        }
    }
    let bytes = |due: &Due| due.most * due.windows.len() * size_of::<Aggregate>();
    let largest = all.iter().map(bytes).max().unwrap_or(1).max(1);
    let at_once = ((how.memory_mib as usize) << 20).div_euclid(largest).max(1);
    let bar = steps("retraining tags together", all.len() as u64);
    let (mut all, fits) = (all.into_iter().peekable(), Fits::on_all_cores());
    while all.peek().is_some() {
        let some: Vec<Due> = all.by_ref().take(at_once).collect();
        let some = read(retraining.store, some, &retraining.hours).await?;
        let work = |fits: Fits, due: Due| {
            let how = (*how).clone();
            let stretches = stretches(&due, &retraining.kept_out);
            let repository = repository.clone();
            async move {
                let fitted = fits.run(move || {
                    let fitted = fit(&due, &stretches, &how, &rules);
                    (due, fitted)
                });
                let (due, fitted) = fitted.await?;
                let ended = match fitted {
                    Fitted::Ended(ended) => ended,
                    Fitted::New(new) => store_model(&repository, &due, *new, storing).await?,
                };
                Ok((due.sensor, ended))
            }
        };
        fits.for_each(some, work, |(sensor, ended)| {
            bar.inc(1);
            retrained.note(sensor, ended);
        })
        .await?;
    }
    bar.finish_and_clear();
    Ok(())
}

/// Returns how a model was trained; `None` if it was not trained here.
async fn due(
    repository: &ModelRepository,
    entry: ModelEntry,
    how: &HowArgs,
) -> Result<Result<Option<Due>, (SensorId, String)>, CliError> {
    let ModelEntry { sensor, version, .. } = entry;
    let metadata = repository.metadata(&sensor, &version).await?;
    let Some(training) = metadata.and_then(|metadata| metadata.training) else {
        return Ok(Ok(None));
    };
    let options = match options_of(&training.parameters) {
        Ok(options) => options,
        Err(why) => return Ok(Err((sensor, why))),
    };
    let present = match repository.load(&sensor, &version).await {
        Ok(present) => present,
        Err(error) if error.is_of_one_model() => return Ok(Err((sensor, error.to_string()))),
        Err(error) => return Err(error.into()),
    };
    let Some(group) = present.group() else {
        return Ok(Ok(None));
    };
    let options = TrainOptions {
        nu: options.nu,
        gamma: options.gamma,
        max_rows: how.windows as usize,
        ..TrainOptions::for_groups()
    };
    Ok(Ok(Some(Due {
        most: options.max_rows + group.smoothing(),
        windows: group.tags().iter().map(|tag| (tag.clone(), Vec::new())).collect(),
        plan: GroupPlan {
            features: present.features().clone(),
            smoothing: group.smoothing(),
            options,
        },
        sensor,
        version,
        present,
    })))
}

/// Gathers the newest windows of the tags, hour by hour, until all have enough.
async fn read(store: &Store, mut some: Vec<Due>, hours: &[Hour]) -> Result<Vec<Due>, CliError> {
    let (mut index, mut places) = (SensorLookup::default(), Vec::new());
    for (at, due) in some.iter().enumerate() {
        for tag in due.windows.keys() {
            index.add(SensorId {
                device: due.sensor.device.clone(),
                tag: tag.clone(),
            });
            places.push((at, tag.clone()));
        }
    }
    let mut reader = store.aggregates(hours.iter().rev().cloned());
    while !some.iter().all(Due::is_full) {
        let number = |device: &str, tag: &str| u32::try_from(index.find(device, tag)?).ok();
        let Some(rows) = reader.next_hour(number).await? else {
            break;
        };
        for row in rows.iter().rev() {
            let (at, tag) = &places[row.sensor as usize];
            some[*at].take(tag, row);
        }
    }
    for windows in some.iter_mut().flat_map(|due| due.windows.values_mut()) {
        windows.reverse();
    }
    Ok(some)
}

impl Due {
    fn is_full(&self) -> bool {
        self.windows.values().all(|windows| windows.len() >= self.most)
    }

    fn take(&mut self, tag: &str, row: &ScoredWindow) {
        let length = self.present.group().map(|group| group.window_length());
        if let Some(windows) = self.windows.get_mut(tag)
            && windows.len() < self.most
            && Some(row.length) == length
        {
            windows.push(row.aggregate);
        }
    }
}

/// Returns the stretches that are left out: of the tags together, and of each of them.
fn stretches(due: &Due, kept_out: &KeptOut) -> Vec<(EventTime, EventTime)> {
    let tags = due.windows.keys().map(|tag| SensorId {
        device: due.sensor.device.clone(),
        tag: tag.clone(),
    });
    let all = tags.chain([due.sensor.clone()]);
    all.filter_map(|sensor| kept_out.get(&sensor))
        .flatten()
        .copied()
        .collect()
}

/// Returns whether any window of a row lies in a stretch that is left out.
fn is_kept_out(group: &Group, start: EventTime, kept_out: &[(EventTime, EventTime)]) -> bool {
    let first = start.saturating_sub(group.context());
    let end = start.saturating_add(group.window_length().as_duration());
    kept_out.iter().any(|(from, to)| first < *to && end > *from)
}

enum Fitted {
    Ended(Ended),
    New(Box<(Model, GroupSample)>),
}

/// Fits a model, and compares it with the present one.
fn fit(due: &Due, kept_out: &[(EventTime, EventTime)], how: &HowArgs, rules: &Rules) -> Fitted {
    let Some(group) = due.present.group() else {
        return Fitted::Ended(Ended::Unchanged);
    };
    let length = group.window_length();
    let mut sample = match GroupSample::of(&due.windows, length, &due.plan) {
        Ok(sample) => sample,
        Err(why) => return Fitted::Ended(Ended::Failed(why)),
    };
    sample.rows.retain(|start| !is_kept_out(group, start, kept_out));
    if sample.rows.starts.len() < how.least as usize {
        return Fitted::Ended(Ended::Few);
    }
    let model = match sample.fit(&due.plan) {
        Ok(model) => model,
        Err(why) => return Fitted::Ended(Ended::Failed(why.to_string())),
    };
    if model.version().is_ok_and(|version| version == due.version) {
        return Fitted::Ended(Ended::Unchanged);
    }
    let incidents = |model: &Model| {
        let mut scores = Scores::default();
        let values = &sample.rows.values;
        model
            .score_rows_on(CodePath::best(), values, &mut Scratch::default(), &mut scores)
            .ok()?;
        let rules = Rules {
            threshold: model.threshold().unwrap_or(rules.threshold),
            ..*rules
        };
        let length = sample.group.window_length();
        Some(opened(&sample.rows.starts, &scores.scores, length, &rules))
    };
    let starts = &sample.rows.starts;
    let span = starts.first().copied().zip(starts.last().copied());
    let budget = how.budget.unwrap_or_default().per_month();
    let gate = Gate::between(incidents(&model), incidents(&due.present), span, budget);
    match gate.is_open() {
        true => Fitted::New(Box::new((model, sample))),
        false => Fitted::Ended(Ended::Refused(gate)),
    }
}

async fn store_model(
    repository: &ModelRepository,
    due: &Due,
    (model, sample): (Model, GroupSample),
    storing: Storing,
) -> Result<Ended, CliError> {
    let Storing::As(release) = storing else {
        return Ok(Ended::New);
    };
    let metadata = sample.metadata(&model, &due.plan);
    let released = repository.release(&due.sensor, &model, Some(&metadata), PromotedBy::Retrain, release);
    match released.await {
        Ok(released) if released.promoted == Some(Promoted::Pinned) => Ok(Ended::Pinned),
        Ok(_) => Ok(Ended::New),
        Err(error) if error.is_of_one_model() => Ok(Ended::Failed(error.to_string())),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use windrow_common::Length;

    #[test]
    fn a_row_is_left_out_if_any_of_its_windows_is() {
        let minute = |number: i64| EventTime::from_millis(number * 60_000);
        let tags = ["a", "b"].map(Arc::from).to_vec();
        let group = Group::new(tags, 5, Length::from_millis(60_000)).unwrap();
        let kept_out = [(minute(100), minute(103))];
        let left_out: Vec<i64> = (0..200)
            .filter(|number| is_kept_out(&group, minute(*number), &kept_out))
            .collect();
        // The rows of the three windows, and of the four after them, whose means hold the last one.
        assert_eq!(left_out, (100..107).collect::<Vec<_>>());
    }
}
