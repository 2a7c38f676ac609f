//! Rows of the kernel matrix, for training.

use super::lanes::{LANES, Lanes};
use super::score::{Rbf, Similarity};
use super::{CodePath, VectorLoop};

/// Training rows, laid out so that the RBF kernel of one of them with all is computed eight at a time.
///
/// The values are those that scoring computes for the same rows, bit for bit.
#[derive(Debug)]
pub(crate) struct Similarities {
    dimension: usize,
    count: usize,
    minus_gamma: f64,
    /// As the blocks of an SVM: eight rows each, feature by feature. The last is padded with copies of the last row.
    blocks: Box<[Lanes]>,
}

impl Similarities {
    /// Lays out `rows` of `dimension` features; there is at least one row.
    pub(crate) fn new(dimension: usize, rows: &[f64], gamma: f64) -> Self {
        let count = rows.len() / dimension;
        let row = |block: usize, lane: usize| (block * LANES + lane).min(count - 1);
        let blocks = (0..count.div_ceil(LANES)).flat_map(|block| {
            (0..dimension).map(move |feature| {
                Lanes(std::array::from_fn(|lane| {
                    rows[row(block, lane) * dimension + feature]
                }))
            })
        });
        Self {
            dimension,
            count,
            minus_gamma: -gamma,
            blocks: blocks.collect(),
        }
    }

    /// Returns some of the rows, as if they were all.
    pub(crate) fn of(&self, which: &[usize]) -> Self {
        Self::new(self.dimension, &self.rows(which), -self.minus_gamma)
    }

    fn rows(&self, which: &[usize]) -> Vec<f64> {
        let features = 0..self.dimension;
        let values = |at: &usize| {
            let (block, lane) = (at / LANES * self.dimension, at % LANES);
            features
                .clone()
                .map(move |feature| self.blocks[block + feature].0[lane])
        };
        which.iter().flat_map(values).collect()
    }

    /// Returns the number of rows.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Returns the number of blocks of eight rows.
    pub(crate) fn blocks(&self) -> usize {
        self.count.div_ceil(LANES)
    }

    /// Writes the kernel of row `at` with every row into `into`, which has as many blocks.
    pub(crate) fn with(&self, at: usize, path: CodePath, into: &mut [Lanes]) {
        into.fill(Lanes::default());
        self.add(&[at], &[1.0], path, into);
    }

    /// Adds the kernel of the rows `which`, each times its weight, to the sum of every row.
    ///
    /// No kernel value is stored: to compute one takes as long as to fetch it from memory.
    pub(crate) fn add(&self, which: &[usize], weights: &[f64], path: CodePath, sums: &mut [Lanes]) {
        let rows = self.rows(which);
        macro_rules! of {
            ($dimension:literal) => {
                path.run(WeightedSum::<$dimension> {
                    blocks: &self.blocks,
                    rows: &rows,
                    weights,
                    minus_gamma: self.minus_gamma,
                    sums,
                })
            };
        }
        match self.dimension {
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
}

/// Weighted sums of rows of the kernel matrix of rows of `D` features.
struct WeightedSum<'a, const D: usize> {
    blocks: &'a [Lanes],
    rows: &'a [f64],
    weights: &'a [f64],
    minus_gamma: f64,
    sums: &'a mut [Lanes],
}

impl<const D: usize> VectorLoop for WeightedSum<'_, D> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let (blocks, _) = self.blocks.as_chunks::<D>();
        let (rows, _) = self.rows.as_chunks::<D>();
        let similarity = Rbf {
            minus_gamma: self.minus_gamma,
        };
        for (block, sum) in blocks.iter().zip(self.sums) {
            let mut total = *sum;
            for (row, weight) in rows.iter().zip(self.weights) {
                let row = row.map(|feature| Lanes([feature; LANES]));
                total = total + similarity.of(block, &row) * Lanes([*weight; LANES]);
            }
            *sum = total;
        }
    }
}
