//! Seasonal profiles: the level that a sensor usually has at an hour of the day and week, at its site.

mod fit;

use std::fmt;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use windrow_common::EventTime;

use crate::{Features, ModelError};

pub(crate) use fit::fit;

const HOURS: usize = 24;
const MS_PER_HOUR: i64 = 3_600_000;
const MS_PER_DAY: i64 = 86_400_000;

/// The times that a profile tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Season {
    /// The hours of a day.
    Day,
    /// The hours of a working day, and of a Saturday or Sunday.
    Weekend,
    /// The hours of a week.
    Week,
}

/// The usual level of a sensor by the local hour in which a window starts.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    season: Season,
    zone: TimeZone,
    levels: Box<[f64]>,
}

/// Finds the local hour of times, which nearly always come in order.
struct Clock<'a> {
    zone: &'a TimeZone,
    /// The offset from UTC in milliseconds, and the times between which it holds.
    offset: i64,
    since: i64,
    until: i64,
}

impl Season {
    /// All seasons, coarser ones first. A season's index in this list is its code in model files, so new ones go at the end.
    pub const ALL: [Self; 3] = [Self::Day, Self::Weekend, Self::Week];

    /// Returns the number of times that it tells apart.
    pub fn levels(self) -> usize {
        match self {
            Self::Day => HOURS,
            Self::Weekend => 2 * HOURS,
            Self::Week => 7 * HOURS,
        }
    }

    /// Returns the position of an hour of the week (0 is Monday's first) among the levels.
    fn bin(self, hour_of_week: usize) -> usize {
        match self {
            Self::Day => hour_of_week % HOURS,
            Self::Weekend => usize::from(hour_of_week >= 5 * HOURS) * HOURS + hour_of_week % HOURS,
            Self::Week => hour_of_week,
        }
    }
}

impl fmt::Display for Season {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Day => "hour of the day",
            Self::Weekend => "hour and weekend",
            Self::Week => "hour of the week",
        })
    }
}

impl Profile {
    /// Creates a profile of levels: an hour each, from midnight; of working days before weekends, or of Monday to Sunday.
    ///
    /// `zone` is a name of the IANA database, such as `Europe/Berlin`.
    pub fn new(season: Season, zone: &str, levels: Vec<f64>) -> Result<Self, ModelError> {
        let zone = TimeZone::get(zone).map_err(|_| ModelError::Zone(zone.to_owned()))?;
        if levels.len() != season.levels() {
            return Err(ModelError::Profile {
                season,
                levels: season.levels(),
                given: levels.len(),
            });
        }
        if !levels.iter().all(|level| level.is_finite()) {
            return Err(ModelError::NotFinite("a level of the profile"));
        }
        Ok(Self {
            season,
            zone,
            levels: levels.into(),
        })
    }

    /// Returns the times that it tells apart.
    pub fn season(&self) -> Season {
        self.season
    }

    /// Returns the name of the time zone of its hours.
    pub fn zone(&self) -> &str {
        self.zone.iana_name().unwrap_or("UTC")
    }

    /// Returns the levels, in the order of [`Profile::new`].
    pub fn levels(&self) -> &[f64] {
        &self.levels
    }

    /// Returns the usual level of a window that starts at `start`.
    pub fn level(&self, start: EventTime) -> f64 {
        self.level_by(&mut Clock::new(&self.zone), start)
    }

    fn level_by(&self, clock: &mut Clock<'_>, start: EventTime) -> f64 {
        self.levels[self.season.bin(clock.hour_of_week(start))]
    }

    /// Subtracts the level of each window from the features of its row that move with it.
    pub(crate) fn subtract(
        &self,
        starts: impl Iterator<Item = EventTime>,
        features: &Features,
        rows: &mut [f64],
    ) {
        let features = features.as_slice();
        let mut clock = Clock::new(&self.zone);
        for (start, row) in starts.zip(rows.chunks_exact_mut(features.len())) {
            let level = self.level_by(&mut clock, start);
            for (value, feature) in row.iter_mut().zip(features) {
                if feature.is_level() {
                    *value -= level;
                }
            }
        }
    }

    /// Returns the memory that the levels take, in bytes; time zones are shared.
    pub(crate) fn heap_bytes(&self) -> usize {
        size_of_val(&*self.levels)
    }
}

impl<'a> Clock<'a> {
    fn new(zone: &'a TimeZone) -> Self {
        Self {
            zone,
            offset: 0,
            since: i64::MAX,
            until: i64::MIN,
        }
    }

    /// Returns the local hour of the week, from 0 to 167; Monday's first is 0.
    fn hour_of_week(&mut self, time: EventTime) -> usize {
        let time = time.as_millis();
        if !(self.since..self.until).contains(&time) {
            self.look_up(time);
        }
        let local = time + self.offset;
        // 1970-01-01 was a Thursday.
        let weekday = (local.div_euclid(MS_PER_DAY) + 3).rem_euclid(7);
        let hour = local.rem_euclid(MS_PER_DAY) / MS_PER_HOUR;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // From 0 to 167.
        let hour_of_week = (weekday * 24 + hour) as usize;
        hour_of_week
    }

    /// Finds the offset at a time, and how long it holds.
    fn look_up(&mut self, time: i64) {
        // An event time has a year from 1 to 9999, which a timestamp can hold.
        let at = Timestamp::from_millisecond(time).unwrap_or_default();
        self.offset = i64::from(self.zone.to_offset(at).seconds()) * 1_000;
        self.since = time;
        let next = self.zone.following(at).next();
        self.until = next.map_or(i64::MAX, |next| next.timestamp().as_millisecond());
    }
}

#[cfg(test)]
mod tests;
