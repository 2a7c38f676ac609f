//! The scoring loop, written once and compiled for every CPU, kernel and number of features.

use super::lanes::{LANES, Lanes, Number, exp_of_nonpositive, power, tanh};
use super::{CodePath, FEW, Kernel, OneClassSvm, VectorLoop};

/// A kernel with its parameters, in the two steps of the loop: a sum over the features, then a function of that sum.
pub(super) trait Similarity: Copy {
    /// Returns what one feature adds to the sum.
    fn term<N: Number>(vector: N, row: N) -> N;
    /// Returns the kernel's value for a sum.
    fn finish<N: Number>(self, sum: N) -> N;

    /// Returns the kernel's value for a vector and a row.
    #[inline(always)]
    fn of<N: Number, const D: usize>(self, vector: &[N; D], row: &[N; D]) -> N {
        let mut sum = Self::term(vector[0], row[0]);
        for feature in 1..D {
            sum = sum + Self::term(vector[feature], row[feature]);
        }
        self.finish(sum)
    }
}

#[derive(Clone, Copy)]
pub(super) struct Linear;

#[derive(Clone, Copy)]
pub(super) struct Rbf {
    pub(super) minus_gamma: f64,
}

#[derive(Clone, Copy)]
pub(super) struct Polynomial {
    pub(super) gamma: f64,
    pub(super) coef0: f64,
    pub(super) degree: u32,
}

#[derive(Clone, Copy)]
pub(super) struct Sigmoid {
    pub(super) gamma: f64,
    pub(super) coef0: f64,
}

impl Similarity for Linear {
    #[inline(always)]
    fn term<N: Number>(vector: N, row: N) -> N {
        vector * row
    }
    #[inline(always)]
    fn finish<N: Number>(self, sum: N) -> N {
        sum
    }
}

impl Similarity for Rbf {
    #[inline(always)]
    fn term<N: Number>(vector: N, row: N) -> N {
        let difference = vector - row;
        difference * difference
    }
    #[inline(always)]
    fn finish<N: Number>(self, sum: N) -> N {
        exp_of_nonpositive(sum * N::splat(self.minus_gamma))
    }
}

impl Similarity for Polynomial {
    #[inline(always)]
    fn term<N: Number>(vector: N, row: N) -> N {
        vector * row
    }
    #[inline(always)]
    fn finish<N: Number>(self, sum: N) -> N {
        power(sum * N::splat(self.gamma) + N::splat(self.coef0), self.degree)
    }
}

impl Similarity for Sigmoid {
    #[inline(always)]
    fn term<N: Number>(vector: N, row: N) -> N {
        vector * row
    }
    #[inline(always)]
    fn finish<N: Number>(self, sum: N) -> N {
        tanh(sum * N::splat(self.gamma) + N::splat(self.coef0))
    }
}

/// Writes every row's sum Σ coefficientᵢ · K(vectorᵢ, row), which is its decision without the intercept; the lengths
/// must agree.
pub(super) fn sums(path: CodePath, svm: &OneClassSvm, rows: &[f64], sums: &mut [f64]) {
    match svm.kernel {
        Kernel::Linear => with(path, Linear, svm, rows, sums),
        Kernel::Rbf { gamma } => with(path, Rbf { minus_gamma: -gamma }, svm, rows, sums),
        Kernel::Polynomial { gamma, coef0, degree } => {
            with(path, Polynomial { gamma, coef0, degree }, svm, rows, sums);
        }
        Kernel::Sigmoid { gamma, coef0 } => with(path, Sigmoid { gamma, coef0 }, svm, rows, sums),
    }
}

fn with<S: Similarity>(path: CodePath, similarity: S, svm: &OneClassSvm, rows: &[f64], sums: &mut [f64]) {
    macro_rules! of {
        ($dimension:literal) => {
            path.run(Sums::<S, $dimension> {
                similarity,
                svm,
                rows,
                sums,
            })
        };
    }
    match svm.dimension {
        1 => of!(1),
        2 => of!(2),
        3 => of!(3),
        4 => of!(4),
        5 => of!(5),
        6 => of!(6),
        7 => of!(7),
        8 => of!(8),
        9 => of!(9),
        _ => of!(10),
    }
}

/// The sums of rows of `D` features.
///
/// The number of features is a constant: a sum over an inner loop of unknown length costs a third more, and there are
/// only ten features.
struct Sums<'a, S, const D: usize> {
    similarity: S,
    svm: &'a OneClassSvm,
    rows: &'a [f64],
    sums: &'a mut [f64],
}

impl<S: Similarity, const D: usize> VectorLoop for Sums<'_, S, D> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self {
            similarity,
            svm,
            rows,
            sums,
        } = self;
        let (rows, _) = rows.as_chunks::<D>();
        if svm.coefficients.len() <= FEW {
            few(similarity, svm, rows, sums);
        } else {
            many(similarity, svm, rows, sums);
        }
    }
}

/// Rows whose eight partial sums are kept before they are added up.
///
/// Adding them up at once would return the same result from slower code. The compiler looks for vectors backwards from
/// the stores: it would start from the pairs of that addition, and make the whole loop two lanes wide instead of eight.
const TILE: usize = 8;

/// Sums over many vectors: eight of them at a time against one row.
#[inline(always)]
fn many<S: Similarity, const D: usize>(
    similarity: S,
    svm: &OneClassSvm,
    rows: &[[f64; D]],
    sums: &mut [f64],
) {
    let (blocks, _) = svm.blocks.as_chunks::<D>();
    let mut totals = [Lanes::splat(0.0); TILE];
    for (rows, sums) in rows.chunks(TILE).zip(sums.chunks_mut(TILE)) {
        for (row, into) in rows.iter().zip(&mut totals) {
            let row = row.map(Lanes::splat);
            let mut total = Lanes::splat(0.0);
            for (block, weights) in blocks.iter().zip(&svm.weights) {
                total = total + *weights * similarity.of(block, &row);
            }
            *into = total;
        }
        for (sum, total) in sums.iter_mut().zip(&totals) {
            *sum = total.sum();
        }
    }
}

/// Sums over few vectors: one at a time against eight rows, then against each remaining row.
///
/// A row goes through the same operations in the same order either way.
#[inline(always)]
fn few<S: Similarity, const D: usize>(similarity: S, svm: &OneClassSvm, rows: &[[f64; D]], sums: &mut [f64]) {
    let (groups, left) = rows.as_chunks::<LANES>();
    let (summed, left_sums) = sums.as_chunks_mut::<LANES>();
    for (group, sums) in groups.iter().zip(summed) {
        let columns = std::array::from_fn(|feature| Lanes(group.map(|row| row[feature])));
        *sums = sum_of_few::<S, Lanes, D>(similarity, svm, &columns).0;
    }
    for (row, sum) in left.iter().zip(left_sums) {
        *sum = sum_of_few::<S, f64, D>(similarity, svm, row);
    }
}

#[inline(always)]
fn sum_of_few<S: Similarity, N: Number, const D: usize>(similarity: S, svm: &OneClassSvm, row: &[N; D]) -> N {
    let (vectors, _) = svm.vectors.as_chunks::<D>();
    let mut total = N::splat(0.0);
    for (vector, coefficient) in vectors.iter().zip(&svm.coefficients) {
        total = total + N::splat(*coefficient) * similarity.of(&vector.map(N::splat), row);
    }
    total
}
