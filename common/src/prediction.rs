//! The result of scoring a window.

use std::cmp::Ordering;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

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
    /// Distance beyond the boundary, comparable between sensors. It is 0 or more if and only if the window is an
    /// anomaly. `None` in predictions of versions that computed no score.
    pub score: Option<f64>,
    /// The score above which a window of this sensor counts towards an incident; `None` if its model has no threshold of its
    /// own.
    pub threshold: Option<f64>,
    /// Whether the window is an anomaly: `!(decision > 0)`.
    pub anomaly: bool,
    /// Version of the sensor's model that scored the window.
    pub model_version: Arc<str>,
    /// The main cause of the anomaly; `None` for a normal window, and in predictions of versions that stored no cause.
    pub cause: Option<Cause>,
    /// The result of the sensor's shadow version, if it has one that could score the window.
    pub shadow: Option<Shadow>,
}

/// The feature that has the greatest part in an anomaly.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cause {
    /// The feature's name.
    pub feature: Arc<str>,
    /// Its value in the window.
    pub value: f64,
    /// The values between which it usually lies at this hour; `None` if the model does not tell.
    pub normal: Option<(f64, f64)>,
    /// Its share of what makes the window anomalous, from 0 to 1.
    pub share: f64,
}

/// The result of a shadow version, for comparison with the current one. Its anomalies are not announced.
#[derive(Clone, Debug, PartialEq)]
pub struct Shadow {
    /// The version.
    pub version: Arc<str>,
    /// Its signed score; above 0 is normal.
    pub decision: f64,
    /// How far the window is beyond its boundary; see [`Prediction::score`].
    pub score: f64,
}

impl Cause {
    /// Orders causes by all their fields, bit for bit, so that every reader chooses the same one.
    pub fn total_cmp(&self, other: &Self) -> Ordering {
        let numbers = |cause: &Self| {
            let (low, high) = cause.normal.unwrap_or_default();
            [cause.value, low, high, cause.share]
        };
        let by_numbers = numbers(self).into_iter().zip(numbers(other));
        (&self.feature, self.normal.is_some())
            .cmp(&(&other.feature, other.normal.is_some()))
            .then_with(|| {
                by_numbers
                    .map(|(a, b)| a.total_cmp(&b))
                    .find(|order| order.is_ne())
                    .unwrap_or(Ordering::Equal)
            })
    }
}

impl std::fmt::Display for Cause {
    /// Writes `mean 84.2, usually 61.3 to 66 (93 % of the score)`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = |value: f64| ShortNumber(value);
        write!(f, "{} {}", self.feature, shown(self.value))?;
        if let Some((low, high)) = self.normal {
            write!(f, ", usually {} to {}", shown(low), shown(high))?;
        }
        write!(f, " ({:.0} % of the score)", 100.0 * self.share)
    }
}

/// A number with four significant digits.
struct ShortNumber(f64);

impl std::fmt::Display for ShortNumber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let size = self.0.abs();
        if size != 0.0 && !(1e-3..1e7).contains(&size) {
            return write!(f, "{:.3e}", self.0);
        }
        // The largest size is below 1e7, and the smallest at least 1e-3.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let decimals = if size == 0.0 {
            0
        } else {
            (3.0 - size.log10().floor()).max(0.0) as usize
        };
        let text = format!("{:.decimals$}", self.0);
        match text.contains('.') {
            true => f.write_str(text.trim_end_matches('0').trim_end_matches('.')),
            false => f.write_str(&text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_a_sentence_with_four_digits() {
        let cause = Cause {
            feature: "mean".into(),
            value: 84.2004,
            normal: Some((61.25, 66.0)),
            share: 0.934,
        };
        assert_eq!(
            cause.to_string(),
            "mean 84.2, usually 61.25 to 66 (93 % of the score)"
        );
        let text = |value| {
            Cause {
                value,
                normal: None,
                ..cause.clone()
            }
            .to_string()
        };
        for (value, right) in [
            (0.0, "mean 0 (93 % of the score)"),
            (-123_456.7, "mean -123457 (93 % of the score)"),
            (0.012_345, "mean 0.01235 (93 % of the score)"),
            (1e-9, "mean 1.000e-9 (93 % of the score)"),
            (9.1e120, "mean 9.100e120 (93 % of the score)"),
        ] {
            assert_eq!(text(value), right);
        }
    }
}
