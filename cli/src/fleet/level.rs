//! Sensors that drift: their level moves steadily, from day to day.
//!
//! The level of a day is the median of the medians of its hours. It is taken from the means of the windows and not from their
//! scores, because a model that is trained again every night follows a drift, and its scores then show nothing.
//!
//! *Steadily* is Kendall's tau of days and levels: of all pairs of days, the part in which the later level is higher minus the
//! part in which it is lower (Mann, "Nonparametric tests against trend", 1945). It counts order alone, so no single day
//! decides, and a step in the middle gives a half and not one. Only days of the same kind are compared, working days or those of
//! the weekend, after Hirsch, Slack and Smith ("Techniques of trend analysis for monthly water quality data", 1982, equation 4).
//! How far the level has moved is the median of the slopes of these pairs (Sen, "Estimates of the regression coefficient based on
//! Kendall's tau", 1968) times the days in between. It has to be more than the sensor moves within a usual day: tau alone finds
//! movements that nobody cares about.

use windrow_common::{EventTime, Length};

/// Number of parts of an hour; one window of each part is used.
const OF_AN_HOUR: i64 = 20;
/// Most windows of an hour, if there are repeats.
const MOST_OF_AN_HOUR: usize = 64;
/// A day with fewer hours has no level.
const LEAST_HOURS: usize = 6;
/// Fewest days that can show a drift.
const LEAST_DAYS: usize = 7;
/// Most days that are kept, the newest.
const MOST_DAYS: usize = 60;
/// Least part by which rising pairs of days outnumber falling ones, or the reverse.
const LEAST_TAU: f64 = 0.7;

/// The levels of a sensor.
#[derive(Clone, Debug, Default)]
pub(super) struct Level {
    /// Means of windows of the hour, one for each of its parts.
    hour: Vec<f64>,
    /// The part of the last one.
    part: Option<i64>,
    /// Levels of the hours of a day.
    hours: Vec<f64>,
    /// That day, counted from 1970.
    day: i32,
    days: Vec<Day>,
}

#[derive(Clone, Copy, Debug)]
struct Day {
    number: i32,
    /// Half of its hours lie within this of each other.
    spread: f32,
    level: f64,
}

/// How a sensor drifts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Drift {
    /// How far the level has moved, in the sensor's unit.
    pub(super) moved: f64,
    /// How far it moves within a usual day: half of its hours lie within this of each other.
    pub(super) usual: f64,
    /// The days in which it has moved.
    pub(super) days: i64,
    /// Kendall's tau: 1 if each later level is higher, -1 if each is lower.
    pub(super) tau: f64,
}

impl Level {
    /// Takes the mean of a window, the `number`-th of its hour.
    pub(super) fn take(&mut self, number: i64, length: Length, mean: f64) {
        // The first of each part, whichever it is: a sensor may report at its own minutes.
        let part = number * length.as_millis() * OF_AN_HOUR / Length::HOUR.as_millis();
        if self.part != Some(part) && mean.is_finite() && self.hour.len() < MOST_OF_AN_HOUR {
            self.part = Some(part);
            self.hour.push(mean);
        }
    }

    /// Ends the hour that begins at `hour`.
    pub(super) fn end_hour(&mut self, hour: EventTime) {
        self.part = None;
        let Some(level) = quantile(&mut self.hour, 0.5) else {
            return;
        };
        self.hour.clear();
        let day = hour.as_millis().div_euclid(Length::DAY.as_millis());
        let day = i32::try_from(day).unwrap_or(i32::MAX);
        if day != self.day {
            self.end_day();
            self.day = day;
        }
        self.hours.push(level);
    }

    fn end_day(&mut self) {
        let mut hours = std::mem::take(&mut self.hours);
        if hours.len() >= LEAST_HOURS
            && let (Some(low), Some(level), Some(high)) = (
                quantile(&mut hours, 0.25),
                quantile(&mut hours, 0.5),
                quantile(&mut hours, 0.75),
            )
        {
            if self.days.len() == MOST_DAYS {
                self.days.remove(0);
            }
            #[allow(clippy::cast_possible_truncation)] // Infinite at worst, which no movement exceeds.
            let spread = (high - low) as f32;
            self.days.push(Day {
                number: self.day,
                spread,
                level,
            });
        }
        hours.clear();
        self.hours = hours;
    }

    /// Ends the last day, and returns how the sensor drifts, if it does.
    pub(super) fn drift(&mut self) -> Option<Drift> {
        self.end_day();
        let (first, last) = (self.days.first()?, self.days.last()?);
        if self.days.len() < LEAST_DAYS {
            return None;
        }
        let (mut pairs, mut rising) = (0_u32, 0_i32);
        for (from, to) in self.pairs() {
            pairs += 1;
            rising += i32::from(to.level > from.level) - i32::from(to.level < from.level);
        }
        let tau = f64::from(rising) / f64::from(pairs.max(1));
        if tau.abs() < LEAST_TAU {
            return None;
        }
        let slope = |(from, to): (&Day, &Day)| (to.level - from.level) / f64::from(to.number - from.number);
        let mut slopes: Vec<f64> = self.pairs().map(slope).collect();
        let days = i64::from(last.number - first.number);
        let moved = quantile(&mut slopes, 0.5)? * f64::from(last.number - first.number);
        let mut spreads: Vec<f64> = self.days.iter().map(|day| f64::from(day.spread)).collect();
        let usual = quantile(&mut spreads, 0.5)?;
        (moved.abs() > usual).then_some(Drift {
            moved,
            usual,
            days,
            tau,
        })
    }

    /// Returns the pairs of an earlier and a later day of the same kind.
    fn pairs(&self) -> impl Iterator<Item = (&Day, &Day)> {
        self.days.iter().enumerate().flat_map(|(at, from)| {
            let later = self.days[at + 1..].iter();
            later
                .filter(|to| to.is_weekend() == from.is_weekend())
                .map(move |to| (from, to))
        })
    }
}

impl Drift {
    /// Returns the ratio of the movement to that of a typical day; `None` if the sensor does not move within a day.
    pub(super) fn times(&self) -> Option<f64> {
        (self.usual > 0.0).then(|| self.moved.abs() / self.usual)
    }
}

impl Day {
    /// Returns whether it is a Saturday or a Sunday, in UTC. The first of January 1970 was a Thursday.
    fn is_weekend(&self) -> bool {
        (self.number + 3).rem_euclid(7) >= 5
    }
}

/// Returns a quantile of numbers, which are reordered: the upper one of two between which it lies.
fn quantile(numbers: &mut [f64], part: f64) -> Option<f64> {
    let last = numbers.len().checked_sub(1)?;
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss
    )] // A place in the list.
    let at = (part * last as f64).ceil() as usize;
    Some(*numbers.select_nth_unstable_by(at, f64::total_cmp).1)
}

#[cfg(test)]
mod tests {
    use super::*;
    const MINUTE: Length = Length::from_millis(60_000);

    /// Returns how a sensor drifts that has these levels at these hours, with noise of ±1 that follows from the minute.
    fn drift(days: i64, level: impl Fn(i64) -> f64) -> Option<Drift> {
        let mut sensor = Level::default();
        for hour in 0..days * 24 {
            for minute in 0..60 {
                let noise = ((hour * 60 + minute) * 7_919 % 1_000) as f64 / 500.0 - 1.0;
                sensor.take(minute, MINUTE, level(hour) + noise);
            }
            sensor.end_hour(EventTime::from_millis(hour * 3_600_000));
        }
        sensor.drift()
    }

    fn cycle(hour: i64) -> f64 {
        (hour as f64 / 24.0 * std::f64::consts::TAU).sin()
    }

    #[test]
    fn a_level_that_moves_steadily_is_a_drift_and_what_is_usual_is_none() {
        // Half of the hours of a sine lie within ±0.7 of its middle.
        let slow = |hour: i64| 5.0 * cycle(hour) + 0.05 * hour as f64;
        let found = drift(14, slow).unwrap();
        assert!(
            (found.moved - 13.0 * 24.0 * 0.05).abs() < 0.5 && found.days == 13,
            "{found:?}"
        );
        assert!(
            (found.tau - 1.0).abs() < 0.01 && (found.usual - 7.0).abs() < 1.0,
            "{found:?}"
        );
        let falling = drift(14, |hour| -slow(hour)).unwrap();
        assert!(falling.moved < -14.0 && falling.tau < -0.9, "{falling:?}");
        // Within what it moves in a day, or too short.
        assert_eq!(drift(14, |hour| 5.0 * cycle(hour) + 0.005 * hour as f64), None);
        assert_eq!(drift(6, slow), None);
        assert_eq!(drift(28, |hour| 5.0 * cycle(hour)), None);
        // A step is another regime.
        assert_eq!(drift(28, |hour| if hour < 14 * 24 { 0.0 } else { 50.0 }), None);
        // One that does not move within days.
        let still = drift(10, |hour| (hour / 24) as f64 * 3.0).unwrap();
        assert!(still.moved > 26.0 && still.usual < 0.3, "{still:?}");
    }

    #[test]
    fn weekends_hide_no_drift_and_are_none() {
        let week = |hour: i64| if (hour / 24 + 3) % 7 >= 5 { -40.0 } else { 0.0 };
        let found = drift(21, |hour| week(hour) + 0.05 * hour as f64).unwrap();
        assert!(found.tau > 0.9, "{found:?}");
        assert_eq!(drift(28, week), None);
    }

    #[test]
    fn levels_that_wander_by_chance_within_their_noise_are_no_drift() {
        let (mut found, mut random) = (0, 1_u64);
        for _ in 0..2_000 {
            let mut sensor = Level::default();
            for hour in 0..14 * 24 {
                // Independent hours: half of them lie within half a unit.
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let level = (random >> 11) as f64 / (1_u64 << 53) as f64;
                sensor.take(0, MINUTE, level);
                sensor.end_hour(EventTime::from_millis(hour * 3_600_000));
            }
            found += u32::from(sensor.drift().is_some());
        }
        assert_eq!(found, 0);
    }

    #[test]
    fn what_is_kept_of_a_sensor_is_bounded() {
        let mut sensor = Level::default();
        for hour in 0..100 * 24 {
            for repeat in 0..100 {
                sensor.take(repeat % 2 * 30, MINUTE, f64::NAN);
                sensor.take(repeat % 2 * 30, MINUTE, hour as f64);
            }
            assert!(sensor.hour.len() <= MOST_OF_AN_HOUR);
            sensor.end_hour(EventTime::from_millis(hour * 3_600_000));
        }
        assert!(
            sensor
                .drift()
                .is_some_and(|drift| drift.days == MOST_DAYS as i64 - 1)
        );
    }

    #[test]
    fn a_sensor_that_reports_at_minutes_of_its_own_has_a_level() {
        for minutes in [&[1, 16, 31, 46][..], &[59], &[2, 3]] {
            let mut sensor = Level::default();
            for hour in 0..20 * 24 {
                for minute in minutes {
                    sensor.take(*minute, MINUTE, 0.1 * hour as f64);
                }
                sensor.end_hour(EventTime::from_millis(hour * 3_600_000));
            }
            assert!(
                sensor.drift().is_some_and(|drift| drift.tau == 1.0),
                "{minutes:?}"
            );
        }
    }

    #[test]
    fn one_window_of_each_twentieth_of_an_hour_counts() {
        let mut sensor = Level::default();
        for second in 0..3_600 {
            sensor.take(second, Length::from_millis(1_000), second as f64);
        }
        let right: Vec<f64> = (0..20).map(|part| 180.0 * f64::from(part)).collect();
        assert_eq!(sensor.hour, right);
    }
}
