//! The detectors: what decides whether a prepared row is normal.
//!
//! | detector | file | decision |
//! |---|---|---|
//! | one-class SVM | `svm/` | Σ coefficient · K(vector, x) + intercept |
//! | isolation forest | `detector/forest.rs` | how deep a row falls in random trees |
//! | elliptic envelope | `detector/envelope.rs` | the squared distance from the centre, in deviations |
//! | local outlier factor | `detector/neighbours.rs` | how dense the rows around are, against those of the neighbours |
//!
//! A score says the same on a scale that does not depend on the model: the logarithm of how far the row is beyond the
//! boundary, as a ratio of what the detector measures. Where there is no such ratio it is the decision over the
//! boundary's own size, which is the first term of that logarithm.
//!
//! A decision above 0 is normal, as in scikit-learn. For all but the SVM scikit-learn counts exactly 0 as normal too;
//! such a decision is returned as the smallest normal number above 0, so that one rule holds for all.

mod envelope;
mod forest;
mod neighbours;

pub use envelope::EllipticEnvelope;
pub(crate) use forest::average_depth;
pub use forest::{IsolationForest, MAX_NODES, Tree, TreeNode};
pub use neighbours::{LocalOutlierFactor, MAX_TRAINING_ROWS, Metric};

use crate::svm::{Reference, ln_ratio};
use crate::{CodePath, OneClassSvm, is_anomaly};

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
}

impl Detector {
    /// Returns the length of the rows that it decides about.
    pub fn dimension(&self) -> usize {
        match self {
            Self::OneClassSvm(svm) => svm.dimension(),
            Self::IsolationForest(forest) => forest.dimension(),
            Self::EllipticEnvelope(envelope) => envelope.dimension(),
            Self::LocalOutlierFactor(factor) => factor.dimension(),
        }
    }

    /// Returns its name, for people.
    pub fn name(&self) -> &'static str {
        match self {
            Self::OneClassSvm(_) => "one-class SVM",
            Self::IsolationForest(_) => "isolation forest",
            Self::EllipticEnvelope(_) => "elliptic envelope",
            Self::LocalOutlierFactor(_) => "local outlier factor",
        }
    }

    /// Returns the memory that the arrays take, in bytes.
    pub(crate) fn heap_bytes(&self) -> usize {
        match self {
            Self::OneClassSvm(svm) => svm.heap_bytes(),
            Self::IsolationForest(forest) => forest.heap_bytes(),
            Self::EllipticEnvelope(envelope) => envelope.heap_bytes(),
            Self::LocalOutlierFactor(factor) => factor.heap_bytes(),
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
        };
        Measured::Beyond { offset }
    }
}

/// What came of measuring rows.
enum Measured<'a> {
    /// A number that is the greater, the less normal a row is; minus the offset is that of the boundary.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(detector: impl Into<Detector>, row: f64) -> f64 {
        let mut decisions = [f64::NAN];
        detector.into().decide(CodePath::best(), &[row], &mut decisions);
        decisions[0]
    }

    #[test]
    fn exactly_0_is_normal_as_in_scikit_learn_except_for_the_svm() {
        let envelope =
            || Detector::EllipticEnvelope(EllipticEnvelope::new(vec![1.0], vec![1.0], -4.0).unwrap());
        assert_eq!(decided(envelope(), 1.0), 4.0);
        assert_eq!(decided(envelope(), 3.0), f64::MIN_POSITIVE);
        assert!(decided(envelope(), 3.000_001) < 0.0);
        let svm = OneClassSvm::new(1, vec![1.0], vec![1.0], -3.0, crate::Kernel::Linear).unwrap();
        assert_eq!(decided(svm, 3.0), 0.0);
    }

    /// Returns the decision and the score.
    fn scored(detector: &Detector, row: f64) -> (f64, f64) {
        let (mut decisions, mut scores) = ([f64::NAN], [f64::NAN]);
        detector.score(CodePath::best(), &[row], &mut decisions, &mut scores);
        assert_eq!(decisions[0].to_bits(), decided(detector.clone(), row).to_bits());
        (decisions[0], scores[0])
    }

    #[test]
    fn a_score_is_the_logarithm_of_how_far_beyond_the_boundary_a_row_is() {
        let near = |got: f64, right: f64| {
            assert!(
                (got - right).abs() < 1e-14 * right.abs().max(1.0),
                "{got}, {right}"
            );
        };
        let envelope = EllipticEnvelope::new(vec![1.0], vec![1.0], -4.0).unwrap().into();
        near(scored(&envelope, 7.0).1, 9.0_f64.ln());
        near(scored(&envelope, 2.0).1, 0.25_f64.ln());
        // On the boundary a row is normal, and so is its score; in the centre the score is still a number.
        assert_eq!(scored(&envelope, 3.0), (f64::MIN_POSITIVE, -f64::MIN_POSITIVE));
        near(scored(&envelope, 1.0).1, (f64::MIN_POSITIVE / 4.0).ln());
        let tree = |depth| {
            let forest = IsolationForest::new(1, vec![vec![TreeNode::Leaf { depth }]], 1.0, -0.5);
            Detector::from(forest.unwrap())
        };
        near(scored(&tree(0.25), 0.0).1, 0.75 * 2.0_f64.ln());
        near(scored(&tree(3.0), 0.0).1, -2.0 * 2.0_f64.ln());
        let factor = LocalOutlierFactor::new(1, Metric::Euclidean, vec![1.0], vec![1.0], vec![1.0], -1.5);
        // scikit-learn adds 1e-10 to the mean distance.
        near(
            scored(&factor.unwrap().into(), 7.0).1,
            ((6.0_f64 + 1e-10) / 1.5).ln(),
        );
    }

    #[test]
    fn a_detector_without_a_ratio_has_the_first_term_of_its_logarithm() {
        for (offset, row, right) in [
            (4.0, 3.0, (-8.0, 2.0)),
            (0.0, 3.0, (-4.0, 4.0)),
            (1e-310, 3.0, (-4.0, f64::MAX)),
        ] {
            let envelope = EllipticEnvelope::new(vec![1.0], vec![1.0], offset).unwrap();
            assert_eq!(scored(&envelope.into(), row), right);
        }
    }

    #[test]
    fn what_cannot_be_decided_is_not_a_number() {
        let leaf = TreeNode::Leaf { depth: 1.0 };
        let forest =
            || Detector::IsolationForest(IsolationForest::new(1, vec![vec![leaf]], 1.0, -0.5).unwrap());
        assert_eq!(decided(forest(), 7.0), f64::MIN_POSITIVE);
        // More than 32 bits hold, which scikit-learn refuses.
        assert!(decided(forest(), 1e39).is_nan());
        let factor = LocalOutlierFactor::new(1, Metric::Euclidean, vec![1.0], vec![1.0], vec![1.0], -1.5);
        let factor = Detector::LocalOutlierFactor(factor.unwrap());
        assert!(!decided(factor.clone(), f64::INFINITY).is_finite());
        assert!(!decided(factor, f64::NAN).is_finite());
    }

    #[test]
    fn trees_whose_paths_do_not_end_are_refused() {
        let split = |left, right| TreeNode::Split {
            feature: 0,
            threshold: 0.0,
            left,
            right,
        };
        let leaf = TreeNode::Leaf { depth: 1.0 };
        for tree in [
            vec![],
            vec![split(0, 1), leaf],
            vec![split(1, 2), leaf],
            vec![split(1, 1), split(0, 1)],
        ] {
            let refused = IsolationForest::new(1, vec![vec![leaf], tree.clone()], 1.0, 0.0);
            assert!(refused.is_err(), "{tree:?}");
        }
        let other_feature = TreeNode::Split {
            feature: 1,
            threshold: 0.0,
            left: 1,
            right: 2,
        };
        assert!(IsolationForest::new(1, vec![vec![other_feature, leaf, leaf]], 1.0, 0.0).is_err());
    }
}
