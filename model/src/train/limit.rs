//! Limits from the training rows themselves, without an assumption about their distribution.

use super::degenerate::{self, MOVED_TO};
use super::{Replaced, TrainOptions, to_f64};

/// How limits follow from what a detector measures of the training rows.
pub(super) struct Limits {
    /// Share of the rows that may be beyond a limit.
    beyond: f64,
    /// What to tell if there are too few different rows to show where the limit is, so that it is moved out.
    pub(super) moved: Option<Replaced>,
}

impl Limits {
    /// Shares what nu allows among `number` limits, so that rows beyond any of them are at most the share nu.
    pub(super) fn of(rows: &[f64], dimension: usize, options: &TrainOptions, number: usize) -> Self {
        Self {
            beyond: options.nu / to_f64(number),
            moved: degenerate::few(rows, dimension, options),
        }
    }

    /// Returns the least limit that no more than the share has beyond it, moved out by a tenth if rows are few. There is at
    /// least one measure.
    pub(super) fn limit(&self, measures: &mut [f64]) -> f64 {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        // It is below the number of measures.
        let beyond = (self.beyond * to_f64(measures.len())).floor() as usize;
        let at = measures.len() - 1 - beyond;
        let (_, limit, _) = measures.select_nth_unstable_by(at, f64::total_cmp);
        match self.moved {
            Some(_) => *limit / MOVED_TO,
            None => *limit,
        }
    }
}
