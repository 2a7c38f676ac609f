//! Nearest neighbours: the distance to the k-th nearest training row.
//!
//! Ramaswamy, Rastogi and Shim, "Efficient algorithms for mining outliers from large data sets" (2000). The rows are in a
//! k-d tree (Bentley, "Multidimensional binary search trees used for associative searching", 1975) that needs no links: the
//! middle row of a slice splits it by one feature, and the halves are split by the next. Rows are ordered by all of their
//! features behind that one, so the same rows always make the same tree, in whatever order they are given.

use std::cmp::Ordering;

use super::local_outlier_factor::MAX_TRAINING_ROWS;
use super::{all_finite, beyond_measure};
use crate::{Feature, ModelError};

/// Most neighbours to look at.
pub const MAX_NEIGHBOURS: usize = 16;

/// A slice of so few rows is searched row by row.
const LEAF: usize = 8;

/// Maximum number of slices waiting to be searched: one for each halving of the training rows, and the current one.
const DEPTH: usize = MAX_TRAINING_ROWS.ilog2() as usize + 2;

/// Nearest neighbours: decision(x) = limit − distance of the k-th nearest training row.
#[derive(Clone, Debug, PartialEq)]
pub struct NearestNeighbours {
    dimension: usize,
    neighbours: usize,
    rows: Box<[f64]>,
    limit: f64,
}

/// A slice of the tree that has to be searched.
#[derive(Clone, Copy, Default)]
struct Slice {
    from: usize,
    to: usize,
    /// The feature that splits it.
    axis: usize,
    /// Squared distance that all of its rows have at least.
    least: f64,
}

/// The squared distances of the nearest rows so far, the nearest first.
struct Nearest {
    squares: [f64; MAX_NEIGHBOURS],
    neighbours: usize,
}

impl NearestNeighbours {
    /// Creates a detector from the training rows and the largest normal distance of the k-th nearest. The limit is above 0.
    pub fn new(dimension: usize, neighbours: usize, rows: &[f64], limit: f64) -> Result<Self, ModelError> {
        if dimension == 0 || dimension > Feature::ALL.len() {
            return Err(ModelError::Dimension(dimension));
        }
        let count = rows.len() / dimension;
        if rows.len() != dimension * count {
            return Err(ModelError::Shape {
                numbers: rows.len(),
                vectors: count,
                dimension,
            });
        }
        if count == 0 || count > MAX_TRAINING_ROWS {
            return Err(ModelError::TrainingRows(count));
        }
        if neighbours == 0 || neighbours > count.min(MAX_NEIGHBOURS) {
            return Err(ModelError::Neighbours {
                neighbours,
                rows: count,
            });
        }
        all_finite("a training row", rows)?;
        if !(limit > 0.0 && limit.is_finite()) {
            return Err(ModelError::Limit(limit));
        }
        let mut order: Vec<&[f64]> = rows.chunks_exact(dimension).collect();
        arrange(&mut order, 0);
        let rows = order.concat().into();
        Ok(Self {
            dimension,
            neighbours,
            rows,
            limit,
        })
    }

    /// Returns the same with another limit, which is above 0 and finite.
    pub(crate) fn with_limit(self, limit: f64) -> Self {
        Self { limit, ..self }
    }

    /// Returns the length of a row to score.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// Returns which of the nearest rows counts: 1 for the nearest.
    pub fn neighbours(&self) -> usize {
        self.neighbours
    }

    /// Returns the training rows, in the order of the tree.
    pub fn rows(&self) -> &[f64] {
        &self.rows
    }

    /// Returns the largest normal distance.
    pub fn limit(&self) -> f64 {
        self.limit
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        size_of_val(&*self.rows)
    }

    /// Writes the distance of each row's k-th nearest training row.
    pub(crate) fn measure(&self, rows: &[f64], distances: &mut [f64]) {
        for (row, distance) in rows.chunks_exact(self.dimension).zip(distances) {
            *distance = beyond_measure(self.distance(row, self.neighbours));
        }
    }

    /// Returns the distance of the `neighbours`-th nearest training row.
    pub(crate) fn distance(&self, row: &[f64], neighbours: usize) -> f64 {
        let mut nearest = Nearest {
            squares: [f64::INFINITY; MAX_NEIGHBOURS],
            neighbours,
        };
        let mut waiting = [Slice::default(); DEPTH];
        waiting[0].to = self.rows.len() / self.dimension;
        let mut count = 1;
        while count > 0 {
            count -= 1;
            let Slice {
                from,
                to,
                axis,
                least,
            } = waiting[count];
            if least >= nearest.furthest() {
                continue;
            }
            if to - from <= LEAF {
                for other in
                    self.rows[from * self.dimension..to * self.dimension].chunks_exact(self.dimension)
                {
                    nearest.see(square(row, other));
                }
                continue;
            }
            let middle = from + (to - from) / 2;
            let other = &self.rows[middle * self.dimension..][..self.dimension];
            nearest.see(square(row, other));
            let gap = row[axis] - other[axis];
            let axis = (axis + 1) % self.dimension;
            let below = Slice {
                from,
                to: middle,
                axis,
                least,
            };
            let above = Slice {
                from: middle + 1,
                to,
                axis,
                least,
            };
            let (near, far) = if gap < 0.0 { (below, above) } else { (above, below) };
            // The last is searched first.
            waiting[count] = Slice {
                least: least.max(gap * gap),
                ..far
            };
            waiting[count + 1] = near;
            count += 2;
        }
        nearest.furthest().sqrt()
    }
}

impl Nearest {
    /// Returns the squared distance of the last row that counts.
    #[inline]
    fn furthest(&self) -> f64 {
        self.squares[self.neighbours - 1]
    }

    #[inline]
    fn see(&mut self, square: f64) {
        if square >= self.furthest() {
            return;
        }
        let mut at = self.neighbours - 1;
        while at > 0 && self.squares[at - 1] > square {
            self.squares[at] = self.squares[at - 1];
            at -= 1;
        }
        self.squares[at] = square;
    }
}

/// Returns the squared distance of two rows.
#[inline]
fn square(row: &[f64], other: &[f64]) -> f64 {
    let differences = row.iter().zip(other).map(|(value, other)| value - other);
    differences.map(|difference| difference * difference).sum()
}

/// Brings rows into the order of the tree.
fn arrange(rows: &mut [&[f64]], axis: usize) {
    let order = |a: &&[f64], b: &&[f64]| compare(a, b, axis);
    if rows.len() <= LEAF {
        return rows.sort_unstable_by(order);
    }
    let middle = rows.len() / 2;
    let (below, row, above) = rows.select_nth_unstable_by(middle, order);
    let axis = (axis + 1) % row.len();
    arrange(below, axis);
    arrange(above, axis);
}

/// Compares rows by a feature, and then by the others. Rows that compare as equal have the same bits.
fn compare(a: &[f64], b: &[f64], axis: usize) -> Ordering {
    let by_axis = a[axis].total_cmp(&b[axis]);
    by_axis.then_with(|| {
        let features = a.iter().zip(b).map(|(a, b)| a.total_cmp(b));
        features.fold(Ordering::Equal, Ordering::then)
    })
}
