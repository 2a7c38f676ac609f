//! The windows of several tags together. No producer dispatches them: they follow from the windows of the tags, and a grouper asks
//! for them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use windrow_common::{Aggregate, EventTime, GroupMessage, Length, Prediction, ScoringTask, SensorId};
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
    /// Windows that follow from those of the tags, from the first of their device that has a prediction or a dead letter.
    pub(crate) expected: u64,
    /// Of these, windows with a prediction of all readings.
    pub(crate) predicted: u64,
    /// Of these, windows without, whose message is among the dead letters.
    pub(crate) dead_lettered: u64,
    /// Of these, windows with neither, although the grouper is done with their hour.
    pub(crate) lost: u64,
    /// Of these, windows whose prediction has fewer readings than the tags have, although the grouper is done with their hour.
    pub(crate) fewer: u64,
    /// Of these, windows with neither, or fewer readings, that the grouper is not done with.
    pub(crate) pending: u64,
    /// Windows before the first one with a prediction or a dead letter. They may be older than the model.
    pub(crate) earlier: u64,
}

impl GroupTally {
    /// Returns the number of windows of which the prediction, or a prediction of all readings, is missing.
    pub(super) fn missing(&self) -> u64 {
        self.lost + self.fewer
    }

    /// Returns the counts as one line.
    pub(crate) fn line(&self) -> String {
        let mut line = format!(
            "several tags together: {} windows = {} predicted + {} dead-lettered; {} lost",
            show::count(self.expected),
            show::count(self.predicted),
            show::count(self.dead_lettered),
            show::count(self.lost),
        );
        for (count, what) in [
            (self.fewer, "with fewer readings than the tags have"),
            (self.pending, "not settled yet"),
            (
                self.earlier,
                "earlier ones without a prediction, which may be older than the model",
            ),
        ] {
            if count > 0 {
                line += &format!(", {} {what}", show::count(count));
            }
        }
        line
    }

    /// Returns the steps that request the lost windows again.
    pub(super) fn way_back(&self) -> Option<String> {
        (self.missing() > 0).then(|| {
            "for several tags together, stop windrow-grouper, delete grouping/state.json, and start it with a --look-back that \
             reaches the windows; the audit begins there then"
                .to_owned()
        })
    }
}

/// Compares the predictions of several tags together with what follows from those of the tags, hour by hour.
pub(super) struct GroupAudit<'a> {
    progress: &'a State,
    groups: Groups,
    repository: ModelRepository,
    devices: HashMap<Arc<str>, TagWindows>,
    /// Number of readings of the windows in the dead letters, by device.
    dead: HashMap<Arc<str>, BTreeMap<EventTime, u64>>,
    /// The groups of models that are no longer current; `None` if the model cannot be read.
    former: HashMap<(SensorId, Arc<str>), Option<Group>>,
    /// The end of the last hour with parts that the grouper has not seen.
    unseen_until: EventTime,
    /// The end of the newest window of any sensor.
    reached: EventTime,
    /// The ends of the pending windows that lack tags.
    incomplete: Vec<EventTime>,
    tally: GroupTally,
}

/// The windows of a device's tags in an hour, and the earlier windows that its rows need.
#[derive(Default)]
struct TagWindows {
    /// Of each tag, in order of time.
    series: Vec<Vec<Aggregate>>,
    /// Whether a window of all tags has a prediction by a model of the present group, or a dead letter.
    has_begun: bool,
}

/// A window that follows from those of the tags.
struct Derived<'a> {
    start: EventTime,
    end: EventTime,
    /// Number of readings that its row is made of; `None` if the tags do not have enough of them.
    count: Option<u64>,
    /// Whether all tags have it.
    is_complete: bool,
    /// Its prediction.
    row: Option<&'a Prediction>,
    /// Number of readings in a dead letter that holds it.
    dead: Option<u64>,
}

/// What has become of a window.
#[derive(Clone, Copy)]
enum Verdict {
    Predicted,
    DeadLettered,
    Lost,
    Fewer,
    Pending,
    Earlier,
    /// The tags do not have enough of it.
    NotScored,
}

/// What a prediction says about a window.
enum Row {
    /// All readings are in it.
    Whole,
    /// Readings are missing.
    Fewer,
    /// Its model has other tags or cannot be read, so the readings cannot be compared.
    OfOthers,
}

impl<'a> GroupAudit<'a> {
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
            former: HashMap::new(),
            unseen_until: EventTime::MIN,
            reached: EventTime::MIN,
            incomplete: Vec::new(),
            tally: GroupTally::default(),
        })
    }

    /// Returns the time before an hour whose windows its rows are made of.
    pub(super) fn context(&self) -> Duration {
        self.groups.context()
    }

    /// Takes the rows that count of the next hour, ordered by sensor and time. Windows that are not `covered` are not
    /// counted; they are kept because later rows need them.
    pub(super) async fn take(
        &mut self,
        hour: &Hour,
        rows: &[Prediction],
        covered: impl Fn(EventTime) -> bool,
        findings: &mut Findings,
    ) -> Result<(), CliError> {
        let Some(end) = hour
            .start()
            .map(|start| start.saturating_add(Length::HOUR.as_duration()))
        else {
            return Ok(());
        };
        if !self.has_seen(hour) {
            self.unseen_until = end;
        }
        let ends = rows.iter().filter(|row| !row.sensor.is_group()).map(|row| {
            let start = row.aggregate.window_start;
            start.saturating_add(row.window_length.as_duration())
        });
        self.reached = ends.fold(self.reached, EventTime::max);
        for rows in rows.chunk_by(|a, b| a.sensor.device == b.sensor.device) {
            let Some(first) = rows.first() else { continue };
            let name = &first.sensor.device;
            let Some(group) = self.groups.of(name).cloned() else {
                continue;
            };
            let sensor = SensorId::of_group(name);
            let mut device = self.devices.remove(name).unwrap_or_default();
            for window in device.take(&group, rows, self.dead.get(name), end) {
                let verdict = self
                    .verdict(&sensor, &group, &window, &mut device.has_begun)
                    .await?;
                if covered(window.start) && window.start >= self.progress.origin {
                    self.add(verdict, &sensor, &window, findings);
                }
            }
            self.devices.insert(Arc::clone(name), device);
        }
        Ok(())
    }

    /// Returns the counts. A window that lacks tags is asked for once a later window has come, and not counted before.
    pub(super) fn finish(mut self) -> GroupTally {
        let waiting = self.incomplete.iter().filter(|end| **end >= self.reached).count() as u64;
        self.tally.expected -= waiting;
        self.tally.pending -= waiting;
        self.tally
    }

    async fn verdict(
        &mut self,
        sensor: &SensorId,
        group: &Group,
        window: &Derived<'_>,
        has_begun: &mut bool,
    ) -> Result<Verdict, CliError> {
        let row = match window.row {
            Some(row) => Some(self.judged(sensor, group, window.count, row).await?),
            None => None,
        };
        match row {
            // While the model had other tags, nobody requested windows of the present tags.
            Some(Row::OfOthers) => *has_begun = false,
            Some(_) => *has_begun = true,
            None => *has_begun |= window.dead.is_some(),
        }
        let is_dead = window.dead >= window.count;
        Ok(match row {
            _ if window.count.is_none() => Verdict::NotScored,
            Some(Row::Whole | Row::OfOthers) => Verdict::Predicted,
            None if !*has_begun => Verdict::Earlier,
            _ if is_dead => Verdict::DeadLettered,
            _ if !self.is_settled(group, window.start) => Verdict::Pending,
            Some(Row::Fewer) => Verdict::Fewer,
            None => Verdict::Lost,
        })
    }

    fn add(&mut self, verdict: Verdict, sensor: &SensorId, window: &Derived<'_>, findings: &mut Findings) {
        let counted = match verdict {
            Verdict::NotScored => return,
            Verdict::Earlier => {
                self.tally.earlier += 1;
                return;
            }
            Verdict::Predicted => &mut self.tally.predicted,
            Verdict::DeadLettered => &mut self.tally.dead_lettered,
            Verdict::Lost => &mut self.tally.lost,
            Verdict::Fewer => &mut self.tally.fewer,
            Verdict::Pending => &mut self.tally.pending,
        };
        *counted += 1;
        self.tally.expected += 1;
        let start = window.start;
        match verdict {
            Verdict::Pending if !window.is_complete => self.incomplete.push(window.end),
            Verdict::Lost => {
                findings.missing.add_group(sensor);
                note(&mut findings.lost, || format!("{sensor} {start}"));
            }
            Verdict::Fewer => {
                findings.missing.add_group(sensor);
                let predicted = window.row.map_or(0, |row| row.aggregate.count);
                let count = window.count.unwrap_or(0);
                note(&mut findings.differing, || {
                    format!("{sensor} {start}: {predicted} readings predicted, {count} in the tags' windows")
                });
            }
            _ => {}
        }
    }

    /// Returns whether the grouper has seen all parts of an hour.
    ///
    /// The grouper no longer looks for parts of hours older than those in its state, so they count as seen.
    fn has_seen(&self, hour: &Hour) -> bool {
        let hours = &self.progress.hours;
        let Some(start) = hour.start() else { return true };
        match hours.iter().find(|seen| seen.hour == start) {
            Some(seen) => seen.parts == hour.parts().len() as u64,
            None => hours.iter().all(|seen| seen.hour > start),
        }
    }

    /// Returns whether the grouper has made its last request for a window, so that no more readings will be added.
    fn is_settled(&self, group: &Group, start: EventTime) -> bool {
        start < self.progress.base && start.saturating_sub(group.context()) >= self.unseen_until
    }

    /// Compares a prediction with the readings that the tags have.
    async fn judged(
        &mut self,
        sensor: &SensorId,
        group: &Group,
        count: Option<u64>,
        row: &Prediction,
    ) -> Result<Row, CliError> {
        // A model of other tags has the same number only by chance; every version would have to be read to tell.
        if count == Some(row.aggregate.count) {
            return Ok(Row::Whole);
        }
        if self.groups.version(&sensor.device) != Some(&row.model_version)
            && self.former(sensor, &row.model_version).await? != Some(group)
        {
            return Ok(Row::OfOthers);
        }
        let first = row.aggregate.window_start.saturating_sub(group.context());
        // The grouper ignores windows before its origin, including their late readings.
        let is_short =
            count.is_some_and(|count| row.aggregate.count < count) && first >= self.progress.origin;
        Ok(if is_short { Row::Fewer } else { Row::Whole })
    }

    /// Returns the group of a model that may no longer be current; `None` if it cannot be read.
    async fn former(&mut self, sensor: &SensorId, version: &Arc<str>) -> Result<Option<&Group>, CliError> {
        let key = (sensor.clone(), Arc::clone(version));
        if !self.former.contains_key(&key) {
            let group = match self.repository.load(sensor, version).await {
                Ok(model) => model.group().cloned(),
                Err(error) if error.is_of_one_model() => None,
                Err(error) => return Err(error.into()),
            };
            self.former.insert(key.clone(), group);
        }
        Ok(self.former.get(&key).and_then(Option::as_ref))
    }
}

impl TagWindows {
    /// Takes a device's rows of an hour, ordered by tag and time, and returns the windows of all tags together, in order. `end` is
    /// that of the hour.
    fn take<'r>(
        &mut self,
        group: &Group,
        rows: &'r [Prediction],
        dead: Option<&BTreeMap<EventTime, u64>>,
        end: EventTime,
    ) -> Vec<Derived<'r>> {
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
        let series: Vec<&[Aggregate]> = self.series.iter().map(Vec::as_slice).collect();
        let derived = starts.into_iter().map(|start| {
            let window = group.window(&series, start);
            Derived {
                start,
                end: start.saturating_add(length.as_duration()),
                is_complete: window.missing == 0,
                count: window.has_row.then_some(window.count),
                row: scored.get(&start).copied(),
                dead: dead.and_then(|dead| dead.get(&start)).copied(),
            }
        });
        let derived = derived.collect();
        let needed = end.saturating_sub(group.context());
        for series in &mut self.series {
            series.retain(|aggregate| aggregate.window_start >= needed);
        }
        derived
    }
}

/// Returns the number of readings of each window in the dead letters, by device.
fn windows_of(dead: &[DeadLetter], groups: &Groups) -> HashMap<Arc<str>, BTreeMap<EventTime, u64>> {
    let mut windows: HashMap<Arc<str>, BTreeMap<EventTime, u64>> = HashMap::new();
    for dead_letter in dead {
        // Undecodable messages are logged in `reconcile`.
        let Ok(ScoringTask::Group(message)) = ScoringTask::decode(&dead_letter.message.body) else {
            continue;
        };
        let device = &message.sensor.device;
        let Some(group) = groups.of(device) else { continue };
        let series: Vec<&[Aggregate]> = message.series.iter().map(|series| &*series.aggregates).collect();
        let is_of_group = is_of(&message, group);
        let windows = windows.entry(Arc::clone(device)).or_default();
        for start in series
            .iter()
            .copied()
            .flatten()
            .map(|aggregate| aggregate.window_start)
        {
            if start < message.interval.start {
                continue;
            }
            // How many readings of the present tags are in a message of others is not known, but the message is there.
            let held = if is_of_group {
                group.window(&series, start).count
            } else {
                u64::MAX
            };
            let count = windows.entry(start).or_default();
            *count = held.max(*count);
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
