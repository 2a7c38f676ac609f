//! Anomalies that are put into copies of windows, to see which recipes find them.
//!
//! Three kinds, which people know from sensors: a level that shifts for six windows, one reading that is off, and readings that
//! are noisier for six windows. Each is put in at several sizes, in robust deviations of the change from window to window, which
//! neither regimes nor the time of day stretch. The places and signs follow from fixed seeds, so that all recipes see the same.

use std::ops::Range;

use windrow_common::Aggregate;

/// Sizes, in robust deviations of the change from window to window.
const SIZES: [f64; 5] = [3.0, 6.0, 12.0, 24.0, 48.0];

/// How often each kind and size is put in, at different places.
const TIMES: usize = 4;

/// Number of windows of a shift, or of noise.
const LASTS: usize = 6;

/// Number of anomalies that are put in.
pub const INJECTIONS: usize = 3 * SIZES.len() * TIMES;

/// A labelled anomaly counts as this many injected ones.
pub(crate) const LABELLED_COUNT: usize = 5;

/// The standard deviation of normal numbers, in their median absolute deviations.
const OF_MEDIAN: f64 = 1.4826;

/// The same, in their mean absolute deviations.
const OF_MEAN: f64 = 1.253_314;

/// Smallest deviation, as a share of the largest value, for sensors that never vary.
const LEAST: f64 = 1e-6;

/// What is put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Shift,
    Spike,
    Noise,
}

/// An anomaly, by its place among windows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Injection {
    kind: Kind,
    /// Positive or negative, in the unit of the value.
    by: f64,
    /// The windows that it touches.
    pub(crate) at: Range<usize>,
    seed: u64,
}

/// Returns the robust deviation of the change from window to window, divided by √2, as that of the windows would be if they did not
/// depend on each other.
pub(crate) fn deviation(windows: &[Aggregate]) -> f64 {
    let pairs = windows.windows(2);
    let mut changes: Vec<f64> = pairs.map(|pair| (pair[1].mean - pair[0].mean).abs()).collect();
    let largest = windows
        .iter()
        .fold(0.0_f64, |most, window| most.max(window.mean.abs()));
    let least = (LEAST * largest).max(1e-9);
    if changes.is_empty() {
        return least;
    }
    #[allow(clippy::cast_precision_loss)] // Far below 2^53.
    let mean = changes.iter().sum::<f64>() / changes.len() as f64;
    let middle = changes.len() / 2;
    let (_, median, _) = changes.select_nth_unstable_by(middle, f64::total_cmp);
    let deviation = match *median > 0.0 {
        true => OF_MEDIAN * *median,
        false => OF_MEAN * mean,
    };
    (deviation / std::f64::consts::SQRT_2).max(least)
}

/// Returns the anomalies to put into so many windows, which are more than `LASTS`.
pub(crate) fn injections(windows: usize, deviation: f64) -> Vec<Injection> {
    let mut draw = Draw(1);
    let mut all = Vec::with_capacity(INJECTIONS);
    for _ in 0..TIMES {
        for size in SIZES {
            for kind in [Kind::Shift, Kind::Spike, Kind::Noise] {
                let lasts = if kind == Kind::Spike { 1 } else { LASTS };
                let from = draw.below(windows.saturating_sub(lasts - 1).max(1));
                let sign = if draw.even() < 0.5 { -1.0 } else { 1.0 };
                all.push(Injection {
                    kind,
                    by: sign * size * deviation,
                    at: from..(from + lasts).min(windows),
                    seed: all.len() as u64,
                });
            }
        }
    }
    all
}

impl Injection {
    /// Puts the anomaly into the windows that it touches.
    pub(crate) fn put_into(&self, windows: &mut [Aggregate]) {
        let mut draw = Draw(self.seed);
        for window in windows {
            match self.kind {
                Kind::Shift => shift(window, self.by),
                Kind::Spike => spike(window, self.by),
                Kind::Noise => noise(window, self.by.abs(), &mut draw),
            }
        }
    }
}

/// Moves all readings of a window.
fn shift(window: &mut Aggregate, by: f64) {
    for value in [
        &mut window.mean,
        &mut window.min,
        &mut window.max,
        &mut window.first,
        &mut window.last,
    ] {
        *value += by;
    }
}

/// Moves one reading that was at the mean. In a window of more than two readings, it is neither the first nor the last.
fn spike(window: &mut Aggregate, by: f64) {
    if window.count < 2 {
        return shift(window, by);
    }
    let count = count(window);
    let reading = window.mean + by;
    window.std = (window.std * window.std + by * by * (count - 1.0) / (count * count)).sqrt();
    window.mean += by / count;
    window.min = window.min.min(reading);
    window.max = window.max.max(reading);
    if window.count == 2 {
        window.last = reading;
    }
}

/// Adds noise of a deviation to each reading of a window.
fn noise(window: &mut Aggregate, deviation: f64, draw: &mut Draw) {
    let count = count(window);
    // Of so many normal numbers, the largest is about this many deviations from the mean.
    let furthest = (2.0 * count.ln()).sqrt() * deviation;
    let moved = draw.normal() * deviation / count.sqrt();
    window.mean += moved;
    window.std = (window.std * window.std + deviation * deviation * (count - 1.0) / count).sqrt();
    window.min += moved - furthest;
    window.max += moved + furthest;
    let inside = |value: f64, window: &Aggregate| value.clamp(window.min, window.max);
    window.first = inside(window.first + draw.normal() * deviation, window);
    window.last = inside(window.last + draw.normal() * deviation, window);
}

#[allow(clippy::cast_precision_loss)] // Far below 2^53.
fn count(window: &Aggregate) -> f64 {
    window.count.max(1) as f64
}

/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
struct Draw(u64);

impl Draw {
    #[allow(clippy::cast_precision_loss)] // 53 bits.
    fn even(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.even()).sum::<f64>() - 6.0
    }

    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss
    )] // Below the count, which is far below 2^53.
    fn below(&mut self, count: usize) -> usize {
        (self.even() * count as f64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use windrow_common::EventTime;

    fn of_readings(start: i64, readings: &[f64]) -> Aggregate {
        let count = readings.len() as f64;
        let mean = readings.iter().sum::<f64>() / count;
        Aggregate {
            window_start: EventTime::from_millis(start),
            count: readings.len() as u64,
            mean,
            std: (readings.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt(),
            min: readings.iter().copied().fold(f64::INFINITY, f64::min),
            max: readings.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            first: readings[0],
            last: readings[readings.len() - 1],
        }
    }

    fn close(got: Aggregate, right: Aggregate) {
        for (got, right) in [
            (got.mean, right.mean),
            (got.std, right.std),
            (got.min, right.min),
            (got.max, right.max),
            (got.first, right.first),
            (got.last, right.last),
        ] {
            assert!((got - right).abs() < 1e-12, "{got} is not {right}");
        }
    }

    #[test]
    fn a_window_is_as_if_its_readings_had_been_off() {
        let mut window = of_readings(0, &[1.0, 2.0, 3.0]);
        spike(&mut window, -7.0);
        close(window, of_readings(0, &[1.0, -5.0, 3.0]));
        let mut single = of_readings(0, &[4.0]);
        spike(&mut single, 2.0);
        close(single, of_readings(0, &[6.0]));
        let mut moved = of_readings(0, &[1.0, 5.0]);
        shift(&mut moved, 10.0);
        close(moved, of_readings(0, &[11.0, 15.0]));
        let mut noisy = of_readings(0, &[0.0; 6]);
        noise(&mut noisy, 2.0, &mut Draw(3));
        assert!(noisy.min < noisy.mean && noisy.mean < noisy.max && noisy.std > 1.5 && noisy.std < 2.0);
    }

    #[test]
    fn the_deviation_is_that_of_the_noise_whatever_the_regimes() {
        let mut draw = Draw(7);
        let windows: Vec<Aggregate> = (0..2_000)
            .map(|at| {
                let regime = if at / 500 % 2 == 0 { 20.0 } else { 60.0 };
                of_readings(at, &[regime + 0.5 * draw.normal()])
            })
            .collect();
        let deviation = deviation(&windows);
        assert!((deviation - 0.5).abs() < 0.05, "{deviation}");
        let constant: Vec<Aggregate> = (0..10).map(|at| of_readings(at, &[50.0])).collect();
        assert!((super::deviation(&constant) - 5e-5).abs() < 1e-12);
    }

    #[test]
    fn all_recipes_see_the_same_anomalies_within_the_windows() {
        for windows in [7, 8, 100, 5_000] {
            let all = injections(windows, 0.5);
            assert_eq!(all.len(), INJECTIONS);
            assert_eq!(all, injections(windows, 0.5));
            assert!(all.iter().all(|one| !one.at.is_empty() && one.at.end <= windows));
        }
    }
}
