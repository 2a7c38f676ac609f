//! A row of the predictions, as far as incidents depend on it.

use std::sync::Arc;

use windrow_common::{Cause, Prediction};

use windrow_incidents::{Point, Rules};

/// Returns the part of a row that incidents depend on, without the cause.
pub(crate) fn point(row: &Prediction) -> Point {
    let aggregate = &row.aggregate;
    Point {
        start: aggregate.window_start,
        score: score(row),
        threshold: row.threshold.unwrap_or(f64::NAN),
        min: extreme(aggregate.min),
        max: extreme(aggregate.max),
        version: version(&row.model_version),
        count: u32::try_from(aggregate.count).unwrap_or(u32::MAX),
    }
}

/// Returns what makes a window anomalous, if its score is above the threshold.
pub(crate) fn cause(row: &Prediction, rules: &Rules) -> Option<Arc<Cause>> {
    let cause = row.cause.as_ref()?;
    (score(row) > rules.threshold_of(row.threshold)).then(|| Arc::new(cause.clone()))
}

/// Returns a window's smallest or largest value as a state can hold it: its text cannot carry infinite numbers. No producer
/// of Windrow lets one through. NaN stays, and is neither a value nor out of range.
fn extreme(value: f64) -> f64 {
    value.clamp(f64::MIN, f64::MAX)
}

/// Returns the score of a prediction. Predictions from before scores existed have only a flag. They get 1 for an
/// anomaly, which is above the default threshold and below the default critical score, and -1 otherwise.
fn score(row: &Prediction) -> f64 {
    match (row.score, row.anomaly) {
        (Some(score), _) => score,
        (None, true) => 1.0,
        (None, false) => -1.0,
    }
}

/// Returns the rank of a version: its text, which is 16 hexadecimal digits, as a number.
fn version(text: &str) -> u64 {
    u64::from_str_radix(text, 16).unwrap_or_else(|_| {
        let mut bytes = [0; 8];
        let first = text.len().min(8);
        bytes[..first].copy_from_slice(&text.as_bytes()[..first]);
        u64::from_be_bytes(bytes)
    })
}
