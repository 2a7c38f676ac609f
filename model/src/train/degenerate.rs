//! Histories that a one-class SVM cannot learn from as they are, and where the boundary lies.
//!
//! In the exact solution no row lies beyond the boundary but those that nu asks for. Many others lie on it: each vector that
//! is no outlier, and with a narrow kernel in one dimension nearly every row. There, the decision is 0 up to the
//! solver's error, so an unadjusted fit would flag up to half of its own rows.
//!
//! - The boundary is moved beyond every row that lies on it, by the solver's largest error. This does not count as a
//!   change of the model.
//! - A history of few different rows (a sensor that knows only a few values, or has hardly been recorded) does not tell how
//!   far the boundary should be from them: nu asks for less than one of them to be an outlier. It is moved out by a tenth.
//! - A sensor whose value never varied gets a model that flags what differs by more than a tolerance.
//! - A kernel that separates nothing is refused.

use std::collections::HashSet;
use std::fmt;

use super::{TrainError, TrainOptions, to_f64};
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
pub(super) const MOVED_TO: f64 = 0.9;

/// How far sums of the same kernel values may differ by rounding, as a share of rho.
const ROUNDING_OF_SUMS: f64 = 1e-12;

/// A history of fewer different rows than this may be too short to tell where the boundary is.
const FEW: usize = 100;

/// Rows are the same if their features differ by no more than this share of their ranges.
const SAME: f64 = 1e-6;

/// A history of fewer rows does not show whether a value only grows.
const LEAST_TO_GROW: usize = 20;

/// Why a model is not what the solver returned, or does not suit its sensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Replaced {
    /// The value never varied, so the model flags what differs from it.
    NeverVaried {
        /// By how much a feature may differ.
        tolerance: f64,
    },
    /// There were so few different rows that nu asks for less than one outlier among them, so the boundary was moved out.
    BoundaryMoved {
        /// How many of the rows differ from each other.
        different: usize,
        /// Number of rows.
        rows: usize,
    },
    /// The value never fell and rose most of the time, so later values lie outside the boundary.
    OnlyGrew,
}

/// What the training rows say about how each feature varies.
pub(super) struct History<'a> {
    features: &'a Features,
    first: &'a [f64],
    constant: Vec<bool>,
    grew: bool,
    tolerance: f64,
}

impl fmt::Display for Replaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeverVaried { tolerance } => write!(
                f,
                "its value never varied in the history: what differs by more than {tolerance:e} is an anomaly"
            ),
            Self::BoundaryMoved { different, rows } => write!(
                f,
                "only {different} of its {rows} windows differ from each other, too few to tell what is unusual: the boundary was moved out by a tenth"
            ),
            Self::OnlyGrew => f.write_str(
                "its value only grew, as a counter's does: every later window lies outside and becomes an anomaly; score by how much it grows instead",
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
        let tolerance = tolerance(of_value.map(largest).fold(0.0, f64::max));
        Self {
            features,
            first: &rows[..dimension],
            constant: constant.collect(),
            grew: grew(measured, features),
            tolerance,
        }
    }

    pub(super) fn features(&self) -> &Features {
        self.features
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

    /// Returns whether each feature is constant.
    pub(super) fn constant(&self) -> &[bool] {
        &self.constant
    }

    /// Returns whether every feature of the value is constant; the number of readings may vary.
    pub(super) fn value_never_varied(&self) -> bool {
        let mut of_value = self.of_value().peekable();
        of_value.peek().is_some() && of_value.all(|at| self.constant[at])
    }

    /// Returns whether the value never fell and rose most of the time.
    pub(super) fn value_only_grew(&self) -> bool {
        self.grew
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

/// Returns the tolerance of a value that never varied, from its largest absolute value.
pub(super) fn tolerance(largest: f64) -> f64 {
    LEAST_TOLERANCE.max(TOLERANCE * largest)
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

/// Returns whether each feature that is a level of the value never falls from row to row, and rises in most steps.
fn grew(rows: &[f64], features: &Features) -> bool {
    let dimension = features.len();
    let steps = rows.len() / dimension - 1;
    let grows = |at: usize| {
        let column = || rows.iter().skip(at).step_by(dimension);
        let pairs = || column().zip(column().skip(1));
        pairs().all(|(before, after)| before <= after)
            && pairs().filter(|(before, after)| before < after).count() * 2 > steps
    };
    let mut levels = (0..dimension)
        .filter(|at| features.as_slice()[*at].is_level())
        .peekable();
    steps + 1 >= LEAST_TO_GROW && levels.peek().is_some() && levels.all(grows)
}

/// Returns the SVM, with its boundary beyond the (scaled) `rows` that lie on it.
pub(super) fn settle(
    svm: OneClassSvm,
    rows: &[f64],
    options: &TrainOptions,
) -> Result<(OneClassSvm, Option<Replaced>), TrainError> {
    let mut decisions = vec![0.0; rows.len() / svm.dimension()];
    svm.decide(CodePath::best(), rows, &mut decisions);
    let flagged = decisions.iter().filter(|decision| is_anomaly(**decision)).count();
    let refusal = TrainError::Degenerate {
        kernel: svm.kernel().name(),
        flagged,
        rows: decisions.len(),
    };
    if !matches!(svm.kernel(), Kernel::Rbf { .. }) {
        // With kernel values in the thousands the solver stops short of the exact plane, so some rows of its own are flagged.
        let most = asked_for(options, decisions.len()) + decisions.len() / 10;
        return if flagged <= most {
            Ok((svm, None))
        } else {
            Err(refusal)
        };
    }
    let rho = -svm.intercept();
    // Rows with a coefficient below 1 are at most so far beyond the solver's boundary.
    let off = ROUNDING_OF_SUMS.max(options.tolerance);
    let on_it_or_inside = decisions.iter().filter(|decision| **decision >= -2.0 * off * rho);
    let least_similar = on_it_or_inside.fold(f64::INFINITY, |least, own| least.min(*own)) + rho;
    if !(least_similar > 0.0 && least_similar.is_finite()) {
        return Err(refusal);
    }
    let few = few(rows, svm.dimension(), options);
    let share = if few.is_some() {
        MOVED_TO
    } else {
        1.0 - off.min(1.0 - MOVED_TO)
    };
    let settled = OneClassSvm::new(
        svm.dimension(),
        svm.vectors().to_vec(),
        svm.coefficients().to_vec(),
        -share * least_similar,
        svm.kernel(),
    )?;
    Ok((settled, few))
}

/// Returns what to tell of a history with too few different rows to show where the boundary is; `None` if there are enough.
pub(super) fn few(rows: &[f64], dimension: usize, options: &TrainOptions) -> Option<Replaced> {
    let different = different(rows, dimension);
    let few = different < FEW && asked_for(options, different) == 0;
    few.then_some(Replaced::BoundaryMoved {
        different,
        rows: rows.len() / dimension,
    })
}

/// Returns the maximum number of outliers that nu asks for among `rows` rows.
fn asked_for(options: &TrainOptions, rows: usize) -> usize {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // It is at most the number of rows.
    {
        (options.nu * to_f64(rows)).floor() as usize
    }
}

/// Returns how many of the rows differ from each other; looks no further than [`FEW`].
fn different(rows: &[f64], dimension: usize) -> usize {
    let step = |feature: usize| {
        let column = || rows.iter().skip(feature).step_by(dimension);
        let high = column().fold(f64::NEG_INFINITY, |high, value| high.max(*value));
        let low = column().fold(f64::INFINITY, |low, value| low.min(*value));
        (low, (SAME * (high - low)).max(f64::MIN_POSITIVE))
    };
    let steps: Vec<(f64, f64)> = (0..dimension).map(step).collect();
    let mut seen = HashSet::new();
    for row in rows.chunks_exact(dimension) {
        let rounded = row
            .iter()
            .zip(&steps)
            .map(|(value, (low, step))| ((value - low) / step).round().to_bits());
        seen.insert(rounded.collect::<Vec<u64>>());
        if seen.len() == FEW {
            break;
        }
    }
    seen.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::train_and_tell;
    use crate::{Gamma, Model, Scratch};
    use proptest::prelude::*;

    fn flagged(model: &Model, rows: &[f64]) -> usize {
        let mut decisions = Vec::new();
        model
            .decide_rows(rows, &mut Scratch::default(), &mut decisions)
            .unwrap();
        decisions
            .into_iter()
            .filter(|decision| is_anomaly(*decision))
            .count()
    }

    /// Returns numbers of a distribution: even, roughly normal, or with a long tail.
    fn numbers(count: usize, kind: u8, seed: u64) -> Vec<f64> {
        let mut state = seed;
        let mut even = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1_u64 << 53) as f64
        };
        let mut next = || match kind {
            0 => even(),
            1 => (0..12).map(|_| even()).sum::<f64>() - 6.0,
            _ => (0..6).map(|_| even()).sum::<f64>().exp(),
        };
        (0..count).map(|_| next()).collect()
    }

    fn options() -> impl Strategy<Value = TrainOptions> {
        let gamma = prop_oneof![Just(Gamma::Scale), Just(Gamma::PerFeature(3.0))];
        (0.001..0.1_f64, gamma).prop_map(|(nu, gamma)| TrainOptions {
            nu,
            gamma,
            max_rows: 20_000,
            ..TrainOptions::default()
        })
    }

    fn check(
        rows: &[f64],
        dimension: usize,
        options: &TrainOptions,
        different: usize,
    ) -> Result<(), TestCaseError> {
        let features = Features::new(&Feature::ALL[..dimension]).unwrap();
        let (model, replaced) = train_and_tell(rows, features, options).unwrap();
        let count = rows.len() / dimension;
        let flagged = flagged(&model, rows);
        prop_assert!(
            flagged <= asked_for(options, count),
            "{flagged} of {count} rows are flagged"
        );
        let few = different < FEW && asked_for(options, different) == 0;
        let right = few.then_some(Replaced::BoundaryMoved {
            different,
            rows: count,
        });
        prop_assert_eq!(replaced, right);
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]
        #[test]
        fn rows_that_differ_are_told_of_only_if_they_are_few(
            options in options(),
            count in prop_oneof![10_usize..100, 100_usize..1_500],
            dimension in 1_usize..=10,
            kind in 0_u8..3,
            seed: u64,
        ) {
            check(&numbers(count * dimension, kind, seed), dimension, &options, count)?;
        }

        #[test]
        fn rows_that_repeat_are_not_flagged_more_than_nu_asks_for(
            options in options(),
            count in 10_usize..1_500,
            levels in 2_usize..=8,
            dimension in 1_usize..=10,
            seed: u64,
        ) {
            let level = numbers(levels * dimension, 1, seed);
            let rows = (0..count).flat_map(|at| &level[(at % levels) * dimension..][..dimension]);
            let rows: Vec<f64> = rows.copied().collect();
            check(&rows, dimension, &options, levels)?;
        }
    }

    #[test]
    fn so_it_is_with_many_rows() {
        for (dimension, nu) in [(1, 0.005), (4, 0.1), (10, 0.001)] {
            let options = TrainOptions {
                nu,
                gamma: Gamma::PerFeature(3.0),
                max_rows: 20_000,
                ..TrainOptions::default()
            };
            check(&numbers(20_000 * dimension, 1, 3), dimension, &options, 20_000).unwrap();
        }
    }
}
