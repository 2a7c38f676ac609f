//! The parts of a model, gathered in order from one file or two.

use super::columns::{self, Columns};
use super::{ImportError, Imported};
use crate::{Detector, Features, Model, Step};

/// Steps and a detector.
#[derive(Default)]
pub(super) struct Parts {
    pub(super) steps: Vec<Step>,
    pub(super) detector: Option<Detector>,
    /// Number of estimators so far.
    pub(super) estimators: usize,
    /// Number of estimators, and of what is around them, that were looked at.
    pub(super) visited: usize,
    /// The columns of the table that the first estimator was fitted on.
    pub(super) columns: Option<Vec<String>>,
    /// What wrote the detector, for people.
    pub(super) provenance: String,
    pub(super) notes: Vec<String>,
}

impl Parts {
    /// Returns the number of columns that the next part takes, if the parts so far decide it.
    pub(super) fn width(&self) -> Option<usize> {
        self.steps.last().map(Step::outputs)
    }

    /// Returns the model, or an error if there is no detector; `found` says what there is.
    pub(super) fn model(mut self, features: Option<&Features>, found: &str) -> Result<Imported, ImportError> {
        let Some(detector) = self.detector else {
            return Err(ImportError::NotAModel(format!("{found} without a detector")));
        };
        let dimension = self.steps.first().map_or(detector.dimension(), Step::inputs);
        let Columns { features, note } = columns::features(self.columns.as_deref(), dimension, features)?;
        self.notes.extend(note);
        Ok(Imported {
            model: Model::with_steps(features, self.steps, detector, self.provenance)?,
            notes: self.notes,
        })
    }
}
