//! Robust z: how far a feature is from its median, in deviations that outliers do not stretch.
//!
//! Iglewicz and Hoaglin, "How to detect and handle outliers" (1993): |x − median| / (1.4826 · MAD), where MAD is the
//! median of the absolute deviations, and 1.4826 makes it the standard deviation of normal numbers.

use super::{all_finite, beyond_measure};
use crate::{Feature, ModelError};

/// Robust z: decision(x) = 1 − max |xⱼ − centreⱼ| / scaleⱼ / limitⱼ.
#[derive(Clone, Debug, PartialEq)]
pub struct RobustZ {
    centre: Box<[f64]>,
    scale: Box<[f64]>,
    limits: Box<[f64]>,
}

impl RobustZ {
    /// Creates a detector from the centre of each feature, its scale, and its largest normal distance in scales. Scales and
    /// limits are above 0.
    pub fn new(centre: Vec<f64>, scale: Vec<f64>, limits: Vec<f64>) -> Result<Self, ModelError> {
        let dimension = centre.len();
        if dimension == 0 || dimension > Feature::ALL.len() {
            return Err(ModelError::Dimension(dimension));
        }
        for numbers in [scale.len(), limits.len()] {
            if numbers != dimension {
                return Err(ModelError::Shape {
                    numbers,
                    vectors: 1,
                    dimension,
                });
            }
        }
        all_finite("a centre", &centre)?;
        all_finite("a scale", &scale)?;
        if let Some(at) = scale.iter().position(|scale| *scale <= 0.0) {
            return Err(ModelError::ZeroScale(at));
        }
        if let Some(limit) = limits.iter().find(|limit| !(**limit > 0.0 && limit.is_finite())) {
            return Err(ModelError::Limit(*limit));
        }
        Ok(Self {
            centre: centre.into(),
            scale: scale.into(),
            limits: limits.into(),
        })
    }

    /// Returns the length of a row to score.
    pub fn dimension(&self) -> usize {
        self.centre.len()
    }

    /// Returns the centre of each feature.
    pub fn centre(&self) -> &[f64] {
        &self.centre
    }

    /// Returns the scale of each feature.
    pub fn scale(&self) -> &[f64] {
        &self.scale
    }

    /// Returns the largest normal distance of each feature, in scales.
    pub fn limits(&self) -> &[f64] {
        &self.limits
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        3 * self.centre.len() * size_of::<f64>()
    }

    /// Writes the largest distance of each row, as a multiple of its limit.
    pub(crate) fn measure(&self, rows: &[f64], measures: &mut [f64]) {
        for (row, measure) in rows.chunks_exact(self.dimension()).zip(measures) {
            *measure = beyond_measure(self.beyond(row).fold(0.0, larger));
        }
    }

    /// Returns the distance of each feature, as a multiple of its limit.
    pub(crate) fn beyond(&self, row: &[f64]) -> impl Iterator<Item = f64> {
        let usual = self.scale.iter().zip(&self.limits);
        let usual = self.centre.iter().zip(usual);
        row.iter()
            .zip(usual)
            .map(|(value, (centre, (scale, limit)))| ((value - centre) / scale).abs() / limit)
    }
}

/// Returns the larger number; unlike `f64::max`, NaN if one of them is.
fn larger(a: f64, b: f64) -> f64 {
    if a > b || a.is_nan() { a } else { b }
}
