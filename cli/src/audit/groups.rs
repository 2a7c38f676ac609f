//! The windows of several tags together. No producer dispatches them: they follow from the windows of the tags, and a grouper asks
//! for them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use windrow_common::{Aggregate, EventTime, GroupMessage, Prediction, ScoringTask, SensorId};
use windrow_grouper::{Groups, State};
use windrow_model::Group;
use windrow_models::ModelRepository;
use windrow_queue::DeadLetter;
use windrow_store::{Hour, Store};

use crate::error::CliError;
use crate::show;

use super::reconcile::{Findings, note};

/// The counts of the windows of several tags together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct GroupTally {
    /// Windows that follow from those of the tags.
    pub(crate) expected: u64,
    /// Of these, windows with a prediction of all readings.
    pub(crate) predicted: u64,
    /// Of these, windows without, whose message is among the dead letters.
    pub(crate) dead_lettered: u64,
    /// Of these, windows with neither that a grouper has asked for.
    pub(crate) lost: u64,
    /// Of these, windows with neither that a grouper has still to ask for.
    pub(crate) pending: u64,
}

impl GroupTally {
    /// Returns the counts as one line.
    pub(crate) fn line(&self) -> String {
        format!(
            "several tags together: {} windows = {} predicted + {} dead-lettered; {} lost, {} still to be asked for",
            show::count(self.expected),
            show::count(self.predicted),
            show::count(self.dead_lettered),
            show::count(self.lost),
            show::count(self.pending),
        )
    }

    /// Returns what to do about the windows that are lost.
    pub(super) fn explanation(&self) -> Option<String> {
        (self.lost > 0).then(|| {
            format!(
                "{} windows of several tags together were asked for, and are neither predicted nor dead-lettered; to ask \
                 again: stop windrow-grouper, delete grouping/state.json, and start it with a --look-back that reaches them",
                show::count(self.lost)
            )
        })
    }
}

/// What a grouper was to ask for, hour by hour.
pub(super) struct Together<'a> {
    progress: &'a State,
    groups: Groups,
    repository: ModelRepository,
    devices: HashMap<Arc<str>, Device>,
    /// Number of readings of the windows in the dead letters, by device.
    dead: HashMap<Arc<str>, BTreeMap<EventTime, u64>>,
    /// Models that scored before the current ones: which tags they score; `None` if that cannot be read.
    earlier: HashMap<(SensorId, Arc<str>), Option<Group>>,
    pub(super) tally: GroupTally,
}

/// A device whose tags are scored together.
#[derive(Default)]
struct Device {
    /// The windows of each tag, in order of time: those of an hour, and those before that its rows are made of.
    series: Vec<Vec<Aggregate>>,
    /// Whether a window of all tags has been scored, or is a dead letter: its model may be newer than the first windows.
    has_begun: bool,
}

/// A window that follows from those of the tags.
struct Window<'a> {
    start: EventTime,
    /// Number of readings that its row is made of.
    count: u64,
    /// Its prediction.
    row: Option<&'a Prediction>,
    /// Number of readings in a dead letter that holds it.
    dead: Option<u64>,
}

impl<'a> Together<'a> {
    /// Reads the models. `progress` is what the grouper had done when the audit began.
    pub(super) async fn begin(
        store: &Store,
        progress: &'a State,
        dead: &[DeadLetter],
    ) -> Result<Self, CliError> {
        let mut groups = Groups::new(store.clone(), Duration::MAX);
        groups.refresh().await?;
        Ok(Self {
            dead: windows_of(dead, &groups),
            progress,
            groups,
            repository: ModelRepository::new(store.clone()),
            devices: HashMap::new(),
            earlier: HashMap::new(),
            tally: GroupTally::default(),
        })
    }

    /// Returns the time before an hour whose windows its rows are made of.
    pub(super) fn context(&self) -> Duration {
        self.groups.context()
    }

    /// Takes all rows that count of the next hour, and compares those of several tags with what follows from the others. Windows
    /// that are not `covered` are only what later ones are made of.
    pub(super) async fn take(
        &mut self,
        hour: &Hour,
        rows: &[Prediction],
        covered: impl Fn(EventTime) -> bool,
        findings: &mut Findings,
    ) -> Result<(), CliError> {
        let is_settled = self.is_settled(hour);
        for rows in rows.chunk_by(|a, b| a.sensor.device == b.sensor.device) {
            let Some(first) = rows.first() else { continue };
            let name = Arc::clone(&first.sensor.device);
            let Some(group) = self.groups.of(&name).cloned() else {
                continue;
            };
            let device = self.devices.entry(Arc::clone(&name)).or_default();
            let dead = self.dead.get(&name);
            let windows = device.take(&group, rows, dead);
            for window in windows {
                if window.start < self.progress.origin || !covered(window.start) {
                    continue;
                }
                self.tally.expected += 1;
                let sensor = SensorId::of_group(&name);
                if self.is_predicted(&sensor, &group, &window).await? {
                    self.tally.predicted += 1;
                } else if window.dead.is_some_and(|count| count >= window.count) {
                    self.tally.dead_lettered += 1;
                } else if is_settled {
                    self.tally.lost += 1;
                    findings.missing.add_together(&sensor);
                    note(&mut findings.lost, || format!("{sensor} {}", window.start));
                } else {
                    self.tally.pending += 1;
                }
            }
        }
        Ok(())
    }

    /// Returns whether a grouper has asked for all windows of an hour. It has not if parts came since, as long as it looks for them.
    fn is_settled(&self, hour: &Hour) -> bool {
        let Some(start) = hour.start() else { return false };
        let seen = self.progress.hours.iter().find(|seen| seen.hour == start);
        start < self.progress.base && seen.is_none_or(|seen| seen.parts == hour.parts().len() as u64)
    }

    /// Returns whether a window has a row of all its readings, or of a model of other tags, whose readings nobody knows any more.
    async fn is_predicted(
        &mut self,
        sensor: &SensorId,
        group: &Group,
        window: &Window<'_>,
    ) -> Result<bool, CliError> {
        let Some(row) = window.row else { return Ok(false) };
        if row.aggregate.count >= window.count {
            return Ok(true);
        }
        if self.groups.version(&sensor.device) == Some(&row.model_version) {
            return Ok(false);
        }
        let key = (sensor.clone(), row.model_version.clone());
        if !self.earlier.contains_key(&key) {
            let earlier = match self.repository.load(sensor, &row.model_version).await {
                Ok(model) => model.group().cloned(),
                Err(error) if error.is_of_one_model() => None,
                Err(error) => return Err(error.into()),
            };
            self.earlier.insert(key.clone(), earlier);
        }
        let earlier = self.earlier.get(&key).and_then(Option::as_ref);
        Ok(earlier != Some(group))
    }
}

impl Device {
    /// Takes a device's rows of an hour, ordered by tag and time, and returns the windows that can be scored, in order.
    fn take<'r>(
        &mut self,
        group: &Group,
        rows: &'r [Prediction],
        dead: Option<&BTreeMap<EventTime, u64>>,
    ) -> Vec<Window<'r>> {
        let (mut starts, mut scored) = (BTreeSet::new(), BTreeMap::new());
        let length = group.window_length();
        self.series.resize_with(group.tags().len(), Vec::new);
        for row in rows.iter().filter(|row| row.window_length == length) {
            let start = row.aggregate.window_start;
            if row.sensor.is_group() {
                scored.insert(start, row);
            } else if start.floor(length) == start
                && let Ok(tag) = group.tags().binary_search(&row.sensor.tag)
            {
                starts.insert(start);
                self.series[tag].push(row.aggregate);
            }
        }
        let Some(first) = starts.first() else {
            return Vec::new();
        };
        let needed = first.saturating_sub(group.context());
        for series in &mut self.series {
            series.retain(|aggregate| aggregate.window_start >= needed);
        }
        let series: Vec<&[Aggregate]> = self.series.iter().map(Vec::as_slice).collect();
        let mut windows = Vec::new();
        for start in starts {
            let expected = group.window(&series, start);
            let row = scored.get(&start).copied();
            let dead = dead.and_then(|dead| dead.get(&start)).copied();
            self.has_begun |= row.is_some() || dead.is_some();
            if self.has_begun && expected.has_row {
                windows.push(Window {
                    start,
                    count: expected.count,
                    row,
                    dead,
                });
            }
        }
        windows
    }
}

/// Returns the number of readings of each window in the dead letters, by device.
fn windows_of(dead: &[DeadLetter], groups: &Groups) -> HashMap<Arc<str>, BTreeMap<EventTime, u64>> {
    let mut windows: HashMap<Arc<str>, BTreeMap<EventTime, u64>> = HashMap::new();
    for dead_letter in dead {
        // What cannot be decoded is logged where the messages of sensors are.
        let Ok(ScoringTask::Group(message)) = ScoringTask::decode(&dead_letter.message.body) else {
            continue;
        };
        let device = &message.sensor.device;
        let Some(group) = groups.of(device).filter(|group| is_of(&message, group)) else {
            continue;
        };
        let series: Vec<&[Aggregate]> = message.series.iter().map(|series| &*series.aggregates).collect();
        let windows = windows.entry(Arc::clone(device)).or_default();
        let mut start = message.interval.start;
        while start < message.interval.end() {
            let window = group.window(&series, start);
            if window.has_row {
                let count = windows.entry(start).or_default();
                *count = window.count.max(*count);
            }
            start = start.saturating_add(group.window_length().as_duration());
        }
    }
    windows
}

/// Returns whether a message has the windows and tags of a group.
fn is_of(message: &GroupMessage, group: &Group) -> bool {
    let tags = message.series.iter().map(|series| &series.tag);
    message.window_length == group.window_length() && tags.eq(group.tags())
}

#[cfg(test)]
mod tests;
