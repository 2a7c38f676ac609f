//! Accumulates the readings of one sensor in one open window.

use windrow_common::{Aggregate, EventTime};

use super::exact_sum::ExactSum;

/// An accumulator that folds readings into an [`Aggregate`], with the same result to the bit in any order.
///
/// The sums are exact, so the variance equals that of the textbook's two passes without their rounding. No digits
/// cancel, however large the mean is compared with the spread.
#[derive(Clone, Debug)]
pub(super) struct Accumulator {
    count: u64,
    sum: ExactSum,
    /// The sum of the squares.
    squares: ExactSum,
    min: f64,
    max: f64,
    first: (EventTime, f64),
    last: (EventTime, f64),
}

/// Largest absolute value of a reading. The square of a larger one could overflow, so the windower quarantines it.
pub(crate) const MAX_ABS_VALUE: f64 = 1e150;

impl Accumulator {
    /// Creates a window with its first reading, whose value is finite and at most [`MAX_ABS_VALUE`].
    pub(super) fn new(time: EventTime, value: f64) -> Self {
        let mut accumulator = Self {
            count: 0,
            sum: ExactSum::default(),
            squares: ExactSum::default(),
            min: value,
            max: value,
            first: (time, value),
            last: (time, value),
        };
        accumulator.add(time, value);
        accumulator
    }

    /// Adds a reading, whose value is finite and at most [`MAX_ABS_VALUE`].
    #[inline]
    pub(super) fn add(&mut self, time: EventTime, value: f64) {
        self.count += 1;
        self.sum.add(value);
        self.squares.add_product(value, value);
        // total_cmp orders -0.0 before 0.0, so the sign of a zero does not depend on the order of arrival either.
        if value.total_cmp(&self.min).is_lt() {
            self.min = value;
        }
        if value.total_cmp(&self.max).is_gt() {
            self.max = value;
        }
        if (time, value.total_cmp(&self.first.1)) < (self.first.0, std::cmp::Ordering::Equal) {
            self.first = (time, value);
        }
        if (time, value.total_cmp(&self.last.1)) > (self.last.0, std::cmp::Ordering::Equal) {
            self.last = (time, value);
        }
    }

    /// Returns the number of readings so far.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Returns the event times of the first and the last reading.
    pub(super) fn span(&self) -> (EventTime, EventTime) {
        (self.first.0, self.last.0)
    }

    /// Returns the aggregate of the readings so far.
    pub(super) fn aggregate(&self, window_start: EventTime) -> Aggregate {
        let count = self.count as f64;
        let mean = (self.sum.rounded() / count).clamp(self.min, self.max);
        // Σ(x - mean)² = Σx² - 2·mean·Σx + n·mean², exact until the last rounding.
        let mut deviations = self.squares.clone();
        deviations.add_scaled(&self.sum, -mean);
        deviations.add_scaled(&self.sum, -mean);
        let mut mean_squared = ExactSum::default();
        mean_squared.add_product(mean, mean);
        deviations.add_scaled(&mean_squared, count);
        let variance = (deviations.rounded() / count).max(0.0);
        Aggregate {
            window_start,
            count: self.count,
            mean,
            std: variance.sqrt(),
            min: self.min,
            max: self.max,
            first: self.first.1,
            last: self.last.1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fold(readings: &[(i64, f64)]) -> Aggregate {
        let at = |millis| EventTime::from_millis(millis);
        let mut accumulator = Accumulator::new(at(readings[0].0), readings[0].1);
        readings[1..]
            .iter()
            .for_each(|(time, value)| accumulator.add(at(*time), *value));
        accumulator.aggregate(at(0))
    }

    fn close(a: f64, b: f64, scale: f64) -> bool {
        (a - b).abs() <= 1e-12 * scale.max(1e-300)
    }

    proptest! {
        #[test]
        fn aggregates_equal_a_naive_two_pass_computation(
            readings in proptest::collection::vec((0_i64..1_000, -1e6_f64..1e6), 1..200),
        ) {
            let aggregate = fold(&readings);
            let values: Vec<f64> = readings.iter().map(|r| r.1).collect();
            let n = values.len() as f64;
            let mean = values.iter().sum::<f64>() / n;
            let std = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
            let scale = values.iter().fold(0.0_f64, |scale, v| scale.max(v.abs()));
            prop_assert_eq!(aggregate.count, values.len() as u64);
            prop_assert!(close(aggregate.mean, mean, scale), "{} {}", aggregate.mean, mean);
            prop_assert!(close(aggregate.std, std, scale), "{} {}", aggregate.std, std);
            prop_assert_eq!(aggregate.min, values.iter().copied().fold(f64::INFINITY, f64::min));
            prop_assert_eq!(aggregate.max, values.iter().copied().fold(f64::NEG_INFINITY, f64::max));
            let earliest = readings.iter().map(|r| r.0).min().unwrap();
            prop_assert!(readings.contains(&(earliest, aggregate.first)));
        }

        #[test]
        fn the_order_of_arrival_does_not_show(
            mut readings in proptest::collection::vec((0_i64..5, prop_oneof![-1e9_f64..1e9, Just(0.0), Just(-0.0)]), 1..40),
            turn in any::<prop::sample::Index>(),
        ) {
            let bits = |a: Aggregate| {
                [a.mean, a.std, a.min, a.max, a.first, a.last].map(f64::to_bits)
            };
            let expected = bits(fold(&readings));
            readings.reverse();
            let middle = turn.index(readings.len());
            readings.rotate_left(middle);
            prop_assert_eq!(bits(fold(&readings)), expected);
        }
    }

    #[test]
    fn a_small_spread_on_a_large_mean_survives() {
        let aggregate = fold(&[(0, 1e9 + 4.0), (1, 1e9 + 7.0), (2, 1e9 + 13.0), (3, 1e9 + 16.0)]);
        assert_eq!(aggregate.std, 22.5_f64.sqrt());
        assert_eq!((aggregate.first, aggregate.last), (1e9 + 4.0, 1e9 + 16.0));
    }

    #[test]
    fn one_reading_is_its_own_mean_with_no_spread() {
        for value in [12.37, -1e150, 5e-324, 0.1] {
            let aggregate = fold(&[(7, value)]);
            assert_eq!((aggregate.mean, aggregate.std, aggregate.count), (value, 0.0, 1));
        }
    }
}
