use super::*;
use crate::{CodePath, Feature, Kernel, ScoreError};
use proptest::prelude::*;
use windrow_common::Aggregate;

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

/// Returns `count` pseudo-random numbers between -2 and 2, the same on every machine.
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

/// Computes a decision by libsvm's definition, with the system's exp and tanh.
fn by_definition(model: &Model, row: &[f64]) -> f64 {
    let mut row = row.to_vec();
    if let Some(scaler) = model.scaler() {
        scaler.apply(&mut row);
    }
    let svm = model.svm().unwrap();
    let vectors = svm.vectors().chunks_exact(svm.dimension());
    let similar = vectors.map(|vector| {
        let pairs = || vector.iter().zip(&row);
        let dot: f64 = pairs().map(|(a, b)| a * b).sum();
        match svm.kernel() {
            Kernel::Linear => dot,
            Kernel::Rbf { gamma } => (-gamma * pairs().map(|(a, b)| (a - b) * (a - b)).sum::<f64>()).exp(),
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
        for (vectors, dimension) in [
            (1, 1),
            (2, 4),
            (4, 7),
            (5, 1),
            (8, 3),
            (100, 4),
            (501, 7),
            (9, 8),
            (40, 9),
            (33, 10),
        ] {
            let model = model(kernel, vectors, dimension, vectors % 2 == 0);
            let rows = numbers(9, 37 * dimension);
            let mut decisions = Vec::new();
            model
                .decide_rows(&rows, &mut Scratch::default(), &mut decisions)
                .unwrap();
            assert_eq!(decisions.len(), 37);
            let weight: f64 = model.svm().unwrap().coefficients().iter().map(|c| c.abs()).sum();
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
        for (vectors, dimension) in [
            (1, 1),
            (2, 1),
            (3, 4),
            (5, 2),
            (16, 4),
            (103, 4),
            (500, 7),
            (3, 10),
            (50, 10),
        ] {
            let model = model(kernel, vectors, dimension, true);
            let rows = numbers(vectors as u64, 29 * dimension);
            let baseline = CodePath::available()[0];
            let mut scores = Vec::new();
            model
                .decide_rows_on(baseline, &rows, &mut scratch, &mut together)
                .unwrap();
            for path in CodePath::available() {
                model
                    .decide_rows_on(path, &rows, &mut scratch, &mut other)
                    .unwrap();
                assert_eq!(bits(&other), bits(&together), "{path} {kernel:?} {vectors}");
                let (mut scored, mut one) = (Scores::default(), Scores::default());
                let mut score = |rows: &[f64], into: &mut Scores| {
                    model.score_rows_on(path, rows, &mut scratch, into).unwrap();
                };
                score(&rows, &mut scored);
                assert_eq!(
                    bits(&scored.decisions),
                    bits(&together),
                    "{path} {kernel:?} {vectors}"
                );
                scores.push(bits(&scored.scores));
                assert_eq!(scores.first(), scores.last(), "{path} {kernel:?} {vectors}");
                for (row, right) in rows.chunks_exact(dimension).zip(&scored.scores) {
                    score(row, &mut one);
                    assert_eq!(bits(&one.scores), bits(&[*right]), "{path} {kernel:?} {vectors}");
                }
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
