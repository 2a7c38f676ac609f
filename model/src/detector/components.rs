//! Principal components: Hotelling's T² in those that are kept, and Q, what they leave unexplained.
//!
//! With tᵢ the row's coordinate on the i-th component and λᵢ its variance, T² = Σ tᵢ²/λᵢ over the kept components tells how
//! far a row is from the centre along the usual directions, and Q = Σ tᵢ² over the others how far it is off them (Jackson and
//! Mudholkar, "Control procedures for residuals associated with principal component analysis", 1979). Q is summed over the
//! components that are left out instead of |x − x̂|², so that it does not cancel where it is small.

use super::{all_finite, beyond_measure};
use crate::{Feature, ModelError};

/// Principal components: decision(x) = 1 − max(T² / limit of T², Q / limit of Q).
#[derive(Clone, Debug, PartialEq)]
pub struct PrincipalComponents {
    centre: Box<[f64]>,
    components: Box<[f64]>,
    variances: Box<[f64]>,
    t2_limit: f64,
    q_limit: f64,
}

/// Both statistics of a row, each as a multiple of its limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Beyond {
    pub(crate) t2: f64,
    pub(crate) q: f64,
}

impl PrincipalComponents {
    /// Creates a detector from the centre, all components (unit vectors, one after the other, those to keep first), the
    /// variances of those that are kept, and the limits of T² and Q. Variances and limits are above 0; if all components are
    /// kept, Q is always 0.
    pub fn new(
        centre: Vec<f64>,
        components: Vec<f64>,
        variances: Vec<f64>,
        t2_limit: f64,
        q_limit: f64,
    ) -> Result<Self, ModelError> {
        let dimension = centre.len();
        if dimension == 0 || dimension > Feature::ALL.len() {
            return Err(ModelError::Dimension(dimension));
        }
        if components.len() != dimension * dimension {
            return Err(ModelError::Shape {
                numbers: components.len(),
                vectors: dimension,
                dimension,
            });
        }
        if variances.is_empty() || variances.len() > dimension {
            return Err(ModelError::Kept {
                kept: variances.len(),
                dimension,
            });
        }
        all_finite("a centre", &centre)?;
        all_finite("a component", &components)?;
        all_finite("a component's variance", &variances)?;
        if let Some(at) = variances.iter().position(|variance| *variance <= 0.0) {
            return Err(ModelError::ZeroScale(at));
        }
        for limit in [t2_limit, q_limit] {
            if !(limit > 0.0 && limit.is_finite()) {
                return Err(ModelError::Limit(limit));
            }
        }
        Ok(Self {
            centre: centre.into(),
            components: components.into(),
            variances: variances.into(),
            t2_limit,
            q_limit,
        })
    }

    /// Returns the length of a row to score, which is also the number of components.
    pub fn dimension(&self) -> usize {
        self.centre.len()
    }

    /// Returns the centre.
    pub fn centre(&self) -> &[f64] {
        &self.centre
    }

    /// Returns all components, one after the other, those that are kept first.
    pub fn components(&self) -> &[f64] {
        &self.components
    }

    /// Returns the variance of each component that is kept.
    pub fn variances(&self) -> &[f64] {
        &self.variances
    }

    /// Returns the largest normal T².
    pub fn t2_limit(&self) -> f64 {
        self.t2_limit
    }

    /// Returns the largest normal Q.
    pub fn q_limit(&self) -> f64 {
        self.q_limit
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let numbers = self.centre.len() + self.components.len() + self.variances.len();
        numbers * size_of::<f64>()
    }

    /// Writes how far each row is beyond the limits.
    pub(crate) fn measure(&self, rows: &[f64], measures: &mut [f64]) {
        for (row, measure) in rows.chunks_exact(self.dimension()).zip(measures) {
            let Beyond { t2, q } = self.beyond(row);
            // `f64::max` would hide a NaN.
            *measure = beyond_measure(if t2 > q || t2.is_nan() { t2 } else { q });
        }
    }

    /// Returns both statistics of a row, as multiples of their limits.
    pub(crate) fn beyond(&self, row: &[f64]) -> Beyond {
        let (mut t2, mut q) = (0.0, 0.0);
        for (at, coordinate) in self.coordinates(row).enumerate() {
            let square = coordinate * coordinate;
            match self.variances.get(at) {
                Some(variance) => t2 += square / variance,
                None => q += square,
            }
        }
        Beyond {
            t2: t2 / self.t2_limit,
            q: q / self.q_limit,
        }
    }

    /// Returns the coordinate of a row on each component.
    pub(crate) fn coordinates(&self, row: &[f64]) -> impl Iterator<Item = f64> {
        self.components
            .chunks_exact(self.dimension())
            .map(move |weights| {
                let parts = weights.iter().zip(row.iter().zip(&self.centre));
                parts
                    .map(|(weight, (value, centre))| weight * (value - centre))
                    .sum()
            })
    }
}
