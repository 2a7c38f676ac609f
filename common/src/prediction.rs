//! What a worker says of one window.

use std::sync::Arc;

use crate::{Aggregate, Length, SensorId};

/// The verdict of one model on one window.
///
/// Its key is (sensor, window start, window length, model version): two predictions with the same key are the same
/// prediction, written twice.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// Whose window.
    pub sensor: SensorId,
    /// Length of the window.
    pub window_length: Length,
    /// The window, as it was scored.
    pub aggregate: Aggregate,
    /// The model's signed score; above 0 is normal.
    pub decision: f64,
    /// `!(decision > 0)`.
    pub anomaly: bool,
    /// Which version of the sensor's model scored it.
    pub model_version: Arc<str>,
}
