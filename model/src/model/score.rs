//! Scoring: aggregates to rows of features, and rows to decisions and scores.

use std::ops::Range;

use windrow_common::{Aggregate, EventTime};

use crate::{CodePath, GroupRows, Model, ScoreError};

/// A buffer that scoring reuses from call to call.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    rows: Vec<f64>,
    spare: Vec<f64>,
}

/// A model's decision and score for each row.
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

/// Returns whether a decision means an anomaly: normal is strictly above 0, as in libsvm and scikit-learn.
#[inline]
#[allow(clippy::neg_cmp_op_on_partial_ord)] // NaN counts as an anomaly, though no model returns it.
pub fn is_anomaly(decision: f64) -> bool {
    !(decision > 0.0)
}

impl Scratch {
    /// Returns the rows that were last passed to the detector.
    pub(crate) fn rows(&self) -> &[f64] {
        &self.rows
    }
}

impl Model {
    /// Replaces the contents of `decisions` with one decision for each aggregate.
    pub fn decide(
        &self,
        aggregates: &[Aggregate],
        scratch: &mut Scratch,
        decisions: &mut Vec<f64>,
    ) -> Result<(), ScoreError> {
        self.extract(aggregates, &mut scratch.rows)?;
        self.decide_scratch(CodePath::best(), scratch, decisions)
    }

    /// Replaces the contents of `decisions` with one decision for each row; `rows` holds rows of features back to back, from
    /// which the profile is already subtracted.
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
        self.extract(aggregates, &mut scratch.rows)?;
        self.score_scratch(CodePath::best(), scratch, scores)
    }

    /// Runs [`Model::score`] on rows of features back to back, relative to the profile, and a chosen code path; every path computes the same
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

    /// Returns the rows of a group's windows that start in `interval`, to score with [`Model::score_rows_on`]; see
    /// [`crate::Group::rows`].
    pub fn group_rows(
        &self,
        series: &[&[Aggregate]],
        interval: Range<EventTime>,
    ) -> Result<GroupRows, ScoreError> {
        let group = self.group.as_ref().ok_or(ScoreError::NotOfGroup)?;
        Ok(group.rows(&self.features, series, interval))
    }

    /// Replaces the contents of `rows` with one row for each aggregate: its features, relative to the profile.
    fn extract(&self, aggregates: &[Aggregate], rows: &mut Vec<f64>) -> Result<(), ScoreError> {
        if self.group.is_some() {
            return Err(ScoreError::OfGroup);
        }
        rows.clear();
        self.features.extract(aggregates, rows);
        if let Some(profile) = &self.profile {
            let starts = aggregates.iter().map(|aggregate| aggregate.window_start);
            profile.subtract(starts, &self.features, rows);
        }
        Ok(())
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
        let (rows, dimension) = (&mut scratch.rows, self.columns());
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
                feature: self.column(at % dimension).1,
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
