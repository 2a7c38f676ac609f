//! A row of the predictions, as far as incidents depend on it.

use std::sync::Arc;

use windrow_common::{Cause, Prediction};

use crate::incident::{Point, Rules};

/// Returns what incidents depend on, but for the cause.
pub(crate) fn point(row: &Prediction) -> Point {
    let aggregate = &row.aggregate;
    Point {
        start: aggregate.window_start,
        score: score(row),
        threshold: threshold(row).unwrap_or(f64::NAN),
        min: aggregate.min,
        max: aggregate.max,
        version: version(&row.model_version),
        count: u32::try_from(aggregate.count).unwrap_or(u32::MAX),
    }
}

/// Returns what makes a window anomalous, if its score is above the threshold. Text cannot carry numbers that are not finite,
/// so a cause with such a number is none, and such a band is left out.
pub(crate) fn cause(row: &Prediction, rules: &Rules) -> Option<Arc<Cause>> {
    let cause = row.cause.as_ref()?;
    let is_finite = cause.value.is_finite() && cause.share.is_finite();
    (is_finite && score(row) > rules.threshold_of(threshold(row))).then(|| {
        let normal = cause
            .normal
            .filter(|(low, high)| low.is_finite() && high.is_finite());
        Arc::new(Cause {
            normal,
            ..cause.clone()
        })
    })
}

/// Returns the threshold of its own; one that nothing could be above is none.
fn threshold(row: &Prediction) -> Option<f64> {
    row.threshold.filter(|own| own.is_finite())
}

/// Returns the score of a prediction. Those written before there were scores have their flag: an anomaly is far above any
/// threshold, and far below critical.
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
