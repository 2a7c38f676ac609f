//! Axes: map values and times to positions in the drawing, and choose round numbers for the ticks.

use windrow_common::{EventTime, Length};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// A linear map from the range [from, to] to positions [start, end].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Axis {
    from: f64,
    to: f64,
    start: f64,
    end: f64,
}

impl Axis {
    /// Creates an axis; widens a range without extent.
    pub(crate) fn new(from: f64, to: f64, start: f64, end: f64) -> Self {
        let (from, to) = if to > from {
            (from, to)
        } else {
            let room = if from == 0.0 { 1.0 } else { from.abs() * 0.05 };
            (from - room, from + room)
        };
        Self { from, to, start, end }
    }

    /// Returns the position of `value`, clamped to just beyond the ends.
    pub(crate) fn place(&self, value: f64) -> f64 {
        let share = ((value - self.from) / (self.to - self.from)).clamp(-0.01, 1.01);
        self.start + share * (self.end - self.start)
    }

    /// Returns the position of a time.
    pub(crate) fn at(&self, time: EventTime) -> f64 {
        self.place(time.as_millis() as f64)
    }

    /// Returns about `wanted` round numbers within the range, and their distance: 1, 2 or 5 times a power of ten.
    pub(crate) fn ticks(&self, wanted: f64) -> (Vec<f64>, f64) {
        let rough = (self.to - self.from) / wanted;
        let power = 10_f64.powf(rough.log10().floor());
        let step = match rough / power {
            ..1.5 => power,
            1.5..3.5 => 2.0 * power,
            3.5..7.5 => 5.0 * power,
            _ => 10.0 * power,
        };
        let first = (self.from / step).ceil();
        let count = ((self.to / step).floor() - first).clamp(0.0, 20.0) as i32;
        let ticks = (0..=count).map(|i| (first + f64::from(i)) * step).collect();
        (ticks, step)
    }

    /// Returns at most 14 round times within the range.
    pub(crate) fn time_ticks(&self) -> Vec<EventTime> {
        let length = self.to - self.from;
        let steps = [1, 2, 5, 10, 15, 30].map(|n| n * MINUTE).into_iter();
        let steps = steps.chain([1, 2, 3, 6, 12].map(|n| n * HOUR));
        let mut steps = steps.chain([1, 2, 7, 14, 28, 91, 364, 3_640].map(|n| n * DAY));
        let step = steps
            .find(|step| length / *step as f64 <= 13.0)
            .unwrap_or(36_400 * DAY);
        let first = (self.from / step as f64).ceil() as i64;
        let last = (self.to / step as f64).floor() as i64;
        (first..=last.min(first + 13))
            .map(|tick| EventTime::from_millis(tick * step))
            .collect()
    }
}

/// Returns whether a time is midnight; its tick shows the date.
pub(crate) fn is_midnight(time: EventTime) -> bool {
    time.floor(Length::from_millis(DAY)) == time
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        let (ticks, step) = Axis::new(61.3, 70.9, 0.0, 1.0).ticks(5.0);
        assert_eq!((ticks, step), (vec![62.0, 64.0, 66.0, 68.0, 70.0], 2.0));
        let (ticks, _) = Axis::new(-0.02, 0.031, 0.0, 1.0).ticks(5.0);
        assert_eq!(ticks.len(), 6);
    }

    #[test]
    fn a_range_without_extent_still_has_places() {
        for value in [0.0, 5.0, -5.0] {
            let axis = Axis::new(value, value, 0.0, 100.0);
            assert_eq!(axis.place(value), 50.0);
            assert!(!axis.ticks(5.0).0.is_empty());
        }
    }

    #[test]
    fn a_day_is_marked_every_two_hours() {
        let ticks = Axis::new(0.0, DAY as f64, 0.0, 1.0).time_ticks();
        assert_eq!(ticks.len(), 13);
        assert_eq!(ticks[1].as_millis(), 2 * HOUR);
        assert!(is_midnight(ticks[0]) && !is_midnight(ticks[1]));
    }

    #[test]
    fn any_range_has_few_time_marks() {
        for length in [1, MINUTE, 3 * HOUR, 40 * DAY, 4_000 * DAY, 400_000 * DAY] {
            assert!(Axis::new(1e12, 1e12 + length as f64, 0.0, 1.0).time_ticks().len() <= 14);
        }
    }
}
