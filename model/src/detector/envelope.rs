//! The elliptic envelope: a robust covariance, as scikit-learn's `EllipticEnvelope` uses it.

use crate::{Feature, ModelError};

/// An elliptic envelope: decision(x) = −(x − location)ᵀ · precision · (x − location) − offset.
#[derive(Clone, Debug, PartialEq)]
pub struct EllipticEnvelope {
    location: Box<[f64]>,
    precision: Box<[f64]>,
    offset: f64,
}

impl EllipticEnvelope {
    /// Creates an envelope from its centre, the inverse of the covariance, row by row, and the offset.
    pub fn new(location: Vec<f64>, precision: Vec<f64>, offset: f64) -> Result<Self, ModelError> {
        let dimension = location.len();
        if dimension == 0 || dimension > Feature::ALL.len() {
            return Err(ModelError::Dimension(dimension));
        }
        if precision.len() != dimension * dimension {
            return Err(ModelError::Shape {
                numbers: precision.len(),
                vectors: dimension,
                dimension,
            });
        }
        for (what, numbers) in [
            ("the envelope's centre", &location[..]),
            ("the envelope's precision", &precision[..]),
            ("the offset", &[offset]),
        ] {
            if !numbers.iter().all(|number| number.is_finite()) {
                return Err(ModelError::NotFinite(what));
            }
        }
        Ok(Self {
            location: location.into(),
            precision: precision.into(),
            offset,
        })
    }

    /// Returns the length of a row to score.
    pub fn dimension(&self) -> usize {
        self.location.len()
    }

    /// Returns the centre.
    pub fn location(&self) -> &[f64] {
        &self.location
    }

    /// Returns the inverse of the covariance, row by row.
    pub fn precision(&self) -> &[f64] {
        &self.precision
    }

    /// Returns the offset: minus the squared distance of the boundary.
    pub fn offset(&self) -> f64 {
        self.offset
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        (self.location.len() + self.precision.len()) * size_of::<f64>()
    }

    /// Writes the squared distance of each row.
    pub(crate) fn measure(&self, rows: &[f64], distances: &mut [f64]) {
        let dimension = self.dimension();
        let mut delta = [0.0; Feature::ALL.len()];
        for (row, distance) in rows.chunks_exact(dimension).zip(distances) {
            for ((delta, value), centre) in delta.iter_mut().zip(row).zip(&self.location) {
                *delta = value - centre;
            }
            let weighed = self
                .precision
                .chunks_exact(dimension)
                .zip(&delta)
                .map(|(weights, own)| {
                    let sum: f64 = weights
                        .iter()
                        .zip(&delta)
                        .map(|(weight, other)| weight * other)
                        .sum();
                    own * sum
                });
            *distance = weighed.sum::<f64>();
        }
    }
}
