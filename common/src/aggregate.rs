//! What a window keeps of its readings.

use serde::{Deserialize, Serialize};

use crate::EventTime;

/// One window of one sensor, reduced to the numbers models score.
///
/// All of it is a function of the *set* of readings: their order of arrival does not show in a single bit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Aggregate {
    /// Start of the window.
    pub window_start: EventTime,
    /// Number of readings, at least one.
    pub count: u64,
    /// Arithmetic mean.
    pub mean: f64,
    /// Population standard deviation (divided by the count, as numpy's default); 0 for one reading.
    pub std: f64,
    /// Smallest value.
    pub min: f64,
    /// Largest value.
    pub max: f64,
    /// Value at the earliest event time; the smaller one where two share it.
    pub first: f64,
    /// Value at the latest event time; the larger one where two share it.
    pub last: f64,
}
