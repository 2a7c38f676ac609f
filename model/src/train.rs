//! Training of models.

mod components;
mod degenerate;
mod eigen;
mod group;
mod kernel_cache;
mod limit;
mod nearest;
mod options;
mod robust_z;
mod smo;
mod whiten;
mod windows;
mod working_set;

use linfa::DatasetBase;
use linfa::dataset::Pr;
use linfa::traits::Fit;
use linfa_svm::Svm;
use ndarray::{Array1, Array2};

pub use degenerate::Replaced;
pub use group::{LEAST_GROUP_ROWS, train_group};
pub use options::{Gamma, ProfileChoice, TrainDetector, TrainError, TrainKernel, TrainOptions};
pub use windows::{TrainingWindows, train_windows};

use crate::svm::Similarities;
use crate::{CodePath, Detector, Features, Kernel, Model, ModelError, OneClassSvm, Scaler};

/// Dual coefficients below this count as 0, as in linfa.
const NO_COEFFICIENT: f64 = 100.0 * f64::EPSILON;

/// Trains a detector on `rows`, which holds rows of `features` back to back: a one-class SVM, or the one that
/// [`TrainOptions::detector`] names.
///
/// The same input yields the same model. RBF kernels have a solver of their own (`train/working_set.rs`), which returns
/// what libsvm returns. Other kernels are fitted by `linfa-svm`, and this function evens out its differences from scikit-learn: its
/// polynomial kernel has no gamma, it keeps a coefficient for every row, and its decision is sum − rho. A fit that flags
/// much of its own rows is replaced; see [`Replaced`].
pub fn train(rows: &[f64], features: Features, options: &TrainOptions) -> Result<Model, TrainError> {
    train_and_tell(rows, features, options).map(|(model, _)| model)
}

/// Trains as [`train`] does, and tells whether and why the model is not what the solver returned.
pub fn train_and_tell(
    rows: &[f64],
    features: Features,
    options: &TrainOptions,
) -> Result<(Model, Option<Replaced>), TrainError> {
    options.check()?;
    train_beside(rows, rows, features, options)
}

/// Trains on rows from which a profile is subtracted; `measured` holds what was measured, which tells how large the sensor's
/// values are.
fn train_beside(
    rows: &[f64],
    measured: &[f64],
    features: Features,
    options: &TrainOptions,
) -> Result<(Model, Option<Replaced>), TrainError> {
    let given = check_rows(rows, &features)?;
    let history = degenerate::History::of(rows, measured, &features);
    // Robust z has a tolerance for each feature that never varied.
    if options.detector != TrainDetector::RobustZ
        && let Some(svm) = history.constant_model()?
    {
        let replaced = history.never_varied();
        let provenance = format!("constant in {given} rows, tolerance {:e}", history.tolerance());
        return Ok((Model::new(features, None, svm, provenance)?, Some(replaced)));
    }
    let dimension = features.len();
    // The scaler learns from every row, the detector from a sample if there are too many.
    let scaler = (options.standardise && options.detector != TrainDetector::RobustZ)
        .then(|| history.scaler(standard_scaler(rows, dimension)?))
        .transpose()?;
    let used = given.min(options.max_rows);
    let mut rows: Vec<f64> = (0..used)
        .flat_map(|row| &rows[row * given / used * dimension..][..dimension])
        .copied()
        .collect();
    if let Some(scaler) = &scaler {
        scaler.apply(&mut rows);
    }
    let (detector, how, moved): (Detector, String, _) = match options.detector {
        TrainDetector::Svm => {
            let (svm, how, moved) = fit_svm(&rows, dimension, options)?;
            (svm.into(), format!("{how} {used} of {given} rows"), moved)
        }
        TrainDetector::PrincipalComponents => {
            let (components, moved) = components::fit(&rows, dimension, options)?;
            let (kept, all) = (components.variances().len(), components.dimension());
            let how = format!("{kept} of {all} principal components, trained on {used} of {given} rows");
            (components.into(), how, moved)
        }
        TrainDetector::RobustZ => {
            let (robust, moved) = robust_z::fit(&rows, &history, options)?;
            (
                robust.into(),
                format!("robust z, trained on {used} of {given} rows"),
                moved,
            )
        }
        TrainDetector::NearestNeighbours => {
            let (nearest, moved) = nearest::fit(&rows, dimension, options)?;
            let different = nearest.rows().len() / dimension;
            let how = format!("nearest of {different} different rows, trained on {used} of {given} rows");
            (nearest.into(), how, moved)
        }
    };
    let mut provenance = format!("{how}, nu {}", options.nu);
    if options.detector == TrainDetector::Svm {
        provenance += &format!(", gamma {}", options.gamma);
    }
    if moved.is_some() {
        provenance += ", boundary moved";
    }
    let replaced = if history.value_never_varied() {
        Some(history.never_varied())
    } else if history.value_only_grew() {
        Some(Replaced::OnlyGrew)
    } else {
        moved
    };
    Ok((Model::new(features, scaler, detector, provenance)?, replaced))
}

/// Fits an SVM to the scaled rows. Returns how it was fitted, too, and whether its boundary was moved.
fn fit_svm(
    rows: &[f64],
    dimension: usize,
    options: &TrainOptions,
) -> Result<(OneClassSvm, &'static str, Option<Replaced>), TrainError> {
    let gamma = match options.gamma {
        Gamma::Scale => scale_gamma(rows, dimension),
        Gamma::Auto => 1.0 / to_f64(dimension),
        Gamma::PerFeature(gamma) => gamma / to_f64(dimension),
        Gamma::Value(gamma) => gamma,
    };
    let (kernel, how) = match options.kernel {
        TrainKernel::Linear => (Kernel::Linear, "linfa-svm 0.8.1,"),
        TrainKernel::Rbf => (Kernel::Rbf { gamma }, "trained on"),
        TrainKernel::Polynomial { coef0, degree } => {
            (Kernel::Polynomial { gamma, coef0, degree }, "linfa-svm 0.8.1,")
        }
    };
    let svm = solve(rows, dimension, kernel, options)?;
    let (svm, moved) = degenerate::settle(svm, rows, options)?;
    Ok((svm, how, moved))
}

/// Checks that the rows can be trained on, and returns their number.
fn check_rows(rows: &[f64], features: &Features) -> Result<usize, TrainError> {
    let dimension = features.len();
    if !rows.len().is_multiple_of(dimension) {
        return Err(TrainError::Rows {
            numbers: rows.len(),
            dimension,
        });
    }
    // Squares and their sums must stay finite too; no measured quantity comes near this limit.
    let unusable = |value: &f64| !value.is_finite() || value.abs() > 1e100;
    if let Some(at) = rows.iter().position(unusable) {
        return Err(TrainError::NotFinite {
            row: at / dimension,
            value: rows[at],
        });
    }
    match rows.len() / dimension {
        given if given < 2 => Err(TrainError::TooFew(given)),
        given => Ok(given),
    }
}

/// Solves for the SVM of the scaled rows.
fn solve(
    rows: &[f64],
    dimension: usize,
    kernel: Kernel,
    options: &TrainOptions,
) -> Result<OneClassSvm, TrainError> {
    let (all, rho) = match kernel {
        Kernel::Rbf { gamma } => {
            let similarities = Similarities::new(dimension, rows, gamma);
            let solved = working_set::solve(&similarities, options.nu, options.tolerance, CodePath::best())?;
            (solved.coefficients, solved.rho)
        }
        _ => fit_dense(rows, dimension, kernel, options)?,
    };
    let (mut vectors, mut coefficients) = (Vec::new(), Vec::new());
    for (row, coefficient) in rows.chunks_exact(dimension).zip(all) {
        if coefficient.abs() > NO_COEFFICIENT {
            vectors.extend_from_slice(row);
            coefficients.push(coefficient);
        }
    }
    Ok(OneClassSvm::new(dimension, vectors, coefficients, -rho, kernel)?)
}

/// Fits another kernel than RBF with linfa, which holds the whole kernel matrix. Returns a coefficient for each row, and
/// rho.
fn fit_dense(
    rows: &[f64],
    dimension: usize,
    kernel: Kernel,
    options: &TrainOptions,
) -> Result<(Vec<f64>, f64), TrainError> {
    let params = Svm::<f64, Pr>::params()
        .eps(1e-3 * options.tolerance)
        .shrinking(false)
        .nu_weight(options.nu);
    let (params, row_scale) = match kernel {
        // (sqrt(gamma)·x)·(sqrt(gamma)·y) is gamma·x·y.
        Kernel::Polynomial { gamma, coef0, degree } => {
            (params.polynomial_kernel(coef0, degree.into()), gamma.sqrt())
        }
        _ => (params.linear_kernel(), 1.0),
    };
    let count = rows.len() / dimension;
    let records = Array2::from_shape_fn((count, dimension), |(row, feature)| {
        rows[row * dimension + feature] * row_scale
    });
    let fitted: Svm<f64, bool> = params.fit(&DatasetBase::new(records, Array1::from_elem(count, ())))?;
    Ok((fitted.alpha, fitted.rho))
}

/// Returns each feature's mean and population standard deviation, as scikit-learn's `StandardScaler` computes them.
///
/// A feature that does not vary beyond rounding gets the scale 1.
fn standard_scaler(rows: &[f64], dimension: usize) -> Result<Scaler, ModelError> {
    let count = to_f64(rows.len() / dimension);
    let (mut means, mut scales) = (Vec::new(), Vec::new());
    for feature in 0..dimension {
        let column = || rows.iter().skip(feature).step_by(dimension);
        let mean = column().sum::<f64>() / count;
        let (mut squares, mut rest) = (0.0, 0.0);
        for value in column() {
            squares += (value - mean) * (value - mean);
            rest += value - mean;
        }
        // The second term removes the rounding error of the mean (Chan, Golub and LeVeque, 1983).
        let variance = (squares - rest * rest / count) / count;
        let rounding = count * f64::EPSILON * variance + (count * mean * f64::EPSILON).powi(2);
        means.push(mean);
        scales.push(if variance <= rounding {
            1.0
        } else {
            variance.sqrt()
        });
    }
    Scaler::new(means, scales)
}

/// Returns 1 / (features · variance of all numbers), or 1 if nothing varies, as scikit-learn does.
fn scale_gamma(rows: &[f64], dimension: usize) -> f64 {
    let count = to_f64(rows.len());
    let mean = rows.iter().sum::<f64>() / count;
    let variance = rows.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
    let gamma = 1.0 / (to_f64(dimension) * variance);
    if gamma.is_finite() { gamma } else { 1.0 }
}

/// Converts a count without loss: counts here are far below 2^53.
#[allow(clippy::cast_precision_loss)]
fn to_f64(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests;
