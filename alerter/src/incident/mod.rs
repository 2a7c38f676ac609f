//! Incidents as a function of scored windows: no clock, no I/O.
//!
//! [`Track`] takes the windows of one sensor in the order of event time and says which incidents they make. [`Series`]
//! brings windows into that order, however they arrive, so that the same windows always make the same incidents.

mod range;
mod rate;
mod rules;
mod series;
mod silence;
mod stuck;
mod track;
mod votes;

pub use range::Limits;
pub use rules::{Rules, RulesError};
pub(crate) use series::Point;
pub use series::{Inserted, Series};
pub use track::Track;

use windrow_common::{Breach, EventTime};

/// A scored window, as far as incidents depend on it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    /// Its start.
    pub start: EventTime,
    /// Its end.
    pub end: EventTime,
    /// Its score; above 0 is anomalous.
    pub score: f64,
    /// Its value, if all of its readings have the same.
    pub value: Option<f64>,
    /// Number of its readings.
    pub count: u32,
    /// What is outside of the sensor's physical range.
    pub breach: Option<Breach>,
}
