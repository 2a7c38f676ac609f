//! The detectors: what decides whether a prepared row is normal.
//!
//! | detector | file | decision |
//! |---|---|---|
//! | one-class SVM | `svm/` | Σ coefficient · K(vector, x) + intercept |
//! | isolation forest | `detector/forest.rs` | how deep a row falls in random trees |
//! | elliptic envelope | `detector/envelope.rs` | the squared distance from the centre, in deviations |
//! | local outlier factor | `detector/neighbours.rs` | how dense the rows around are, against those of the neighbours |
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

use crate::{CodePath, OneClassSvm};

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
        match self {
            Self::OneClassSvm(svm) => return svm.decide(path, rows, decisions),
            Self::IsolationForest(forest) => forest.decide(rows, decisions),
            Self::EllipticEnvelope(envelope) => envelope.decide(rows, decisions),
            Self::LocalOutlierFactor(factor) => factor.decide(rows, decisions),
        }
        for decision in decisions {
            if *decision == 0.0 {
                *decision = f64::MIN_POSITIVE;
            }
        }
    }
}

impl From<OneClassSvm> for Detector {
    fn from(svm: OneClassSvm) -> Self {
        Self::OneClassSvm(svm)
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
