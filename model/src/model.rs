//! A model: a feature list, a scaler and an SVM that score together.

use windrow_common::Aggregate;

use crate::{CodePath, Feature, Features, MAX_DEGREE, MAX_SUPPORT_VECTORS, OneClassSvm};

/// Longest provenance text, in bytes.
const MAX_PROVENANCE_BYTES: usize = 1_024;

/// A scaler that centres and scales features as scikit-learn's `StandardScaler` does: (x − mean) / scale, in f64.
#[derive(Clone, Debug, PartialEq)]
pub struct Scaler {
    mean: Box<[f64]>,
    scale: Box<[f64]>,
}

/// A model that scores a sensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    features: Features,
    scaler: Option<Scaler>,
    svm: OneClassSvm,
    provenance: String,
}

/// A buffer that scoring reuses from call to call.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    rows: Vec<f64>,
}

/// An error in the arrays and numbers of a model.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum ModelError {
    /// The model has no features, or more than exist.
    #[error("the model was fitted on {0} features; Windrow supports 1 to {max}", max = Feature::ALL.len())]
    Dimension(usize),
    /// The model has no support vectors, or too many.
    #[error("a model has 1 to {MAX_SUPPORT_VECTORS} support vectors; this one has {0}")]
    SupportVectors(usize),
    /// The vectors' array has the wrong length.
    #[error("{vectors} support vectors of {dimension} features do not fit an array of {numbers} numbers")]
    Shape {
        /// Length of the array.
        numbers: usize,
        /// Number of dual coefficients.
        vectors: usize,
        /// Number of features per vector.
        dimension: usize,
    },
    /// The feature list does not fit the SVM.
    #[error(
        "the model was fitted on {dimension} features but {named} are named ({features}): name exactly {dimension}"
    )]
    FeatureCount {
        /// Number of features the SVM was fitted on.
        dimension: usize,
        /// Number of features in the list.
        named: usize,
        /// The list.
        features: String,
    },
    /// The scaler does not fit the SVM.
    #[error("the scaler has {mean} means and {scale} scales but the model has {dimension} features")]
    ScalerSize {
        /// Number of means.
        mean: usize,
        /// Number of scales.
        scale: usize,
        /// Number of features.
        dimension: usize,
    },
    /// A scale is zero and cannot be divided by.
    #[error("the scaler's scale at index {0} is zero")]
    ZeroScale(usize),
    /// A number is NaN or infinite.
    #[error("{0} is not a finite number")]
    NotFinite(&'static str),
    /// The kernel's gamma is negative, NaN or infinite.
    #[error("the kernel's gamma is {0}; it must be a finite number and not negative")]
    Gamma(f64),
    /// The polynomial kernel's degree is out of range.
    #[error("the polynomial kernel's degree is {0}; it must be a whole number from 0 to {MAX_DEGREE}")]
    Degree(i64),
    /// The provenance text is too long.
    #[error("the model's provenance text has {0} bytes; the limit is {MAX_PROVENANCE_BYTES}")]
    Provenance(usize),
}

/// An error in rows that cannot be scored.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum ScoreError {
    /// The numbers do not divide into whole rows.
    #[error("{numbers} numbers do not divide into rows of {dimension} features")]
    Rows {
        /// How many numbers were passed.
        numbers: usize,
        /// Length of a row.
        dimension: usize,
    },
    /// A feature is NaN or infinite.
    #[error("the feature `{feature}` of row {row} is {value}, which cannot be scored")]
    Feature {
        /// Position of the row, from 0.
        row: usize,
        /// The feature.
        feature: Feature,
        /// Its value.
        value: f64,
    },
    /// The decision is NaN or infinite.
    #[error(
        "the decision of row {row} is {decision}: the row is too far from the training data to be scored"
    )]
    Decision {
        /// Position of the row, from 0.
        row: usize,
        /// The decision.
        decision: f64,
    },
}

/// Returns whether a decision means an anomaly: normal is strictly above 0, as in libsvm and scikit-learn.
#[inline]
#[allow(clippy::neg_cmp_op_on_partial_ord)] // NaN counts as an anomaly, though no model returns it.
pub fn is_anomaly(decision: f64) -> bool {
    !(decision > 0.0)
}

impl Scaler {
    /// Creates a scaler with one mean and one scale for each feature.
    pub fn new(mean: Vec<f64>, scale: Vec<f64>) -> Result<Self, ModelError> {
        if mean.len() != scale.len() {
            return Err(ModelError::ScalerSize {
                mean: mean.len(),
                scale: scale.len(),
                dimension: mean.len(),
            });
        }
        for (what, numbers) in [("a mean of the scaler", &mean), ("a scale of the scaler", &scale)] {
            if !numbers.iter().all(|number| number.is_finite()) {
                return Err(ModelError::NotFinite(what));
            }
        }
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

impl Model {
    /// Creates a model from parts that fit together; `provenance` tells people where it comes from.
    pub fn new(
        features: Features,
        scaler: Option<Scaler>,
        svm: OneClassSvm,
        provenance: impl Into<String>,
    ) -> Result<Self, ModelError> {
        let dimension = svm.dimension();
        if features.len() != dimension {
            return Err(ModelError::FeatureCount {
                dimension,
                named: features.len(),
                features: features.to_string(),
            });
        }
        if let Some(scaler) = &scaler
            && scaler.mean.len() != dimension
        {
            return Err(ModelError::ScalerSize {
                mean: scaler.mean.len(),
                scale: scaler.scale.len(),
                dimension,
            });
        }
        let provenance = provenance.into();
        if provenance.len() > MAX_PROVENANCE_BYTES {
            return Err(ModelError::Provenance(provenance.len()));
        }
        Ok(Self {
            features,
            scaler,
            svm,
            provenance,
        })
    }

    /// Returns the features that the model reads.
    pub fn features(&self) -> &Features {
        &self.features
    }

    /// Returns the scaler that prepares features for the SVM, if the model has one.
    pub fn scaler(&self) -> Option<&Scaler> {
        self.scaler.as_ref()
    }

    /// Returns the SVM.
    pub fn svm(&self) -> &OneClassSvm {
        &self.svm
    }

    /// Returns a text that tells people where the model comes from.
    pub fn provenance(&self) -> &str {
        &self.provenance
    }

    /// Returns the memory that the model takes, for a cache bounded in bytes.
    pub fn memory_bytes(&self) -> usize {
        let scaler = self
            .scaler
            .as_ref()
            .map_or(0, |scaler| 2 * scaler.mean.len() * size_of::<f64>());
        size_of::<Self>() + self.features.len() + scaler + self.svm.heap_bytes() + self.provenance.capacity()
    }

    /// Replaces the contents of `decisions` with one decision for each aggregate.
    pub fn decide(
        &self,
        aggregates: &[Aggregate],
        scratch: &mut Scratch,
        decisions: &mut Vec<f64>,
    ) -> Result<(), ScoreError> {
        scratch.rows.clear();
        self.features.extract(aggregates, &mut scratch.rows);
        self.decide_scratch(CodePath::best(), scratch, decisions)
    }

    /// Replaces the contents of `decisions` with one decision for each row; `rows` holds rows of features back to back.
    pub fn decide_rows(
        &self,
        rows: &[f64],
        scratch: &mut Scratch,
        decisions: &mut Vec<f64>,
    ) -> Result<(), ScoreError> {
        self.decide_rows_on(CodePath::best(), rows, scratch, decisions)
    }

    /// Runs [`Model::decide_rows`] on a chosen code path; every path computes the same bits.
    pub fn decide_rows_on(
        &self,
        path: CodePath,
        rows: &[f64],
        scratch: &mut Scratch,
        decisions: &mut Vec<f64>,
    ) -> Result<(), ScoreError> {
        scratch.rows.clear();
        scratch.rows.extend_from_slice(rows);
        self.decide_scratch(path, scratch, decisions)
    }

    fn decide_scratch(
        &self,
        path: CodePath,
        scratch: &mut Scratch,
        decisions: &mut Vec<f64>,
    ) -> Result<(), ScoreError> {
        let (rows, dimension) = (&mut scratch.rows[..], self.svm.dimension());
        decisions.clear();
        if rows.len() % dimension != 0 {
            return Err(ScoreError::Rows {
                numbers: rows.len(),
                dimension,
            });
        }
        // An infinite feature could still lead to a finite decision: the RBF kernel of an infinite distance is 0.
        if let Some(at) = first_not_finite(rows) {
            return Err(ScoreError::Feature {
                row: at / dimension,
                feature: self.features.as_slice()[at % dimension],
                value: rows[at],
            });
        }
        if let Some(scaler) = &self.scaler {
            scaler.apply(rows);
        }
        decisions.resize(rows.len() / dimension, 0.0);
        self.svm.decide(path, rows, decisions);
        match first_not_finite(decisions) {
            None => Ok(()),
            Some(row) => Err(ScoreError::Decision {
                row,
                decision: decisions[row],
            }),
        }
    }
}

/// Returns the index of the first NaN or infinity.
///
/// The first pass has no branches, so the compiler checks eight numbers at a time; nearly always all are finite.
fn first_not_finite(numbers: &[f64]) -> Option<usize> {
    let all_finite = numbers.iter().fold(true, |all, number| all & number.is_finite());
    if all_finite {
        return None;
    }
    numbers.iter().position(|number| !number.is_finite())
}

#[cfg(test)]
mod tests;
