//! Features, scaler and SVM as one thing that scores.

use windrow_common::Aggregate;

use crate::{CodePath, Feature, Features, MAX_DEGREE, MAX_SUPPORT_VECTORS, OneClassSvm};

/// Longest provenance text, in bytes.
const MAX_PROVENANCE_BYTES: usize = 1_024;

/// Centres and scales features as scikit-learn's `StandardScaler` does: (x − mean) / scale, in f64.
#[derive(Clone, Debug, PartialEq)]
pub struct Scaler {
    mean: Box<[f64]>,
    scale: Box<[f64]>,
}

/// What scores a sensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    features: Features,
    scaler: Option<Scaler>,
    svm: OneClassSvm,
    provenance: String,
}

/// Memory that scoring reuses from call to call.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    rows: Vec<f64>,
}

/// Why arrays and numbers make no model.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum ModelError {
    /// More features than there are, or none.
    #[error("the model was fitted on {0} features; models here have 1 to {max}", max = Feature::ALL.len())]
    Dimension(usize),
    /// None, or too many.
    #[error("a model has 1 to {MAX_SUPPORT_VECTORS} support vectors; this one has {0}")]
    SupportVectors(usize),
    /// The vectors' array has the wrong length.
    #[error("{vectors} support vectors of {dimension} features cannot be made of {numbers} numbers")]
    Shape {
        /// Length of the array.
        numbers: usize,
        /// Number of dual coefficients.
        vectors: usize,
        /// Features of each.
        dimension: usize,
    },
    /// The feature list does not fit the SVM.
    #[error(
        "the model was fitted on {dimension} features but {named} are named ({features}): name as many as it has"
    )]
    FeatureCount {
        /// How many the SVM wants.
        dimension: usize,
        /// How many are listed.
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
        /// How many features there are.
        dimension: usize,
    },
    /// A scale that cannot be divided by.
    #[error("the scaler's scale number {0} (counted from 0) is zero")]
    ZeroScale(usize),
    /// NaN or infinite.
    #[error("{0} is not a finite number")]
    NotFinite(&'static str),
    /// Not a gamma.
    #[error("the kernel's gamma is {0}; it has to be a finite number of at least 0")]
    Gamma(f64),
    /// Not a degree.
    #[error("the polynomial kernel's degree is {0}; whole numbers from 0 to {MAX_DEGREE} are possible")]
    Degree(i64),
    /// The note on where it comes from is too long.
    #[error("the note on where the model comes from has {0} bytes; at most {MAX_PROVENANCE_BYTES} are kept")]
    Provenance(usize),
}

/// Why rows cannot be scored.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum ScoreError {
    /// The numbers do not make whole rows.
    #[error("{numbers} numbers are no whole number of rows of {dimension} features")]
    Rows {
        /// How many numbers there are.
        numbers: usize,
        /// Length of a row.
        dimension: usize,
    },
    /// A feature is NaN or infinite.
    #[error("the feature `{feature}` of row {row} is {value}, which cannot be scored")]
    Feature {
        /// Position of the row, from 0.
        row: usize,
        /// Which feature.
        feature: Feature,
        /// What it is.
        value: f64,
    },
    /// The decision is NaN or infinite.
    #[error(
        "the decision of row {row} is {decision}: the row is too far from all the model has seen to be scored"
    )]
    Decision {
        /// Position of the row, from 0.
        row: usize,
        /// What came out.
        decision: f64,
    },
}

/// Whether a decision means an anomaly: normal is strictly above 0, as libsvm and scikit-learn have it.
#[inline]
#[allow(clippy::neg_cmp_op_on_partial_ord)] // So that NaN, which no model here gives, would be an anomaly.
pub fn is_anomaly(decision: f64) -> bool {
    !(decision > 0.0)
}

impl Scaler {
    /// A scaler with one mean and one scale for each feature.
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

    /// What is subtracted from each feature.
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// What each feature is then divided by.
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
    /// A model of parts that fit together; `provenance` says where it comes from, for people.
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

    /// What it looks at.
    pub fn features(&self) -> &Features {
        &self.features
    }

    /// How features are scaled before the SVM sees them, if at all.
    pub fn scaler(&self) -> Option<&Scaler> {
        self.scaler.as_ref()
    }

    /// The SVM.
    pub fn svm(&self) -> &OneClassSvm {
        &self.svm
    }

    /// Where it comes from, for people.
    pub fn provenance(&self) -> &str {
        &self.provenance
    }

    /// Memory the model takes, for a cache bounded by bytes.
    pub fn memory_bytes(&self) -> usize {
        let scaler = self
            .scaler
            .as_ref()
            .map_or(0, |scaler| 2 * scaler.mean.len() * size_of::<f64>());
        size_of::<Self>() + self.features.len() + scaler + self.svm.heap_bytes() + self.provenance.capacity()
    }

    /// Replaces `decisions` by one decision for each aggregate.
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

    /// Replaces `decisions` by one decision for each row of features, the rows lying one after the other in `rows`.
    pub fn decide_rows(
        &self,
        rows: &[f64],
        scratch: &mut Scratch,
        decisions: &mut Vec<f64>,
    ) -> Result<(), ScoreError> {
        self.decide_rows_on(CodePath::best(), rows, scratch, decisions)
    }

    /// [`Model::decide_rows`] on a chosen code path; the decisions are the same bits on all of them.
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
        // An infinite feature could still give a finite decision: the RBF kernel of an infinite distance is 0.
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

/// Where the first NaN or infinity is; without branches, so that the usual answer, nowhere, is found eight at a time.
fn first_not_finite(numbers: &[f64]) -> Option<usize> {
    let all_finite = numbers.iter().fold(true, |all, number| all & number.is_finite());
    if all_finite {
        return None;
    }
    numbers.iter().position(|number| !number.is_finite())
}

#[cfg(test)]
mod tests;
