//! The steps that prepare features for a detector.
//!
//! They compute what scikit-learn's transformers compute, with the same operations in the same order. Folded into one
//! affine map they would differ from it: where a mean is large against its deviation, the rounding of the sums grows
//! with the mean.

use crate::{MAX_COLUMNS, ModelError};

/// A scaler that centres and scales features as scikit-learn's `StandardScaler` does: (x − mean) / scale, in f64.
#[derive(Clone, Debug, PartialEq)]
pub struct Scaler {
    mean: Box<[f64]>,
    scale: Box<[f64]>,
}

/// A step that stretches and shifts features as scikit-learn's `MinMaxScaler` does: x · factor + offset.
#[derive(Clone, Debug, PartialEq)]
pub struct Stretch {
    factor: Box<[f64]>,
    offset: Box<[f64]>,
}

/// A step that multiplies rows with a matrix: each output is a weighted sum of the inputs.
///
/// With weights of 0 and 1 it selects columns and changes their order.
#[derive(Clone, Debug, PartialEq)]
pub struct Projection {
    inputs: usize,
    weights: Box<[f64]>,
}

/// A step that keeps each feature between −limit and limit.
#[derive(Clone, Debug, PartialEq)]
pub struct Clip {
    limits: Box<[f64]>,
}

/// A step between the features and the detector.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// (x − mean) / scale
    Scale(Scaler),
    /// x · factor + offset
    Stretch(Stretch),
    /// Σ weightᵢ · xᵢ
    Project(Projection),
    /// At least −limit, at most limit.
    Clip(Clip),
}

/// Checks the two numbers of each feature: as many of one as of the other, and all finite.
fn check_pairs(first: (&'static str, &[f64]), second: (&'static str, &[f64])) -> Result<(), ModelError> {
    if first.1.is_empty() || first.1.len() > MAX_COLUMNS {
        return Err(ModelError::Columns(first.1.len()));
    }
    if first.1.len() != second.1.len() {
        return Err(ModelError::ScalerSize {
            mean: first.1.len(),
            scale: second.1.len(),
            dimension: first.1.len(),
        });
    }
    for (what, numbers) in [first, second] {
        if !numbers.iter().all(|number| number.is_finite()) {
            return Err(ModelError::NotFinite(what));
        }
    }
    Ok(())
}

impl Scaler {
    /// Creates a scaler with one mean and one scale for each feature.
    pub fn new(mean: Vec<f64>, scale: Vec<f64>) -> Result<Self, ModelError> {
        check_pairs(("a mean of the scaler", &mean), ("a scale of the scaler", &scale))?;
        if let Some(at) = scale.iter().position(|scale| *scale == 0.0) {
            return Err(ModelError::ZeroScale(at));
        }
        Ok(Self {
            mean: mean.into(),
            scale: scale.into(),
        })
    }

    /// Returns the means, which are subtracted from the features.
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// Returns the scales, by which the centred features are divided.
    pub fn scale(&self) -> &[f64] {
        &self.scale
    }

    /// Scales rows in place.
    pub(crate) fn apply(&self, rows: &mut [f64]) {
        for row in rows.chunks_exact_mut(self.mean.len()) {
            for ((value, mean), scale) in row.iter_mut().zip(&self.mean).zip(&self.scale) {
                *value = (*value - mean) / scale;
            }
        }
    }
}

impl Stretch {
    /// Creates a step with one factor and one offset for each feature.
    pub fn new(factor: Vec<f64>, offset: Vec<f64>) -> Result<Self, ModelError> {
        check_pairs(
            ("a factor of the scaler", &factor),
            ("an offset of the scaler", &offset),
        )?;
        Ok(Self {
            factor: factor.into(),
            offset: offset.into(),
        })
    }

    /// Returns the factors.
    pub fn factor(&self) -> &[f64] {
        &self.factor
    }

    /// Returns the offsets, which are added after multiplying.
    pub fn offset(&self) -> &[f64] {
        &self.offset
    }

    fn apply(&self, rows: &mut [f64]) {
        for row in rows.chunks_exact_mut(self.factor.len()) {
            for ((value, factor), offset) in row.iter_mut().zip(&self.factor).zip(&self.offset) {
                *value = *value * factor + offset;
            }
        }
    }
}

impl Projection {
    /// Creates a step from the weights of each output, `inputs` numbers each.
    pub fn new(inputs: usize, weights: Vec<f64>) -> Result<Self, ModelError> {
        if inputs == 0 || inputs > MAX_COLUMNS {
            return Err(ModelError::Columns(inputs));
        }
        let outputs = weights.len() / inputs;
        if outputs == 0 || outputs > MAX_COLUMNS || !weights.len().is_multiple_of(inputs) {
            return Err(ModelError::Projection {
                inputs,
                numbers: weights.len(),
            });
        }
        if !weights.iter().all(|number| number.is_finite()) {
            return Err(ModelError::NotFinite("a weight of the projection"));
        }
        Ok(Self {
            inputs,
            weights: weights.into(),
        })
    }

    /// Creates a step that selects columns of its input.
    pub fn select(inputs: usize, columns: &[usize]) -> Result<Self, ModelError> {
        for size in [inputs, columns.len()] {
            if size == 0 || size > MAX_COLUMNS {
                return Err(ModelError::Columns(size));
            }
        }
        let mut weights = vec![0.0; inputs * columns.len()];
        for (output, column) in columns.iter().enumerate() {
            if *column >= inputs {
                return Err(ModelError::Projection {
                    inputs,
                    numbers: weights.len(),
                });
            }
            weights[output * inputs + column] = 1.0;
        }
        Self::new(inputs, weights)
    }

    /// Returns the weights, output by output.
    pub fn weights(&self) -> &[f64] {
        &self.weights
    }

    fn apply(&self, rows: &mut Vec<f64>, spare: &mut Vec<f64>) {
        spare.clear();
        for row in rows.chunks_exact(self.inputs) {
            for weights in self.weights.chunks_exact(self.inputs) {
                spare.push(
                    row.iter()
                        .zip(weights)
                        .map(|(value, weight)| value * weight)
                        .sum(),
                );
            }
        }
        std::mem::swap(rows, spare);
    }
}

impl Clip {
    /// Creates a step with a limit for each feature, at least 0.
    pub fn new(limits: Vec<f64>) -> Result<Self, ModelError> {
        if limits.is_empty() || limits.len() > MAX_COLUMNS {
            return Err(ModelError::Columns(limits.len()));
        }
        if !limits.iter().all(|limit| *limit >= 0.0 && limit.is_finite()) {
            return Err(ModelError::NotFinite("a limit of the clip"));
        }
        Ok(Self {
            limits: limits.into(),
        })
    }

    /// Returns the limits.
    pub fn limits(&self) -> &[f64] {
        &self.limits
    }

    fn apply(&self, rows: &mut [f64]) {
        for row in rows.chunks_exact_mut(self.limits.len()) {
            for (value, limit) in row.iter_mut().zip(&self.limits) {
                *value = value.clamp(-limit, *limit);
            }
        }
    }
}

impl Step {
    /// Returns the length of the rows that it takes.
    pub fn inputs(&self) -> usize {
        match self {
            Self::Scale(scaler) => scaler.mean.len(),
            Self::Stretch(stretch) => stretch.factor.len(),
            Self::Project(projection) => projection.inputs,
            Self::Clip(clip) => clip.limits.len(),
        }
    }

    /// Returns the length of the rows that it returns.
    pub fn outputs(&self) -> usize {
        match self {
            Self::Scale(_) | Self::Stretch(_) | Self::Clip(_) => self.inputs(),
            Self::Project(projection) => projection.weights.len() / projection.inputs,
        }
    }

    /// Replaces the rows with the prepared ones; `spare` is a buffer.
    pub(crate) fn apply(&self, rows: &mut Vec<f64>, spare: &mut Vec<f64>) {
        match self {
            Self::Scale(scaler) => scaler.apply(rows),
            Self::Stretch(stretch) => stretch.apply(rows),
            Self::Project(projection) => projection.apply(rows, spare),
            Self::Clip(clip) => clip.apply(rows),
        }
    }

    /// Returns the memory that the arrays take, in bytes.
    pub(crate) fn heap_bytes(&self) -> usize {
        let numbers = match self {
            Self::Scale(_) | Self::Stretch(_) => 2 * self.inputs(),
            Self::Project(projection) => projection.weights.len(),
            Self::Clip(clip) => clip.limits.len(),
        };
        numbers * size_of::<f64>()
    }
}
