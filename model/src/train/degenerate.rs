//! Histories that a one-class SVM cannot learn from as they are.
//!
//! A plain fit puts rows that repeat exactly on its boundary, where the decision is 0 up to rounding, so that it flags
//! what it was trained on. This is so if a sensor never varied, if it knows only a few values, and if the history is
//! short. nu then asks for more outliers than the data have.
//!
//! - A sensor whose value never varied gets a model that flags what differs by more than a tolerance.
//! - Otherwise the boundary is moved out, so that the rows on it are normal.
//! - A kernel that separates nothing is refused.

use std::collections::HashSet;
use std::fmt;

use super::{TrainError, TrainOptions};
use crate::{CodePath, Feature, Features, Kernel, ModelError, OneClassSvm, Scaler, is_anomaly};

/// How far the value of a constant sensor may move, as a share of its largest value: far more than the rounding of a
/// 32-bit float (6e-8), far less than a change that somebody makes.
const TOLERANCE: f64 = 1e-6;

/// Smallest tolerance, for a sensor that was always 0.
const LEAST_TOLERANCE: f64 = 1e-9;

/// A feature counts as constant if it varies by less than this share of its largest value: means of the same value
/// differ in the last digits.
const ROUNDING: f64 = 1e-12;

/// Where a moved boundary lies: rows with this share of the similarity of the least similar normal row.
const MOVED_TO: f64 = 0.9;

/// How near to the boundary a row counts as being on it, as a share of rho.
const ON_BOUNDARY: f64 = 1e-6;

/// Why a model is not what the solver returned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Replaced {
    /// The value never varied, so the model flags what differs from it.
    NeverVaried {
        /// By how much a feature may differ.
        tolerance: f64,
    },
    /// Many rows lay on the boundary, since they are equal or few, so it was moved out.
    BoundaryMoved {
        /// How many of the rows the solver's fit flags.
        flagged: usize,
        /// Number of rows.
        rows: usize,
    },
}

/// What the training rows say about how each feature varies.
pub(super) struct History<'a> {
    features: &'a Features,
    first: &'a [f64],
    constant: Vec<bool>,
    tolerance: f64,
}

impl fmt::Display for Replaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeverVaried { tolerance } => write!(
                f,
                "its value never varied in the history: what differs by more than {tolerance:e} is an anomaly"
            ),
            Self::BoundaryMoved { flagged, rows } => write!(
                f,
                "{flagged} of its {rows} windows lay on the boundary, as windows that repeat each other do: it was moved out by a tenth"
            ),
        }
    }
}

impl<'a> History<'a> {
    /// Looks at all rows, of which there is at least one, and at what was measured: a profile may have left next to nothing
    /// of it.
    pub(super) fn of(rows: &'a [f64], measured: &[f64], features: &'a Features) -> Self {
        let dimension = features.len();
        let (lows, highs) = extremes(rows, dimension);
        let (least, most) = extremes(measured, dimension);
        let largest = |at: usize| least[at].abs().max(most[at].abs());
        let constant = (0..dimension).map(|at| highs[at] - lows[at] <= ROUNDING * largest(at));
        // Deviations and ranges of a constant are 0; their tolerance is that of the value.
        let of_value = (0..dimension).filter(|at| features.as_slice()[*at] != Feature::Count);
        let tolerance = LEAST_TOLERANCE.max(TOLERANCE * of_value.map(largest).fold(0.0, f64::max));
        Self {
            features,
            first: &rows[..dimension],
            constant: constant.collect(),
            tolerance,
        }
    }

    /// Returns by how much a constant feature may differ.
    pub(super) fn tolerance(&self) -> f64 {
        self.tolerance
    }

    pub(super) fn never_varied(&self) -> Replaced {
        Replaced::NeverVaried {
            tolerance: self.tolerance,
        }
    }

    /// Returns whether every feature of the value is constant; the number of readings may vary.
    pub(super) fn value_never_varied(&self) -> bool {
        let mut of_value = self.of_value().peekable();
        of_value.peek().is_some() && of_value.all(|at| self.constant[at])
    }

    fn of_value(&self) -> impl Iterator<Item = usize> {
        (0..self.features.len()).filter(|at| self.features.as_slice()[*at] != Feature::Count)
    }

    /// Returns a model of a history in which nothing varied: one vector, and a decision that falls to 0 at the
    /// distance of the tolerance.
    pub(super) fn constant_model(&self) -> Result<Option<OneClassSvm>, ModelError> {
        if !self.constant.iter().all(|constant| *constant) {
            return Ok(None);
        }
        let kernel = Kernel::Rbf {
            gamma: 1.0 / (self.tolerance * self.tolerance),
        };
        let at_tolerance = (-1.0_f64).exp();
        let vector = self.first.to_vec();
        OneClassSvm::new(self.features.len(), vector, vec![1.0], -at_tolerance, kernel).map(Some)
    }

    /// Returns the scaler to use: if only the number of readings varied, the value is measured in tolerances.
    ///
    /// scikit-learn's scale of a constant is 1, and a change of less than that would hide behind the counts.
    pub(super) fn scaler(&self, scaler: Scaler) -> Result<Scaler, ModelError> {
        if !self.value_never_varied() {
            return Ok(scaler);
        }
        let mut scale = scaler.scale().to_vec();
        for at in self.of_value() {
            scale[at] = self.tolerance;
        }
        Scaler::new(scaler.mean().to_vec(), scale)
    }
}

/// Returns the smallest and the largest value of each feature.
fn extremes(rows: &[f64], dimension: usize) -> (Vec<f64>, Vec<f64>) {
    let mut lows = rows[..dimension].to_vec();
    let mut highs = lows.clone();
    for row in rows.chunks_exact(dimension) {
        for ((value, low), high) in row.iter().zip(&mut lows).zip(&mut highs) {
            *low = low.min(*value);
            *high = high.max(*value);
        }
    }
    (lows, highs)
}

/// Returns the SVM, with its boundary moved out if too many of its own (scaled) `rows` lie on it.
pub(super) fn settle(
    svm: OneClassSvm,
    rows: &[f64],
    options: &TrainOptions,
) -> Result<(OneClassSvm, Option<Replaced>), TrainError> {
    let dimension = svm.dimension();
    let mut decisions = vec![0.0; rows.len() / dimension];
    svm.decide(CodePath::best(), rows, &mut decisions);
    let flagged = decisions.iter().filter(|decision| is_anomaly(**decision)).count();
    if flagged <= supported(&svm, rows, &decisions, options) {
        return Ok((svm, None));
    }
    let rho = -svm.intercept();
    let on_boundary = on_boundary(rho, svm.kernel(), options);
    let least = decisions
        .iter()
        .copied()
        .filter(|decision| *decision >= -on_boundary);
    let least_similar = least.fold(f64::INFINITY, f64::min) + rho;
    let kernel = svm.kernel();
    let movable = matches!(kernel, Kernel::Rbf { .. }) && least_similar > 0.0 && least_similar.is_finite();
    if !movable {
        return Err(TrainError::Degenerate {
            kernel: kernel.name(),
            flagged,
            rows: decisions.len(),
        });
    }
    let moved = OneClassSvm::new(
        dimension,
        svm.vectors().to_vec(),
        svm.coefficients().to_vec(),
        -MOVED_TO * least_similar,
        kernel,
    )?;
    let replaced = Replaced::BoundaryMoved {
        flagged,
        rows: decisions.len(),
    };
    Ok((moved, Some(replaced)))
}

/// Returns how many rows a sound fit may flag: the share nu, and some of those on its boundary, which differ.
fn supported(svm: &OneClassSvm, rows: &[f64], decisions: &[f64], options: &TrainOptions) -> usize {
    let count = decisions.len();
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss
    )]
    let outliers = (options.nu * count as f64).floor() as usize;
    if !matches!(svm.kernel(), Kernel::Rbf { .. }) {
        // With kernel values in the thousands the solver stops short of the exact plane.
        return outliers + count / 10;
    }
    let near = on_boundary(-svm.intercept(), svm.kernel(), options);
    let rows = rows.chunks_exact(svm.dimension());
    let on_boundary = rows.zip(decisions).filter(|(_, decision)| decision.abs() <= near);
    let distinct: HashSet<Vec<u64>> = on_boundary
        .map(|(row, _)| row.iter().map(|value| value.to_bits()).collect())
        .collect();
    outliers + distinct.len().min(count / 20)
}

fn on_boundary(rho: f64, kernel: Kernel, options: &TrainOptions) -> f64 {
    match kernel {
        Kernel::Rbf { .. } => rho.abs() * ON_BOUNDARY.max(10.0 * options.tolerance),
        _ => (ON_BOUNDARY * rho.abs()).max(0.01 * options.tolerance),
    }
}
