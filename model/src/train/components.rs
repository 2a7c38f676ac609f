//! Fits principal components: the axes of the rows' covariance, how many of them to keep, and the limits of T² and Q.

use super::limit::Limits;
use super::{Replaced, TrainError, TrainOptions, eigen, to_f64};
use crate::PrincipalComponents;

/// Share of the variance that the kept components explain together.
const EXPLAINED: f64 = 0.9;

/// Smallest variance that counts along a component, and in Q for each that is left out, as a share of a feature's mean variance.
/// Features that repeat each other exactly may then differ by a thousandth of their deviation.
const LEAST_VARIANCE: f64 = 1e-6;

/// Fits to scaled rows, of which there are at least two.
///
/// As many components are kept as explain nine tenths of the variance. The limits are quantiles of the rows' own T² and Q, so that
/// the share nu of them is beyond one of the two: the limits that normal numbers have (an F distribution for T², Jackson and
/// Mudholkar's for Q) would not hold for features such as a minimum and a deviation.
pub(super) fn fit(
    rows: &[f64],
    dimension: usize,
    options: &TrainOptions,
) -> Result<(PrincipalComponents, Option<Replaced>), TrainError> {
    let (centre, covariance) = covariance(rows, dimension);
    let all: f64 = covariance.iter().step_by(dimension + 1).sum();
    // A sample of the rows may not vary. They are measured in standard deviations of all rows then.
    let unit = if all > 0.0 { all / to_f64(dimension) } else { 1.0 };
    let least = (LEAST_VARIANCE * unit).max(f64::MIN_POSITIVE);
    let (mut variances, components) = eigen::symmetric(covariance, dimension);
    let mut explained = 0.0;
    let enough = variances.iter().position(|variance| {
        explained += variance;
        explained >= EXPLAINED * all
    });
    let kept = enough.map_or(dimension, |at| at + 1);
    variances.truncate(kept);
    variances
        .iter_mut()
        .for_each(|variance| *variance = variance.max(least));
    let unlimited = PrincipalComponents::new(centre, components, variances, 1.0, 1.0)?;
    let limits = Limits::of(rows, dimension, options, 2);
    let measured = rows.chunks_exact(dimension).map(|row| unlimited.beyond(row));
    let (mut t2, mut q): (Vec<f64>, Vec<f64>) = measured.map(|beyond| (beyond.t2, beyond.q)).unzip();
    let t2_limit = limits.limit(&mut t2).max(f64::MIN_POSITIVE);
    let q_limit = limits
        .limit(&mut q)
        .max(least * to_f64((dimension - kept).max(1)));
    let (centre, components) = (unlimited.centre().to_vec(), unlimited.components().to_vec());
    let variances = unlimited.variances().to_vec();
    let fitted = PrincipalComponents::new(centre, components, variances, t2_limit, q_limit)?;
    Ok((fitted, limits.moved))
}

/// Returns the mean of the rows and their sample covariance, which divides by their number − 1.
fn covariance(rows: &[f64], dimension: usize) -> (Vec<f64>, Vec<f64>) {
    let count = to_f64(rows.len() / dimension);
    let mut mean = vec![0.0; dimension];
    for row in rows.chunks_exact(dimension) {
        for (mean, value) in mean.iter_mut().zip(row) {
            *mean += value / count;
        }
    }
    let mut covariance = vec![0.0; dimension * dimension];
    for row in rows.chunks_exact(dimension) {
        for a in 0..dimension {
            for b in 0..=a {
                covariance[a * dimension + b] += (row[a] - mean[a]) * (row[b] - mean[b]) / (count - 1.0);
            }
        }
    }
    for a in 0..dimension {
        for b in 0..a {
            covariance[b * dimension + a] = covariance[a * dimension + b];
        }
    }
    (mean, covariance)
}
