//! What controls training, and what can go wrong.

use std::fmt;
use std::str::FromStr;

use jiff::tz::TimeZone;

use super::{LEAST_GROUP_ROWS, to_f64};
use crate::{Features, MAX_DEGREE, ModelError};

/// Most rows to train an RBF kernel on. Memory is bounded for any number, but the time of a fit grows with their square:
/// 20,000 rows take a few tenths of a second.
const MOST_ROWS: usize = 20_000;

/// Most rows for other kernels: their solver holds a matrix of rows × rows, and 5,000 rows take 200 MB.
const MOST_ROWS_DENSE: usize = 5_000;

/// Options that control training.
///
/// The default is a scaler and an RBF kernel with a gamma of 3 / features, which suits one feature; see
/// [`Gamma::for_features`] for several. It treats about 0.5 % of the rows as outliers.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainOptions {
    /// Share of the training rows, between 0 and 1: about this share become anomalies, and of an SVM at least this share become
    /// support vectors.
    pub nu: f64,
    /// What to train.
    pub detector: TrainDetector,
    /// The SVM's kernel.
    pub kernel: TrainKernel,
    /// The kernel's gamma; the linear kernel has none.
    pub gamma: Gamma,
    /// Whether to centre and scale the features first. Robust z has a centre and a scale of its own instead.
    pub standardise: bool,
    /// The solver stops when every row agrees with the exact solution to within this share of rho, so scores may be off
    /// by as much. The boundary is moved outwards by the same share. For kernels other than RBF, the solver stops at a
    /// thousandth of this tolerance.
    pub tolerance: f64,
    /// Most rows to use, evenly spread over the input: at most 20,000, and 5,000 for other kernels than RBF, whose
    /// memory grows with their square.
    pub max_rows: usize,
    /// Whether a model gets a seasonal profile. [`crate::train()`] knows no times, so its models have none.
    pub profile: ProfileChoice,
}

/// Whether a model gets a seasonal profile.
#[derive(Clone, Debug, PartialEq)]
pub enum ProfileChoice {
    /// It has none.
    Never,
    /// It has the one that predicts its history best, if one is worth it, by the hours of this time zone.
    IfWorthIt(TimeZone),
}

/// A detector to train.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrainDetector {
    /// A one-class SVM.
    #[default]
    Svm,
    /// Principal components, with limits of T² and Q.
    PrincipalComponents,
    /// Robust z, with a limit for each feature. Suits few windows, and values that hardly ever change.
    RobustZ,
    /// The nearest neighbour.
    NearestNeighbours,
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
    /// This value / features, so that the similarity of neighbours does not depend on the number of scaled features.
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
    /// A group has too few windows that can be scored.
    #[error("there are {0} windows that enough of the tags have; at least {LEAST_GROUP_ROWS} are needed")]
    FewOfGroup(usize),
    /// The windows' starts and rows do not fit.
    #[error("there are {starts} starts of windows for {rows} rows")]
    Starts {
        /// Number of starts.
        starts: usize,
        /// Number of rows.
        rows: usize,
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
    /// A text is not a detector.
    #[error("`{0}` is not a detector that can be trained: use svm, pca, robust-z or neighbours")]
    Detector(String),
    /// A text is not a time zone.
    #[error("`{0}` is no time zone: write a name of the IANA database, such as Europe/Berlin or UTC")]
    Zone(String),
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
            nu: 0.005,
            detector: TrainDetector::Svm,
            kernel: TrainKernel::Rbf,
            gamma: Gamma::PerFeature(3.0),
            standardise: true,
            tolerance: 1e-4,
            max_rows: 5_000,
            profile: ProfileChoice::IfWorthIt(TimeZone::UTC),
        }
    }
}

impl TrainOptions {
    /// Returns the default options for a group of tags: the kernel is narrower than for the features of one sensor, because the
    /// columns are whitened.
    pub fn for_groups() -> Self {
        Self {
            gamma: Gamma::PerFeature(1.0),
            profile: ProfileChoice::Never,
            ..Self::default()
        }
    }
}

impl TrainDetector {
    /// All detectors that can be trained.
    pub const ALL: [Self; 4] = [
        Self::Svm,
        Self::PrincipalComponents,
        Self::RobustZ,
        Self::NearestNeighbours,
    ];

    /// Returns its name, as on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Svm => "svm",
            Self::PrincipalComponents => "pca",
            Self::RobustZ => "robust-z",
            Self::NearestNeighbours => "neighbours",
        }
    }
}

impl fmt::Display for TrainDetector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for TrainDetector {
    type Err = TrainError;

    fn from_str(text: &str) -> Result<Self, TrainError> {
        let found = Self::ALL.into_iter().find(|detector| detector.name() == text);
        found.ok_or_else(|| TrainError::Detector(text.to_owned()))
    }
}

impl ProfileChoice {
    /// Returns the choice of a profile by the hours of a time zone, such as `Europe/Berlin`.
    pub fn by_hours_of(zone: &str) -> Result<Self, TrainError> {
        match TimeZone::get(zone) {
            Ok(found) => Ok(Self::IfWorthIt(found)),
            Err(_) => Err(TrainError::Zone(zone.to_owned())),
        }
    }
}

impl Gamma {
    /// Returns the gamma to use if nobody chose one: 3 for one feature, and 0.3 / features for several.
    ///
    /// Windows of several features lie far from each other, so a narrow kernel would flag many normal new windows.
    pub fn for_features(features: &Features) -> Self {
        Self::PerFeature(if features.len() == 1 { 3.0 } else { 0.3 })
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
    /// Returns the largest [`TrainOptions::max_rows`] with this detector and kernel.
    pub fn most_rows(&self) -> usize {
        match (self.detector, self.kernel) {
            (TrainDetector::Svm, TrainKernel::Linear | TrainKernel::Polynomial { .. }) => MOST_ROWS_DENSE,
            _ => MOST_ROWS,
        }
    }

    /// Checks that the options are valid.
    ///
    /// [`crate::train()`] checks them too. A program calls this at its start, to refuse wrong options before it reads any data.
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
        let wanted = match self.most_rows() {
            MOST_ROWS => "it must be 2 to 20000",
            _ => "it must be 2 to 5000; the rbf kernel takes up to 20000",
        };
        if !(2..=self.most_rows()).contains(&self.max_rows) {
            return wrong("the row limit", to_f64(self.max_rows), wanted);
        }
        Ok(())
    }
}
