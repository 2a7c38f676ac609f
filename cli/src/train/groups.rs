//! Trains a model of all tags of a device together, on their aligned windows.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;

use clap::{Args, ValueEnum};
use windrow_common::{Aggregate, EventTime, Length, ScoringMessage, SensorId};
use windrow_model::{
    Features, Group, GroupRows, MAX_COLUMNS, MAX_SMOOTHING, Model, TrainError, TrainOptions, train_group,
};
use windrow_models::{Kind, Metadata, ModelRepository, Release, Training, sha256_of_rows};

use super::fleet::store;
use super::parameters::group_parameters;
use crate::error::CliError;
use crate::fits::Fits;
use crate::progress::steps;
use crate::show;

#[derive(Args, Debug)]
#[command(next_help_heading = "Tags together")]
pub(super) struct GroupArgs {
    /// Also train a model of the tags of each device together, beside those of the single sensors. It sees what no single tag
    /// shows: that a pump draws more power than its flow explains
    #[arg(long, value_enum, value_name = "WHAT", env = "WINDROW_GROUP")]
    group: Option<GroupBy>,
    /// Features of each tag that such a model uses; all tags of a device have up to 64
    #[arg(
        long,
        value_name = "LIST",
        default_value = "mean",
        env = "WINDROW_GROUP_FEATURES"
    )]
    group_features: Features,
    /// Number of windows, up to 500, over which such a model takes the mean of each feature: the window and those before it
    #[arg(long, value_name = "N", default_value_t = 20, env = "WINDROW_GROUP_SMOOTHING", value_parser = smoothing)]
    group_smoothing: u32,
}

/// Which tags are scored together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum GroupBy {
    /// All tags of a device.
    Device,
}

/// How models of several tags are trained.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct GroupPlan {
    pub(crate) features: Features,
    pub(crate) smoothing: usize,
    pub(crate) options: TrainOptions,
}

/// The newest windows of every tag of a device.
type Tags = BTreeMap<Arc<str>, VecDeque<Aggregate>>;

/// The same of every device.
#[derive(Debug)]
pub(super) struct Histories {
    devices: BTreeMap<Arc<str>, Tags>,
    window_length: Length,
    /// Most windows of a tag to keep.
    most: usize,
}

/// How many models of several tags there are now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct GroupCounts {
    pub(crate) models: u64,
    /// Devices that had one, and keep it.
    pub(crate) kept: u64,
    /// Devices with a single tag, which need none.
    pub(crate) single: u64,
}

/// What came of training models of several tags.
#[derive(Debug, Default)]
pub(super) struct TrainedGroups {
    pub(super) counts: GroupCounts,
    pub(super) pinned: Vec<SensorId>,
    pub(super) failed: Vec<(SensorId, String)>,
}

/// The aligned windows that a model of several tags is trained on.
#[derive(Clone, Debug)]
pub(crate) struct GroupSample {
    pub(crate) group: Group,
    pub(crate) rows: GroupRows,
}

fn smoothing(text: &str) -> Result<u32, String> {
    let most = MAX_SMOOTHING;
    text.parse()
        .ok()
        .filter(|windows| (1..=most).contains(&(*windows as usize)))
        .ok_or_else(|| format!("expected a number of windows from 1 to {most}"))
}

impl GroupArgs {
    /// Returns how to train models of several tags, or `None` if they are not wanted. They share nu and the number of
    /// rows with the models of single sensors.
    pub(super) fn plan(&self, options: &TrainOptions) -> Result<Option<GroupPlan>, CliError> {
        let Some(GroupBy::Device) = self.group else {
            return Ok(None);
        };
        let plan = GroupPlan {
            features: self.group_features.clone(),
            smoothing: self.group_smoothing as usize,
            options: TrainOptions {
                nu: options.nu,
                max_rows: options.max_rows,
                ..TrainOptions::for_groups()
            },
        };
        plan.options.check().map_err(super::usage)?;
        Ok(Some(plan))
    }
}

impl Histories {
    pub(super) fn new(plan: &GroupPlan) -> Self {
        Self {
            devices: BTreeMap::new(),
            window_length: Length::HOUR,
            most: plan.options.max_rows + plan.smoothing,
        }
    }

    /// Adds the windows of a message, and drops the oldest of those that are too many.
    pub(super) fn take(&mut self, message: ScoringMessage) {
        self.window_length = message.window_length;
        let tags = self.devices.entry(message.sensor.device).or_default();
        let windows = tags.entry(message.sensor.tag).or_default();
        windows.extend(message.aggregates);
        let extra = windows.len().saturating_sub(self.most);
        windows.drain(..extra);
    }
}

impl GroupSample {
    /// Aligns the windows of a device's tags, which are in order of time.
    pub(crate) fn of(
        tags: &BTreeMap<Arc<str>, Vec<Aggregate>>,
        window_length: Length,
        plan: &GroupPlan,
    ) -> Result<Self, String> {
        let columns = tags.len() * plan.features.len();
        if columns > MAX_COLUMNS {
            return Err(format!(
                "{} tags with {} features each are {columns} columns, and a model has at most {MAX_COLUMNS}: name fewer \
                 features with --group-features, or split the device",
                tags.len(),
                plan.features.len()
            ));
        }
        let group = Group::new(tags.keys().cloned().collect(), plan.smoothing, window_length);
        let group = group.map_err(|error| error.to_string())?;
        let series: Vec<&[Aggregate]> = tags.values().map(Vec::as_slice).collect();
        let rows = group.rows(&plan.features, &series, EventTime::MIN..EventTime::MAX);
        Ok(Self { group, rows })
    }

    /// Fits a model.
    pub(crate) fn fit(&self, plan: &GroupPlan) -> Result<Model, TrainError> {
        train_group(
            &self.rows,
            self.group.clone(),
            plan.features.clone(),
            &plan.options,
        )
    }

    /// Returns what is known of a model that was trained on it.
    pub(crate) fn metadata(&self, model: &Model, plan: &GroupPlan) -> Metadata {
        let GroupRows { starts, values, .. } = &self.rows;
        let length = self.group.window_length();
        let first = starts.first().copied().unwrap_or(EventTime::MIN);
        let last = starts.last().copied().unwrap_or(EventTime::MIN);
        Metadata {
            created: EventTime::now(),
            kind: Kind::Trained,
            features: model.features().to_string(),
            provenance: model.provenance().to_owned(),
            training: Some(Training {
                from: first,
                to: last.saturating_add(length.as_duration()),
                window_ms: length.as_millis(),
                windows: starts.len() as u64 + self.rows.unscored,
                rows: starts.len() as u64,
                rows_sha256: sha256_of_rows(values),
                parameters: group_parameters(plan),
            }),
            files: Vec::new(),
        }
    }
}

impl GroupCounts {
    /// Says how many there are.
    pub(super) fn text(&self) -> String {
        let mut text = format!("; {} models of all tags of a device", show::count(self.models));
        if self.kept > 0 {
            text += &format!(" ({} devices had one)", show::count(self.kept));
        }
        if self.single > 0 {
            text += &format!(
                " ({} devices have a single tag, and need none)",
                show::count(self.single)
            );
        }
        text
    }
}

/// Trains and stores a model for each device that has several tags, except for the devices in `there`.
pub(super) async fn train_groups(
    histories: Histories,
    plan: &GroupPlan,
    repository: &ModelRepository,
    there: &HashSet<SensorId>,
    release: Release,
) -> Result<TrainedGroups, CliError> {
    let window_length = histories.window_length;
    let (mut counts, mut pinned, mut failed) = (GroupCounts::default(), Vec::new(), Vec::new());
    let mut due = Vec::new();
    for (device, tags) in histories.devices {
        let sensor = SensorId::of_group(&device);
        if there.contains(&sensor) {
            counts.kept += 1;
        } else if tags.len() < 2 {
            counts.single += 1;
        } else {
            due.push((sensor, tags));
        }
    }
    let bar = steps("training tags together", due.len() as u64);
    let fits = Fits::on_all_cores();
    let work = |fits: Fits, (sensor, tags): (SensorId, Tags)| {
        let (plan, repository) = (plan.clone(), repository.clone());
        let fit = move || {
            let in_order = |windows: VecDeque<Aggregate>| {
                let mut windows = Vec::from(windows);
                windows.sort_by_key(|window| window.window_start);
                windows
            };
            let tags = tags.into_iter().map(|(tag, windows)| (tag, in_order(windows)));
            GroupSample::of(&tags.collect(), window_length, &plan).and_then(|sample| {
                let model = sample.fit(&plan).map_err(|error| error.to_string())?;
                Ok((sample.metadata(&model, &plan), model))
            })
        };
        async move {
            let stored = match fits.run(fit).await? {
                Ok((metadata, model)) => store(&repository, &sensor, (&model, &metadata), release).await?,
                Err(why) => Err(why),
            };
            Ok((sensor, stored))
        }
    };
    let note = |(sensor, stored): (SensorId, Result<bool, String>)| {
        bar.inc(1);
        match stored {
            Ok(is_pinned) => {
                counts.models += 1;
                pinned.extend(is_pinned.then_some(sensor));
            }
            Err(why) => failed.push((sensor, why)),
        }
    };
    fits.for_each(due, work, note).await?;
    bar.finish_and_clear();
    // They end in any order.
    pinned.sort();
    failed.sort();
    Ok(TrainedGroups {
        counts,
        pinned,
        failed,
    })
}
