//! Accounts for expected windows, hour by hour, so that a year of a large fleet needs no more memory than an hour.
//!
//! In each hour a sensor has the windows that were dispatched or scored, and misses those that it [was expected](super::cadence)
//! to have. Each window is in one column, so the sum is right by construction.

use std::collections::{BTreeMap, HashMap};

use futures::{StreamExt, TryStreamExt};
use serde::Serialize;
use windrow_alerter::mutes::{Mutes, StoredMutes};
use windrow_common::{EventTime, GROUP_TAG, IncidentKind, Length, SensorId};
use windrow_models::ModelRepository;
use windrow_producer::quarantine::{self, Content};
use windrow_store::{Hour, Store, WindowRow};

use super::cadence::{Cadence, part};
use super::cells::{Cell, is_set, ones, set};
use super::incidents::{Incidents, overlaps};
use super::sensors::{Known, Sensors};
use crate::error::CliError;
use crate::progress::steps;

/// Number of sensors whose models are looked up at once.
const MODELS_AT_ONCE: usize = 64;

/// Windows of a fleet in a stretch of time, by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Account {
    /// Windows that there should be.
    pub(super) expected: u64,
    /// Windows with a prediction, without those of stuck sensors.
    pub(super) scored: u64,
    /// Windows with a prediction, of sensors that repeat one value.
    pub(super) stuck: u64,
    /// Windows that silent sensors do not have.
    pub(super) silent: u64,
    /// Windows without a prediction, because the sensor has no model.
    pub(super) no_model: u64,
    /// Windows without a prediction for any other reason: among the dead letters, or not scored yet.
    pub(super) unscored: u64,
    /// Windows that are missing, and in which readings were set aside.
    pub(super) quarantined: u64,
    /// Windows that are missing for no reason that is known.
    pub(super) unexplained: u64,
    /// Readings that were set aside, of those whose time is known.
    pub(super) quarantined_readings: u64,
}

impl Account {
    fn add(&mut self, other: &Self) {
        self.expected += other.expected;
        self.scored += other.scored;
        self.stuck += other.stuck;
        self.silent += other.silent;
        self.no_model += other.no_model;
        self.unscored += other.unscored;
        self.quarantined += other.quarantined;
        self.unexplained += other.unexplained;
        self.quarantined_readings += other.quarantined_readings;
    }
}

/// The readings that were set aside: a bit for each minute of a sensor's hour.
#[derive(Debug, Default)]
struct SetAside {
    minutes: HashMap<(SensorId, EventTime), u64>,
    readings: BTreeMap<EventTime, u64>,
}

/// An accounting of a store's windows.
pub(super) struct Accounting<'a> {
    store: &'a Store,
    models: ModelRepository,
    incidents: &'a Incidents,
    mutes: Mutes,
    set_aside: SetAside,
    sensors: Sensors<'a>,
    from: Option<EventTime>,
    to: Option<EventTime>,
    /// The counts of each stretch, by its start.
    pub(super) lines: BTreeMap<EventTime, Account>,
    step: Length,
}

impl<'a> Accounting<'a> {
    /// Accounts for the windows from `from` to `to` in lines of one `step`.
    pub(super) async fn of(
        store: &'a Store,
        incidents: &'a Incidents,
        (from, to): (Option<EventTime>, Option<EventTime>),
        step: Length,
    ) -> Result<Self, CliError> {
        let mut accounting = Self {
            store,
            models: ModelRepository::new(store.clone()),
            incidents,
            mutes: StoredMutes::read(store).await?.mutes,
            set_aside: SetAside::read(store, from, to).await?,
            sensors: Sensors::default(),
            from,
            to,
            lines: BTreeMap::new(),
            step,
        };
        accounting.run().await?;
        Ok(accounting)
    }

    /// Returns the sensors that have windows and no model, ordered by name.
    pub(super) fn without_model(&self) -> Vec<&SensorId> {
        let all = self.sensors.all.iter();
        let without = all.filter(|known| known.has_model == Some(false));
        let mut sensors: Vec<_> = without.map(|known| &known.sensor).collect();
        sensors.sort();
        sensors
    }

    /// Returns what is known of each sensor that has windows.
    pub(super) fn sensors(&self) -> &[Known<'a>] {
        &self.sensors.all
    }

    pub(super) fn sensors_mut(&mut self) -> &mut [Known<'a>] {
        &mut self.sensors.all
    }

    async fn run(&mut self) -> Result<(), CliError> {
        // Read one day more, to learn each sensor's typical number of windows.
        let learn = self
            .from
            .map(|from| from.saturating_sub(Length::DAY.as_duration()));
        let learn = learn.map(|learn| learn.floor(Length::HOUR));
        let mut hours: BTreeMap<EventTime, [Option<Hour>; 2]> = BTreeMap::new();
        for (at, table) in ["predictions", "dispatched"].into_iter().enumerate() {
            for hour in self.store.hours(table, learn, self.to).await? {
                if let Some(start) = hour.start() {
                    hours.entry(start).or_default()[at] = Some(hour);
                }
            }
        }
        let (Some(first), Some(last)) = (hours.keys().next().copied(), hours.keys().last().copied()) else {
            return Ok(());
        };
        for (sensor, since, length) in self.incidents.silent_at(first) {
            let (mutes, incidents) = (&self.mutes, self.incidents);
            let new = |sensor| known(sensor, mutes, incidents);
            // Its names were checked when the table was read.
            if let Ok(at) = self.sensors.find(&sensor.device, &sensor.tag, new) {
                self.sensors.all[at].cadence = Cadence::full(length, since);
            }
        }
        let bar = steps("reading hours", hours.len() as u64);
        let mut hour = first;
        while hour <= last {
            let [predictions, dispatched] = hours.remove(&hour).unwrap_or_default();
            let is_counted = self.is_counted(hour);
            let scored = self
                .read(predictions, hour, is_counted, |cell| &mut cell.scored)
                .await?;
            let sent = self
                .read(dispatched, hour, is_counted, |cell| &mut cell.dispatched)
                .await?;
            bar.inc(u64::from(scored || sent));
            // The newest hour ends with its newest window.
            let next = hour.saturating_add(Length::HOUR.as_duration());
            let cells = self.sensors.all.iter().filter_map(|known| known.cell.as_ref());
            let end = match hour == last {
                true => cells.map(|cell| cell.end(hour)).max().unwrap_or(hour).min(next),
                false => next,
            };
            self.take(hour, end).await?;
            hour = next;
        }
        bar.finish_and_clear();
        Ok(())
    }

    fn is_counted(&self, hour: EventTime) -> bool {
        self.from.is_none_or(|from| hour >= from.floor(Length::HOUR))
    }

    /// Notes the windows of an hour of a table. Returns whether it has any.
    async fn read(
        &mut self,
        table: Option<Hour>,
        hour: EventTime,
        is_counted: bool,
        bits: impl Fn(&mut Cell) -> &mut Vec<u64>,
    ) -> Result<bool, CliError> {
        let Some(table) = table else { return Ok(false) };
        let (sensors, mutes, incidents) = (&mut self.sensors, &self.mutes, self.incidents);
        let take = |row: WindowRow<'_>| {
            // Several tags together are expected if their tags are, and those are accounted for.
            if row.tag == GROUP_TAG {
                return Ok(());
            }
            let at = sensors.find(row.device, row.tag, |sensor| known(sensor, mutes, incidents))?;
            let known = &mut sensors.all[at];
            let spare = &mut known.spare;
            let cell = known.cell.get_or_insert_with(|| {
                let mut cell = spare.take().unwrap_or_else(|| Cell::new(row.length));
                cell.clear(row.length);
                cell
            });
            // A sensor whose windows get another length goes on with the new one.
            if cell.window_length != row.length {
                return Ok(());
            }
            let number = (row.start.as_millis() - hour.as_millis()).div_euclid(row.length.as_millis());
            set(bits(cell), number);
            if let Some(mean) = row.mean.filter(|_| is_counted) {
                known.anomalies += u64::from(row.anomaly);
                if known.newest.is_none_or(|(start, _)| start < row.start) {
                    known.newest = Some((row.start, row.threshold));
                }
                known.level.take(number, row.length, mean);
            }
            Ok(())
        };
        self.store.each_window(&table, take).await?;
        Ok(true)
    }

    /// Accounts for an hour, up to `end`.
    async fn take(&mut self, hour: EventTime, end: EventTime) -> Result<(), CliError> {
        let is_counted = self.is_counted(hour);
        let mut account = Account {
            quarantined_readings: self.set_aside.readings.get(&hour).copied().unwrap_or(0),
            ..Account::default()
        };
        // The sensors with windows that were not scored, and how many.
        let mut unscored = Vec::new();
        for (at, known) in self.sensors.all.iter_mut().enumerate() {
            let cell = known.cell.take();
            let of_sensor = account_of(known, cell.as_ref(), (hour, end), &self.set_aside);
            if is_counted && let Some(cell) = &cell {
                let scored = of_sensor.scored + of_sensor.stuck;
                known.scored += scored;
                let windows = u32::try_from(scored).unwrap_or(u32::MAX);
                let time = cell.window_length.as_duration().saturating_mul(windows);
                known.scored_time = known.scored_time.saturating_add(time);
                known.level.end_hour(hour);
            }
            if is_counted && of_sensor.unscored > 0 {
                unscored.push((at, of_sensor.unscored));
            }
            known.spare = cell.or(known.spare.take());
            account.add(&of_sensor);
        }
        self.look_for_models(&unscored).await?;
        for (at, windows) in unscored {
            if self.sensors.all[at].has_model == Some(false) {
                account.unscored -= windows;
                account.no_model += windows;
            }
        }
        if is_counted {
            let line = hour.floor(self.step);
            self.lines.entry(line).or_default().add(&account);
        }
        Ok(())
    }

    /// Looks up which of these sensors have a model, once for each.
    async fn look_for_models(&mut self, sensors: &[(usize, u64)]) -> Result<(), CliError> {
        let unknown = sensors.iter().map(|(at, _)| *at);
        let unknown: Vec<usize> = unknown
            .filter(|at| self.sensors.all[*at].has_model.is_none())
            .collect();
        let found: Vec<bool> = {
            let (all, models) = (&self.sensors.all, &self.models);
            let looks = unknown.iter().map(|at| models.current(&all[*at].sensor));
            let looks = futures::stream::iter(looks.collect::<Vec<_>>()).buffered(MODELS_AT_ONCE);
            looks.map_ok(|current| current.is_some()).try_collect().await?
        };
        for (at, found) in unknown.into_iter().zip(found) {
            self.sensors.all[at].has_model = Some(found);
        }
        Ok(())
    }
}

/// Returns a sensor that was not known.
fn known<'a>(sensor: SensorId, mutes: &Mutes, incidents: &'a Incidents) -> Known<'a> {
    let (retired, stretches) = (mutes.retired_from(&sensor), incidents.of_sensor(&sensor));
    Known::new(sensor, retired, stretches)
}

/// Accounts for the windows of one sensor in an hour. What has no prediction counts as unscored.
fn account_of(
    known: &mut Known<'_>,
    cell: Option<&Cell>,
    (hour, end): (EventTime, EventTime),
    set_aside: &SetAside,
) -> Account {
    let present = cell.and_then(|cell| cell.present(hour));
    let windows = present.map_or(0, |present| present.windows);
    let (usual, is_forgotten) = (known.cadence.usual(), known.cadence.is_forgotten(hour));
    let by_cadence = known.cadence.take(hour, end, present);
    let overlaps = |kind| overlaps(known.stretches, kind, (hour, end));
    // A window at the edge of a silence was there.
    let silent: u32 = overlaps(IncidentKind::Silent)
        .map(|(from, to)| part(usual, from, to))
        .sum();
    let is_retired = known.retired.is_some_and(|retired| retired <= hour);
    let is_gone = is_retired || is_forgotten && silent == 0;
    let expected = match is_gone && cell.is_none() {
        true => 0,
        false if is_retired => windows,
        false => by_cadence.max(windows.saturating_add(silent)),
    };
    let predicted = cell.map_or(0, |cell| ones(&cell.scored));
    let stuck = cell.map_or(0, |cell| {
        let stuck = overlaps(IncidentKind::Stuck);
        stuck.map(|(from, to)| cell.scored_between(hour, from, to)).sum()
    });
    let stuck = predicted.min(stuck);
    let missing = expected - windows;
    let silent = missing.min(silent);
    let quarantined = set_aside.windows(&known.sensor, hour, cell).min(missing - silent);
    Account {
        expected: expected.into(),
        scored: (predicted - stuck).into(),
        stuck: stuck.into(),
        silent: silent.into(),
        unscored: (windows - predicted).into(),
        quarantined: quarantined.into(),
        unexplained: (missing - silent - quarantined).into(),
        ..Account::default()
    }
}

impl SetAside {
    async fn read(store: &Store, from: Option<EventTime>, to: Option<EventTime>) -> Result<Self, CliError> {
        let mut set_aside = Self::default();
        let is_wanted =
            |time: EventTime| from.is_none_or(|from| time >= from) && to.is_none_or(|to| time < to);
        // What was measured before `to` may have been set aside at any time since.
        quarantine::read(store, None, |stored| {
            let Content::Reading { sensor, time, .. } = stored.record.content else {
                return;
            };
            if is_wanted(time) {
                let hour = time.floor(Length::HOUR);
                *set_aside.readings.entry(hour).or_default() += 1;
                let minute = (time.as_millis() - hour.as_millis()) / 60_000;
                *set_aside.minutes.entry((sensor, hour)).or_default() |= 1 << minute;
            }
        })
        .await?;
        Ok(set_aside)
    }

    /// Returns how many windows that a sensor does not have in an hour would hold a reading that was set aside.
    fn windows(&self, sensor: &SensorId, hour: EventTime, cell: Option<&Cell>) -> u32 {
        if self.minutes.is_empty() {
            return 0;
        }
        let Some(minutes) = self.minutes.get(&(sensor.clone(), hour)) else {
            return 0;
        };
        let length = cell.map_or(Length::from_millis(60_000), |cell| cell.window_length);
        let numbers = (0..60).filter(|minute| minutes >> minute & 1 == 1);
        let mut windows: Vec<i64> = numbers
            .map(|minute| minute * 60_000 / length.as_millis())
            .collect();
        windows.dedup();
        let has = |number: i64| {
            cell.is_some_and(|cell| is_set(&cell.scored, number) || is_set(&cell.dispatched, number))
        };
        windows.retain(|number| !has(*number));
        u32::try_from(windows.len()).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests;
