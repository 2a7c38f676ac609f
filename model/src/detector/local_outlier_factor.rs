//! The local outlier factor of new rows.
//!
//! Breunig et al., "LOF: identifying density-based local outliers" (2000), as scikit-learn's
//! `LocalOutlierFactor(novelty=True)` computes it. Among training rows at the same distance scikit-learn's trees may
//! choose others as neighbours than this code, which takes the first.

use crate::{Feature, ModelError};

/// Most training rows: all of them are looked at for each row that is scored.
pub const MAX_TRAINING_ROWS: usize = 1 << 18;

/// How the distance of two rows is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// The root of the sum of squares.
    Euclidean,
    /// The sum of the differences.
    Manhattan,
    /// The largest difference.
    Chebyshev,
}

/// A local outlier factor: decision(x) = −mean(density of the neighbours) / density at x − offset.
#[derive(Clone, Debug, PartialEq)]
pub struct LocalOutlierFactor {
    dimension: usize,
    neighbours: usize,
    metric: Metric,
    rows: Box<[f64]>,
    reaches: Box<[f64]>,
    densities: Box<[f64]>,
    offset: f64,
}

/// A training row and its distance.
#[derive(Clone, Copy)]
struct Near {
    distance: f64,
    row: usize,
}

impl LocalOutlierFactor {
    /// Creates a detector from the training rows and, for each, the distance of its last neighbour and its density.
    pub fn new(
        neighbours: usize,
        metric: Metric,
        rows: Vec<f64>,
        reaches: Vec<f64>,
        densities: Vec<f64>,
        offset: f64,
    ) -> Result<Self, ModelError> {
        let count = densities.len();
        if count == 0 || count > MAX_TRAINING_ROWS || reaches.len() != count {
            return Err(ModelError::TrainingRows(count));
        }
        let dimension = rows.len() / count;
        if dimension == 0 || dimension > Feature::ALL.len() {
            return Err(ModelError::Dimension(dimension));
        }
        if rows.len() != dimension * count {
            return Err(ModelError::Shape {
                numbers: rows.len(),
                vectors: count,
                dimension,
            });
        }
        if neighbours == 0 || neighbours > count {
            return Err(ModelError::Neighbours {
                neighbours,
                rows: count,
            });
        }
        for (what, numbers) in [
            ("a training row", &rows[..]),
            ("a neighbour's distance", &reaches[..]),
            ("a density", &densities[..]),
            ("the offset", &[offset]),
        ] {
            if !numbers.iter().all(|number| number.is_finite()) {
                return Err(ModelError::NotFinite(what));
            }
        }
        Ok(Self {
            dimension,
            neighbours,
            metric,
            rows: rows.into(),
            reaches: reaches.into(),
            densities: densities.into(),
            offset,
        })
    }

    /// Returns the length of a row to score.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// Returns how many neighbours are looked at.
    pub fn neighbours(&self) -> usize {
        self.neighbours
    }

    /// Returns how distances are measured.
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// Returns the training rows.
    pub fn rows(&self) -> &[f64] {
        &self.rows
    }

    /// Returns the distance of the last neighbour of each training row.
    pub fn reaches(&self) -> &[f64] {
        &self.reaches
    }

    /// Returns the density at each training row.
    pub fn densities(&self) -> &[f64] {
        &self.densities
    }

    /// Returns the score of the boundary.
    pub fn offset(&self) -> f64 {
        self.offset
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        (self.rows.len() + self.reaches.len() + self.densities.len()) * size_of::<f64>()
    }

    /// Writes the factor of each row.
    pub(crate) fn measure(&self, rows: &[f64], factors: &mut [f64]) {
        let mut nearest = Vec::with_capacity(self.neighbours + 1);
        for (row, factor) in rows.chunks_exact(self.dimension).zip(factors) {
            // `f64::max` would hide a NaN.
            if !row.iter().all(|value| value.is_finite()) {
                *factor = f64::NAN;
                continue;
            }
            self.find(row, &mut nearest);
            #[allow(clippy::cast_precision_loss)] // Far below 2^53.
            let count = self.neighbours as f64;
            let reached = nearest
                .iter()
                .map(|near| near.distance.max(self.reaches[near.row]));
            let density = 1.0 / (reached.sum::<f64>() / count + 1e-10);
            let ratios = nearest.iter().map(|near| self.densities[near.row] / density);
            *factor = ratios.sum::<f64>() / count;
        }
    }

    /// Fills `nearest` with the nearest training rows, the nearest first.
    fn find(&self, row: &[f64], nearest: &mut Vec<Near>) {
        nearest.clear();
        for (at, other) in self.rows.chunks_exact(self.dimension).enumerate() {
            let distance = self.metric.sum(row, other);
            if nearest.len() == self.neighbours
                && !nearest.last().is_some_and(|last| distance < last.distance)
            {
                continue;
            }
            let place = nearest.partition_point(|near| near.distance <= distance);
            nearest.insert(place, Near { distance, row: at });
            nearest.truncate(self.neighbours);
        }
        for near in nearest {
            near.distance = self.metric.distance(near.distance);
        }
    }
}

impl Metric {
    /// Returns a number that grows with the distance.
    fn sum(self, row: &[f64], other: &[f64]) -> f64 {
        let differences = row.iter().zip(other).map(|(value, other)| (value - other).abs());
        match self {
            Self::Euclidean => differences.map(|difference| difference * difference).sum(),
            Self::Manhattan => differences.sum(),
            Self::Chebyshev => differences.fold(0.0, f64::max),
        }
    }

    /// Returns the distance for that number.
    fn distance(self, sum: f64) -> f64 {
        match self {
            Self::Euclidean => sum.sqrt(),
            Self::Manhattan | Self::Chebyshev => sum,
        }
    }
}
