//! Fits robust z: the median and the scaled median absolute deviation of each feature, and its limit.

use super::degenerate::History;
use super::limit::Limits;
use super::{Replaced, TrainError, TrainOptions, to_f64};
use crate::median::median;
use crate::{Feature, RobustZ};

/// The median absolute deviation of normal numbers times this is their standard deviation.
const OF_MEDIAN: f64 = 1.4826;

/// The mean absolute deviation of normal numbers times this is their standard deviation.
const OF_MEAN: f64 = 1.253_314;

/// No distance up to this is anomalous, which is what Iglewicz and Hoaglin recommend: few windows do not show how far normal
/// ones lie.
const LEAST_LIMIT: f64 = 3.5;

/// Fits to the rows of a history, of which there are at least two.
///
/// The scale is 1.4826 · MAD. If more than half of the values are the same, that is 0, and the scale is 1.253314 times the mean
/// absolute deviation, as Iglewicz and Hoaglin have it. A value that never varied may differ by the history's tolerance, and a
/// number of readings that never varied by 3.5.
pub(super) fn fit(
    rows: &[f64],
    history: &History<'_>,
    options: &TrainOptions,
) -> Result<(RobustZ, Option<Replaced>), TrainError> {
    let features = history.features().as_slice();
    let limits = Limits::of(rows, features.len(), options, features.len());
    let (mut centres, mut scales, mut all_limits) = (Vec::new(), Vec::new(), Vec::new());
    for (at, feature) in features.iter().enumerate() {
        let mut column: Vec<f64> = rows.iter().skip(at).step_by(features.len()).copied().collect();
        let centre = median(&mut column);
        column
            .iter_mut()
            .for_each(|value| *value = (*value - centre).abs());
        let deviation = median(&mut column);
        let (scale, limit) = if history.constant()[at] {
            match feature {
                Feature::Count => (1.0, LEAST_LIMIT),
                _ => (history.tolerance(), 1.0),
            }
        } else {
            let mean = column.iter().sum::<f64>() / to_f64(column.len());
            let scale = match deviation > 0.0 {
                true => OF_MEDIAN * deviation,
                false => OF_MEAN * mean,
            };
            // The rows may be a sample in which all values are the same.
            let scale = scale.max(history.tolerance());
            column.iter_mut().for_each(|distance| *distance /= scale);
            (scale, limits.limit(&mut column).max(LEAST_LIMIT))
        };
        centres.push(centre);
        scales.push(scale);
        all_limits.push(limit);
    }
    Ok((RobustZ::new(centres, scales, all_limits)?, limits.moved))
}
