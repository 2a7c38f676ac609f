//! How many windows a sensor is expected to have in an hour: as many as in its own last hours.
//!
//! A sensor that rests at night is not expected then: a pause counts as normal if it is no longer than the longest one
//! of the last two weeks. In the hours in which a pause begins and ends, only the time before and after it counts.

use windrow_common::{EventTime, Length};

/// Number of hours whose median is usual: a day.
const RECENT: usize = 24;

/// Number of hours for which a long pause is remembered.
const MEMORY: i64 = 14 * 24;

const HOUR: i64 = 3_600_000;

/// What is usual for a sensor.
#[derive(Clone, Debug, Default)]
pub(super) struct Cadence {
    /// The numbers of windows of its last whole hours that had any.
    recent: Vec<u32>,
    /// Their median.
    usual: u32,
    /// The hour of its last window, counted from 1970.
    last: Option<i64>,
    /// The longest pause of the last two weeks, in hours, and the hour in which it ended.
    longest: i64,
    longest_at: i64,
}

/// The windows of a sensor in an hour.
#[derive(Clone, Copy, Debug)]
pub(super) struct Present {
    /// Number of windows.
    pub(super) windows: u32,
    /// Start of the first.
    pub(super) first: EventTime,
    /// End of the last.
    pub(super) end: EventTime,
}

impl Cadence {
    /// Creates the cadence of a sensor that has been silent since `last`, as if it had had every window until then.
    pub(super) fn full(window_length: Length, last: EventTime) -> Self {
        let windows = (HOUR / window_length.as_millis()).clamp(1, i64::from(u32::MAX));
        let windows = u32::try_from(windows).unwrap_or(1);
        Self {
            recent: vec![windows],
            usual: windows,
            last: Some(last.as_millis().div_euclid(HOUR)),
            ..Self::default()
        }
    }

    /// Returns how many windows are usual in a whole hour; 0 if nothing is known.
    pub(super) fn usual(&self) -> u32 {
        self.usual
    }

    fn median(&self) -> u32 {
        let mut sorted = [0; RECENT];
        let sorted = &mut sorted[..self.recent.len()];
        sorted.copy_from_slice(&self.recent);
        match sorted.len() {
            0 => 0,
            length => *sorted.select_nth_unstable(length / 2).1,
        }
    }

    /// Returns whether the sensor has been silent for so long that it is no longer expected.
    pub(super) fn is_forgotten(&self, hour: EventTime) -> bool {
        self.pause(number(hour)) > MEMORY
    }

    /// Returns the hours since the last one with windows.
    fn pause(&self, hour: i64) -> i64 {
        self.last.map_or(0, |last| hour - last - 1)
    }

    /// Takes the hour from `from` to `to`, which is shorter at either end of the report. Returns how many windows are
    /// expected in it, never fewer than are present.
    pub(super) fn take(&mut self, from: EventTime, to: EventTime, present: Option<Present>) -> u32 {
        let hour = number(from);
        if hour - self.longest_at > MEMORY {
            self.longest = 0;
        }
        let rests = self.longest > 0;
        let Some(present) = present else {
            let is_usual = self.pause(hour + 1) <= self.longest;
            return if is_usual { 0 } else { part(self.usual(), from, to) };
        };
        let pause = self.pause(hour);
        let begins = self.last.is_none() || pause > 0;
        if pause >= self.longest && pause > 0 {
            (self.longest, self.longest_at) = (pause, hour);
        }
        self.last = Some(hour);
        let first = if begins { present.first.max(from) } else { from };
        let end = if rests { present.end.min(to) } else { to };
        let expected = part(self.usual(), first, end).max(present.windows);
        let is_whole = first == from && to.as_millis() - from.as_millis() == HOUR;
        if is_whole {
            if self.recent.len() == RECENT {
                self.recent.remove(0);
            }
            self.recent.push(present.windows);
            self.usual = self.median();
        }
        expected
    }
}

/// Returns how many windows are usual from `from` to `to`, if `usual` windows are in a whole hour.
pub(super) fn part(usual: u32, from: EventTime, to: EventTime) -> u32 {
    let lasts = (to.as_millis() - from.as_millis()).clamp(0, HOUR);
    u32::try_from(i64::from(usual) * lasts / HOUR).unwrap_or_default()
}

fn number(hour: EventTime) -> i64 {
    hour.as_millis().div_euclid(HOUR)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes hours with these numbers of windows of a minute, and returns what was expected in each.
    fn expected(hours: &[(u32, i64)]) -> Vec<u32> {
        let mut cadence = Cadence::default();
        let of = |(hour, (windows, begins)): (i64, &(u32, i64))| {
            let minute = |minutes: i64| EventTime::from_millis(hour * HOUR + minutes * 60_000);
            let present = (*windows > 0).then(|| Present {
                windows: *windows,
                first: minute(*begins),
                end: minute(begins + i64::from(*windows)),
            });
            cadence.take(minute(0), minute(60), present)
        };
        (0..).zip(hours).map(of).collect()
    }

    #[test]
    fn a_sensor_is_expected_as_often_as_in_its_last_hours() {
        let steady = [(60, 0); 5];
        let with = |more: &[(u32, i64)]| expected(&[&steady[..], more].concat())[5..].to_vec();
        // The first hour may be a part of one.
        assert_eq!(expected(&[(20, 40), (60, 0), (60, 0)]), [20, 60, 60]);
        assert_eq!(with(&[(50, 0), (0, 0), (0, 0)]), [60, 60, 60]);
        // After a pause it is expected from its first window on.
        assert_eq!(with(&[(0, 0), (30, 30), (55, 0)]), [60, 30, 55]);
        // A first hour that is whole is enough to know what is usual.
        assert_eq!(expected(&[(60, 0), (50, 0)]), [60, 60]);
    }

    #[test]
    fn a_sensor_that_rests_is_not_expected_while_it_rests() {
        // From the half of the ninth hour to the half of the eighteenth.
        let day: Vec<(u32, i64)> = (0..24)
            .map(|hour| match hour {
                8 => (30, 30),
                9..17 => (60, 0),
                17 => (30, 0),
                _ => (0, 0),
            })
            .collect();
        let days = day.repeat(3);
        let expected = expected(&days);
        for (hour, (expected, (windows, _))) in expected.iter().zip(&days).enumerate().skip(34) {
            assert_eq!(expected, windows, "hour {hour}");
        }
    }

    #[test]
    fn a_sensor_that_is_gone_is_expected_for_two_weeks() {
        let mut cadence = Cadence::full(Length::from_millis(60_000), EventTime::from_millis(0));
        let hour = |number: i64| EventTime::from_millis(number * HOUR);
        assert_eq!(cadence.take(hour(5), hour(6), None), 60);
        assert!(!cadence.is_forgotten(hour(MEMORY)));
        assert!(cadence.is_forgotten(hour(MEMORY + 2)));
    }
}
