//! The solver of the one-class SVM with an RBF kernel.
//!
//! It minimises ½ αᵀKα subject to 0 ≤ αᵢ ≤ 1 and Σ αᵢ = ν·n: the dual of Schölkopf et al., "Estimating the support of a
//! high-dimensional distribution" (2001), in libsvm's scale.
//!
//! The steps of `smo.rs` are many, and few rows take part in them: those whose coefficient is neither 0 nor 1 in the end.
//! So the steps are made on a working set of such rows, with a kernel matrix that fits into the processor's cache. Then
//! what changed is added to the gradient of all rows, those that violate the optimality conditions most join the working
//! set, and so on until none does (Osuna, Freund and Girosi, "An improved training algorithm for support vector machines",
//! 1997). The kernel of all rows with the vectors is recomputed each time and never stored.

use std::cmp::Ordering;

use super::{NO_COEFFICIENT, TrainError, smo, to_f64};
use crate::CodePath;
use crate::svm::{LANES, Lanes, Similarities};

/// The least tolerance: what is less is rounding.
const ROUNDING: f64 = 64.0 * f64::EPSILON;

/// How many rows, spread evenly over all, tell at the start which rows are far from the others.
const SAMPLE: usize = 64;

/// How many rows have a coefficient at the start, if nu asks for no more.
const AT_START: usize = 64;

/// How many of the rows that violate the optimality conditions join the working set, and at least as many as are there.
const JOINING: usize = 64;

/// How much smaller the violation in the working set becomes before the other rows are looked at again.
const PROGRESS: f64 = 0.1;

/// Maximum number of working sets. A few dozen are needed.
const MOST_SETS: usize = 1_000;

/// The coefficients of all rows, and rho.
pub(super) struct Solution {
    pub(super) coefficients: Vec<f64>,
    pub(super) rho: f64,
}

/// Solves for the rows in `similarities`, until every row agrees with the optimum to within `tolerance` times rho.
pub(super) fn solve(
    similarities: &Similarities,
    nu: f64,
    tolerance: f64,
    path: CodePath,
) -> Result<Solution, TrainError> {
    let tolerance = tolerance.max(ROUNDING);
    let mut state = State::new(similarities, nu, path);
    let most_steps = 1_000_000 + 100 * similarities.count();
    let mut memory = Vec::new();
    let mut steps = 0;
    for _ in 0..MOST_SETS {
        let range = state.range();
        if range.violation() <= tolerance {
            return Ok(state.solution());
        }
        let set = state.working_set(range);
        // Not exactly to the tolerance, since sums in another order differ in their last digits.
        let wanted = (0.5 * tolerance).max(PROGRESS * range.violation());
        steps += state.improve(&set, wanted, most_steps - steps, &mut memory);
        if steps >= most_steps {
            return Err(TrainError::Steps(steps));
        }
    }
    Err(TrainError::Steps(steps))
}

struct State<'a> {
    similarities: &'a Similarities,
    path: CodePath,
    coefficients: Vec<f64>,
    /// The sum over all vectors of coefficient and kernel, for each row. The rows of padding are not looked at.
    gradient: Vec<Lanes>,
}

/// The gradients that would be equal in the optimum.
#[derive(Clone, Copy)]
struct Range {
    /// The smallest of the rows with a coefficient below 1.
    low: f64,
    /// The largest of the rows with a coefficient above 0.
    high: f64,
}

impl Range {
    /// Returns by how much the optimality conditions are violated, as a share of what comes to be rho.
    fn violation(self) -> f64 {
        if self.low > 0.0 {
            (self.high - self.low) / self.low
        } else if self.high <= self.low {
            0.0
        } else {
            f64::INFINITY
        }
    }
}

impl<'a> State<'a> {
    /// Divides nu · count between rows that are far from the others, and as many that are spread over all.
    fn new(similarities: &'a Similarities, nu: f64, path: CodePath) -> Self {
        let count = similarities.count();
        let mut state = Self {
            similarities,
            path,
            coefficients: vec![0.0; count],
            gradient: vec![Lanes::default(); similarities.blocks()],
        };
        let sample = spread(count, SAMPLE.min(count));
        similarities.add(&sample, &vec![1.0; sample.len()], path, &mut state.gradient);
        let mut order: Vec<usize> = (0..count).collect();
        order.sort_unstable_by(|a, b| state.ascending(*a, *b));
        let total = nu * to_f64(count);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // It is at most the count.
        let chosen = AT_START.max(total.ceil() as usize).min(count);
        let far = chosen / 2;
        let others = spread(count - far, chosen - far).into_iter();
        let mut rows = order[..far].to_vec();
        rows.extend(others.map(|at| order[far + at]));
        let share = total / to_f64(chosen);
        for row in &rows {
            state.coefficients[*row] = share.min(1.0);
        }
        state.gradient.fill(Lanes::default());
        similarities.add(&rows, &vec![share; chosen], path, &mut state.gradient);
        state
    }

    fn gradient(&self, row: usize) -> f64 {
        self.gradient[row / LANES].0[row % LANES]
    }

    /// Orders rows by their gradients. No two rows are equal, so that the order depends on nothing else.
    fn ascending(&self, a: usize, b: usize) -> Ordering {
        self.gradient(a).total_cmp(&self.gradient(b)).then(a.cmp(&b))
    }

    fn range(&self) -> Range {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for (row, own) in self.coefficients.iter().enumerate() {
            let gradient = self.gradient(row);
            if *own < 1.0 && gradient < low {
                low = gradient;
            }
            if *own > 0.0 && gradient > high {
                high = gradient;
            }
        }
        Range { low, high }
    }

    /// Returns the rows that are between 0 and 1, and of the others those that violate the conditions most; in order.
    fn working_set(&self, range: Range) -> Vec<usize> {
        let (mut set, mut grow, mut fall) = (Vec::new(), Vec::new(), Vec::new());
        for (row, own) in self.coefficients.iter().enumerate() {
            let gradient = self.gradient(row);
            if *own > 0.0 && *own < 1.0 {
                set.push(row);
            } else if *own == 0.0 && gradient < range.high {
                grow.push(row);
            } else if *own == 1.0 && gradient > range.low {
                fall.push(row);
            }
        }
        let joining = JOINING.max(set.len());
        if grow.len() > joining {
            grow.select_nth_unstable_by(joining - 1, |a, b| self.ascending(*a, *b));
            grow.truncate(joining);
        }
        if fall.len() > joining {
            fall.select_nth_unstable_by(joining - 1, |a, b| self.ascending(*b, *a));
            fall.truncate(joining);
        }
        set.extend(grow);
        set.extend(fall);
        set.sort_unstable();
        set
    }

    /// Optimises the coefficients of the working set, and returns the number of steps.
    fn improve(
        &mut self,
        set: &[usize],
        tolerance: f64,
        most_steps: usize,
        memory: &mut Vec<Lanes>,
    ) -> usize {
        let before: Vec<f64> = set.iter().map(|row| self.coefficients[*row]).collect();
        let gradient: Vec<f64> = set.iter().map(|row| self.gradient(*row)).collect();
        let problem = smo::Problem {
            similarities: &self.similarities.of(set),
            coefficients: &before,
            gradient: &gradient,
            tolerance,
            most_steps,
        };
        let (after, steps) = smo::improve(&problem, self.path, memory);
        let (mut changed, mut changes) = (Vec::new(), Vec::new());
        for ((row, after), before) in set.iter().zip(after).zip(before) {
            if after != before {
                self.coefficients[*row] = after;
                changed.push(*row);
                changes.push(after - before);
            }
        }
        self.similarities
            .add(&changed, &changes, self.path, &mut self.gradient);
        steps
    }

    /// Returns the coefficients and rho: the mean gradient of the vectors on the boundary, or the middle between those
    /// inside and outside if there are none, as in libsvm.
    fn solution(self) -> Solution {
        let (mut free, mut sum) = (0, 0.0);
        let (mut outside, mut inside) = (f64::NEG_INFINITY, f64::INFINITY);
        for (row, own) in self.coefficients.iter().enumerate() {
            let gradient = self.gradient(row);
            if *own >= 1.0 {
                outside = gradient.max(outside);
            } else if *own <= NO_COEFFICIENT {
                inside = gradient.min(inside);
            } else {
                free += 1;
                sum += gradient;
            }
        }
        let rho = if free > 0 {
            sum / to_f64(free)
        } else if outside == f64::NEG_INFINITY {
            inside
        } else if inside == f64::INFINITY {
            outside
        } else {
            0.5 * (outside + inside)
        };
        Solution {
            coefficients: self.coefficients,
            rho,
        }
    }
}

/// Returns `wanted` of the numbers below `count`, spread evenly.
fn spread(count: usize, wanted: usize) -> Vec<usize> {
    (0..wanted).map(|at| at * count / wanted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn solved(rows: &[f64], dimension: usize, nu: f64, gamma: f64, path: CodePath) -> Solution {
        let similarities = Similarities::new(dimension, rows, gamma);
        solve(&similarities, nu, TOLERANCE, path).unwrap()
    }

    const TOLERANCE: f64 = 1e-6;

    /// Returns the sum over all vectors of coefficient and kernel, for each row.
    fn sums(rows: &[f64], dimension: usize, gamma: f64, coefficients: &[f64]) -> Vec<f64> {
        let rows: Vec<&[f64]> = rows.chunks_exact(dimension).collect();
        let of_row = |row: &&[f64]| {
            let terms = rows.iter().zip(coefficients).map(|(other, coefficient)| {
                let squares = row.iter().zip(*other).map(|(a, b)| (a - b) * (a - b));
                coefficient * (-gamma * squares.sum::<f64>()).exp()
            });
            terms.sum::<f64>()
        };
        rows.iter().map(of_row).collect()
    }

    /// Checks the coefficients against the conditions of the optimum, which are sufficient since the problem is convex.
    fn check(rows: &[f64], dimension: usize, nu: f64, gamma: f64, solution: &Solution) {
        let wanted = nu * to_f64(rows.len() / dimension);
        let sum: f64 = solution.coefficients.iter().sum();
        assert!((sum - wanted).abs() <= 1e-12 * wanted, "{sum} is not {wanted}");
        let sums = sums(rows, dimension, gamma, &solution.coefficients);
        for (sum, own) in sums.iter().zip(&solution.coefficients) {
            assert!((0.0..=1.0).contains(own), "{own}");
            let decision = sum - solution.rho;
            let near = 1.01 * TOLERANCE * solution.rho;
            assert!(*own > 0.0 || decision >= -near, "{own} {decision}");
            assert!(*own < 1.0 || decision <= near, "{own} {decision}");
            assert!(
                *own == 0.0 || *own == 1.0 || decision.abs() <= near,
                "{own} {decision}"
            );
        }
    }

    /// Returns roughly normal numbers.
    fn normal(count: usize) -> Vec<f64> {
        let mut state = 5_u64;
        let mut uniform = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1_u64 << 53) as f64
        };
        (0..count)
            .map(|_| (0..12).map(|_| uniform()).sum::<f64>() - 6.0)
            .collect()
    }

    #[test]
    fn every_cpu_finds_the_same_solution() {
        let rows: Vec<f64> = (0..2_100)
            .map(|at| (f64::from(at) * 1.7).sin() * f64::from(at % 13))
            .collect();
        let right = solved(&rows, 7, 0.2, 0.05, CodePath::available()[0]);
        for path in CodePath::available() {
            let other = solved(&rows, 7, 0.2, 0.05, path);
            assert_eq!(other.coefficients, right.coefficients, "{path}");
            assert_eq!(other.rho.to_bits(), right.rho.to_bits(), "{path}");
        }
    }

    #[test]
    fn decisions_are_those_of_a_solution_without_working_sets() {
        for (count, dimension, nu) in [
            (1_000, 1, 0.005),
            (1_000, 2, 0.05),
            (1_000, 4, 0.005),
            (600, 10, 0.3),
        ] {
            let (rows, gamma) = (normal(count * dimension), 3.0 / dimension as f64);
            let similarities = Similarities::new(dimension, &rows, gamma);
            let found = solve(&similarities, nu, 1e-12, CodePath::best()).unwrap();
            // All rows at once, from another start.
            let mut first = vec![0.0; count];
            let mut left = nu * to_f64(count);
            for own in &mut first {
                *own = f64::min(left, 1.0);
                left -= *own;
            }
            let problem = smo::Problem {
                similarities: &similarities,
                coefficients: &first,
                gradient: &sums(&rows, dimension, gamma, &first),
                tolerance: 1e-12,
                most_steps: 10_000_000,
            };
            let (right, steps) = smo::improve(&problem, CodePath::best(), &mut Vec::new());
            assert!(steps < 10_000_000);
            let of = |coefficients: &[f64]| sums(&rows, dimension, gamma, coefficients);
            for (ours, right) in of(&found.coefficients).iter().zip(of(&right)) {
                let difference = (ours - right).abs() / found.rho;
                assert!(difference <= 1e-9, "{count} {dimension} {nu}: {difference}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_solution_is_an_optimum(
            values in proptest::collection::vec(-3.0..3.0_f64, 2..900),
            dimension in 1_usize..=3,
            nu in 0.001..0.999_f64,
            gamma in 0.001..20.0_f64,
            steps in prop_oneof![Just(0.0), Just(0.5)],
        ) {
            // Half of the cases have many equal rows.
            let round = |value: &f64| if steps > 0.0 { (value / steps).round() * steps } else { *value };
            let mut rows: Vec<f64> = values.iter().map(round).collect();
            rows.truncate(rows.len() / dimension * dimension);
            prop_assume!(!rows.is_empty());
            let solution = solved(&rows, dimension, nu, gamma, CodePath::best());
            check(&rows, dimension, nu, gamma, &solution);
        }
    }
}
