//! The truth about a simulated fleet: which readings are wrong, and what looks wrong and is not.

use std::fmt;
use std::ops::Range;

use windrow_common::{Course, EventTime, Length, SensorId};

use super::Simulator;
use super::delivery::{Partition, Setting};
use super::episodes::{AnomalyKind, Plan};
use super::life::{Life, is_weekend};
use super::signal::{Sensor, device_name, tag_name};

const MS_PER_DAY: i64 = 86_400_000;

/// A labelled anomaly: the truth that predictions are compared with.
#[derive(Clone, Debug, PartialEq)]
pub struct Anomaly {
    /// The sensor whose readings are wrong.
    pub sensor: SensorId,
    /// In which way they are wrong.
    pub kind: AnomalyKind,
    /// Time of the first reading that is wrong or missing.
    pub from: EventTime,
    /// 1 ms after the last one, so that [from, to) touches no window after that reading's.
    pub to: EventTime,
}

/// Something that looks like an anomaly and is none: nobody should be sent to the sensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Benign {
    /// The sensor.
    pub sensor: SensorId,
    /// What happens.
    pub kind: BenignKind,
    /// When it begins.
    pub from: EventTime,
    /// When it is over.
    pub to: EventTime,
}

/// What happens to a simulated sensor without being an anomaly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BenignKind {
    /// No readings for 1 to 20 minutes.
    Gap,
    /// Another level and another noise from then on, as after maintenance: the new normal, until the next regime.
    Regime,
    /// Saturday and Sunday of a sensor that rests then.
    Weekend,
    /// A weekday on which such a sensor rests, too.
    Holiday,
}

impl BenignKind {
    /// Every kind, in the order tables list them.
    pub const ALL: [Self; 4] = [Self::Gap, Self::Regime, Self::Weekend, Self::Holiday];

    /// Returns the name for tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gap => "gap",
            Self::Regime => "regime change",
            Self::Weekend => "weekend",
            Self::Holiday => "holiday",
        }
    }
}

impl fmt::Display for BenignKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Returns whether an incident meets what is wrong in `truth`: they overlap, or are less than one window apart.
///
/// An incident that meets a true anomaly is right, and an anomaly that an incident meets is found.
pub fn meets(course: &Course, truth: &Range<EventTime>, window: Length) -> bool {
    let window = window.as_duration();
    course.opened < truth.end.saturating_add(window) && truth.start < course.until.saturating_add(window)
}

impl Simulator {
    /// Returns the anomalies that have simulated readings, by time: all of them for a run with a duration, those so far
    /// for a run without.
    pub fn labels(&self) -> Vec<Anomaly> {
        let mut labels = Vec::new();
        self.each_sensor(|truth, id| {
            labels.extend(truth.anomalies().into_iter().map(|(kind, steps)| {
                let (from, to) = truth.times(&steps);
                Anomaly {
                    sensor: id.clone(),
                    kind,
                    from,
                    to,
                }
            }));
        });
        labels.sort_by(|a, b| (a.from, &a.sensor).cmp(&(b.from, &b.sensor)));
        labels
    }

    /// Returns what happens in the same time without being an anomaly, by time.
    pub fn benign(&self) -> Vec<Benign> {
        let mut benign = Vec::new();
        self.each_sensor(|truth, id| {
            benign.extend(truth.benign().into_iter().map(|(kind, steps)| {
                let (from, to) = truth.times(&steps);
                Benign {
                    sensor: id.clone(),
                    kind,
                    from,
                    to,
                }
            }));
        });
        benign.sort_by(|a, b| (a.from, &a.sensor).cmp(&(b.from, &b.sensor)));
        benign
    }

    fn each_sensor(&self, mut see: impl FnMut(&OfSensor<'_>, &SensorId)) {
        let setting = &self.setting;
        let start = setting.steps.start;
        let read = self.partitions.iter().map(Partition::frame).max();
        let end = match self.config.duration {
            Some(_) => setting.steps.end,
            None => read.unwrap_or(start),
        };
        for sensor in self.partitions.iter().flat_map(Partition::sensors) {
            // These names are always valid, as the test `names_are_sensors` shows.
            let Ok(id) = SensorId::new(&device_name(sensor.device), &tag_name(sensor.tag)) else {
                continue;
            };
            let within = start..end.max(start);
            see(
                &OfSensor {
                    sensor,
                    setting,
                    within,
                },
                &id,
            );
        }
    }
}

/// The truth about one sensor in a range of steps.
struct OfSensor<'a> {
    sensor: &'a Sensor,
    setting: &'a Setting,
    within: Range<i64>,
}

impl OfSensor<'_> {
    fn times(&self, steps: &Range<i64>) -> (EventTime, EventTime) {
        let time = |step: i64| step * self.setting.grid.period_ms + i64::from(self.sensor.phase_ms);
        (
            EventTime::from_millis(time(steps.start)),
            EventTime::from_millis(time(steps.end - 1) + 1),
        )
    }

    fn plans(&self) -> impl Iterator<Item = Plan> {
        let Setting { grid, rates, .. } = self.setting;
        let stretches = grid.stretch_of(self.within.start)..=grid.stretch_of(self.within.end);
        stretches.map(|stretch| Plan::new(self.sensor, grid, rates, stretch))
    }

    /// Returns the life, and the eras that the range touches.
    fn eras(&self) -> Option<(&Life, std::ops::RangeInclusive<i64>)> {
        let life = self.sensor.life.as_deref()?;
        let era = |step| life.era_of(&self.setting.grid, step);
        Some((life, era(self.within.start)..=era(self.within.end)))
    }

    fn anomalies(&self) -> Vec<(AnomalyKind, Range<i64>)> {
        let heard = self.plans().filter_map(|plan| plan.heard(&self.within));
        let mut found: Vec<_> = heard.collect();
        for (life, era) in self
            .eras()
            .into_iter()
            .flat_map(|(life, eras)| eras.map(move |era| (life, era)))
        {
            let grid = &self.setting.grid;
            let death = life.death(grid, era);
            if let Some(drift) = life.drift(grid, era) {
                let beyond = drift.beyond();
                let end = death
                    .as_ref()
                    .map_or(beyond.end, |death| beyond.end.min(death.steps.start));
                found.push((AnomalyKind::SlowDrift, beyond.start..end));
            }
            if let Some(death) = death {
                let kind = match death.stuck {
                    true => AnomalyKind::StuckForGood,
                    false => AnomalyKind::Stopped,
                };
                found.push((kind, death.steps));
            }
        }
        self.cut(found)
    }

    fn benign(&self) -> Vec<(BenignKind, Range<i64>)> {
        let mut found: Vec<_> = self.plans().map(|plan| (BenignKind::Gap, plan.silent)).collect();
        if let Some((life, eras)) = self.eras() {
            let grid = &self.setting.grid;
            // One era more, so that the last regime has an end.
            let changes: Vec<i64> = (*eras.start()..=eras.end() + 1)
                .filter_map(|era| life.change_of_regime(grid, era))
                .collect();
            let begins = changes.windows(2).filter(|pair| pair[0] >= self.within.start);
            found.extend(begins.map(|pair| (BenignKind::Regime, pair[0]..pair[1])));
            if life.is_weekly() {
                found.extend(self.rests(life));
            }
        }
        self.cut(found)
    }

    /// Returns the weekends and holidays.
    fn rests(&self, life: &Life) -> Vec<(BenignKind, Range<i64>)> {
        let period = self.setting.grid.period_ms;
        let day = |step: i64| (step * period).div_euclid(MS_PER_DAY);
        let steps = |days: Range<i64>| {
            let first = |day: i64| -(-day * MS_PER_DAY).div_euclid(period);
            first(days.start)..first(days.end)
        };
        let mut found = Vec::new();
        for day in day(self.within.start) - 1..=day(self.within.end) {
            if is_weekend(day) && is_weekend(day + 1) {
                found.push((BenignKind::Weekend, steps(day..day + 2)));
            } else if life.is_holiday(day) {
                found.push((BenignKind::Holiday, steps(day..day + 1)));
            }
        }
        found
    }

    /// Cuts what was found to the range, and drops what is empty.
    fn cut<K>(&self, found: Vec<(K, Range<i64>)>) -> Vec<(K, Range<i64>)> {
        let within = &self.within;
        let cut = found.into_iter().map(|(kind, steps)| {
            let steps = steps.start.max(within.start)..steps.end.min(within.end);
            (kind, steps)
        });
        cut.filter(|(_, steps)| !steps.is_empty()).collect()
    }
}
