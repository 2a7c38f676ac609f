//! Trains on windows: rows whose times are known, so that the model may have a seasonal profile.

use std::borrow::Cow;

use windrow_common::EventTime;

use super::{ProfileChoice, Replaced, TrainError, TrainOptions, check_rows, train_beside};
use crate::{
    Band, Clip, CodePath, Feature, Features, Model, ModelError, Profile, ScoreError, Scores, Scratch, Step,
    profile,
};

/// Limit of a standardised feature with a profile: no window is further from it than this many standard deviations.
const FURTHEST: f64 = 1_000.0;

/// One in this many rows lies below a normal band, and one above it.
const BEYOND_BAND: usize = 100;

/// Windows to train on.
#[derive(Clone, Copy, Debug)]
pub struct TrainingWindows<'a> {
    /// When each window starts.
    pub starts: &'a [EventTime],
    /// The windows' features, row by row.
    pub rows: &'a [f64],
}

/// Trains as [`super::train_and_tell`] does, on windows: the model has their normal bands, and a profile if one is worth it.
///
/// With a profile, a level feature counts as its distance to the profile's level, in standard deviations of that distance.
pub fn train_windows(
    windows: TrainingWindows<'_>,
    features: Features,
    options: &TrainOptions,
) -> Result<(Model, Option<Replaced>), TrainError> {
    let TrainingWindows { starts, rows } = windows;
    options.check()?;
    let given = check_rows(rows, &features)?;
    if starts.len() != given {
        return Err(TrainError::Starts {
            starts: starts.len(),
            rows: given,
        });
    }
    let profile = profile_of(windows, &features, options);
    let mut relative = Cow::Borrowed(rows);
    if let Some(profile) = &profile {
        profile.subtract(starts.iter().copied(), &features, relative.to_mut());
    }
    let bands = bands(&relative, features.len());
    let (mut model, replaced) = train_beside(&relative, rows, features, options)?;
    if profile.is_some() {
        model = clipped(model)?;
    }
    Ok((model.with_profile(profile).with_bands(bands)?, replaced))
}

impl Model {
    /// Replaces the contents of `scores` with one decision and one score for each window; the rows hold the model's features.
    pub fn score_windows(
        &self,
        windows: TrainingWindows<'_>,
        scratch: &mut Scratch,
        scores: &mut Scores,
    ) -> Result<(), ScoreError> {
        let mut rows = Cow::Borrowed(windows.rows);
        if let Some(profile) = self.profile() {
            profile.subtract(windows.starts.iter().copied(), self.features(), rows.to_mut());
        }
        self.score_rows_on(CodePath::best(), &rows, scratch, scores)
    }
}

/// Returns the profile of the first feature that best tells the level, if there is one and it is worth it.
fn profile_of(windows: TrainingWindows<'_>, features: &Features, options: &TrainOptions) -> Option<Profile> {
    let ProfileChoice::IfWorthIt(zone) = &options.profile else {
        return None;
    };
    let listed = features.as_slice();
    let mean = listed.iter().position(|feature| *feature == Feature::Mean);
    let level = mean.or_else(|| listed.iter().position(|feature| feature.is_level()))?;
    let levels = windows.rows.iter().skip(level).step_by(features.len());
    profile::fit(windows.starts, levels.copied(), zone)
}

/// Returns the model with a limit for what its scaler returns; one without a scaler measures in units of the value.
fn clipped(model: Model) -> Result<Model, ModelError> {
    if model.scaler().is_none() {
        return Ok(model);
    }
    let clip = Clip::new(vec![FURTHEST; model.features().len()])?;
    model.with_step(Step::Clip(clip))
}

/// Returns the normal band of each feature: its quantiles in the rows, by the nearest rank.
pub(super) fn bands(rows: &[f64], dimension: usize) -> Vec<Band> {
    let mut column = Vec::with_capacity(rows.len() / dimension);
    let band = |feature| {
        column.clear();
        column.extend(rows.iter().skip(feature).step_by(dimension).copied());
        let (last, beyond) = (column.len() - 1, column.len() / BEYOND_BAND);
        let (_, low, _) = column.select_nth_unstable_by(beyond, f64::total_cmp);
        let low = *low;
        let (_, high, _) = column.select_nth_unstable_by(last - beyond, f64::total_cmp);
        Band { low, high: *high }
    };
    (0..dimension).map(band).collect()
}

#[cfg(test)]
mod tests;
