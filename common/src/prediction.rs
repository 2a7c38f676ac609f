//! The result of scoring a window.

use std::sync::Arc;

use crate::{Aggregate, Length, SensorId};

/// A model's result for one window.
///
/// Its key is (sensor, window start, window length, model version): two predictions with the same key are the same
/// prediction, written twice.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// The sensor that the window belongs to.
    pub sensor: SensorId,
    /// Length of the window.
    pub window_length: Length,
    /// The window's aggregate, as it was scored.
    pub aggregate: Aggregate,
    /// The model's signed score; above 0 is normal.
    pub decision: f64,
    /// Whether the window is an anomaly: `!(decision > 0)`.
    pub anomaly: bool,
    /// Version of the sensor's model that scored the window.
    pub model_version: Arc<str>,
    /// The result of the sensor's shadow version, if it has one that could score the window.
    pub shadow: Option<Shadow>,
}

/// The result of a version that is scored beside the current one, to compare them. It announces no anomaly.
#[derive(Clone, Debug, PartialEq)]
pub struct Shadow {
    /// The version.
    pub version: Arc<str>,
    /// Its signed score; above 0 is normal.
    pub decision: f64,
}
