//! What can be wrong with a model, and with rows that it is to score.

use windrow_common::Length;

use crate::model::{MAX_PROVENANCE_BYTES, MAX_STEPS};
use crate::{Feature, MAX_COLUMNS, MAX_DEGREE, MAX_NODES, MAX_SUPPORT_VECTORS, MAX_TRAINING_ROWS, Season};

/// An error in the arrays and numbers of a model.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum ModelError {
    /// The model has no features, or more than exist.
    #[error("the model was fitted on {0} features; Windrow supports 1 to {max}", max = Feature::ALL.len())]
    Dimension(usize),
    /// The rows have no columns, or too many.
    #[error("a detector or a step takes rows of 1 to {MAX_COLUMNS} numbers, not of {0}")]
    Columns(usize),
    /// The tags of a group, or its smoothing, are not valid.
    #[error("the group is not valid: {0}")]
    Group(&'static str),
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
    #[error("a matrix of {numbers} numbers does not project {inputs} features on 1 to {MAX_COLUMNS}")]
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
        "a detector that looks at its training rows has 1 to {MAX_TRAINING_ROWS}, and as many distances if it needs them; this one has {0}"
    )]
    TrainingRows(usize),
    /// The number of neighbours is out of range.
    #[error("a detector with {rows} training rows cannot look at {neighbours} neighbours")]
    Neighbours {
        /// Number of neighbours.
        neighbours: usize,
        /// Number of training rows.
        rows: usize,
    },
    /// No components are kept, or more than there are features.
    #[error("{kept} components of {dimension} features cannot be kept")]
    Kept {
        /// Number of components that are kept.
        kept: usize,
        /// Number of features.
        dimension: usize,
    },
    /// A detector's limit is not above 0.
    #[error("the detector's limit is {0}; it must be a finite number above 0")]
    Limit(f64),
    /// A scale is zero and cannot be divided by.
    #[error("the scale at index {0} is 0, or negative where it must be above 0")]
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
    /// The profile has the wrong number of levels.
    #[error("a profile by {season} has {levels} levels, not {given}")]
    Profile {
        /// The profile's season.
        season: Season,
        /// Number of levels that it needs.
        levels: usize,
        /// Number of levels that there are.
        given: usize,
    },
    /// The profile's time zone is unknown.
    #[error("the time zone `{0}` of the model's profile is unknown to this program: update Windrow")]
    Zone(String),
    /// The model has normal bands, but not one for each feature.
    #[error("the model has {bands} normal bands for {features} features")]
    Bands {
        /// Number of bands.
        bands: usize,
        /// Number of features.
        features: usize,
    },
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
    /// The model is of a group of tags.
    #[error("the model is of several tags together, and cannot score the windows of one sensor")]
    OfGroup,
    /// The windows are of another length.
    #[error("the model is of windows of {of_model}, and cannot score windows of {given}")]
    WindowLength {
        /// Length of the model's windows.
        of_model: Length,
        /// Length of the windows to score.
        given: Length,
    },
    /// The model is of one sensor.
    #[error("the model is of one sensor, and cannot score the windows of several tags together")]
    NotOfGroup,
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
