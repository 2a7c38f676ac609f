//! The clean signal of a sensor: what it measures when nothing goes wrong.

use super::draws::{Draws, bell, derive, draw};
use super::life::{Life, Manner, Odds};

const MS_PER_DAY: f64 = 86_400_000.0;
/// The slow part of a signal is computed at knots this far apart and interpolated linearly between them.
const KNOT_MS: i64 = 300_000;
/// The length of a stretch, which holds at most one gap and one anomaly.
const STRETCH_MS: i64 = 3_600_000;

/// Time in steps of one period since the epoch, and its coarser divisions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    /// Length of a step.
    pub(super) period_ms: i64,
    /// Steps between two knots of the slow part, at least one.
    knot_steps: i64,
    /// Steps in a stretch: about an hour.
    pub(super) stretch_steps: i64,
}

impl Grid {
    pub(super) fn new(period_ms: i64) -> Self {
        Self {
            period_ms,
            knot_steps: (KNOT_MS / period_ms).max(1),
            stretch_steps: (STRETCH_MS / period_ms).max(1),
        }
    }

    pub(super) fn stretch_of(&self, step: i64) -> i64 {
        step.div_euclid(self.stretch_steps)
    }

    pub(super) fn knot_of(&self, step: i64) -> i64 {
        step.div_euclid(self.knot_steps)
    }

    /// Returns how far `step` is on the way from its knot to the next one, in [0, 1).
    pub(super) fn fraction_of(&self, step: i64) -> f64 {
        step.rem_euclid(self.knot_steps) as f64 / self.knot_steps as f64
    }
}

/// A quantity that a tag typically measures.
struct Quantity {
    name: &'static str,
    level: f64,
    noise: f64,
    /// 10 to the power of the number of decimals that its sensors report.
    scale: f64,
}

const fn quantity(name: &'static str, level: f64, noise: f64, scale: f64) -> Quantity {
    Quantity {
        name,
        level,
        noise,
        scale,
    }
}

/// In °C, bar, mm/s, A and l/min. The noise is at least 25 units of the last digit, so that only a stuck value stands
/// still.
const QUANTITIES: [Quantity; 5] = [
    quantity("temperature", 65.0, 0.45, 100.0),
    quantity("pressure", 4.2, 0.035, 1_000.0),
    quantity("vibration", 2.8, 0.08, 1_000.0),
    quantity("current", 18.0, 0.3, 100.0),
    quantity("flow", 120.0, 1.6, 100.0),
];
const OTHER: Quantity = quantity("", 50.0, 0.5, 100.0);

/// Returns the name of the device with this number, counted from 0.
pub(super) fn device_name(device: u32) -> String {
    format!("device-{:03}", device + 1)
}

/// Returns the name of the tag with this number, counted from 0.
pub(super) fn tag_name(tag: u32) -> String {
    match QUANTITIES.get(tag as usize) {
        Some(quantity) => quantity.name.to_owned(),
        None => format!("tag-{}", tag + 1),
    }
}

/// The properties of a sensor that do not change with time.
///
/// They follow from (seed, device, tag) alone, so a sensor is the same in a fleet of any size.
#[derive(Clone, Debug)]
pub(super) struct Sensor {
    pub(super) device: u32,
    pub(super) tag: u32,
    /// When within each period it measures.
    pub(super) phase_ms: u32,
    /// Standard deviation of its white noise; all other variations are multiples of it.
    pub(super) noise: f64,
    scale: f64,
    level: f64,
    swing: f64,
    shift_of_day: f64,
    white_key: u64,
    wander_key: u64,
    drift_key: u64,
    /// The stream that its gaps and anomalies are drawn from.
    pub(super) episode_key: u64,
    /// What happens to it over days and weeks, if anything can. Behind a pointer, because most fleets have none and it is
    /// not read for each reading.
    pub(super) life: Option<Box<Life>>,
}

impl Sensor {
    pub(super) fn new(seed: u64, device: u32, tag: u32, grid: &Grid) -> Self {
        let key = derive(derive(seed, u64::from(device)), u64::from(tag));
        let quantity = QUANTITIES.get(tag as usize).unwrap_or(&OTHER);
        let mut draws = Draws::new(derive(key, 0));
        let noise = quantity.noise * draws.between(0.7, 1.4);
        Self {
            device,
            tag,
            phase_ms: draws.below(grid.period_ms) as u32,
            noise,
            scale: quantity.scale,
            level: quantity.level * draws.between(0.85, 1.15),
            swing: noise * draws.between(2.0, 4.0),
            // Tags peak at different hours; the devices of one tag peak at about the same hour.
            shift_of_day: 0.13 * f64::from(tag) + draws.between(0.0, 0.08),
            white_key: derive(key, 1),
            wander_key: derive(key, 2),
            drift_key: derive(key, 3),
            episode_key: derive(key, 4),
            life: None,
        }
    }

    /// Returns the sensor with a life by these odds.
    pub(super) fn with_life(self, seed: u64, odds: &Odds) -> Self {
        /// No device has this number.
        const PLANT: u64 = u64::MAX;
        let key = derive(derive(seed, u64::from(self.device)), u64::from(self.tag));
        let life = Life::new(derive(key, 5), derive(seed, PLANT), odds).map(Box::new);
        Self { life, ..self }
    }

    /// Returns the level with its daily and weekly shape, wander (minutes) and drift (days), at a knot, and the standard
    /// deviation of the white noise from there on.
    pub(super) fn knot(&self, grid: &Grid, knot: i64) -> (f64, f64) {
        let manner = match &self.life {
            Some(life) => life.manner(grid, knot * grid.knot_steps),
            None => Manner::PLAIN,
        };
        let days = (knot * grid.knot_steps) as f64 * (grid.period_ms as f64 / MS_PER_DAY);
        let day = days + self.shift_of_day;
        let daily = 0.8 * wave(day) + 0.25 * wave(2.0 * day + 0.1);
        // The epoch was a Thursday, so the trough is in the night from Saturday to Sunday. It is mild, so that one
        // day's readings can stand for the next day's.
        let weekly = 0.12 * wave((days - 4.75) / 7.0);
        let level = self.level
            + self.swing * (manner.swing * daily + weekly)
            + self.noise * (0.45 * self.wander(knot) + 0.4 * self.drift(days) + manner.level);
        (level, self.noise * manner.noise)
    }

    /// Returns noise that persists for a while: a first-order autoregression. It is cut off where its memory has faded
    /// to a quarter, so that it can be computed at any knot.
    fn wander(&self, knot: i64) -> f64 {
        const KEEP: f64 = 0.8;
        let (mut weight, mut sum, mut squares) = (1.0, 0.0, 0.0_f64);
        for age in 0..6 {
            sum += weight * bell(draw(self.wander_key, knot - age));
            squares += weight * weight;
            weight *= KEEP;
        }
        sum / squares.sqrt()
    }

    /// Returns the effect of ageing and weather, which moves from one random value to the next within two days.
    fn drift(&self, days: f64) -> f64 {
        let at = days / 2.0;
        let from = at.floor();
        let [a, b] = [0, 1].map(|next| bell(draw(self.drift_key, from as i64 + next)));
        let way = at - from;
        a + (b - a) * way * way * (3.0 - 2.0 * way)
    }

    /// Returns the random bits of one reading: the upper ones for the noise, the lower ones for the delay.
    pub(super) fn bits(&self, step: i64) -> u64 {
        draw(self.white_key, step)
    }

    /// Rounds a value to the decimals that the sensor reports.
    pub(super) fn round(&self, value: f64) -> f64 {
        /// Adding and subtracting 1.5 x 2^52 rounds to a whole number without a call into libm.
        const WHOLE: f64 = 6_755_399_441_055_744.0;
        (value * self.scale + WHOLE - WHOLE) / self.scale
    }

    /// Computes the clean value at a step from scratch. The simulator computes the same faster, because it keeps the
    /// knots.
    pub(super) fn clean(&self, grid: &Grid, step: i64) -> f64 {
        let knot = grid.knot_of(step);
        let (from, noise) = self.knot(grid, knot);
        let rise = self.knot(grid, knot + 1).0 - from;
        self.round(from + rise * grid.fraction_of(step) + noise * bell(self.bits(step)))
    }
}

/// Returns a sine wave to within 6 %, built from two parabolas. Unlike libm's sine, it has the same bits on every
/// platform.
fn wave(turns: f64) -> f64 {
    let x = turns - turns.floor() - 0.5;
    -16.0 * x * (0.5 - x.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wave_is_nearly_a_sine() {
        for i in -100..100 {
            let turns = f64::from(i) / 37.0;
            let sine = (turns * std::f64::consts::TAU).sin();
            assert!((wave(turns) - sine).abs() < 0.06, "{turns}");
        }
    }

    #[test]
    fn values_have_the_decimals_of_their_quantity() {
        let grid = Grid::new(10_000);
        for (tag, decimals) in [(0, 2), (1, 3), (7, 2)] {
            let sensor = Sensor::new(1, 0, tag, &grid);
            for step in 0..1_000 {
                let value = sensor.clean(&grid, step);
                assert_eq!(format!("{value:.decimals$}").parse::<f64>().unwrap(), value);
            }
        }
    }

    #[test]
    fn sensors_differ_by_seed_device_and_tag() {
        let grid = Grid::new(10_000);
        let values = [(1, 0, 0), (2, 0, 0), (1, 1, 0), (1, 0, 1)]
            .map(|(seed, device, tag)| Sensor::new(seed, device, tag, &grid).clean(&grid, 5));
        for (i, a) in values.iter().enumerate() {
            assert!(values[..i].iter().all(|b| a != b), "{values:?}");
        }
    }
}
