//! Lengths of event time, and intervals of it.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{EventTime, format_duration};

/// The length of a window or interval of event time: a positive number of milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Length(i64);

impl Length {
    /// One hour: rows of the same hour of event time share a folder in the store.
    pub const HOUR: Self = Self(3_600_000);
    /// One day.
    pub const DAY: Self = Self(86_400_000);

    /// Creates a length of `millis` ms. Check a decoded length with [`Length::is_positive`].
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Creates a length of whole milliseconds, dropping anything finer.
    pub fn from_duration(duration: Duration) -> Self {
        Self(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
    }

    /// Returns the length in milliseconds.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Returns whether this can be the length of a window.
    pub const fn is_positive(self) -> bool {
        self.0 > 0
    }

    /// Returns whether `part` fits into this length a whole number of times. Both must be positive.
    pub const fn is_multiple_of(self, part: Self) -> bool {
        self.0 % part.0 == 0
    }

    /// Returns the length as a duration.
    pub const fn as_duration(self) -> Duration {
        Duration::from_millis(self.0.unsigned_abs())
    }
}

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format_duration(self.as_duration()))
    }
}

/// An interval of event time, [start, start + length).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Interval {
    /// First instant inside the interval.
    pub start: EventTime,
    /// Length of the interval.
    pub length: Length,
}

impl Interval {
    /// Returns the first instant after the interval.
    pub fn end(self) -> EventTime {
        EventTime::unbounded(self.start.as_millis().saturating_add(self.length.0))
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.start, self.length)
    }
}
