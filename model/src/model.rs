//! Features, scaler and SVM as one thing that scores.

use windrow_common::Aggregate;

use crate::{CodePath, Feature, Features, MAX_DEGREE, MAX_SUPPORT_VECTORS, OneClassSvm};

/// Longest provenance text, in bytes.
const MAX_PROVENANCE_BYTES: usize = 1_024;

/// Centres and scales features as scikit-learn's `StandardScaler` does: (x − mean) / scale, in f64.
#[derive(Clone, Debug, PartialEq)]
pub struct Scaler {
    mean: Box<[f64]>,
    scale: Box<[f64]>,
}

/// What scores a sensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    features: Features,
    scaler: Option<Scaler>,
    svm: OneClassSvm,
    provenance: String,
}

/// Memory that scoring reuses from call to call.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    rows: Vec<f64>,
}

/// Why arrays and numbers make no model.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum ModelError {
    /// More features than there are, or none.
    #[error("the model was fitted on {0} features; models here have 1 to {max}", max = Feature::ALL.len())]
    Dimension(usize),
    /// None, or too many.
    #[error("a model has 1 to {MAX_SUPPORT_VECTORS} support vectors; this one has {0}")]
    SupportVectors(usize),
    /// The vectors' array has the wrong length.
    #[error("{vectors} support vectors of {dimension} features cannot be made of {numbers} numbers")]
    Shape {
        /// Length of the array.
        numbers: usize,
        /// Number of dual coefficients.
        vectors: usize,
        /// Features of each.
        dimension: usize,
    },
    /// The feature list does not fit the SVM.
    #[error(
        "the model was fitted on {dimension} features but {named} are named ({features}): name as many as it has"
    )]
    FeatureCount {
        /// How many the SVM wants.
        dimension: usize,
        /// How many are listed.
        named: usize,
        /// The list.
        features: String,
    },
    /// The scaler does not fit the SVM.
    #[error("the scaler has {mean} means and {scale} scales but the model has {dimension} features")]
    ScalerSize {
        /// Number of means.
        mean: usize,
        /// Number of scales.
        scale: usize,
        /// How many features there are.
        dimension: usize,
    },
    /// A scale that cannot be divided by.
    #[error("the scaler's scale number {0} (counted from 0) is zero")]
    ZeroScale(usize),
    /// NaN or infinite.
    #[error("{0} is not a finite number")]
    NotFinite(&'static str),
    /// Not a gamma.
    #[error("the kernel's gamma is {0}; it has to be a finite number of at least 0")]
    Gamma(f64),
    /// Not a degree.
    #[error("the polynomial kernel's degree is {0}; whole numbers from 0 to {MAX_DEGREE} are possible")]
    Degree(i64),
    /// The note on where it comes from is too long.
    #[error("the note on where the model comes from has {0} bytes; at most {MAX_PROVENANCE_BYTES} are kept")]
    Provenance(usize),
}

/// Why rows cannot be scored.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum ScoreError {
    /// The numbers do not make whole rows.
    #[error("{numbers} numbers are no whole number of rows of {dimension} features")]
    Rows {
        /// How many numbers there are.
        numbers: usize,
        /// Length of a row.
        dimension: usize,
    },
    /// A feature is NaN or infinite.
    #[error("the feature `{feature}` of row {row} is {value}, which cannot be scored")]
    Feature {
        /// Position of the row, from 0.
        row: usize,
        /// Which feature.
        feature: Feature,
        /// What it is.
        value: f64,
    },
    /// The decision is NaN or infinite.
    #[error(
        "the decision of row {row} is {decision}: the row is too far from all the model has seen to be scored"
    )]
    Decision {
        /// Position of the row, from 0.
        row: usize,
        /// What came out.
        decision: f64,
    },
}

/// Whether a decision means an anomaly: normal is strictly above 0, as libsvm and scikit-learn have it.
#[inline]
#[allow(clippy::neg_cmp_op_on_partial_ord)] // So that NaN, which no model here gives, would be an anomaly.
pub fn is_anomaly(decision: f64) -> bool {
    !(decision > 0.0)
}

impl Scaler {
    /// A scaler with one mean and one scale for each feature.
    pub fn new(mean: Vec<f64>, scale: Vec<f64>) -> Result<Self, ModelError> {
        if mean.len() != scale.len() {
            return Err(ModelError::ScalerSize {
                mean: mean.len(),
                scale: scale.len(),
                dimension: mean.len(),
            });
        }
        for (what, numbers) in [("a mean of the scaler", &mean), ("a scale of the scaler", &scale)] {
            if !numbers.iter().all(|number| number.is_finite()) {
                return Err(ModelError::NotFinite(what));
            }
        }
        if let Some(at) = scale.iter().position(|scale| *scale == 0.0) {
            return Err(ModelError::ZeroScale(at));
        }
        Ok(Self {
            mean: mean.into(),
            scale: scale.into(),
        })
    }

    /// What is subtracted from each feature.
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// What each feature is then divided by.
    pub fn scale(&self) -> &[f64] {
        &self.scale
    }

    /// Scales rows in place.
    pub(crate) fn apply(&self, rows: &mut [f64]) {
        for row in rows.chunks_exact_mut(self.mean.len()) {
            for ((value, mean), scale) in row.iter_mut().zip(&self.mean).zip(&self.scale) {
                *value = (*value - mean) / scale;
            }
        }
    }
}

impl Model {
    /// A model of parts that fit together; `provenance` says where it comes from, for people.
    pub fn new(
        features: Features,
        scaler: Option<Scaler>,
        svm: OneClassSvm,
        provenance: impl Into<String>,
    ) -> Result<Self, ModelError> {
        let dimension = svm.dimension();
        if features.len() != dimension {
            return Err(ModelError::FeatureCount {
                dimension,
                named: features.len(),
                features: features.to_string(),
            });
        }
        if let Some(scaler) = &scaler
            && scaler.mean.len() != dimension
        {
            return Err(ModelError::ScalerSize {
                mean: scaler.mean.len(),
                scale: scaler.scale.len(),
                dimension,
            });
        }
        let provenance = provenance.into();
        if provenance.len() > MAX_PROVENANCE_BYTES {
            return Err(ModelError::Provenance(provenance.len()));
        }
        Ok(Self {
            features,
            scaler,
            svm,
            provenance,
        })
    }

    /// What it looks at.
    pub fn features(&self) -> &Features {
        &self.features
    }

    /// How features are scaled before the SVM sees them, if at all.
    pub fn scaler(&self) -> Option<&Scaler> {
        self.scaler.as_ref()
    }

    /// The SVM.
    pub fn svm(&self) -> &OneClassSvm {
        &self.svm
    }

    /// Where it comes from, for people.
    pub fn provenance(&self) -> &str {
        &self.provenance
    }

    /// Memory the model takes, for a cache bounded by bytes.
    pub fn memory_bytes(&self) -> usize {
        let scaler = self
            .scaler
            .as_ref()
            .map_or(0, |scaler| 2 * scaler.mean.len() * size_of::<f64>());
        size_of::<Self>() + self.features.len() + scaler + self.svm.heap_bytes() + self.provenance.capacity()
    }

    /// Replaces `decisions` by one decision for each aggregate.
    pub fn decide(
        &self,
        aggregates: &[Aggregate],
        scratch: &mut Scratch,
        decisions: &mut Vec<f64>,
    ) -> Result<(), ScoreError> {
        scratch.rows.clear();
        self.features.extract(aggregates, &mut scratch.rows);
        self.decide_scratch(CodePath::best(), scratch, decisions)
    }

    /// Replaces `decisions` by one decision for each row of features, the rows lying one after the other in `rows`.
    pub fn decide_rows(
        &self,
        rows: &[f64],
        scratch: &mut Scratch,
        decisions: &mut Vec<f64>,
    ) -> Result<(), ScoreError> {
        self.decide_rows_on(CodePath::best(), rows, scratch, decisions)
    }

    /// [`Model::decide_rows`] on a chosen code path; the decisions are the same bits on all of them.
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

    fn decide_scratch(
        &self,
        path: CodePath,
        scratch: &mut Scratch,
        decisions: &mut Vec<f64>,
    ) -> Result<(), ScoreError> {
        let (rows, dimension) = (&mut scratch.rows[..], self.svm.dimension());
        decisions.clear();
        if rows.len() % dimension != 0 {
            return Err(ScoreError::Rows {
                numbers: rows.len(),
                dimension,
            });
        }
        // An infinite feature could still give a finite decision: the RBF kernel of an infinite distance is 0.
        if let Some(at) = first_not_finite(rows) {
            return Err(ScoreError::Feature {
                row: at / dimension,
                feature: self.features.as_slice()[at % dimension],
                value: rows[at],
            });
        }
        if let Some(scaler) = &self.scaler {
            scaler.apply(rows);
        }
        decisions.resize(rows.len() / dimension, 0.0);
        self.svm.decide(path, rows, decisions);
        match first_not_finite(decisions) {
            None => Ok(()),
            Some(row) => Err(ScoreError::Decision {
                row,
                decision: decisions[row],
            }),
        }
    }
}

/// Where the first NaN or infinity is; without branches, so that the usual answer, nowhere, is found eight at a time.
fn first_not_finite(numbers: &[f64]) -> Option<usize> {
    let all_finite = numbers.iter().fold(true, |all, number| all & number.is_finite());
    if all_finite {
        return None;
    }
    numbers.iter().position(|number| !number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kernel;
    use proptest::prelude::*;

    const KERNELS: [Kernel; 4] = [
        Kernel::Linear,
        Kernel::Rbf { gamma: 0.3 },
        Kernel::Polynomial {
            gamma: 0.2,
            coef0: 1.0,
            degree: 3,
        },
        Kernel::Sigmoid {
            gamma: 0.1,
            coef0: -0.2,
        },
    ];

    /// `count` numbers between -2 and 2 that look random and are the same everywhere.
    fn numbers(seed: u64, count: usize) -> Vec<f64> {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1_u64 << 53) as f64 * 4.0 - 2.0
        };
        (0..count).map(|_| next()).collect()
    }

    fn features(count: usize) -> Features {
        Features::new(&Feature::ALL[..count]).unwrap()
    }

    fn model(kernel: Kernel, vectors: usize, dimension: usize, scaled: bool) -> Model {
        let svm = OneClassSvm::new(
            dimension,
            numbers(1, vectors * dimension),
            numbers(2, vectors),
            -0.1,
            kernel,
        );
        let scale = vec![0.5; dimension];
        let scaler = scaled.then(|| Scaler::new(numbers(3, dimension), scale).unwrap());
        Model::new(features(dimension), scaler, svm.unwrap(), "test").unwrap()
    }

    /// The definition, straight from libsvm, with the system's exp and tanh.
    fn by_definition(model: &Model, row: &[f64]) -> f64 {
        let mut row = row.to_vec();
        if let Some(scaler) = model.scaler() {
            scaler.apply(&mut row);
        }
        let svm = model.svm();
        let vectors = svm.vectors().chunks_exact(svm.dimension());
        let similar = vectors.map(|vector| {
            let pairs = || vector.iter().zip(&row);
            let dot: f64 = pairs().map(|(a, b)| a * b).sum();
            match svm.kernel() {
                Kernel::Linear => dot,
                Kernel::Rbf { gamma } => {
                    (-gamma * pairs().map(|(a, b)| (a - b) * (a - b)).sum::<f64>()).exp()
                }
                Kernel::Polynomial { gamma, coef0, degree } => (gamma * dot + coef0).powi(degree as i32),
                Kernel::Sigmoid { gamma, coef0 } => (gamma * dot + coef0).tanh(),
            }
        });
        similar.zip(svm.coefficients()).map(|(k, c)| k * c).sum::<f64>() + svm.intercept()
    }

    fn bits(numbers: &[f64]) -> Vec<u64> {
        numbers.iter().map(|number| number.to_bits()).collect()
    }

    #[test]
    fn decisions_are_those_of_the_definition() {
        for kernel in KERNELS {
            for (vectors, dimension) in [(1, 1), (2, 4), (4, 7), (5, 1), (8, 3), (100, 4), (501, 7)] {
                let model = model(kernel, vectors, dimension, vectors % 2 == 0);
                let rows = numbers(9, 37 * dimension);
                let mut decisions = Vec::new();
                model
                    .decide_rows(&rows, &mut Scratch::default(), &mut decisions)
                    .unwrap();
                assert_eq!(decisions.len(), 37);
                let weight: f64 = model.svm().coefficients().iter().map(|c| c.abs()).sum();
                for (row, decision) in rows.chunks_exact(dimension).zip(&decisions) {
                    let right = by_definition(&model, row);
                    let scale = weight.max(right.abs());
                    assert!(
                        (decision - right).abs() <= 1e-13 * scale,
                        "{kernel:?} {vectors} x {dimension}: {decision} is not {right}"
                    );
                }
            }
        }
    }

    #[test]
    fn every_cpu_gives_the_same_bits_however_rows_are_batched() {
        let (mut scratch, mut together, mut other) = (Scratch::default(), Vec::new(), Vec::new());
        for kernel in KERNELS {
            for (vectors, dimension) in [(1, 1), (2, 1), (3, 4), (5, 2), (16, 4), (103, 4), (500, 7)] {
                let model = model(kernel, vectors, dimension, true);
                let rows = numbers(vectors as u64, 29 * dimension);
                let baseline = CodePath::available()[0];
                model
                    .decide_rows_on(baseline, &rows, &mut scratch, &mut together)
                    .unwrap();
                for path in CodePath::available() {
                    model
                        .decide_rows_on(path, &rows, &mut scratch, &mut other)
                        .unwrap();
                    assert_eq!(bits(&other), bits(&together), "{path} {kernel:?} {vectors}");
                    for (row, decision) in rows.chunks_exact(dimension).zip(&together) {
                        model.decide_rows_on(path, row, &mut scratch, &mut other).unwrap();
                        assert_eq!(bits(&other), bits(&[*decision]), "{path} {kernel:?} {vectors}");
                    }
                }
            }
        }
    }

    #[test]
    fn aggregates_are_scored_by_the_models_features() {
        let model = model(KERNELS[1], 10, 2, false);
        let aggregate = Aggregate {
            window_start: windrow_common::EventTime::from_millis(0),
            count: 1,
            mean: 0.5,
            std: f64::NAN,
            min: 9.0,
            max: 9.0,
            first: 9.0,
            last: 9.0,
        };
        let (mut scratch, mut from_aggregate, mut from_row) = (Scratch::default(), vec![1.0], Vec::new());
        model
            .decide(&[aggregate], &mut scratch, &mut from_aggregate)
            .unwrap();
        model
            .decide_rows(&[1.0, 0.5], &mut scratch, &mut from_row)
            .unwrap();
        assert_eq!(from_aggregate, from_row);
    }

    #[test]
    fn zero_and_nan_are_anomalies() {
        assert!(is_anomaly(0.0) && is_anomaly(-0.0) && is_anomaly(-1.0) && is_anomaly(f64::NAN));
        assert!(!is_anomaly(f64::MIN_POSITIVE));
    }

    #[test]
    fn what_cannot_be_scored_names_the_row() {
        let (mut scratch, mut decisions) = (Scratch::default(), Vec::new());
        let mut decide = |model: &Model, rows: &[f64]| model.decide_rows(rows, &mut scratch, &mut decisions);
        let rbf = model(KERNELS[1], 10, 2, true);
        assert_eq!(
            decide(&rbf, &[1.0, 2.0, 3.0]),
            Err(ScoreError::Rows {
                numbers: 3,
                dimension: 2
            })
        );
        assert_eq!(
            decide(&rbf, &[1.0, 2.0, 3.0, f64::INFINITY]),
            Err(ScoreError::Feature {
                row: 1,
                feature: Feature::Mean,
                value: f64::INFINITY
            })
        );
        assert_eq!(decide(&rbf, &[1e300, 2.0]), Ok(()));
        let polynomial = model(KERNELS[2], 10, 2, true);
        assert!(matches!(
            decide(&polynomial, &[0.0, 0.0, 1e300, 2.0]),
            Err(ScoreError::Decision { row: 1, .. })
        ));
    }

    #[test]
    fn parts_that_do_not_fit_are_refused() {
        let rbf = KERNELS[1];
        let svm = |dimension, vectors: &[f64], coefficients: &[f64], intercept, kernel| {
            OneClassSvm::new(
                dimension,
                vectors.to_vec(),
                coefficients.to_vec(),
                intercept,
                kernel,
            )
        };
        assert_eq!(svm(1, &[], &[], 0.0, rbf), Err(ModelError::SupportVectors(0)));
        assert!(matches!(
            svm(2, &[1.0, 2.0, 3.0], &[1.0, 1.0], 0.0, rbf),
            Err(ModelError::Shape { .. })
        ));
        for (vector, coefficient, intercept) in [
            (f64::NAN, 1.0, 0.0),
            (1.0, f64::INFINITY, 0.0),
            (1.0, 1.0, f64::NAN),
        ] {
            assert!(matches!(
                svm(1, &[vector], &[coefficient], intercept, rbf),
                Err(ModelError::NotFinite(_))
            ));
        }
        for gamma in [-1.0, f64::NAN, f64::INFINITY] {
            let refused = svm(1, &[1.0], &[1.0], 0.0, Kernel::Rbf { gamma });
            assert!(matches!(refused, Err(ModelError::Gamma(_))));
        }
        let steep = Kernel::Polynomial {
            gamma: 1.0,
            coef0: 0.0,
            degree: 65,
        };
        assert_eq!(svm(1, &[1.0], &[1.0], 0.0, steep), Err(ModelError::Degree(65)));
        assert_eq!(
            Scaler::new(vec![0.0, 0.0], vec![1.0, 0.0]),
            Err(ModelError::ZeroScale(1))
        );
        let good = svm(2, &[1.0, 2.0], &[1.0], 0.0, rbf).unwrap();
        let one = Scaler::new(vec![0.0], vec![1.0]).unwrap();
        assert!(matches!(
            Model::new(features(2), Some(one), good.clone(), ""),
            Err(ModelError::ScalerSize { .. })
        ));
        assert!(matches!(
            Model::new(features(3), None, good, ""),
            Err(ModelError::FeatureCount { .. })
        ));
    }

    proptest! {
        #[test]
        fn any_finite_row_gets_a_decision_or_an_error(row in proptest::collection::vec(any::<f64>(), 3)) {
            let (mut scratch, mut decisions) = (Scratch::default(), Vec::new());
            for kernel in KERNELS {
                let model = model(kernel, 9, 3, true);
                if model.decide_rows(&row, &mut scratch, &mut decisions).is_ok() {
                    prop_assert!(row.iter().all(|value| value.is_finite()) && decisions[0].is_finite());
                }
            }
        }
    }
}
