//! The detectors: what decides whether a prepared row is normal.
//!
//! | detector | file | decision |
//! |---|---|---|
//! | one-class SVM | `svm/` | Σ coefficient · K(vector, x) + intercept |
//! | isolation forest | `detector/forest.rs` | how deep a row falls in random trees |
//! | elliptic envelope | `detector/envelope.rs` | the squared distance from the centre, in deviations |
//! | local outlier factor | `detector/local_outlier_factor.rs` | how dense the rows around are, against those of the neighbours |
//! | principal components | `detector/components.rs` | T² and Q: how far along the usual directions, and how far off them |
//! | robust z | `detector/robust_z.rs` | the largest distance of a feature from its median, in robust deviations |
//! | nearest neighbours | `detector/nearest.rs` | the distance of the k-th nearest training row |
//!
//! A score says the same on a scale that does not depend on the model: the logarithm of how far the row is beyond the
//! boundary, as a ratio of what the detector measures. Where there is no such ratio it is the decision over the
//! boundary's own size, which is the first term of that logarithm.
//!
//! A decision above 0 is normal, as in scikit-learn. For all but the SVM scikit-learn counts exactly 0 as normal too;
//! such a decision is returned as the smallest normal number above 0, so that one rule holds for all.

mod components;
mod envelope;
mod forest;
mod local_outlier_factor;
mod nearest;
mod robust_z;

pub use components::PrincipalComponents;
pub use envelope::EllipticEnvelope;
pub(crate) use forest::average_depth;
pub use forest::{IsolationForest, MAX_NODES, Tree, TreeNode};
pub use local_outlier_factor::{LocalOutlierFactor, MAX_TRAINING_ROWS, Metric};
pub use nearest::{MAX_NEIGHBOURS, NearestNeighbours};
pub use robust_z::RobustZ;

use crate::svm::{Reference, ln_ratio};
use crate::{CodePath, ModelError, OneClassSvm, is_anomaly};

/// What decides about prepared rows.
#[derive(Clone, Debug, PartialEq)]
pub enum Detector {
    /// A one-class SVM.
    OneClassSvm(OneClassSvm),
    /// An isolation forest.
    IsolationForest(IsolationForest),
    /// An elliptic envelope.
    EllipticEnvelope(EllipticEnvelope),
    /// A local outlier factor.
    LocalOutlierFactor(LocalOutlierFactor),
    /// Principal components: T² and Q.
    PrincipalComponents(PrincipalComponents),
    /// Robust z.
    RobustZ(RobustZ),
    /// Nearest neighbours.
    NearestNeighbours(NearestNeighbours),
}

impl Detector {
    /// Returns the length of the rows that it decides about.
    pub fn dimension(&self) -> usize {
        match self {
            Self::OneClassSvm(svm) => svm.dimension(),
            Self::IsolationForest(forest) => forest.dimension(),
            Self::EllipticEnvelope(envelope) => envelope.dimension(),
            Self::LocalOutlierFactor(factor) => factor.dimension(),
            Self::PrincipalComponents(components) => components.dimension(),
            Self::RobustZ(robust) => robust.dimension(),
            Self::NearestNeighbours(nearest) => nearest.dimension(),
        }
    }

    /// Returns its name, for people.
    pub fn name(&self) -> &'static str {
        match self {
            Self::OneClassSvm(_) => "one-class SVM",
            Self::IsolationForest(_) => "isolation forest",
            Self::EllipticEnvelope(_) => "elliptic envelope",
            Self::LocalOutlierFactor(_) => "local outlier factor",
            Self::PrincipalComponents(_) => "principal components",
            Self::RobustZ(_) => "robust z",
            Self::NearestNeighbours(_) => "nearest neighbours",
        }
    }

    /// Returns the memory that the arrays take, in bytes.
    pub(crate) fn heap_bytes(&self) -> usize {
        match self {
            Self::OneClassSvm(svm) => svm.heap_bytes(),
            Self::IsolationForest(forest) => forest.heap_bytes(),
            Self::EllipticEnvelope(envelope) => envelope.heap_bytes(),
            Self::LocalOutlierFactor(factor) => factor.heap_bytes(),
            Self::PrincipalComponents(components) => components.heap_bytes(),
            Self::RobustZ(robust) => robust.heap_bytes(),
            Self::NearestNeighbours(nearest) => nearest.heap_bytes(),
        }
    }

    /// Writes one decision for each of the prepared `rows`; the lengths must agree.
    pub(crate) fn decide(&self, path: CodePath, rows: &[f64], decisions: &mut [f64]) {
        let offset = match self.measure(rows, decisions) {
            Measured::Beyond { offset } => offset,
            Measured::Not(svm) => return svm.decide(path, rows, decisions),
        };
        for decision in decisions {
            *decision = decision_of(*decision, offset);
        }
    }

    /// Writes one decision and one score for each of the prepared `rows`; the lengths must agree.
    pub(crate) fn score(&self, path: CodePath, rows: &[f64], decisions: &mut [f64], scores: &mut [f64]) {
        let offset = match self.measure(rows, scores) {
            Measured::Beyond { offset } => offset,
            Measured::Not(svm) => return svm.score(path, rows, decisions, scores),
        };
        let boundary = Reference::of(-offset);
        for (decision, score) in decisions.iter_mut().zip(scores) {
            *decision = decision_of(*score, offset);
            let beyond = match boundary {
                // What is no normal number, as the distance of the centre itself, counts as the smallest.
                Some(boundary) => ln_ratio(score.clamp(f64::MIN_POSITIVE, f64::MAX), boundary),
                None => first_order(*decision, offset),
            };
            *score = agreeing(*decision, beyond);
        }
    }

    /// Writes what a detector other than the SVM measures of each row.
    fn measure(&self, rows: &[f64], measures: &mut [f64]) -> Measured<'_> {
        let offset = match self {
            Self::OneClassSvm(svm) => return Measured::Not(svm),
            Self::IsolationForest(forest) => {
                forest.measure(rows, measures);
                forest.offset()
            }
            Self::EllipticEnvelope(envelope) => {
                envelope.measure(rows, measures);
                envelope.offset()
            }
            Self::LocalOutlierFactor(factor) => {
                factor.measure(rows, measures);
                factor.offset()
            }
            Self::PrincipalComponents(components) => {
                components.measure(rows, measures);
                -1.0
            }
            Self::RobustZ(robust) => {
                robust.measure(rows, measures);
                -1.0
            }
            Self::NearestNeighbours(nearest) => {
                nearest.measure(rows, measures);
                -nearest.limit()
            }
        };
        Measured::Beyond { offset }
    }
}

/// What a detector has measured of rows.
enum Measured<'a> {
    /// A number that grows as a row gets less normal. On the boundary, it is minus the offset.
    Beyond { offset: f64 },
    /// Nothing: an SVM has a loop of its own.
    Not(&'a OneClassSvm),
}

/// Returns the decision about what was measured, by scikit-learn's formula.
fn decision_of(measure: f64, offset: f64) -> f64 {
    let decision = -measure - offset;
    if decision == 0.0 {
        f64::MIN_POSITIVE
    } else {
        decision
    }
}

/// Returns a measure as a finite number: what is too far to be computed is the largest.
fn beyond_measure(measure: f64) -> f64 {
    if measure.is_finite() { measure } else { f64::MAX }
}

/// Checks the numbers of a detector.
fn all_finite(what: &'static str, numbers: &[f64]) -> Result<(), ModelError> {
    match numbers.iter().all(|number| number.is_finite()) {
        true => Ok(()),
        false => Err(ModelError::NotFinite(what)),
    }
}

/// Returns the first term of the log score: the decision in units of the boundary's own number, if it is not 0.
pub(crate) fn first_order(decision: f64, boundary: f64) -> f64 {
    let unit = if boundary == 0.0 { 1.0 } else { boundary.abs() };
    (-decision / unit).clamp(f64::MIN, f64::MAX)
}

/// Returns the score, moved by a rounding error where it must be: it is at least 0 exactly if the decision means an
/// anomaly.
pub(crate) fn agreeing(decision: f64, score: f64) -> f64 {
    if is_anomaly(decision) {
        score.max(0.0)
    } else {
        score.min(-f64::MIN_POSITIVE)
    }
}

impl From<OneClassSvm> for Detector {
    fn from(svm: OneClassSvm) -> Self {
        Self::OneClassSvm(svm)
    }
}

impl From<IsolationForest> for Detector {
    fn from(forest: IsolationForest) -> Self {
        Self::IsolationForest(forest)
    }
}

impl From<EllipticEnvelope> for Detector {
    fn from(envelope: EllipticEnvelope) -> Self {
        Self::EllipticEnvelope(envelope)
    }
}

impl From<LocalOutlierFactor> for Detector {
    fn from(factor: LocalOutlierFactor) -> Self {
        Self::LocalOutlierFactor(factor)
    }
}

impl From<PrincipalComponents> for Detector {
    fn from(components: PrincipalComponents) -> Self {
        Self::PrincipalComponents(components)
    }
}

impl From<RobustZ> for Detector {
    fn from(robust: RobustZ) -> Self {
        Self::RobustZ(robust)
    }
}

impl From<NearestNeighbours> for Detector {
    fn from(nearest: NearestNeighbours) -> Self {
        Self::NearestNeighbours(nearest)
    }
}

#[cfg(test)]
mod tests;
