//! Explains a window's score: how much each feature contributes to it.
//!
//! The gradient of the score tells how it changes with each feature. Multiplied by the difference from what is normal
//! there, it tells how much of the score each feature accounts for: for an RBF one-class SVM, 2γ(xⱼ − mⱼ)², where m is
//! the mean of the support vectors weighed by their part in Σ α K(x, xᵢ). This is gradient × input (Shrikumar et al.,
//! "Learning important features through propagating activation differences", 2017, section 2) with m as the reference.

mod inverse;
mod slope;

use std::sync::Arc;

use windrow_common::Aggregate;

use crate::{Band, CodePath, Detector, Feature, Model, Projection, Scores, Scratch, Step};
use slope::Slope;

/// Fewest support vectors whose extent counts as a feature's normal band.
const FEWEST_VECTORS: usize = 3;

/// The part of a feature in a window's score.
#[derive(Clone, Debug, PartialEq)]
pub struct Contribution {
    /// The tag, if several are scored together.
    pub tag: Option<Arc<str>>,
    /// The feature.
    pub feature: Feature,
    /// Its value in the window.
    pub value: f64,
    /// Where it usually lies at this hour; `None` if the model does not tell.
    pub band: Option<Band>,
    /// Its share of what makes the window anomalous, from 0 to 1; the shares of all features sum up to 1, or are all 0.
    pub share: f64,
}

impl Contribution {
    /// Returns the feature's name, of a group after its tag: `pressure.mean`.
    pub fn name(&self) -> Arc<str> {
        match &self.tag {
            Some(tag) => format!("{tag}.{}", self.feature).into(),
            None => self.feature.name().into(),
        }
    }

    /// Returns how far the value is beyond its band; 0 inside of it, `None` if there is none.
    pub fn distance(&self) -> Option<f64> {
        let Band { low, high } = self.band?;
        Some((low - self.value).max(self.value - high).max(0.0))
    }
}

impl Model {
    /// Returns the contribution of each feature to the window's score, the greatest first; empty if the window cannot
    /// be scored.
    pub fn explain(&self, aggregate: &Aggregate) -> Vec<Contribution> {
        let (mut scratch, mut scores) = (Scratch::default(), Scores::default());
        let window = std::slice::from_ref(aggregate);
        if self.score(window, &mut scratch, &mut scores).is_err() {
            return Vec::new();
        }
        let level = self
            .profile()
            .map(|profile| profile.level(aggregate.window_start));
        let values = self
            .features()
            .as_slice()
            .iter()
            .map(|feature| feature.of(aggregate));
        self.reasons(&scratch, level, values)
    }

    /// Does the same for a row of a group; see [`Model::group_rows`].
    pub fn explain_row(&self, row: &[f64]) -> Vec<Contribution> {
        let (mut scratch, mut scores) = (Scratch::default(), Scores::default());
        if row.len() != self.columns()
            || self
                .score_rows_on(CodePath::best(), row, &mut scratch, &mut scores)
                .is_err()
        {
            return Vec::new();
        }
        self.reasons(&scratch, None, row.iter().copied())
    }

    /// Returns the part of each column in the score of the row that was prepared last. `values` are its columns, and `level` is
    /// what was subtracted from those that are levels.
    fn reasons(
        &self,
        scratch: &Scratch,
        level: Option<f64>,
        values: impl Iterator<Item = f64>,
    ) -> Vec<Contribution> {
        let mut slope = Slope::of(self.detector(), scratch.rows());
        for step in self.steps().iter().rev() {
            slope = back_through(step, slope);
        }
        let parts: Vec<f64> = slope.parts().map(|part| part.max(0.0)).collect();
        let all: f64 = parts.iter().sum();
        let bands = self.normal_bands();
        let mut reasons: Vec<Contribution> = (values.zip(parts).enumerate())
            .map(|(at, (value, part))| {
                let (tag, feature) = self.column(at);
                let above = level.filter(|_| feature.is_level()).unwrap_or(0.0);
                Contribution {
                    tag: tag.cloned(),
                    feature,
                    value,
                    band: bands.get(at).map(|band| Band {
                        low: band.low + above,
                        high: band.high + above,
                    }),
                    share: if all > 0.0 { (part / all).min(1.0) } else { 0.0 },
                }
            })
            .collect();
        // Stable: of equal shares, the feature that the model names first.
        reasons.sort_by(|a, b| b.share.total_cmp(&a.share));
        reasons
    }

    /// Returns the bands of training, or else where the support vectors lie, which outline what is normal; none if neither is
    /// known.
    fn normal_bands(&self) -> Vec<Band> {
        if !self.bands().is_empty() {
            return self.bands().to_vec();
        }
        let Detector::OneClassSvm(svm) = self.detector() else {
            return Vec::new();
        };
        if svm.coefficients().len() < FEWEST_VECTORS {
            return Vec::new();
        }
        let dimension = svm.dimension();
        let mut bands: Option<Vec<Band>> = None;
        for vector in svm.vectors().chunks_exact(dimension) {
            let Some(row) = self.features_of(vector) else {
                return Vec::new();
            };
            let bands = bands.get_or_insert_with(|| {
                let nothing = Band {
                    low: f64::INFINITY,
                    high: f64::NEG_INFINITY,
                };
                vec![nothing; dimension]
            });
            for (band, value) in bands.iter_mut().zip(row) {
                band.low = band.low.min(value);
                band.high = band.high.max(value);
            }
        }
        bands.unwrap_or_default()
    }

    /// Returns the features that the steps turn into a prepared row; `None` if a step cannot be undone.
    fn features_of(&self, prepared: &[f64]) -> Option<Vec<f64>> {
        let mut row = prepared.to_vec();
        for step in self.steps().iter().rev() {
            match step {
                Step::Scale(scaler) => {
                    let undo = scaler.mean().iter().zip(scaler.scale());
                    for (value, (mean, scale)) in row.iter_mut().zip(undo) {
                        *value = *value * scale + mean;
                    }
                }
                Step::Stretch(stretch) => {
                    let undo = stretch.factor().iter().zip(stretch.offset());
                    for (value, (factor, offset)) in row.iter_mut().zip(undo) {
                        *value = (*value - offset) / factor;
                    }
                }
                Step::Clip(_) => {}
                Step::Project(_) => return None,
            }
        }
        row.iter().all(|value| value.is_finite()).then_some(row)
    }
}

/// Returns the slope of what a step takes, from that of what it returns.
fn back_through(step: &Step, slope: Slope) -> Slope {
    match step {
        Step::Scale(scaler) => slope.stretched(scaler.scale().iter().map(|scale| 1.0 / scale)),
        Step::Stretch(stretch) => slope.stretched(stretch.factor().iter().copied()),
        // Beyond its limits a clip hides how far a feature is, not which one it is.
        Step::Clip(_) => slope,
        Step::Project(projection) => Slope {
            gradient: transposed(projection, &slope.gradient),
            // The way before the step, exactly if it can be undone; else as if its rows were orthogonal.
            way: inverse::solve(projection, &slope.way).unwrap_or_else(|| transposed(projection, &slope.way)),
        },
    }
}

/// Multiplies a row of a projection's outputs with its weights.
fn transposed(projection: &Projection, outputs: &[f64]) -> Vec<f64> {
    let inputs = projection.weights().len() / outputs.len();
    let mut row = vec![0.0; inputs];
    for (weights, output) in projection.weights().chunks_exact(inputs).zip(outputs) {
        for (value, weight) in row.iter_mut().zip(weights) {
            *value += weight * output;
        }
    }
    row
}

#[cfg(test)]
mod tests;
