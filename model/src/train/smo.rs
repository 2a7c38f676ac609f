//! The solver of the one-class SVM with an RBF kernel.
//!
//! It minimises ½ αᵀKα subject to 0 ≤ αᵢ ≤ 1 and Σ αᵢ = ν·n: the dual of Schölkopf et al., "Estimating the support of a
//! high-dimensional distribution" (2001), in libsvm's scale. Sequential minimal optimisation changes two coefficients at
//! a time. The first is the one that violates the optimality conditions most, the second the one with which the
//! objective falls most by its second-order estimate (Fan, Chen and Lin, "Working set selection using second order
//! information for training support vector machines", 2005), as in libsvm. Unlike libsvm, kernel values have 64 bits.
//!
//! Rows of the kernel matrix are computed when they are needed. With a small nu these are few: most rows have the
//! coefficient 0 from the start to the end. So there is no shrinking: the pass over all rows that it would spare is one
//! sweep of vector instructions.

use super::kernel_cache::KernelCache;
use super::{NO_COEFFICIENT, TrainError, to_f64};
use crate::CodePath;
use crate::svm::{LANES, Lanes, Number, Similarities, VectorLoop};

/// Memory that kernel rows may take: those of 1,300 vectors among 3,000 rows, or of 200 among 20,000.
const CACHE_BYTES: usize = 32 << 20;

/// Stands for the curvature of two rows that are equal, as in libsvm.
const LEAST_CURVATURE: f64 = 1e-12;

/// The least tolerance: what is less is rounding.
const ROUNDING: f64 = 64.0 * f64::EPSILON;

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
    let cache = KernelCache::new(similarities, path, CACHE_BYTES);
    let mut state = State::new(similarities.count(), nu, cache);
    let most_steps = 1_000_000 + 100 * similarities.count();
    let mut first = state.start(path);
    for _ in 0..most_steps {
        let second = state.second(first, path);
        // The smallest gradient comes to be rho.
        if second.violation <= tolerance.max(ROUNDING) * first.gradient {
            return Ok(state.solution());
        }
        first = state.step(first.at, second.at, path);
    }
    Err(TrainError::Steps(most_steps))
}

/// The solver's state. The arrays are padded to whole blocks; a padding row has the coefficient 0 and an infinite
/// gradient, so that it is never picked.
struct State<'a> {
    count: usize,
    coefficients: Vec<Lanes>,
    /// The sum over all vectors of coefficient and kernel, for each row.
    gradient: Vec<Lanes>,
    cache: KernelCache<'a>,
}

/// The row whose coefficient is to grow.
#[derive(Clone, Copy)]
struct First {
    at: usize,
    gradient: f64,
}

/// The row whose coefficient is to fall.
#[derive(Clone, Copy)]
struct Second {
    at: usize,
    /// The largest violation of the optimality conditions.
    violation: f64,
}

impl<'a> State<'a> {
    /// Gives the first rows a coefficient of 1, as libsvm does, until the sum is nu · count.
    fn new(count: usize, nu: f64, cache: KernelCache<'a>) -> Self {
        let blocks = count.div_ceil(LANES);
        let mut coefficients = vec![Lanes::default(); blocks];
        let mut gradient = vec![Lanes::default(); blocks];
        let mut left = nu * to_f64(count);
        for at in 0..count {
            let coefficient = left.clamp(0.0, 1.0);
            coefficients[at / LANES].0[at % LANES] = coefficient;
            left -= coefficient;
        }
        for padding in count..blocks * LANES {
            gradient[padding / LANES].0[padding % LANES] = f64::INFINITY;
        }
        Self {
            count,
            coefficients,
            gradient,
            cache,
        }
    }

    /// Computes the gradient at the start, and picks the first row.
    fn start(&mut self, path: CodePath) -> First {
        let mut first = First {
            at: 0,
            gradient: f64::INFINITY,
        };
        for at in 0..self.count {
            let change = self.coefficient(at);
            if change == 0.0 {
                break;
            }
            let kernel = self.cache.row(at);
            first = path.run(Update {
                gradient: &mut self.gradient,
                coefficients: &self.coefficients,
                kernels: (kernel, kernel),
                changes: (change, 0.0),
            });
        }
        first
    }

    fn second(&mut self, first: First, path: CodePath) -> Second {
        path.run(SecondPick {
            gradient: &self.gradient,
            coefficients: &self.coefficients,
            kernel: self.cache.row(first.at),
            first: first.gradient,
        })
    }

    fn coefficient(&self, at: usize) -> f64 {
        self.coefficients[at / LANES].0[at % LANES]
    }

    /// Minimises over the coefficients of two rows, and picks the next first one.
    fn step(&mut self, grows: usize, falls: usize, path: CodePath) -> First {
        let gradient = |at: usize| self.gradient[at / LANES].0[at % LANES];
        let (old_grows, old_falls) = (self.coefficient(grows), self.coefficient(falls));
        let (grows_kernel, falls_kernel) = self.cache.pair(grows, falls);
        let similarity = grows_kernel[falls / LANES].0[falls % LANES];
        let curvature = (2.0 - 2.0 * similarity).max(LEAST_CURVATURE);
        let wanted = (gradient(falls) - gradient(grows)) / curvature;
        // Both ends of the step are in the box, and one of the coefficients is exactly 0 or 1 if it ends the step.
        let (new_grows, new_falls) = {
            let sum = old_grows + old_falls;
            let (room, rest) = (1.0 - old_grows, old_falls);
            if wanted >= rest.min(room) {
                if rest <= room {
                    (sum.min(1.0), 0.0)
                } else {
                    (1.0, sum - 1.0)
                }
            } else {
                (old_grows + wanted, old_falls - wanted)
            }
        };
        self.coefficients[grows / LANES].0[grows % LANES] = new_grows;
        self.coefficients[falls / LANES].0[falls % LANES] = new_falls;
        path.run(Update {
            gradient: &mut self.gradient,
            coefficients: &self.coefficients,
            kernels: (grows_kernel, falls_kernel),
            changes: (new_grows - old_grows, new_falls - old_falls),
        })
    }

    /// Returns the coefficients and rho: the mean gradient of the vectors on the boundary, or the middle between those
    /// inside and outside if there are none, as in libsvm.
    fn solution(self) -> Solution {
        let flat = |lanes: &[Lanes]| -> Vec<f64> {
            let numbers = lanes.iter().flat_map(|lanes| lanes.0);
            numbers.take(self.count).collect()
        };
        let (coefficients, gradient) = (flat(&self.coefficients), flat(&self.gradient));
        let (mut free, mut sum) = (0, 0.0);
        let (mut outside, mut inside) = (f64::NEG_INFINITY, f64::INFINITY);
        for (coefficient, gradient) in coefficients.iter().zip(&gradient) {
            if *coefficient >= 1.0 {
                outside = gradient.max(outside);
            } else if *coefficient <= NO_COEFFICIENT {
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
        Solution { coefficients, rho }
    }
}

/// Adds what two coefficients changed to the gradient, and picks the next first row on the way: of the rows with a
/// coefficient below 1, the one with the smallest gradient.
struct Update<'a> {
    gradient: &'a mut [Lanes],
    coefficients: &'a [Lanes],
    kernels: (&'a [Lanes], &'a [Lanes]),
    changes: (f64, f64),
}

impl VectorLoop for Update<'_> {
    type Output = First;

    #[inline(always)]
    fn run(self) -> First {
        let changes = (Lanes::splat(self.changes.0), Lanes::splat(self.changes.1));
        let mut least = Lanes::splat(f64::INFINITY);
        let mut least_at = Lanes::splat(0.0);
        let mut at = 0.0;
        let blocks = self.gradient.iter_mut().zip(self.coefficients);
        for ((gradient, coefficients), (first, second)) in
            blocks.zip(self.kernels.0.iter().zip(self.kernels.1))
        {
            let sum = *gradient + (changes.0 * *first + changes.1 * *second);
            *gradient = sum;
            let candidate = sum.zip(
                *coefficients,
                |sum, own| if own < 1.0 { sum } else { f64::INFINITY },
            );
            least_at = pick(candidate.zip(least, less), at, least_at);
            least = candidate.zip(least, |a, b| if a < b { a } else { b });
            at += 1.0;
        }
        let (gradient, at) = first_of(least, least_at);
        First { at, gradient }
    }
}

/// Picks the second row: of the rows with a coefficient above 0, the one with the greatest fall of the objective.
struct SecondPick<'a> {
    gradient: &'a [Lanes],
    coefficients: &'a [Lanes],
    /// The kernel of the first row with every row, and its gradient.
    kernel: &'a [Lanes],
    first: f64,
}

impl VectorLoop for SecondPick<'_> {
    type Output = Second;

    #[inline(always)]
    fn run(self) -> Second {
        let mut violation = Lanes::splat(f64::NEG_INFINITY);
        let mut least = Lanes::splat(0.0);
        let mut least_at = Lanes::splat(0.0);
        let mut at = 0.0;
        for ((gradient, coefficients), kernel) in self.gradient.iter().zip(self.coefficients).zip(self.kernel)
        {
            let above = *gradient - Lanes::splat(self.first);
            let above = above.zip(*coefficients, |above, own| if own > 0.0 { above } else { -1.0 });
            violation = violation.zip(above, |a, b| if b > a { b } else { a });
            let curvature = (Lanes::splat(1.0) - *kernel) * Lanes::splat(2.0);
            let curvature = curvature.map(|own| {
                if own > LEAST_CURVATURE {
                    own
                } else {
                    LEAST_CURVATURE
                }
            });
            // Minus the gain, so that the least is picked here as well.
            let candidate = (above * above).zip(curvature, |square, curvature| -(square / curvature));
            let candidate = candidate.zip(above, |gain, above| if above > 0.0 { gain } else { 0.0 });
            least_at = pick(candidate.zip(least, less), at, least_at);
            least = candidate.zip(least, |a, b| if a < b { a } else { b });
            at += 1.0;
        }
        let violation = violation.0.into_iter().fold(f64::NEG_INFINITY, f64::max);
        let (_, at) = first_of(least, least_at);
        Second { at, violation }
    }
}

/// Returns 1 where the first is less, otherwise 0.
#[inline(always)]
fn less(a: f64, b: f64) -> f64 {
    if a < b { 1.0 } else { 0.0 }
}

/// Returns the block `at` in the lanes where `whether` is 1, otherwise what was there.
#[inline(always)]
fn pick(whether: Lanes, at: f64, before: Lanes) -> Lanes {
    whether.zip(before, |whether, before| if whether > 0.0 { at } else { before })
}

/// Returns the least of the lanes and the row it stands for: the first of several, so that nothing depends on the lanes.
#[inline(always)]
fn first_of(least: Lanes, blocks: Lanes) -> (f64, usize) {
    let mut found = (f64::INFINITY, usize::MAX);
    for (lane, (value, block)) in least.0.into_iter().zip(blocks.0).enumerate() {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        // Counts of blocks are small and whole.
        let at = block as usize * LANES + lane;
        if value < found.0 || (value == found.0 && at < found.1) {
            found = (value, at);
        }
    }
    (found.0, if found.1 == usize::MAX { 0 } else { found.1 })
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

    /// Checks the coefficients against the conditions of the optimum, which are sufficient since the problem is convex.
    fn check(rows: &[f64], dimension: usize, nu: f64, gamma: f64, solution: &Solution) {
        let rows: Vec<&[f64]> = rows.chunks_exact(dimension).collect();
        let wanted = nu * to_f64(rows.len());
        let sum: f64 = solution.coefficients.iter().sum();
        assert!((sum - wanted).abs() <= 1e-12 * wanted, "{sum} is not {wanted}");
        for (row, own) in rows.iter().zip(&solution.coefficients) {
            assert!((0.0..=1.0).contains(own), "{own}");
            let terms = rows
                .iter()
                .zip(&solution.coefficients)
                .map(|(other, coefficient)| {
                    let squares = row.iter().zip(*other).map(|(a, b)| (a - b) * (a - b));
                    coefficient * (-gamma * squares.sum::<f64>()).exp()
                });
            let decision = terms.sum::<f64>() - solution.rho;
            let near = 1.01 * TOLERANCE * solution.rho;
            assert!(*own > 0.0 || decision >= -near, "{own} {decision}");
            assert!(*own < 1.0 || decision <= near, "{own} {decision}");
            assert!(
                *own == 0.0 || *own == 1.0 || decision.abs() <= near,
                "{own} {decision}"
            );
        }
    }

    #[test]
    fn every_cpu_finds_the_same_solution() {
        let rows: Vec<f64> = (0..301)
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
    fn a_cache_of_two_rows_finds_the_same_solution() {
        let rows: Vec<f64> = (0..200).map(|at| (f64::from(at) * 1.7).sin()).collect();
        let similarities = Similarities::new(1, &rows, 3.0);
        let run = |bytes| {
            let path = CodePath::best();
            let mut state = State::new(200, 0.1, KernelCache::new(&similarities, path, bytes));
            let mut first = state.start(path);
            for _ in 0..50 {
                let second = state.second(first, path);
                first = state.step(first.at, second.at, path);
            }
            state.solution().coefficients
        };
        assert_eq!(run(0), run(usize::MAX));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_solution_is_an_optimum(
            values in proptest::collection::vec(-3.0..3.0_f64, 2..240),
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
