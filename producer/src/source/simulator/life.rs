//! What happens to a sensor over days and weeks: rest at weekends and on holidays, changes of regime, slow drift, death.
//!
//! Each sensor's time is cut into eras of four weeks, which begin at another hour for each sensor. An era has its own
//! draws of what happens in it, and what happens ends with it at the latest. So a reading depends on its era and the one
//! before, wherever a slice begins.

use std::ops::Range;

use super::draws::{Draws, derive, draw};
use super::signal::Grid;

const MS_PER_DAY: i64 = 86_400_000;
/// The length of an era: four weeks of stretches.
const ERA_STRETCHES: i64 = 28 * 24;
/// How long a slow drift takes until somebody recalibrates the sensor, in days.
const DRIFT_DAYS: (f64, f64) = (5.0, 12.0);
/// How far a slow drift gets, in standard deviations of the sensor's noise.
const DRIFT_SIGMAS: (f64, f64) = (6.0, 15.0);
/// A slow drift beyond this is an anomaly, in the same unit: about the daily swing.
const DRIFT_BAND: f64 = 3.0;

/// How many sensors have such a life. All are shares between 0 and 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Odds {
    /// Of the sensors: they rest at weekends and on holidays.
    pub(super) weekly: f64,
    /// Of the weekdays: they are holidays.
    pub(super) holidays: f64,
    /// Of the sensors: they come into another regime once an era.
    pub(super) regimes: f64,
    /// Of the sensors, in each era: they die in it.
    pub(super) deaths: f64,
    /// Of the sensors, in each era: they drift in it.
    pub(super) drifts: f64,
}

/// How a sensor's clean signal differs from that of a sensor without a life.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Manner {
    /// Is added to the level, in standard deviations of the noise.
    pub(super) level: f64,
    /// Multiplies the daily swing.
    pub(super) swing: f64,
    /// Multiplies the noise.
    pub(super) noise: f64,
}

impl Manner {
    /// Adding and multiplying these changes no bit of a signal.
    pub(super) const PLAIN: Self = Self {
        level: 0.0,
        swing: 1.0,
        noise: 1.0,
    };
}

/// A sensor that stops for good, or repeats one value for good, until it is replaced at the end of its era.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Death {
    pub(super) steps: Range<i64>,
    /// Whether it repeats its last value.
    pub(super) stuck: bool,
}

/// A drift over days.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SlowDrift {
    pub(super) steps: Range<i64>,
    /// Where it ends, in standard deviations of the noise; may be negative.
    size: f64,
}

impl SlowDrift {
    fn at(&self, step: i64) -> f64 {
        if !self.steps.contains(&step) {
            return 0.0;
        }
        self.size * (step - self.steps.start) as f64 / (self.steps.end - self.steps.start) as f64
    }

    /// Returns the steps at which it is beyond the band.
    pub(super) fn beyond(&self) -> Range<i64> {
        let length = (self.steps.end - self.steps.start) as f64;
        let within = (length * DRIFT_BAND / self.size.abs()).ceil() as i64;
        (self.steps.start + within).min(self.steps.end)..self.steps.end
    }
}

/// The streams of a sensor's life.
mod stream {
    pub(super) const SENSOR: u64 = 0;
    pub(super) const REGIME: u64 = 1;
    pub(super) const CHANGE: u64 = 2;
    pub(super) const DEATH: u64 = 3;
    pub(super) const DRIFT: u64 = 4;
}

/// The life of one sensor.
#[derive(Clone, Debug)]
pub(super) struct Life {
    odds: Odds,
    key: u64,
    /// The stream of the plant's holidays.
    calendar: u64,
    /// How it is at rest, if it rests.
    rest: Option<Manner>,
    changes_regime: bool,
    /// By how many stretches its eras begin earlier than the epoch's.
    ahead: i64,
}

impl Life {
    /// Creates the life of a sensor from its own key and that of its plant; `None` if nothing can happen.
    pub(super) fn new(key: u64, calendar: u64, odds: &Odds) -> Option<Self> {
        if *odds == Odds::default() {
            return None;
        }
        let mut draws = Draws::new(derive(key, stream::SENSOR));
        let ahead = draws.below(ERA_STRETCHES);
        let (rests, changes) = (draws.unit(), draws.unit());
        let rest = Manner {
            level: -draws.between(2.0, 5.0),
            swing: draws.between(0.1, 0.4),
            noise: draws.between(0.5, 0.9),
        };
        Some(Self {
            odds: *odds,
            key,
            calendar,
            rest: (rests < odds.weekly).then_some(rest),
            changes_regime: changes < odds.regimes,
            ahead,
        })
    }

    pub(super) fn era_of(&self, grid: &Grid, step: i64) -> i64 {
        (grid.stretch_of(step) + self.ahead).div_euclid(ERA_STRETCHES)
    }

    /// Returns the steps of an era.
    pub(super) fn steps(&self, grid: &Grid, era: i64) -> Range<i64> {
        let start = |era| (era * ERA_STRETCHES - self.ahead) * grid.stretch_steps;
        start(era)..start(era + 1)
    }

    fn draws(&self, era: i64, name: u64) -> Draws {
        Draws::new(derive(draw(self.key, era), name))
    }

    /// Returns how the clean signal is at a step, the slow drift included.
    pub(super) fn manner(&self, grid: &Grid, step: i64) -> Manner {
        let mut manner = match self.rest {
            Some(rest) if self.rests(grid, step) => rest,
            _ => Manner::PLAIN,
        };
        let era = self.era_of(grid, step);
        if self.changes_regime {
            let regime = self.regime(if step < self.change(grid, era) {
                era - 1
            } else {
                era
            });
            manner.level += regime.level;
            manner.noise *= regime.noise;
        }
        if let Some(drift) = self.drift(grid, era) {
            manner.level += drift.at(step);
        }
        manner
    }

    /// Returns whether it rests on the day of this step.
    fn rests(&self, grid: &Grid, step: i64) -> bool {
        let day = (step * grid.period_ms).div_euclid(MS_PER_DAY);
        is_weekend(day) || self.is_holiday(day)
    }

    /// Returns whether a day, counted from the epoch, is a holiday and no weekend.
    pub(super) fn is_holiday(&self, day: i64) -> bool {
        !is_weekend(day) && Draws::new(draw(self.calendar, day)).unit() < self.odds.holidays
    }

    pub(super) fn is_weekly(&self) -> bool {
        self.rest.is_some()
    }

    /// Returns the step of an era from which on its regime holds.
    fn change(&self, grid: &Grid, era: i64) -> i64 {
        let steps = self.steps(grid, era);
        steps.start + self.draws(era, stream::CHANGE).below(steps.end - steps.start)
    }

    /// Returns the step at which the regime changes in an era, if it does.
    pub(super) fn change_of_regime(&self, grid: &Grid, era: i64) -> Option<i64> {
        self.changes_regime.then(|| self.change(grid, era))
    }

    /// Returns the regime that an era ends with. Its level is on the other side than the one before, so that every
    /// change shows.
    fn regime(&self, era: i64) -> Manner {
        let mut draws = self.draws(era, stream::REGIME);
        let side = if era.rem_euclid(2) == 0 { 1.0 } else { -1.0 };
        Manner {
            level: side * draws.between(1.5, 4.0),
            swing: 1.0,
            noise: draws.between(0.6, 1.8),
        }
    }

    /// Returns the death in an era.
    pub(super) fn death(&self, grid: &Grid, era: i64) -> Option<Death> {
        let mut draws = self.draws(era, stream::DEATH);
        if draws.unit() >= self.odds.deaths {
            return None;
        }
        let steps = self.steps(grid, era);
        let from = steps.start + draws.below(steps.end - steps.start);
        Some(Death {
            steps: from..steps.end,
            stuck: draws.unit() < 0.5,
        })
    }

    /// Returns the slow drift in an era.
    pub(super) fn drift(&self, grid: &Grid, era: i64) -> Option<SlowDrift> {
        let mut draws = self.draws(era, stream::DRIFT);
        if draws.unit() >= self.odds.drifts {
            return None;
        }
        let steps = self.steps(grid, era);
        let days = draws.between(DRIFT_DAYS.0, DRIFT_DAYS.1);
        let length = ((days * MS_PER_DAY as f64) as i64 / grid.period_ms).min(steps.end - steps.start);
        let start = steps.start + draws.below(steps.end - steps.start - length + 1);
        let size = draws.sign() * draws.between(DRIFT_SIGMAS.0, DRIFT_SIGMAS.1);
        Some(SlowDrift {
            steps: start..start + length,
            size,
        })
    }
}

/// Returns whether a day, counted from the epoch (a Thursday), is a Saturday or Sunday.
pub(super) fn is_weekend(day: i64) -> bool {
    (day + 3).rem_euclid(7) >= 5
}
