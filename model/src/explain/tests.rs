use proptest::prelude::*;
use windrow_common::EventTime;

use super::*;
use crate::{
    CodePath, EllipticEnvelope, Features, IsolationForest, Kernel, LocalOutlierFactor, Metric,
    NearestNeighbours, OneClassSvm, PrincipalComponents, Profile, RobustZ, Scaler, Season, TreeNode,
};

fn window(mean: f64, std: f64, max: f64) -> Aggregate {
    Aggregate {
        window_start: EventTime::from_millis(0),
        count: 6,
        mean,
        std,
        min: mean,
        max,
        first: mean,
        last: mean,
    }
}

fn features() -> Features {
    "mean,std,max".parse().unwrap()
}

/// An RBF one-class SVM of nine vectors around 0.
fn rbf(gamma: f64) -> OneClassSvm {
    let vectors = (0..27).map(|at| (f64::from(at) * 0.7).sin()).collect();
    OneClassSvm::new(3, vectors, vec![0.1; 9], -0.4, Kernel::Rbf { gamma }).unwrap()
}

fn scaled(detector: impl Into<Detector>) -> Model {
    let scaler = Scaler::new(vec![20.0, 1.0, 25.0], vec![2.0, 0.5, 4.0]).unwrap();
    Model::new(features(), Some(scaler), detector, "by hand").unwrap()
}

fn score_of(detector: &Detector, row: &[f64]) -> f64 {
    let (mut decision, mut score) = ([0.0], [0.0]);
    detector.score(CodePath::best(), row, &mut decision, &mut score);
    score[0]
}

fn reason(model: &Model, window: &Aggregate, feature: Feature) -> Contribution {
    let reasons = model.explain(window);
    reasons
        .into_iter()
        .find(|reason| reason.feature == feature)
        .unwrap()
}

proptest! {
    /// The gradient is that of the score, by differences.
    #[test]
    fn the_gradient_is_how_the_score_changes(
        row in proptest::collection::vec(-4.0..4.0_f64, 3),
        gamma in 0.05..2.0_f64,
        kind in 0..5,
    ) {
        let vectors = rbf(1.0).vectors().to_vec();
        let svm = |kernel| OneClassSvm::new(3, vectors.clone(), vec![0.1; 9], -0.4, kernel).unwrap();
        let detector: Detector = match kind {
            0 => rbf(gamma).into(),
            1 => EllipticEnvelope::new(vec![0.5, 0.0, -0.5], vec![2.0, 0.5, 0.0, 0.5, 1.0, 0.0, 0.0, 0.0, 3.0], -4.0)
                .map(Detector::EllipticEnvelope)
                .unwrap(),
            2 => svm(Kernel::Linear).into(),
            3 => svm(Kernel::Polynomial { gamma, coef0: 1.0, degree: 3 }).into(),
            _ => svm(Kernel::Sigmoid { gamma, coef0: 0.1 }).into(),
        };
        let slope = Slope::of(&detector, &row);
        // The score of other kernels than RBF is the decision over the intercept.
        let unit = if kind >= 2 { 0.4 } else { 1.0 };
        for at in 0..3 {
            let step = 1e-5;
            let at_step = |by: f64| {
                let mut moved = row.clone();
                moved[at] += by;
                score_of(&detector, &moved)
            };
            let difference = (at_step(step) - at_step(-step)) / (2.0 * step) * unit;
            let gradient = slope.gradient[at];
            prop_assert!((gradient - difference).abs() <= 1e-4 * (1.0 + gradient.abs()), "{gradient} {difference}");
        }
    }

    #[test]
    fn shares_are_parts_of_one_for_any_window(
        values in proptest::collection::vec(prop_oneof![-100.0..100.0_f64, any::<f64>()], 3),
    ) {
        let model = scaled(rbf(0.7));
        let reasons = model.explain(&window(values[0], values[1], values[2]));
        let all: f64 = reasons.iter().map(|reason| reason.share).sum();
        let are_shares = reasons.iter().all(|reason| (0.0..=1.0).contains(&reason.share));
        prop_assert!(are_shares, "{reasons:?}");
        prop_assert!(reasons.is_empty() || all == 0.0 || (all - 1.0).abs() < 1e-9, "{reasons:?}");
    }
}

/// Detectors of three features around 0 whose score has kinks.
fn with_kinks() -> [Detector; 3] {
    let rows: Vec<f64> = (0..30).map(|at| (f64::from(at) * 0.7).sin()).collect();
    let unit = vec![1.0, 0.0, 0.0, 0.0, 0.6, 0.8, 0.0, 0.8, -0.6];
    [
        PrincipalComponents::new(vec![0.1; 3], unit, vec![2.0, 1.0], 9.0, 0.5)
            .unwrap()
            .into(),
        RobustZ::new(vec![0.1; 3], vec![1.0, 0.5, 0.8], vec![3.5; 3])
            .unwrap()
            .into(),
        NearestNeighbours::new(3, 2, &rows, 0.5).unwrap().into(),
    ]
}

#[test]
fn the_gradient_is_how_the_score_changes_between_its_kinks() {
    for detector in with_kinks() {
        for row in [
            [2.0, 0.3, -0.4],
            [0.2, 2.1, 1.9],
            [-0.3, 1.1, -3.0],
            [0.9, 0.8, 0.6],
        ] {
            let slope = Slope::of(&detector, &row);
            for at in 0..3 {
                let at_step = |by: f64| {
                    let mut moved = row;
                    moved[at] += by;
                    score_of(&detector, &moved)
                };
                let difference = (at_step(1e-6) - at_step(-1e-6)) / 2e-6;
                let gradient = slope.gradient[at];
                assert!(
                    (gradient - difference).abs() < 1e-6 * (1.0 + gradient.abs()),
                    "{detector:?} {row:?}"
                );
            }
        }
        // In the middle of what is normal nothing stands out, and nothing is divided by 0.
        let middle = match &detector {
            Detector::NearestNeighbours(nearest) => nearest.rows()[..3].to_vec(),
            _ => vec![0.1; 3],
        };
        let parts = Slope::of(&detector, &middle).parts().collect::<Vec<_>>();
        assert!(parts.iter().all(|part| *part <= 1.0), "{parts:?}");
    }
}

#[test]
fn the_feature_that_is_off_has_nearly_all_of_the_score() {
    let forest = {
        let leaf = |depth| TreeNode::Leaf { depth };
        let split = |feature, threshold, left, right| TreeNode::Split {
            feature,
            threshold,
            left,
            right,
        };
        let tree = |feature| vec![split(feature, 2.0, 1, 2), leaf(5.0), leaf(1.0)];
        let trees = vec![tree(0), tree(1), tree(2)];
        // Splits below the others' thresholds keep their medians low.
        IsolationForest::new(3, trees, 12.0, -0.5).unwrap()
    };
    let rows: Vec<f64> = (0..30).map(|at| (f64::from(at) * 0.7).sin()).collect();
    let factor =
        LocalOutlierFactor::new(3, Metric::Euclidean, rows, vec![1.0; 10], vec![1.0; 10], -1.5).unwrap();
    let envelope = EllipticEnvelope::new(
        vec![0.0; 3],
        vec![1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        -9.0,
    );
    let [components, robust, nearest] = with_kinks();
    let detectors: [Detector; 7] = [
        components,
        robust,
        nearest,
        rbf(0.7).into(),
        Detector::EllipticEnvelope(envelope.unwrap()),
        Detector::LocalOutlierFactor(factor),
        Detector::IsolationForest(forest),
    ];
    for (number, detector) in detectors.into_iter().enumerate() {
        let model = scaled(detector);
        // Ten deviations off in the standard deviation alone.
        let reasons = model.explain(&window(20.0, 6.0, 25.0));
        assert_eq!(reasons[0].feature, Feature::Std, "{number}");
        assert_eq!(reasons[0].value, 6.0);
        if number < 6 {
            assert!(reasons[0].share > 0.9, "{number}: {reasons:?}");
        }
    }
}

#[test]
fn a_scaler_changes_no_share() {
    let plain = Model::new(features(), None, rbf(0.7), "by hand").unwrap();
    for (a, b, c) in [(1.5, 2.5, 0.5), (-3.0, 0.2, 4.0), (0.1, 3.0, -2.0)] {
        let scaled = scaled(rbf(0.7)).explain(&window(20.0 + 2.0 * a, 1.0 + 0.5 * b, 25.0 + 4.0 * c));
        let plain = plain.explain(&window(a, b, c));
        for (scaled, plain) in scaled.iter().zip(&plain) {
            assert_eq!(scaled.feature, plain.feature);
            assert!((scaled.share - plain.share).abs() < 1e-9, "{scaled:?} {plain:?}");
        }
    }
}

#[test]
fn parts_go_back_through_a_projection() {
    // The detector sees the features in another order.
    let project = Step::Project(Projection::select(3, &[2, 0, 1]).unwrap());
    let scaler = Scaler::new(vec![20.0, 1.0, 25.0], vec![2.0, 0.5, 4.0]).unwrap();
    let steps = vec![Step::Scale(scaler), project];
    let model = Model::with_steps(features(), steps, rbf(0.7).into(), "by hand").unwrap();
    let reasons = model.explain(&window(20.0, 1.0, 65.0));
    assert_eq!(reasons[0].feature, Feature::Max);
    assert!(reasons[0].share > 0.9);
    // What was projected cannot be told apart again.
    assert_eq!(reasons[0].band, None);
}

#[test]
fn parts_go_back_through_a_whitened_projection() {
    // A turn by 45 degrees and a whitening are the same as the turn and a wider envelope.
    let half = 0.5_f64.sqrt();
    let turn = || {
        let weights = vec![half, half, 0.0, -half, half, 0.0, 0.0, 0.0, 1.0];
        Step::Project(Projection::new(3, weights).unwrap())
    };
    let model = |steps, precision: [f64; 3]| {
        let [a, b, c] = precision;
        let precision = vec![a, 0.0, 0.0, 0.0, b, 0.0, 0.0, 0.0, c];
        let envelope = EllipticEnvelope::new(vec![0.0; 3], precision, -9.0).unwrap();
        Model::with_steps(features(), steps, envelope.into(), "by hand").unwrap()
    };
    let whiten = Step::Scale(Scaler::new(vec![0.0; 3], vec![4.0, 0.25, 1.0]).unwrap());
    let whitened = model(vec![turn(), whiten], [16.0, 0.0625, 1.0]);
    let plain = model(vec![turn()], [1.0; 3]);
    let window = window(3.0, 1.0, -2.0);
    for (whitened, plain) in whitened.explain(&window).iter().zip(&plain.explain(&window)) {
        assert_eq!(whitened.feature, plain.feature);
        assert!(
            (whitened.share - plain.share).abs() < 1e-9,
            "{whitened:?} {plain:?}"
        );
    }
}

#[test]
fn the_normal_band_is_that_of_training_at_the_windows_hour_or_of_the_support_vectors() {
    let model = scaled(rbf(0.7));
    let band = |model: &Model, feature| reason(model, &window(30.0, 1.0, 25.0), feature).band.unwrap();
    let outline = band(&model, Feature::Mean);
    assert!(outline.low >= 18.0 && outline.high <= 22.0, "{outline:?}");
    assert_eq!(
        reason(&model, &window(30.0, 1.0, 25.0), Feature::Mean).distance(),
        Some(30.0 - outline.high)
    );
    assert_eq!(
        reason(&model, &window(20.0, 1.0, 25.0), Feature::Mean).distance(),
        Some(0.0)
    );

    let profile = Profile::new(Season::Day, "UTC", vec![100.0; 24]).unwrap();
    let given = [(-2.0, 2.0), (0.5, 1.5), (-1.0, 3.0)].map(|(low, high)| Band { low, high });
    let model = model
        .with_profile(Some(profile))
        .with_bands(given.to_vec())
        .unwrap();
    assert_eq!(
        band(&model, Feature::Mean),
        Band {
            low: 98.0,
            high: 102.0
        }
    );
    assert_eq!(band(&model, Feature::Std), Band { low: 0.5, high: 1.5 });
    assert_eq!(
        band(&model, Feature::Max),
        Band {
            low: 99.0,
            high: 103.0
        }
    );
}

#[test]
fn a_window_that_cannot_be_scored_has_no_reasons() {
    assert_eq!(scaled(rbf(0.7)).explain(&window(f64::INFINITY, 1.0, 25.0)), []);
}
