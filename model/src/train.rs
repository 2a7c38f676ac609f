//! Training of models.

mod degenerate;
mod kernel_cache;
mod smo;

use std::fmt;
use std::str::FromStr;

use linfa::DatasetBase;
use linfa::dataset::Pr;
use linfa::traits::Fit;
use linfa_svm::Svm;
use ndarray::{Array1, Array2};

pub use degenerate::Replaced;

use crate::svm::Similarities;
use crate::{CodePath, Features, Kernel, MAX_DEGREE, Model, ModelError, OneClassSvm, Scaler};

/// Dual coefficients below this count as 0, as in linfa.
const NO_COEFFICIENT: f64 = 100.0 * f64::EPSILON;

/// Most rows to train an RBF kernel on. Memory is bounded for any number, but the time of a fit grows with their square:
/// 20,000 rows take a second or two.
const MOST_ROWS: usize = 20_000;

/// Most rows for other kernels: their solver holds a matrix of rows × rows, and 5,000 rows take 200 MB.
const MOST_ROWS_DENSE: usize = 5_000;

/// Options that control training.
///
/// The default is a scaler and an RBF kernel with scikit-learn's `gamma="scale"`. It treats about 1 % of the rows as
/// outliers.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainOptions {
    /// Share of the training rows, between 0 and 1: about this share become anomalies, and at least this share become
    /// support vectors.
    pub nu: f64,
    /// The kernel.
    pub kernel: TrainKernel,
    /// The kernel's gamma; the linear kernel has none.
    pub gamma: Gamma,
    /// Whether to centre and scale the features first.
    pub standardise: bool,
    /// The solver stops when every row agrees with the exact solution to within this share of rho, which is what a score
    /// may be off: at 1e-3, more rows lie beyond the boundary than nu asks for. The solver of other kernels than RBF stops at a thousandth of
    /// it.
    pub tolerance: f64,
    /// Most rows to use, evenly spread over the input: at most 20,000, and 5,000 for other kernels than RBF, whose
    /// memory grows with their square.
    pub max_rows: usize,
}

/// A kernel to train with.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum TrainKernel {
    /// x·y
    Linear,
    /// exp(−gamma·|x−y|²)
    #[default]
    Rbf,
    /// (gamma·x·y + coef0)^degree
    Polynomial {
        /// The constant inside the power.
        coef0: f64,
        /// The power, 1 to [`MAX_DEGREE`].
        degree: u32,
    },
}

/// A kernel's gamma, as a rule or a number.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Gamma {
    /// 1 / (features · variance of all scaled numbers), scikit-learn's `"scale"`.
    #[default]
    Scale,
    /// 1 / features, scikit-learn's `"auto"`.
    Auto,
    /// This value / features: at scaled features, neighbours are as similar whatever their number.
    PerFeature(f64),
    /// This value.
    Value(f64),
}

/// An error in training.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// There are too few rows.
    #[error("there are {0} rows to train on; at least 2 are needed")]
    TooFew(usize),
    /// The numbers do not divide into whole rows.
    #[error("{numbers} numbers do not divide into rows of {dimension} features")]
    Rows {
        /// How many numbers were passed.
        numbers: usize,
        /// Length of a row.
        dimension: usize,
    },
    /// A number is NaN or infinite, or overflows when squared.
    #[error("training row {row} holds {value}; values must be finite and between -1e100 and 1e100")]
    NotFinite {
        /// Position of the row, from 0.
        row: usize,
        /// The unusable value.
        value: f64,
    },
    /// An option is out of range.
    #[error("{option} is {value}: {wanted}")]
    Option {
        /// The option.
        option: &'static str,
        /// Its value.
        value: f64,
        /// The values it may have.
        wanted: &'static str,
    },
    /// A text is not a gamma.
    #[error(
        "`{0}` is not a gamma: use scale, auto, a number above 0, or such a number per feature, as in 3/d"
    )]
    Gamma(String),
    /// The fit flags much of what it was trained on.
    #[error(
        "the {kernel} kernel does not separate the rows from the origin: the fit flags {flagged} of the {rows} rows \
         that it was trained on; use the rbf kernel"
    )]
    Degenerate {
        /// The kernel.
        kernel: &'static str,
        /// How many of the rows are flagged.
        flagged: usize,
        /// Number of rows.
        rows: usize,
    },
    /// The solver failed.
    #[error("the solver failed: {0}")]
    Solver(#[from] linfa_svm::SvmError),
    /// The solver does not come to an end.
    #[error("the solver has not converged after {0} steps; use a smaller nu, or fewer rows")]
    Steps(usize),
    /// The result is not a usable model.
    #[error("training produced no usable model: {0}")]
    Model(#[from] ModelError),
}

impl Default for TrainOptions {
    fn default() -> Self {
        Self {
            nu: 0.01,
            kernel: TrainKernel::Rbf,
            gamma: Gamma::Scale,
            standardise: true,
            tolerance: 1e-4,
            max_rows: 2_000,
        }
    }
}

impl fmt::Display for Gamma {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scale => f.write_str("scale"),
            Self::Auto => f.write_str("auto"),
            Self::PerFeature(value) => write!(f, "{value}/d"),
            Self::Value(value) => value.fmt(f),
        }
    }
}

impl FromStr for Gamma {
    type Err = TrainError;

    fn from_str(text: &str) -> Result<Self, TrainError> {
        let (number, kind): (_, fn(f64) -> Self) = match (text, text.strip_suffix("/d")) {
            ("scale", _) => return Ok(Self::Scale),
            ("auto", _) => return Ok(Self::Auto),
            (_, Some(number)) => (number, Self::PerFeature),
            (_, None) => (text, Self::Value),
        };
        match number.parse() {
            Ok(value) if value > 0.0 && f64::is_finite(value) => Ok(kind(value)),
            _ => Err(TrainError::Gamma(text.to_owned())),
        }
    }
}

impl TrainOptions {
    /// Checks that the options are valid.
    ///
    /// [`train`] checks them too. A program calls this at its start, to refuse wrong options before it reads any data.
    pub fn check(&self) -> Result<(), TrainError> {
        let wrong = |option, value, wanted| {
            Err(TrainError::Option {
                option,
                value,
                wanted,
            })
        };
        // At exactly 1 every row is an outlier, and no boundary is left.
        if !(self.nu > 0.0 && self.nu < 1.0) {
            return wrong("nu", self.nu, "it must lie between 0 and 1");
        }
        if !(self.tolerance > 0.0 && self.tolerance.is_finite()) {
            return wrong("the tolerance", self.tolerance, "it must be above 0");
        }
        if let Gamma::Value(gamma) | Gamma::PerFeature(gamma) = self.gamma
            && !(gamma > 0.0 && gamma.is_finite())
        {
            return wrong("gamma", gamma, "it must be above 0");
        }
        if let TrainKernel::Polynomial { coef0, degree } = self.kernel {
            if !coef0.is_finite() {
                return wrong("coef0", coef0, "it must be a finite number");
            }
            if degree == 0 || degree > MAX_DEGREE {
                return wrong("the degree", degree.into(), "it must be 1 to 64");
            }
        }
        let (most, wanted) = match self.kernel {
            TrainKernel::Rbf => (MOST_ROWS, "it must be 2 to 20000"),
            _ => (
                MOST_ROWS_DENSE,
                "it must be 2 to 5000; the rbf kernel takes up to 20000",
            ),
        };
        if !(2..=most).contains(&self.max_rows) {
            return wrong("the row limit", to_f64(self.max_rows), wanted);
        }
        Ok(())
    }
}

/// Trains a one-class SVM on `rows`, which holds rows of `features` back to back.
///
/// The same input yields the same model. RBF kernels have a solver of their own (`train/smo.rs`), which returns what libsvm
/// returns. Other kernels are fitted by `linfa-svm`, and this function evens out its differences from scikit-learn: its
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
    let given = check_rows(rows, &features)?;
    let history = degenerate::History::of(rows, &features);
    if let Some(svm) = history.constant_model()? {
        let replaced = history.never_varied();
        let provenance = format!("constant in {given} rows, tolerance {:e}", history.tolerance());
        return Ok((Model::new(features, None, svm, provenance)?, Some(replaced)));
    }
    let dimension = features.len();
    // The scaler learns from every row, the SVM from a sample if there are too many.
    let scaler = options
        .standardise
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
    let gamma = match options.gamma {
        Gamma::Scale => scale_gamma(&rows, dimension),
        Gamma::Auto => 1.0 / to_f64(dimension),
        Gamma::PerFeature(gamma) => gamma / to_f64(dimension),
        Gamma::Value(gamma) => gamma,
    };
    let kernel = match options.kernel {
        TrainKernel::Linear => Kernel::Linear,
        TrainKernel::Rbf => Kernel::Rbf { gamma },
        TrainKernel::Polynomial { coef0, degree } => Kernel::Polynomial { gamma, coef0, degree },
    };
    let svm = fit(&rows, dimension, kernel, options)?;
    let (svm, moved) = degenerate::settle(svm, &rows, options)?;
    let solver = match kernel {
        Kernel::Rbf { .. } => "trained on",
        _ => "linfa-svm 0.8.1,",
    };
    let mut provenance = format!(
        "{solver} {used} of {given} rows, nu {}, gamma {}",
        options.nu, options.gamma
    );
    if moved.is_some() {
        provenance += ", boundary moved";
    }
    let replaced = match history.value_never_varied() {
        true => Some(history.never_varied()),
        false => moved,
    };
    Ok((Model::new(features, scaler, svm, provenance)?, replaced))
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

/// Fits an SVM to the scaled rows.
fn fit(
    rows: &[f64],
    dimension: usize,
    kernel: Kernel,
    options: &TrainOptions,
) -> Result<OneClassSvm, TrainError> {
    let (all, rho) = match kernel {
        Kernel::Rbf { gamma } => {
            let similarities = Similarities::new(dimension, rows, gamma);
            let solved = smo::solve(&similarities, options.nu, options.tolerance, CodePath::best())?;
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
