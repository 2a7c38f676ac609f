//! The aggregate of a window's readings.

use serde::{Deserialize, Serialize};

use crate::EventTime;

/// One window of one sensor, reduced to the numbers models score.
///
/// It depends only on the *set* of readings: the order in which they arrive does not change a single bit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Aggregate {
    /// Start of the window.
    pub window_start: EventTime,
    /// Number of readings, at least one.
    pub count: u64,
    /// Arithmetic mean.
    pub mean: f64,
    /// Population standard deviation (divided by the count, numpy's default); 0 for one reading.
    pub std: f64,
    /// Smallest value.
    pub min: f64,
    /// Largest value.
    pub max: f64,
    /// Value at the earliest event time; the smaller value if two readings share it.
    pub first: f64,
    /// Value at the latest event time; the larger value if two readings share it.
    pub last: f64,
}

impl Aggregate {
    /// Creates the aggregate of a window of several tags together, which has readings and no value of its own: all numbers but
    /// the count are NaN.
    pub fn without_value(window_start: EventTime, count: u64) -> Self {
        Self {
            window_start,
            count,
            mean: f64::NAN,
            std: f64::NAN,
            min: f64::NAN,
            max: f64::NAN,
            first: f64::NAN,
            last: f64::NAN,
        }
    }
}
