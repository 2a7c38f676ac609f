//! Where the windows are that were expected: hour by hour, so that a year of a large fleet needs no more memory than an hour.
//!
//! In each hour a sensor has the windows that were dispatched or scored, and misses those that it [was expected](super::cadence)
//! to have. Each window is in one column, so the sum is right by construction.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;
use windrow_alerter::mutes::{Mutes, StoredMutes};
use windrow_common::{EventTime, IncidentKind, Length, SensorId};
use windrow_models::ModelRepository;
use windrow_producer::quarantine::{self, Content};
use windrow_store::{Hour, SensorWindows, Store};

use super::cadence::{Cadence, part};
use super::cells::{Cell, is_set, ones, set};
use super::incidents::Incidents;
use crate::error::CliError;

/// Number of parts that are in memory at once.
const PARTS_AT_ONCE: usize = 8;

/// Windows of a fleet in a stretch of time, by what became of them.
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

/// What is known of a sensor.
#[derive(Debug, Default)]
struct Known {
    cadence: Cadence,
    /// Whether it has a model, if that was looked up.
    has_model: Option<bool>,
    /// When it was taken out of service.
    retired: Option<EventTime>,
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
    sensors: HashMap<SensorId, Known>,
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
            sensors: HashMap::new(),
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
        let mut sensors: Vec<_> = self
            .sensors
            .iter()
            .filter(|(_, known)| known.has_model == Some(false))
            .map(|(sensor, _)| sensor)
            .collect();
        sensors.sort();
        sensors
    }

    /// Returns the number of sensors that have windows.
    pub(super) fn sensors(&self) -> usize {
        self.sensors.len()
    }

    async fn run(&mut self) -> Result<(), CliError> {
        // What is usual is learned from the day before.
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
            let known = self.sensors.entry(sensor.clone()).or_default();
            known.cadence = Cadence::full(length, since);
            known.retired = self.mutes.retired_from(sensor);
        }
        let mut hour = first;
        while hour <= last {
            let [predictions, dispatched] = hours.remove(&hour).unwrap_or_default();
            let mut cells = HashMap::new();
            self.read(predictions, hour, &mut cells, |cell| &mut cell.scored)
                .await?;
            self.read(dispatched, hour, &mut cells, |cell| &mut cell.dispatched)
                .await?;
            // The newest hour ends with its newest window.
            let next = hour.saturating_add(Length::HOUR.as_duration());
            let newest = cells.values().map(|cell| cell.end(hour)).max().unwrap_or(hour);
            let end = if hour == last { newest.min(next) } else { next };
            self.take(hour, end, cells).await?;
            hour = next;
        }
        Ok(())
    }

    /// Notes the windows of an hour of a table.
    async fn read(
        &self,
        table: Option<Hour>,
        hour: EventTime,
        cells: &mut HashMap<SensorId, Cell>,
        bits: impl Fn(&mut Cell) -> &mut Vec<u64>,
    ) -> Result<(), CliError> {
        let Some(table) = table else { return Ok(()) };
        for parts in table.in_groups(PARTS_AT_ONCE) {
            for windows in self.store.windows(&parts).await? {
                let SensorWindows {
                    sensor,
                    window_length,
                    starts,
                } = windows;
                let cell = cells.entry(sensor).or_insert_with(|| Cell::new(window_length));
                // A sensor whose windows get another length goes on with the new one.
                if cell.window_length != window_length {
                    continue;
                }
                for start in starts {
                    let at = (start.as_millis() - hour.as_millis()) / window_length.as_millis();
                    set(bits(cell), at);
                }
            }
        }
        Ok(())
    }

    /// Accounts for an hour, up to `end`.
    async fn take(
        &mut self,
        hour: EventTime,
        end: EventTime,
        mut cells: HashMap<SensorId, Cell>,
    ) -> Result<(), CliError> {
        for sensor in cells.keys() {
            if !self.sensors.contains_key(sensor) {
                let retired = self.mutes.retired_from(sensor);
                let known = Known {
                    retired,
                    ..Known::default()
                };
                self.sensors.insert(sensor.clone(), known);
            }
        }
        let is_counted = self.from.is_none_or(|from| hour >= from.floor(Length::HOUR));
        let mut account = Account {
            quarantined_readings: self.set_aside.readings.get(&hour).copied().unwrap_or(0),
            ..Account::default()
        };
        for (sensor, known) in &mut self.sensors {
            let cell = cells.remove(sensor);
            let mut of_sensor = account_of(
                sensor,
                known,
                cell.as_ref(),
                (hour, end),
                self.incidents,
                &self.set_aside,
            );
            if is_counted && of_sensor.unscored > 0 {
                if known.has_model.is_none() {
                    known.has_model = Some(self.models.current(sensor).await?.is_some());
                }
                if known.has_model == Some(false) {
                    of_sensor.no_model = std::mem::take(&mut of_sensor.unscored);
                }
            }
            account.add(&of_sensor);
        }
        if is_counted {
            let line = hour.floor(self.step);
            self.lines.entry(line).or_default().add(&account);
        }
        Ok(())
    }
}

/// Accounts for the windows of one sensor in an hour. What has no prediction counts as unscored.
fn account_of(
    sensor: &SensorId,
    known: &mut Known,
    cell: Option<&Cell>,
    (hour, end): (EventTime, EventTime),
    incidents: &Incidents,
    set_aside: &SetAside,
) -> Account {
    let present = cell.and_then(|cell| cell.present(hour));
    let windows = present.map_or(0, |present| present.windows);
    let (usual, is_forgotten) = (known.cadence.usual(), known.cadence.is_forgotten(hour));
    let by_cadence = known.cadence.take(hour, end, present);
    let overlaps = |kind| incidents.overlaps(sensor, kind, hour, end);
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
    let quarantined = set_aside.windows(sensor, hour, cell).min(missing - silent);
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
