//! Trains a model of several tags of a device.
//!
//! The covariance holds what the tags have in common: whitened rows reveal a tag that departs from the others, even if
//! its own value is normal. The threshold is the largest score of rows that were left out of the training, so a score
//! that normal rows reach raises no incident.

use super::whiten::whitening;
use super::windows::bands;
use super::{Gamma, TrainError, TrainKernel, TrainOptions, degenerate, solve, standard_scaler, to_f64};
use crate::{
    CodePath, Detector, Features, Group, GroupRows, Kernel, Model, OneClassSvm, Projection, Scaler, Step,
};

/// Fewest rows that a group is trained on.
pub const LEAST_GROUP_ROWS: usize = 100;

/// The history is cut into so many blocks; each is left out once to find the threshold.
const BLOCKS: usize = 4;

/// Trains a model of a group on its rows, which are in order of time.
///
/// The columns are standardised and whitened, and a one-class SVM with an RBF kernel is fitted to them. Ignores the
/// kernel option, and all others that concern single sensors only.
pub fn train_group(
    rows: &GroupRows,
    group: Group,
    features: Features,
    options: &TrainOptions,
) -> Result<Model, TrainError> {
    options.check()?;
    let columns = group.tags().len() * features.len();
    let values = &rows.values;
    if !values.len().is_multiple_of(columns) {
        return Err(TrainError::Rows {
            numbers: values.len(),
            dimension: columns,
        });
    }
    let given = values.len() / columns;
    if given < LEAST_GROUP_ROWS {
        return Err(TrainError::FewOfGroup(given));
    }
    let unusable = |value: &f64| !value.is_finite() || value.abs() > 1e100;
    if let Some(at) = values.iter().position(unusable) {
        return Err(TrainError::NotFinite {
            row: at / columns,
            value: values[at],
        });
    }
    let threshold = left_out(values, columns, group.smoothing(), options)?;
    let fitted = Fitted::to(values, columns, options)?;
    let used = given.min(options.max_rows);
    let provenance = format!(
        "trained on {used} of {given} rows, nu {}, gamma {}",
        options.nu, options.gamma
    );
    let model = Model::of_group(
        group,
        features,
        vec![Step::Scale(fitted.scaler), Step::Project(fitted.whitening)],
        Detector::OneClassSvm(fitted.svm),
        provenance,
    )?;
    Ok(model
        .with_bands(bands(values, columns))?
        .with_threshold(Some(threshold))?)
}

/// Returns the largest score of rows that their model was not trained on; at least that of the boundary.
///
/// A row is the mean of its last windows, so those around a block share windows with it, and are left out as well.
fn left_out(
    values: &[f64],
    columns: usize,
    smoothing: usize,
    options: &TrainOptions,
) -> Result<f64, TrainError> {
    let rows = values.len() / columns;
    // Of a short history at least half is trained on.
    let shared = (smoothing - 1).min(rows / (4 * BLOCKS)) * columns;
    let mut largest: f64 = 0.0;
    for block in 0..BLOCKS {
        let at = |block: usize| rows * block / BLOCKS * columns;
        let (before, rest) = values.split_at(at(block));
        let (left_out, after) = rest.split_at(at(block + 1) - at(block));
        let before = &before[..before.len().saturating_sub(shared)];
        let after = after.get(shared..).unwrap_or_default();
        let others = [before, after].concat();
        let fitted = Fitted::to(&others, columns, options)?;
        largest = fitted.scores(left_out).into_iter().fold(largest, f64::max);
    }
    Ok(largest)
}

/// The parts of a model that are fitted to rows.
struct Fitted {
    scaler: Scaler,
    whitening: Projection,
    svm: OneClassSvm,
}

impl Fitted {
    fn to(values: &[f64], columns: usize, options: &TrainOptions) -> Result<Self, TrainError> {
        let scaler = scaler(values, columns)?;
        let mut scaled = values.to_vec();
        scaler.apply(&mut scaled);
        let whitening = Projection::new(columns, whitening(&scaled, columns))?;
        // The SVM learns from a sample if there are too many rows.
        let given = values.len() / columns;
        let used = given.min(options.max_rows);
        let mut sample: Vec<f64> = (0..used)
            .flat_map(|row| &scaled[row * given / used * columns..][..columns])
            .copied()
            .collect();
        Step::Project(whitening.clone()).apply(&mut sample, &mut Vec::new());
        let gamma = match options.gamma {
            Gamma::Value(gamma) => gamma,
            Gamma::PerFeature(gamma) => gamma / to_f64(columns),
            // The columns are scaled.
            Gamma::Scale | Gamma::Auto => 1.0 / to_f64(columns),
        };
        let options = TrainOptions {
            kernel: TrainKernel::Rbf,
            ..options.clone()
        };
        let svm = solve(&sample, columns, Kernel::Rbf { gamma }, &options)?;
        let (svm, _) = degenerate::settle(svm, &sample, &options)?;
        Ok(Self {
            scaler,
            whitening,
            svm,
        })
    }

    fn scores(&self, values: &[f64]) -> Vec<f64> {
        let mut rows = values.to_vec();
        self.scaler.apply(&mut rows);
        Step::Project(self.whitening.clone()).apply(&mut rows, &mut Vec::new());
        let count = rows.len() / self.svm.dimension();
        let (mut decisions, mut scores) = (vec![0.0; count], vec![0.0; count]);
        self.svm
            .score(CodePath::best(), &rows, &mut decisions, &mut scores);
        scores
    }
}

/// Returns the scaler of the columns; one that never varied is measured in tolerances.
fn scaler(values: &[f64], columns: usize) -> Result<Scaler, TrainError> {
    let plain = standard_scaler(values, columns)?;
    let mut scale = plain.scale().to_vec();
    for (column, scale) in scale.iter_mut().enumerate() {
        let own = || values.iter().skip(column).step_by(columns).copied();
        let (low, high) = own().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(value), high.max(value))
        });
        let tolerance = degenerate::tolerance(low.abs().max(high.abs()));
        if high - low <= tolerance {
            *scale = tolerance;
        }
    }
    Ok(Scaler::new(plain.mean().to_vec(), scale)?)
}

#[cfg(test)]
mod tests;
