//! What goes wrong with a sensor: gaps and labelled anomalies.
//!
//! Each sensor's time is cut into hours (stretches). Each hour has its own draw of whether it holds a gap or an
//! anomaly, and which. An episode lies within its hour, so a reading depends on no other hour.

use std::fmt;
use std::ops::Range;

use super::delivery::SILENT;
use super::draws::{Draws, bell, derive, draw};
use super::signal::{Grid, Sensor};

/// A way in which a simulated sensor goes wrong.
///
/// Sizes are in standard deviations of the sensor's noise; its daily swing is 2 to 4 of them to either side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AnomalyKind {
    /// One to three readings jump by 5 to 16.
    Spike,
    /// All readings are 3 to 10 higher or lower for 10 to 45 minutes.
    LevelShift,
    /// The last good value is repeated for 10 to 45 minutes.
    Stuck,
    /// The noise is 2 to 5 times as strong for 5 to 30 minutes.
    NoiseBurst,
    /// The value drifts away steadily, by 4 to 12 in the end, over 25 to 50 minutes.
    Drift,
    /// There are no more readings until the sensor is replaced, up to four weeks later (`deaths`).
    Stopped,
    /// The last value is repeated until then (`deaths`).
    StuckForGood,
    /// The value has drifted away by 3 within days, and goes on to 6 to 15 until it is recalibrated (`drifts`).
    SlowDrift,
}

impl AnomalyKind {
    /// Every kind, in the order tables list them.
    pub const ALL: [Self; 8] = [
        Self::Spike,
        Self::LevelShift,
        Self::Stuck,
        Self::NoiseBurst,
        Self::Drift,
        Self::Stopped,
        Self::StuckForGood,
        Self::SlowDrift,
    ];

    /// The kinds that begin and end within an hour (`anomalies`). Their number and order decide which fleet a seed
    /// stands for, so never change them.
    const EPISODES: [Self; 5] = [
        Self::Spike,
        Self::LevelShift,
        Self::Stuck,
        Self::NoiseBurst,
        Self::Drift,
    ];

    /// Returns the name for tables and labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Spike => "spike",
            Self::LevelShift => "level shift",
            Self::Stuck => "stuck value",
            Self::NoiseBurst => "noise burst",
            Self::Drift => "drift",
            Self::Stopped => "stopped",
            Self::StuckForGood => "stuck for good",
            Self::SlowDrift => "slow drift",
        }
    }
}

impl fmt::Display for AnomalyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How often things go wrong, as probabilities per stretch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rates {
    anomaly: f64,
    gap: f64,
}

/// Gaps last 1 to 20 minutes, evenly distributed.
const GAP_MINUTES: (f64, f64) = (1.0, 20.0);

impl Rates {
    /// Creates the rates from the share of hours with an anomaly and the share of silent time.
    pub(super) fn new(anomalies: f64, gaps: f64) -> Self {
        let mean_minutes = (GAP_MINUTES.0 + GAP_MINUTES.1) / 2.0;
        Self {
            anomaly: anomalies,
            gap: gaps * 60.0 / mean_minutes,
        }
    }
}

/// One anomaly's effect on a sensor.
#[derive(Clone, Debug)]
pub(super) struct Episode {
    pub(super) kind: AnomalyKind,
    pub(super) steps: Range<i64>,
    /// In the unit of the value; may be negative.
    size: f64,
    /// The value at which a stuck sensor stays.
    held: f64,
}

/// What goes wrong with one sensor in one stretch.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// The steps at which the sensor is silent.
    pub(super) silent: Range<i64>,
    /// The steps at which it is dead.
    pub(super) dead: Range<i64>,
    /// What it sends then: a value, or [`SILENT`].
    pub(super) last_value: f64,
    pub(super) anomaly: Option<Episode>,
}

impl Plan {
    pub(super) fn new(sensor: &Sensor, grid: &Grid, rates: &Rates, stretch: i64) -> Self {
        // Gaps and anomalies have streams of their own, so that changing one rate does not move the other.
        let drawn_from = |name| Draws::new(derive(draw(sensor.episode_key, stretch), name));
        let mut draws = drawn_from(0);
        let silent = if draws.unit() < rates.gap {
            place(&mut draws, grid, stretch, GAP_MINUTES)
        } else {
            0..0
        };
        let mut draws = drawn_from(1);
        let anomaly =
            (draws.unit() < rates.anomaly).then(|| Episode::draw(&mut draws, sensor, grid, stretch));
        let (dead, last_value) = dead_in(sensor, grid, stretch).unwrap_or((0..0, SILENT));
        Self {
            silent,
            dead,
            last_value,
            anomaly,
        }
    }

    /// Returns a range that covers every step with a gap, death or an anomaly.
    pub(super) fn unusual(&self) -> Range<i64> {
        let episode = self
            .anomaly
            .as_ref()
            .map_or(0..0, |episode| episode.steps.clone());
        [&self.silent, &self.dead, &episode]
            .into_iter()
            .filter(|steps| !steps.is_empty())
            .cloned()
            .reduce(|a, b| a.start.min(b.start)..a.end.max(b.end))
            .unwrap_or(0..0)
    }

    /// Returns the anomaly with its steps `within` that range, from the first to the last that is neither silent nor
    /// after the sensor's death; `None` if there is none.
    pub(super) fn heard(&self, within: &Range<i64>) -> Option<(AnomalyKind, Range<i64>)> {
        let episode = self.anomaly.as_ref()?;
        let mut heard = episode.steps.start.max(within.start)..episode.steps.end.min(within.end);
        // Death lasts to the end of the stretch, or begins before it.
        if !self.dead.is_empty() {
            heard.end = heard.end.min(self.dead.start);
        }
        if self.silent.contains(&heard.start) {
            heard.start = self.silent.end;
        }
        if self.silent.contains(&(heard.end - 1)) {
            heard.end = self.silent.start;
        }
        (heard.start < heard.end).then_some((episode.kind, heard))
    }
}

/// Returns the steps of a stretch at which the sensor is dead, and what it sends then.
fn dead_in(sensor: &Sensor, grid: &Grid, stretch: i64) -> Option<(Range<i64>, f64)> {
    let life = sensor.life.as_ref()?;
    let steps = stretch * grid.stretch_steps..(stretch + 1) * grid.stretch_steps;
    // An era is a whole number of stretches.
    let death = life.death(grid, life.era_of(grid, steps.start))?;
    let dead = death.steps.start.max(steps.start)..steps.end;
    let last_value = match death.stuck {
        true => sensor.clean(grid, death.steps.start - 1),
        false => SILENT,
    };
    (!dead.is_empty()).then_some((dead, last_value))
}

impl Episode {
    fn draw(draws: &mut Draws, sensor: &Sensor, grid: &Grid, stretch: i64) -> Self {
        let kind = AnomalyKind::EPISODES[draws.below(AnomalyKind::EPISODES.len() as i64) as usize];
        let (minutes, sigmas) = match kind {
            AnomalyKind::Spike => ((0.0, 0.0), (5.0, 16.0)),
            AnomalyKind::LevelShift => ((10.0, 45.0), (3.0, 10.0)),
            AnomalyKind::Stuck => ((10.0, 45.0), (0.0, 0.0)),
            AnomalyKind::NoiseBurst => ((5.0, 30.0), (1.7, 4.9)),
            // The others are no episodes.
            _ => ((25.0, 50.0), (4.0, 12.0)),
        };
        let mut steps = place(draws, grid, stretch, minutes);
        if kind == AnomalyKind::Spike {
            let last = (stretch + 1) * grid.stretch_steps;
            steps.end = (steps.start + 1 + draws.below(3)).min(last);
        }
        let size = draws.sign() * draws.between(sigmas.0, sigmas.1) * sensor.noise;
        let held = if kind == AnomalyKind::Stuck {
            sensor.clean(grid, steps.start - 1)
        } else {
            0.0
        };
        Self {
            kind,
            steps,
            size,
            held,
        }
    }

    /// Returns the value that the sensor reports at `step` instead of `clean`.
    pub(super) fn apply(&self, sensor: &Sensor, step: i64, clean: f64) -> f64 {
        match self.kind {
            AnomalyKind::Spike | AnomalyKind::LevelShift => clean + self.size,
            AnomalyKind::Stuck => self.held,
            AnomalyKind::NoiseBurst => clean + self.size * bell(draw(derive(sensor.episode_key, 2), step)),
            _ => {
                let way = (step - self.steps.start + 1) as f64 / (self.steps.end - self.steps.start) as f64;
                clean + self.size * way
            }
        }
    }
}

/// Draws a run of steps anywhere in the stretch, with a length within `minutes` but at least one step.
fn place(draws: &mut Draws, grid: &Grid, stretch: i64, minutes: (f64, f64)) -> Range<i64> {
    let wanted = draws.between(minutes.0, minutes.1) * 60_000.0 / grid.period_ms as f64;
    let length = (wanted as i64).clamp(1, grid.stretch_steps);
    let start = stretch * grid.stretch_steps + draws.below(grid.stretch_steps - length + 1);
    start..start + length
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plans(anomalies: f64, gaps: f64) -> Vec<Plan> {
        let grid = Grid::new(10_000);
        let rates = Rates::new(anomalies, gaps);
        (0..200)
            .flat_map(|device| {
                let sensor = Sensor::new(3, device, 0, &grid);
                (0..100).map(move |stretch| Plan::new(&sensor, &grid, &rates, stretch))
            })
            .collect()
    }

    #[test]
    fn the_rates_are_kept_and_every_kind_occurs_about_as_often() {
        let plans = plans(0.1, 0.02);
        let hours = plans.len() as f64;
        let mut silent = 0;
        let mut kinds = [0; AnomalyKind::EPISODES.len()];
        for plan in &plans {
            silent += plan.silent.end - plan.silent.start;
            if let Some(episode) = &plan.anomaly {
                kinds[episode.kind as usize] += 1;
            }
        }
        let share = silent as f64 / (hours * 360.0);
        assert!((share / 0.02 - 1.0).abs() < 0.1, "{share}");
        let anomalies = f64::from(kinds.iter().sum::<i32>()) / hours;
        assert!((anomalies / 0.1 - 1.0).abs() < 0.1, "{anomalies}");
        assert!(
            kinds.iter().all(|&count| (320..480).contains(&count)),
            "{kinds:?}"
        );
    }

    #[test]
    fn a_higher_rate_adds_anomalies_and_leaves_the_others_where_they_were() {
        let (few, many) = (plans(0.05, 0.0), plans(0.2, 0.1));
        for (few, many) in few.iter().zip(&many) {
            if let Some(episode) = &few.anomaly {
                assert_eq!(many.anomaly.as_ref().unwrap().steps, episode.steps);
            }
        }
    }

    #[test]
    fn a_label_covers_only_what_was_heard() {
        let plan = |silent: Range<i64>, dead: Range<i64>, steps: Range<i64>| Plan {
            silent,
            dead,
            last_value: SILENT,
            anomaly: Some(Episode {
                kind: AnomalyKind::Drift,
                steps,
                size: 1.0,
                held: 0.0,
            }),
        };
        let heard = |plan: Plan| plan.heard(&(0..100)).map(|(_, steps)| steps);
        assert_eq!(heard(plan(0..0, 0..0, 10..20)), Some(10..20));
        assert_eq!(heard(plan(5..15, 0..0, 10..20)), Some(15..20));
        assert_eq!(heard(plan(15..30, 0..0, 10..20)), Some(10..15));
        assert_eq!(heard(plan(12..15, 0..0, 10..20)), Some(10..20));
        assert_eq!(heard(plan(10..20, 0..0, 10..20)), None);
        assert_eq!(heard(plan(0..0, 0..0, 95..120)), Some(95..100));
        assert_eq!(heard(plan(0..0, 0..0, 100..120)), None);
        assert_eq!(heard(plan(0..0, 15..60, 10..20)), Some(10..15));
        assert_eq!(heard(plan(12..15, 15..60, 10..20)), Some(10..12));
        assert_eq!(heard(plan(0..0, 0..60, 10..20)), None);
    }
}
