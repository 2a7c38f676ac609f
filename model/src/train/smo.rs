//! Sequential minimal optimisation of the coefficients of some rows, while those of all others stay.
//!
//! It changes two coefficients at a time. The first is the one that violates the optimality conditions most, the second the
//! one with which the objective falls most by its second-order estimate (Fan, Chen and Lin, "Working set selection using
//! second order information for training support vector machines", 2005), as in libsvm. Unlike libsvm, kernel values have
//! 64 bits.

use super::kernel_cache::KernelCache;
use crate::CodePath;
use crate::svm::{LANES, Lanes, Number, Similarities, VectorLoop};

/// Memory that kernel rows may take: all of them for 2,000 rows, and those of the 200 rows used last for 20,000.
const CACHE_BYTES: usize = 32 << 20;

/// Stands for the curvature of two rows that are equal, as in libsvm.
const LEAST_CURVATURE: f64 = 1e-12;

/// Where to start and when to stop.
pub(super) struct Problem<'a> {
    /// The rows whose coefficients may change.
    pub(super) similarities: &'a Similarities,
    /// Their coefficients, between 0 and 1.
    pub(super) coefficients: &'a [f64],
    /// For each of them, the sum over the vectors among all rows of coefficient and kernel.
    pub(super) gradient: &'a [f64],
    /// Stops when these rows agree with their optimum to within this share of rho.
    pub(super) tolerance: f64,
    pub(super) most_steps: usize,
}

/// Returns better coefficients, with the same sum, and the number of steps that it took to find them: `most_steps` if the
/// tolerance was not reached.
pub(super) fn improve(problem: &Problem<'_>, path: CodePath, memory: &mut Vec<Lanes>) -> (Vec<f64>, usize) {
    let cache = KernelCache::new(problem.similarities, path, CACHE_BYTES, memory);
    let mut state = State::new(problem, cache);
    let mut first = state.first(path);
    for steps in 0..problem.most_steps {
        let second = state.second(first, path);
        // The smallest gradient comes to be rho.
        if second.violation <= problem.tolerance * first.gradient {
            return (state.coefficients(problem.coefficients.len()), steps);
        }
        first = state.step(first.at, second.at, path);
    }
    (state.coefficients(problem.coefficients.len()), problem.most_steps)
}

/// The solver's state. The arrays are padded to whole blocks; a padding row has the coefficient 0 and an infinite
/// gradient, so that it is never picked.
struct State<'a> {
    coefficients: Vec<Lanes>,
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
    fn new(problem: &Problem<'_>, cache: KernelCache<'a>) -> Self {
        Self {
            coefficients: in_lanes(problem.coefficients, 0.0),
            gradient: in_lanes(problem.gradient, f64::INFINITY),
            cache,
        }
    }

    /// Picks the first row of the first step.
    fn first(&mut self, path: CodePath) -> First {
        let kernel = self.cache.row(0);
        path.run(Update {
            gradient: &mut self.gradient,
            coefficients: &self.coefficients,
            kernels: (kernel, kernel),
            changes: (0.0, 0.0),
        })
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

    fn coefficients(&self, count: usize) -> Vec<f64> {
        let numbers = self.coefficients.iter().flat_map(|lanes| lanes.0);
        numbers.take(count).collect()
    }
}

fn in_lanes(numbers: &[f64], padding: f64) -> Vec<Lanes> {
    let lanes = |chunk: &[f64]| {
        let mut lanes = Lanes::splat(padding);
        lanes.0[..chunk.len()].copy_from_slice(chunk);
        lanes
    };
    numbers.chunks(LANES).map(lanes).collect()
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
        let (gradient, at) = first_of(&least, &least_at);
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
        let (_, at) = first_of(&least, &least_at);
        Second {
            at,
            violation: greatest(&violation),
        }
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
///
/// Not inlined: the compiler would hold the lanes as eight numbers in the loop before, and not as one vector.
#[inline(never)]
fn first_of(least: &Lanes, blocks: &Lanes) -> (f64, usize) {
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

/// Returns the greatest of the lanes. Not inlined either.
#[inline(never)]
fn greatest(lanes: &Lanes) -> f64 {
    lanes.0.into_iter().fold(f64::NEG_INFINITY, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_of_two_rows_finds_the_same_coefficients() {
        let rows: Vec<f64> = (0..200).map(|at| (f64::from(at) * 1.7).sin()).collect();
        let similarities = Similarities::new(1, &rows, 3.0);
        let coefficients = vec![0.1; 200];
        let mut gradient = vec![Lanes::splat(0.0); similarities.blocks()];
        let all: Vec<usize> = (0..200).collect();
        let path = CodePath::best();
        similarities.add(&all, &coefficients, path, &mut gradient);
        let gradient: Vec<f64> = gradient.iter().flat_map(|lanes| lanes.0).collect();
        let problem = Problem {
            similarities: &similarities,
            coefficients: &coefficients,
            gradient: &gradient,
            tolerance: 1e-6,
            most_steps: 0,
        };
        let run = |bytes| {
            let mut memory = Vec::new();
            let cache = KernelCache::new(&similarities, path, bytes, &mut memory);
            let mut state = State::new(&problem, cache);
            let mut first = state.first(path);
            for _ in 0..50 {
                let second = state.second(first, path);
                first = state.step(first.at, second.at, path);
            }
            state.coefficients(200)
        };
        assert_eq!(run(0), run(usize::MAX));
        assert_ne!(run(0), coefficients);
    }
}
