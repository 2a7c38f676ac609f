//! The one-class support vector machine, and the loops that score with it and train it.

mod dispatch;
mod lanes;
mod log_score;
mod score;
mod similarities;

use crate::detector::{agreeing, first_order};
use crate::{MAX_COLUMNS, ModelError};
pub use dispatch::CodePath;
pub(crate) use dispatch::VectorLoop;
pub(crate) use lanes::{LANES, Lanes, Number, Reference, exp_of_nonpositive, ln_ratio};
use log_score::{LogScore, LogScores};
pub(crate) use similarities::Similarities;

/// Most support vectors a model may have: with so many, a row takes a millisecond to score and the model takes 64 MiB.
pub const MAX_SUPPORT_VECTORS: usize = 1 << 20;

/// Highest degree of a polynomial kernel. scikit-learn's default is 3; past a few dozen, f64 overflows or underflows.
pub const MAX_DEGREE: u32 = 64;

/// Up to this many vectors are summed one by one, with eight rows side by side: padding them to eight lanes would cost
/// more than it gains.
const FEW: usize = 4;

/// A kernel that measures how similar two rows are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kernel {
    /// x·y
    Linear,
    /// exp(−gamma·|x−y|²)
    Rbf {
        /// At least 0.
        gamma: f64,
    },
    /// (gamma·x·y + coef0)^degree
    Polynomial {
        /// At least 0.
        gamma: f64,
        /// The constant inside the power.
        coef0: f64,
        /// At most [`MAX_DEGREE`].
        degree: u32,
    },
    /// tanh(gamma·x·y + coef0)
    Sigmoid {
        /// At least 0.
        gamma: f64,
        /// The constant inside the tanh.
        coef0: f64,
    },
}

/// A one-class SVM: decision(x) = Σ coefficientᵢ · K(vectorᵢ, x) + intercept, which is above 0 for a normal row.
///
/// Schölkopf et al., "Estimating the support of a high-dimensional distribution" (2001), with the signs of libsvm and
/// scikit-learn.
#[derive(Clone, Debug, PartialEq)]
pub struct OneClassSvm {
    dimension: usize,
    vectors: Box<[f64]>,
    coefficients: Box<[f64]>,
    intercept: f64,
    kernel: Kernel,
    /// The vectors again, in blocks of eight as the scoring loop reads them: the first feature of eight vectors, their
    /// second feature, and so on. The last block is padded with copies of the last vector.
    blocks: Box<[Lanes]>,
    /// The coefficients of each block; 0 for padding.
    weights: Box<[Lanes]>,
    /// How to compute log scores; `None` if the sums do not have logarithms.
    log_score: Option<LogScore>,
}

impl Kernel {
    /// Returns its name, as in scikit-learn.
    pub fn name(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::Rbf { .. } => "rbf",
            Self::Polynomial { .. } => "poly",
            Self::Sigmoid { .. } => "sigmoid",
        }
    }

    /// Returns the derivative of K(v, x) by v·x; that of the RBF kernel, which is no function of v·x, is 0.
    pub(crate) fn slope(self, dot: f64) -> f64 {
        match self {
            Self::Linear => 1.0,
            Self::Rbf { .. } => 0.0,
            Self::Polynomial { degree: 0, .. } => 0.0,
            Self::Polynomial { gamma, coef0, degree } => {
                let power = i32::try_from(degree - 1).unwrap_or(i32::MAX);
                gamma * f64::from(degree) * (gamma * dot + coef0).powi(power)
            }
            Self::Sigmoid { gamma, coef0 } => gamma * (1.0 - (gamma * dot + coef0).tanh().powi(2)),
        }
    }

    fn check(self) -> Result<(), ModelError> {
        let (gamma, coef0) = match self {
            Self::Linear => (0.0, 0.0),
            Self::Rbf { gamma } => (gamma, 0.0),
            Self::Polynomial { gamma, coef0, .. } | Self::Sigmoid { gamma, coef0 } => (gamma, coef0),
        };
        if !gamma.is_finite() || gamma < 0.0 {
            return Err(ModelError::Gamma(gamma));
        }
        if !coef0.is_finite() {
            return Err(ModelError::NotFinite("coef0"));
        }
        match self {
            Self::Polynomial { degree, .. } if degree > MAX_DEGREE => Err(ModelError::Degree(degree.into())),
            _ => Ok(()),
        }
    }
}

impl OneClassSvm {
    /// Creates an SVM from its arrays: `vectors` row by row, `dimension` numbers each, and one coefficient per vector.
    pub fn new(
        dimension: usize,
        vectors: Vec<f64>,
        coefficients: Vec<f64>,
        intercept: f64,
        kernel: Kernel,
    ) -> Result<Self, ModelError> {
        let count = coefficients.len();
        if dimension == 0 || dimension > MAX_COLUMNS {
            return Err(ModelError::Columns(dimension));
        }
        if count == 0 || count > MAX_SUPPORT_VECTORS {
            return Err(ModelError::SupportVectors(count));
        }
        if dimension.checked_mul(count) != Some(vectors.len()) {
            return Err(ModelError::Shape {
                numbers: vectors.len(),
                vectors: count,
                dimension,
            });
        }
        for (what, numbers) in [
            ("a support vector", &vectors[..]),
            ("a dual coefficient", &coefficients[..]),
            ("the intercept", &[intercept]),
        ] {
            if !numbers.iter().all(|number| number.is_finite()) {
                return Err(ModelError::NotFinite(what));
            }
        }
        kernel.check()?;
        let mut blocks = Vec::new();
        let mut weights = Vec::new();
        // With few vectors the loop reads the plain arrays.
        let blocked = if count > FEW { count.div_ceil(LANES) } else { 0 };
        for block in 0..blocked {
            let vector = |lane: usize| (block * LANES + lane).min(count - 1);
            for feature in 0..dimension {
                blocks.push(Lanes(std::array::from_fn(|lane| {
                    vectors[vector(lane) * dimension + feature]
                })));
            }
            weights.push(Lanes(std::array::from_fn(|lane| {
                coefficients.get(block * LANES + lane).copied().unwrap_or(0.0)
            })));
        }
        Ok(Self {
            log_score: LogScore::new(&coefficients, intercept, kernel),
            dimension,
            vectors: vectors.into(),
            coefficients: coefficients.into(),
            intercept,
            kernel,
            blocks: blocks.into(),
            weights: weights.into(),
        })
    }

    /// Returns the length of a support vector, which is also the length of a row to score.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// Returns the support vectors, row by row.
    pub fn vectors(&self) -> &[f64] {
        &self.vectors
    }

    /// Returns one dual coefficient for each support vector.
    pub fn coefficients(&self) -> &[f64] {
        &self.coefficients
    }

    /// Returns the number that is added to the weighted sum.
    pub fn intercept(&self) -> f64 {
        self.intercept
    }

    /// Returns the kernel.
    pub fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// Returns the memory that the arrays take, in bytes.
    pub(crate) fn heap_bytes(&self) -> usize {
        let plain = self.vectors.len() + self.coefficients.len();
        let blocked = (self.blocks.len() + self.weights.len()) * LANES;
        (plain + blocked) * size_of::<f64>()
    }

    /// Writes one decision for each of the scaled `rows`; the lengths must agree.
    pub(crate) fn decide(&self, path: CodePath, rows: &[f64], decisions: &mut [f64]) {
        debug_assert_eq!(rows.len(), decisions.len() * self.dimension);
        score::sums(path, self, rows, decisions);
        self.add_intercept(decisions);
    }

    /// Writes one decision and one score for each of the scaled `rows`; the lengths must agree.
    pub(crate) fn score(&self, path: CodePath, rows: &[f64], decisions: &mut [f64], scores: &mut [f64]) {
        debug_assert_eq!(rows.len(), decisions.len() * self.dimension);
        score::sums(path, self, rows, decisions);
        if let Some(log_score) = &self.log_score {
            path.run(LogScores {
                log_score,
                svm: self,
                rows,
                sums: decisions,
                scores,
            });
            self.add_intercept(decisions);
            return;
        }
        self.add_intercept(decisions);
        for (decision, score) in decisions.iter().zip(scores) {
            *score = agreeing(*decision, first_order(*decision, self.intercept));
        }
    }

    fn add_intercept(&self, sums: &mut [f64]) {
        for sum in sums {
            *sum += self.intercept;
        }
    }
}
