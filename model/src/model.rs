//! A model: a feature list, the steps that prepare the features, and a detector.

use windrow_common::Aggregate;

use crate::{
    CodePath, Detector, Feature, Features, MAX_DEGREE, MAX_NODES, MAX_SUPPORT_VECTORS, MAX_TRAINING_ROWS,
    OneClassSvm, Scaler, Step,
};

/// Most steps before the detector; a pipeline has a handful.
const MAX_STEPS: usize = 64;

/// Longest provenance text, in bytes.
const MAX_PROVENANCE_BYTES: usize = 1_024;

/// A model that scores a sensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    features: Features,
    steps: Box<[Step]>,
    detector: Detector,
    provenance: String,
}

/// A buffer that scoring reuses from call to call.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    rows: Vec<f64>,
    spare: Vec<f64>,
}

/// What a model says about rows, one number of each kind for every row.
#[derive(Clone, Debug, Default)]
pub struct Scores {
    /// The decisions: above 0 is normal. Their scale differs from model to model; see [`is_anomaly`].
    pub decisions: Vec<f64>,
    /// The scores: the logarithm of how far the row is beyond the boundary, which compares between sensors.
    ///
    /// At least 0 exactly if the decision means an anomaly, and always finite. For an RBF one-class SVM it is ln ρ −
    /// ln Σ α K, which goes on growing with the distance where the decision no longer changes.
    pub scores: Vec<f64>,
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
    /// A step does not fit the one before it.
    #[error("step {step} takes rows of {takes} numbers but is given {given}")]
    Steps {
        /// Position of the step, from 0; the detector comes after the last.
        step: usize,
        /// Length of the rows that it takes.
        takes: usize,
        /// Length of the rows that it is given.
        given: usize,
    },
    /// The model has too many steps.
    #[error("the model has {0} steps before its detector; the limit is {MAX_STEPS}")]
    TooManySteps(usize),
    /// The projection's matrix has the wrong size.
    #[error("a matrix of {numbers} numbers does not project {inputs} features on 1 to {max}", max = Feature::ALL.len())]
    Projection {
        /// Number of features that it takes.
        inputs: usize,
        /// Length of the matrix.
        numbers: usize,
    },
    /// The forest has no nodes, or too many.
    #[error("a forest has 1 to {MAX_NODES} nodes; this one has {0}")]
    Nodes(usize),
    /// A tree of the forest is not valid.
    #[error("the forest's tree {tree} {problem}")]
    Tree {
        /// Position of the tree, from 0.
        tree: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The detector has no training rows, or too many.
    #[error(
        "a local outlier factor has 1 to {MAX_TRAINING_ROWS} training rows, and as many distances; this one has {0}"
    )]
    TrainingRows(usize),
    /// The number of neighbours is out of range.
    #[error("a local outlier factor with {rows} training rows cannot look at {neighbours} neighbours")]
    Neighbours {
        /// Number of neighbours.
        neighbours: usize,
        /// Number of training rows.
        rows: usize,
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

impl Model {
    /// Creates a model of a detector, after a scaler if there is one; `provenance` tells people where it comes from.
    pub fn new(
        features: Features,
        scaler: Option<Scaler>,
        detector: impl Into<Detector>,
        provenance: impl Into<String>,
    ) -> Result<Self, ModelError> {
        let detector = detector.into();
        if let Some(scaler) = &scaler
            && scaler.mean().len() != detector.dimension()
        {
            return Err(ModelError::ScalerSize {
                mean: scaler.mean().len(),
                scale: scaler.scale().len(),
                dimension: detector.dimension(),
            });
        }
        let steps = scaler.into_iter().map(Step::Scale).collect();
        Self::with_steps(features, steps, detector, provenance)
    }

    /// Creates a model of steps, each of which takes the rows that the one before it returns, and a detector.
    pub fn with_steps(
        features: Features,
        steps: Vec<Step>,
        detector: Detector,
        provenance: impl Into<String>,
    ) -> Result<Self, ModelError> {
        if steps.len() > MAX_STEPS {
            return Err(ModelError::TooManySteps(steps.len()));
        }
        let dimension = steps.first().map_or(detector.dimension(), Step::inputs);
        if features.len() != dimension {
            return Err(ModelError::FeatureCount {
                dimension,
                named: features.len(),
                features: features.to_string(),
            });
        }
        let takes = steps
            .iter()
            .skip(1)
            .map(Step::inputs)
            .chain([detector.dimension()]);
        for (at, (takes, before)) in takes.zip(&steps).enumerate() {
            let (step, given) = (at + 1, before.outputs());
            if takes != given {
                return Err(ModelError::Steps { step, takes, given });
            }
        }
        let provenance = provenance.into();
        if provenance.len() > MAX_PROVENANCE_BYTES {
            return Err(ModelError::Provenance(provenance.len()));
        }
        Ok(Self {
            features,
            steps: steps.into(),
            detector,
            provenance,
        })
    }

    /// Returns the features that the model reads.
    pub fn features(&self) -> &Features {
        &self.features
    }

    /// Returns the steps that prepare the features for the detector.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Returns the scaler, if it is the only step.
    pub fn scaler(&self) -> Option<&Scaler> {
        match &*self.steps {
            [Step::Scale(scaler)] => Some(scaler),
            _ => None,
        }
    }

    /// Returns the detector.
    pub fn detector(&self) -> &Detector {
        &self.detector
    }

    /// Returns the detector if it is a one-class SVM.
    pub fn svm(&self) -> Option<&OneClassSvm> {
        match &self.detector {
            Detector::OneClassSvm(svm) => Some(svm),
            _ => None,
        }
    }

    /// Returns a text that tells people where the model comes from.
    pub fn provenance(&self) -> &str {
        &self.provenance
    }

    /// Returns the memory that the model takes, for a cache bounded in bytes.
    pub fn memory_bytes(&self) -> usize {
        let steps: usize = self
            .steps
            .iter()
            .map(|step| size_of::<Step>() + step.heap_bytes())
            .sum();
        size_of::<Self>()
            + self.features.len()
            + steps
            + self.detector.heap_bytes()
            + self.provenance.capacity()
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

    /// Replaces the contents of `scores` with one decision and one score for each aggregate.
    ///
    /// The decisions are those of [`Model::decide`], bit for bit.
    pub fn score(
        &self,
        aggregates: &[Aggregate],
        scratch: &mut Scratch,
        scores: &mut Scores,
    ) -> Result<(), ScoreError> {
        scratch.rows.clear();
        self.features.extract(aggregates, &mut scratch.rows);
        self.score_scratch(CodePath::best(), scratch, scores)
    }

    /// Runs [`Model::score`] on rows of features back to back and a chosen code path; every path computes the same
    /// bits.
    pub fn score_rows_on(
        &self,
        path: CodePath,
        rows: &[f64],
        scratch: &mut Scratch,
        scores: &mut Scores,
    ) -> Result<(), ScoreError> {
        scratch.rows.clear();
        scratch.rows.extend_from_slice(rows);
        self.score_scratch(path, scratch, scores)
    }

    fn score_scratch(
        &self,
        path: CodePath,
        scratch: &mut Scratch,
        scores: &mut Scores,
    ) -> Result<(), ScoreError> {
        let Scores { decisions, scores } = scores;
        scores.clear();
        decisions.clear();
        let rows = self.prepare(scratch)?;
        decisions.resize(rows.len() / self.detector.dimension(), 0.0);
        scores.resize(decisions.len(), 0.0);
        self.detector.score(path, rows, decisions, scores);
        check_decisions(decisions)
    }

    fn decide_scratch(
        &self,
        path: CodePath,
        scratch: &mut Scratch,
        decisions: &mut Vec<f64>,
    ) -> Result<(), ScoreError> {
        decisions.clear();
        let rows = self.prepare(scratch)?;
        decisions.resize(rows.len() / self.detector.dimension(), 0.0);
        self.detector.decide(path, rows, decisions);
        check_decisions(decisions)
    }

    /// Checks the rows of features, and returns them as the detector takes them.
    fn prepare<'a>(&self, scratch: &'a mut Scratch) -> Result<&'a [f64], ScoreError> {
        let (rows, dimension) = (&mut scratch.rows, self.features.len());
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
        for step in &self.steps {
            step.apply(rows, &mut scratch.spare);
        }
        Ok(rows)
    }
}

fn check_decisions(decisions: &[f64]) -> Result<(), ScoreError> {
    match first_not_finite(decisions) {
        None => Ok(()),
        Some(row) => Err(ScoreError::Decision {
            row,
            decision: decisions[row],
        }),
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
