//! The log score of a one-class SVM: how far outside of the boundary a row is, comparable between sensors.
//!
//! score(x) = ln ρ − ln Σ αᵢ K(x, xᵢ), where ρ = −intercept. Σ α K is a density estimate up to a factor (Schölkopf et
//! al., "Estimating the support of a high-dimensional distribution", 2001, section 4), so the score is the logarithm of
//! how much sparser it is at x than on the boundary: 0 there, above 0 outside. The decision Σ α K − ρ cannot tell far
//! from very far, since it never falls below −ρ; its logarithm goes on falling with the squared distance.

use super::lanes::{LANES, Lanes, Number, exp_of_nonpositive};
use super::{Kernel, OneClassSvm, Reference, VectorLoop, ln_ratio};
use crate::detector::agreeing;

/// A sum below this share of the coefficients' sum is computed again from distances: kernel values below 2e-308 count as 0
/// in a sum, which is then off by up to that share of the coefficients.
const LEAST_SHARE: f64 = 1e-290;

/// Coefficients may differ by this factor: the nearest vector then decides about a far row, whatever its coefficient.
const MOST_UNEQUAL: f64 = 1e200;

/// What log scores are computed with. Only an RBF kernel with positive coefficients and a positive ρ has any.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct LogScore {
    minus_gamma: f64,
    rho: Reference,
    /// Sums from here on are exact to a few ulp.
    least_sum: f64,
}

/// The scores of rows whose sums are known.
pub(super) struct LogScores<'a> {
    pub(super) log_score: &'a LogScore,
    pub(super) svm: &'a OneClassSvm,
    pub(super) rows: &'a [f64],
    pub(super) sums: &'a [f64],
    pub(super) scores: &'a mut [f64],
}

impl VectorLoop for LogScores<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        self.log_score.of(self.svm, self.rows, self.sums, self.scores);
    }
}

impl LogScore {
    pub(super) fn new(coefficients: &[f64], intercept: f64, kernel: Kernel) -> Option<Self> {
        let Kernel::Rbf { gamma } = kernel else {
            return None;
        };
        let rho = Reference::of(-intercept)?;
        let least = coefficients.iter().copied().fold(f64::INFINITY, f64::min);
        let most = coefficients.iter().copied().fold(0.0, f64::max);
        let all: f64 = coefficients.iter().sum();
        let usable = least >= f64::MIN_POSITIVE && most / MOST_UNEQUAL <= least && all.is_finite();
        usable.then(|| Self {
            minus_gamma: -gamma,
            rho,
            least_sum: LEAST_SHARE * all.max(1.0),
        })
    }

    #[inline(always)]
    fn of(&self, svm: &OneClassSvm, rows: &[f64], sums: &[f64], scores: &mut [f64]) {
        let (groups, left) = sums.as_chunks::<LANES>();
        let (scored, left_scores) = scores.as_chunks_mut::<LANES>();
        for (sums, scores) in groups.iter().zip(scored) {
            // 0 − x, because −x makes −0 of 0. A sum of 0 gets a number that is replaced below.
            *scores = (Lanes::splat(0.0) - ln_ratio(Lanes(*sums), self.rho)).0;
        }
        for (sum, score) in left.iter().zip(left_scores) {
            *score = 0.0 - ln_ratio(*sum, self.rho);
        }
        // Has no branches, and nearly always all sums are large enough.
        let small = sums.iter().fold(false, |any, sum| any | (*sum < self.least_sum));
        if !small {
            return;
        }
        let rows = rows.chunks_exact(svm.dimension);
        for ((row, sum), score) in rows.zip(sums).zip(scores) {
            if *sum < self.least_sum {
                *score = agreeing(*sum + svm.intercept, self.of_far_row(svm, row));
            }
        }
    }

    /// Returns the score by the logarithm of a sum of exponentials, each divided by that of the nearest vector, so that
    /// none underflows where it matters. At a distance whose square overflows, it is the largest number.
    #[inline(always)]
    fn of_far_row(&self, svm: &OneClassSvm, row: &[f64]) -> f64 {
        let (least, sum) = if svm.blocks.is_empty() {
            let vectors = || svm.vectors.chunks_exact(svm.dimension);
            let squares = |vector: &[f64]| squared_distance(vector, row);
            let least = vectors().map(squares).fold(f64::INFINITY, f64::min);
            let weighed = vectors().zip(&svm.coefficients).map(|(vector, coefficient)| {
                coefficient * exp_of_nonpositive((squares(vector) - least) * self.minus_gamma)
            });
            (least, weighed.sum::<f64>())
        } else {
            let blocks = || svm.blocks.chunks_exact(svm.dimension);
            let mut least = Lanes::splat(f64::INFINITY);
            for block in blocks() {
                least = least.zip(squared_distance(block, row), |a, b| if b < a { b } else { a });
            }
            let least = least.0.into_iter().fold(f64::INFINITY, f64::min);
            let mut sum = Lanes::splat(0.0);
            for (block, weights) in blocks().zip(&svm.weights) {
                let further = squared_distance(block, row) - Lanes::splat(least);
                sum = sum + *weights * exp_of_nonpositive(further * Lanes::splat(self.minus_gamma));
            }
            (least, sum.sum())
        };
        let exponent = least * self.minus_gamma;
        if exponent == f64::NEG_INFINITY {
            return f64::MAX;
        }
        -exponent - ln_ratio(sum, self.rho)
    }
}

/// Returns the squared distance of a row from a vector, or from eight vectors in lanes.
#[inline(always)]
fn squared_distance<N: Number>(vector: &[N], row: &[f64]) -> N {
    let mut sum = N::splat(0.0);
    for (vector, value) in vector.iter().zip(row) {
        let difference = *vector - N::splat(*value);
        sum = sum + difference * difference;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CodePath;
    use proptest::prelude::*;

    fn svm(dimension: usize, vectors: Vec<f64>, coefficients: Vec<f64>, rho: f64, gamma: f64) -> OneClassSvm {
        OneClassSvm::new(dimension, vectors, coefficients, -rho, Kernel::Rbf { gamma }).unwrap()
    }

    /// A hundred vectors on a spiral around 0, not farther than 2.
    fn hundred() -> OneClassSvm {
        let places: Vec<f64> = (0..100).map(f64::from).collect();
        let vectors = places
            .iter()
            .flat_map(|at| [(at * 0.7).cos() * at / 50.0, (at * 0.7).sin() * at / 50.0]);
        let coefficients = places.iter().map(|at| 0.01 + 0.001 * at).collect();
        svm(2, vectors.collect(), coefficients, 0.4, 1.5)
    }

    /// Returns the decision and the score of one row.
    fn score(svm: &OneClassSvm, row: &[f64]) -> (f64, f64) {
        let (mut decision, mut score) = ([f64::NAN], [f64::NAN]);
        svm.score(CodePath::best(), row, &mut decision, &mut score);
        (decision[0], score[0])
    }

    /// Computes a score by its definition, from logarithms alone, with the system's functions.
    fn by_definition(svm: &OneClassSvm, row: &[f64]) -> f64 {
        let Kernel::Rbf { gamma } = svm.kernel() else {
            unreachable!()
        };
        let exponents: Vec<f64> = (svm
            .vectors()
            .chunks_exact(svm.dimension())
            .zip(svm.coefficients()))
        .map(|(vector, coefficient)| {
            let squares = vector.iter().zip(row).map(|(a, b)| (a - b) * (a - b));
            coefficient.ln() - gamma * squares.sum::<f64>()
        })
        .collect();
        let greatest = exponents.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = exponents.iter().map(|exponent| (exponent - greatest).exp()).sum();
        (-svm.intercept()).ln() - greatest - sum.ln()
    }

    #[test]
    fn scores_are_those_of_the_definition_at_every_distance() {
        let svms = [
            hundred(),
            svm(2, vec![0.0, 0.5, 1.0, -1.0], vec![0.25, 0.75], 0.6, 0.7),
            svm(2, vec![1e3, -1e3], vec![1e-12], 1e-13, 30.0),
            svm(2, vec![0.0; 12], vec![1e200; 6], 1e199, 1.0),
            svm(2, vec![0.0, 0.0, 1.0, 0.0], vec![1e-190, 1.0], 1e-2, 10.0),
        ];
        for svm in &svms {
            for step in 0..4_000_i32 {
                // From 1e-4 to 1e8 deviations in every direction.
                let distance = 10.0_f64.powf(f64::from(step) / 333.0 - 4.0);
                let angle = f64::from(step) * 0.37;
                let row = [distance * angle.cos(), distance * angle.sin()];
                let ((decision, got), right) = (score(svm, &row), by_definition(svm, &row));
                assert!(
                    (got - right).abs() <= 1e-13 * (1.0 + right.abs()),
                    "{distance}: {got} is not {right}"
                );
                assert_eq!(got > 0.0, decision < 0.0, "{distance}");
                assert_eq!(got < 0.0, decision > 0.0, "{distance}");
            }
        }
    }

    #[test]
    fn a_score_grows_with_the_distance_where_the_decision_is_saturated() {
        let svm = hundred();
        let far = |distance: f64| score(&svm, &[distance, 0.0]);
        let distances = [5.0, 15.0, 21.0, 22.0, 30.0, 1e3, 1e6, 1e9, 1e150];
        for pair in distances.windows(2) {
            assert!(far(pair[0]).1 < far(pair[1]).1, "{pair:?}");
        }
        assert_eq!(far(1e3).0, far(1e6).0);
        assert!(far(1e6).1 > 1e12);
        // The square overflows, and the score is the largest that there is.
        assert_eq!(far(1e200), (-0.4, f64::MAX));
        let both = svm.vectors().len();
        assert_eq!(both, 200);
    }

    #[test]
    fn the_two_ways_to_compute_a_score_meet() {
        let svm = hundred();
        let log_score = svm.log_score.as_ref().unwrap();
        for step in 0..2_000 {
            let row = [17.0 + 0.003 * f64::from(step), 1.0];
            let got = score(&svm, &row).1;
            let exact = log_score.of_far_row(&svm, &row);
            assert!((got - exact).abs() <= 1e-13 * exact, "{row:?}: {got}, {exact}");
        }
    }

    #[test]
    fn an_svm_without_logarithms_has_the_first_term_of_the_score() {
        let linear = |coefficient, intercept| {
            OneClassSvm::new(1, vec![1.0], vec![coefficient], intercept, Kernel::Linear).unwrap()
        };
        assert_eq!(score(&linear(1.0, -2.0), &[1.0]), (-1.0, 0.5));
        assert_eq!(score(&linear(1.0, 2.0), &[2.0]), (4.0, -2.0));
        assert_eq!(score(&linear(1.0, 0.0), &[-3.0]), (-3.0, 3.0));
        assert_eq!(score(&linear(1.0, 0.0), &[0.0]), (0.0, 0.0));
        assert_eq!(score(&linear(1e300, -1e-300), &[-3.0]).1, f64::MAX);
        // The quotient underflows, and the row is normal all the same.
        assert_eq!(score(&linear(1e-200, 1e200), &[-1.0]).1, -1.0);
        for (coefficients, rho) in [
            (vec![1.0, -0.5], 0.5),
            (vec![1.0, 1.0], -0.5),
            (vec![1.0, 1.0], 0.0),
            (vec![1.0, 0.0], 0.5),
            (vec![1e-120, 1e120], 0.5),
            (vec![f64::MAX, f64::MAX], 0.5),
            (vec![1.0, 1.0], 1e-310),
        ] {
            let rbf = svm(1, vec![1.0, 2.0], coefficients, rho, 1.0);
            assert_eq!(rbf.log_score, None);
            let (decision, score) = score(&rbf, &[1e6]);
            assert_eq!(decision, -rho);
            assert_eq!(score >= 0.0, decision <= 0.0);
            assert!(score.is_finite());
        }
    }

    proptest! {
        #[test]
        fn any_score_is_a_number_with_the_sign_of_the_decision(
            vectors in proptest::collection::vec(-1e3..1e3_f64, 1..12),
            magnitude in -300.0..300.0_f64,
            rho_magnitude in -320.0..300.0_f64,
            gamma in 0.0..1e4_f64,
            row in prop_oneof![-1e3..1e3_f64, any::<f64>()],
        ) {
            let coefficients = vec![10.0_f64.powf(magnitude); vectors.len()];
            let svm = svm(1, vectors, coefficients, 10.0_f64.powf(rho_magnitude), gamma);
            let (decision, score) = score(&svm, &[row]);
            if decision.is_finite() {
                prop_assert!(score.is_finite());
                prop_assert_eq!(score >= 0.0, decision <= 0.0, "{} {}", decision, score);
            }
        }
    }
}
