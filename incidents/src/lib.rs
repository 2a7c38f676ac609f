//! Incidents as a function of scored windows: no clock, no I/O.
//!
//! [`Track`] takes the windows of one sensor in the order of event time and says which incidents they make. [`Series`]
//! brings windows into that order, however they arrive, so that the same windows always make the same incidents.

mod prior;
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
pub use series::Point;
pub use series::{Inserted, Series};
pub use track::Track;

use std::sync::Arc;

use windrow_common::{Aggregate, Breach, Cause, EventTime, Length};

/// A scored window, as far as incidents depend on it.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// Its start.
    pub start: EventTime,
    /// Its end.
    pub end: EventTime,
    /// Its score; above 0 is beyond the model's boundary.
    pub score: f64,
    /// The score above which it is anomalous; `None` if its sensor has no threshold of its own.
    pub threshold: Option<f64>,
    /// Its value, if all of its readings have the same.
    pub value: Option<f64>,
    /// Number of its readings.
    pub count: u32,
    /// What is outside of the sensor's physical range.
    pub breach: Option<Breach>,
    /// What makes it anomalous, as far as its prediction tells.
    pub cause: Option<Arc<Cause>>,
}

impl Window {
    /// Returns the window of an aggregate, of a sensor without a threshold of its own and without a physical range.
    pub fn of(aggregate: &Aggregate, length: Length, score: f64) -> Self {
        Self {
            start: aggregate.window_start,
            end: aggregate.window_start.saturating_add(length.as_duration()),
            score,
            threshold: None,
            value: (aggregate.min.to_bits() == aggregate.max.to_bits()).then_some(aggregate.min),
            count: u32::try_from(aggregate.count).unwrap_or(u32::MAX),
            breach: None,
            cause: None,
        }
    }
}
