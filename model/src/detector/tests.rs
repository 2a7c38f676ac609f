use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::{Features, Scores, Scratch, TrainDetector, TrainOptions, train_and_tell};

fn decided(detector: impl Into<Detector>, row: f64) -> f64 {
    let mut decisions = [f64::NAN];
    detector.into().decide(CodePath::best(), &[row], &mut decisions);
    decisions[0]
}

#[test]
fn exactly_0_is_normal_as_in_scikit_learn_except_for_the_svm() {
    let envelope = || Detector::EllipticEnvelope(EllipticEnvelope::new(vec![1.0], vec![1.0], -4.0).unwrap());
    assert_eq!(decided(envelope(), 1.0), 4.0);
    assert_eq!(decided(envelope(), 3.0), f64::MIN_POSITIVE);
    assert!(decided(envelope(), 3.000_001) < 0.0);
    let svm = OneClassSvm::new(1, vec![1.0], vec![1.0], -3.0, crate::Kernel::Linear).unwrap();
    assert_eq!(decided(svm, 3.0), 0.0);
}

/// Returns the decision and the score.
fn scored(detector: &Detector, row: f64) -> (f64, f64) {
    let (mut decisions, mut scores) = ([f64::NAN], [f64::NAN]);
    detector.score(CodePath::best(), &[row], &mut decisions, &mut scores);
    assert_eq!(decisions[0].to_bits(), decided(detector.clone(), row).to_bits());
    (decisions[0], scores[0])
}

#[test]
fn a_score_is_the_logarithm_of_how_far_beyond_the_boundary_a_row_is() {
    let near = |got: f64, right: f64| {
        assert!(
            (got - right).abs() < 1e-14 * right.abs().max(1.0),
            "{got}, {right}"
        );
    };
    let envelope = EllipticEnvelope::new(vec![1.0], vec![1.0], -4.0).unwrap().into();
    near(scored(&envelope, 7.0).1, 9.0_f64.ln());
    near(scored(&envelope, 2.0).1, 0.25_f64.ln());
    // On the boundary a row is normal, and so is its score; in the centre the score is still a number.
    assert_eq!(scored(&envelope, 3.0), (f64::MIN_POSITIVE, -f64::MIN_POSITIVE));
    near(scored(&envelope, 1.0).1, (f64::MIN_POSITIVE / 4.0).ln());
    let tree = |depth| {
        let forest = IsolationForest::new(1, vec![vec![TreeNode::Leaf { depth }]], 1.0, -0.5);
        Detector::from(forest.unwrap())
    };
    near(scored(&tree(0.25), 0.0).1, 0.75 * 2.0_f64.ln());
    near(scored(&tree(3.0), 0.0).1, -2.0 * 2.0_f64.ln());
    let factor = LocalOutlierFactor::new(1, Metric::Euclidean, vec![1.0], vec![1.0], vec![1.0], -1.5);
    // scikit-learn adds 1e-10 to the mean distance.
    near(
        scored(&factor.unwrap().into(), 7.0).1,
        ((6.0_f64 + 1e-10) / 1.5).ln(),
    );
}

#[test]
fn a_detector_without_a_ratio_has_the_first_term_of_its_logarithm() {
    for (offset, row, right) in [
        (4.0, 3.0, (-8.0, 2.0)),
        (0.0, 3.0, (-4.0, 4.0)),
        (1e-310, 3.0, (-4.0, f64::MAX)),
    ] {
        let envelope = EllipticEnvelope::new(vec![1.0], vec![1.0], offset).unwrap();
        assert_eq!(scored(&envelope.into(), row), right);
    }
}

#[test]
fn what_cannot_be_decided_is_not_a_number() {
    let leaf = TreeNode::Leaf { depth: 1.0 };
    let forest = || Detector::IsolationForest(IsolationForest::new(1, vec![vec![leaf]], 1.0, -0.5).unwrap());
    assert_eq!(decided(forest(), 7.0), f64::MIN_POSITIVE);
    // More than 32 bits hold, which scikit-learn refuses.
    assert!(decided(forest(), 1e39).is_nan());
    let factor = LocalOutlierFactor::new(1, Metric::Euclidean, vec![1.0], vec![1.0], vec![1.0], -1.5);
    let factor = Detector::LocalOutlierFactor(factor.unwrap());
    assert!(!decided(factor.clone(), f64::INFINITY).is_finite());
    assert!(!decided(factor, f64::NAN).is_finite());
}

#[test]
fn trees_whose_paths_do_not_end_are_refused() {
    let split = |left, right| TreeNode::Split {
        feature: 0,
        threshold: 0.0,
        left,
        right,
    };
    let leaf = TreeNode::Leaf { depth: 1.0 };
    for tree in [
        vec![],
        vec![split(0, 1), leaf],
        vec![split(1, 2), leaf],
        vec![split(1, 1), split(0, 1)],
    ] {
        let refused = IsolationForest::new(1, vec![vec![leaf], tree.clone()], 1.0, 0.0);
        assert!(refused.is_err(), "{tree:?}");
    }
    let other_feature = TreeNode::Split {
        feature: 1,
        threshold: 0.0,
        left: 1,
        right: 2,
    };
    assert!(IsolationForest::new(1, vec![vec![other_feature, leaf, leaf]], 1.0, 0.0).is_err());
}

/// Returns the row that is nearest by a look at all of them.
fn nearest_by_hand(rows: &[f64], dimension: usize, row: &[f64], neighbours: usize) -> f64 {
    let square = |other: &[f64]| -> f64 { row.iter().zip(other).map(|(a, b)| (a - b) * (a - b)).sum() };
    let mut squares: Vec<f64> = rows.chunks_exact(dimension).map(square).collect();
    squares.sort_by(f64::total_cmp);
    squares[neighbours - 1].sqrt()
}

proptest! {
    #[test]
    fn the_tree_finds_the_nearest_rows_whatever_their_order(
        dimension in 1_usize..=10,
        coarse in any::<bool>(),
        numbers in vec(-4.0..4.0_f64, 10..900),
        neighbours in 1_usize..=MAX_NEIGHBOURS,
        asked in vec(-6.0..6.0_f64, 10),
    ) {
        let round = |value: f64| if coarse { value.round() } else { value };
        let count = numbers.len() / dimension;
        let rows: Vec<f64> = numbers.into_iter().take(count * dimension).map(round).collect();
        let neighbours = neighbours.min(count);
        let asked: Vec<f64> = asked.into_iter().take(dimension).map(round).collect();
        let tree = NearestNeighbours::new(dimension, neighbours, &rows, 1.0).unwrap();
        let right = nearest_by_hand(&rows, dimension, &asked, neighbours);
        prop_assert_eq!(tree.distance(&asked, neighbours).to_bits(), right.to_bits());
        let backwards: Vec<f64> = rows.rchunks_exact(dimension).flatten().copied().collect();
        prop_assert_eq!(&NearestNeighbours::new(dimension, neighbours, &backwards, 1.0).unwrap(), &tree);
        let again = NearestNeighbours::new(dimension, neighbours, tree.rows(), 1.0).unwrap();
        prop_assert_eq!(again, tree);
    }

    /// Rows of a few values, of any size, and what comes later.
    #[test]
    fn trained_detectors_flag_no_more_than_nu_asks_for_and_score_any_number(
        trained in prop::sample::select(TrainDetector::ALL[1..].to_vec()),
        dimension in 1_usize..=10,
        values in vec(prop_oneof![4 => -4.0..4.0_f64, 1 => -1e100..1e100_f64, 1 => Just(0.0), 1 => Just(7.0)], 2..12),
        picks in vec(any::<prop::sample::Index>(), 20..300),
        nu in 0.001..0.2_f64,
        hostile in vec(any::<f64>().prop_filter("finite", |value| value.is_finite()), 10),
    ) {
        let count = picks.len().div_ceil(dimension).max(2);
        let rows: Vec<f64> = (0..count * dimension)
            .map(|at| values[picks[at % picks.len()].index(values.len())])
            .collect();
        let features = Features::new(&crate::Feature::ALL[..dimension]).unwrap();
        let options = TrainOptions { detector: trained, nu, ..TrainOptions::default() };
        let (model, _) = train_and_tell(&rows, features, &options).unwrap();
        let (mut scratch, mut scores) = (Scratch::default(), Scores::default());
        model.score_rows_on(CodePath::best(), &rows, &mut scratch, &mut scores).unwrap();
        let flagged = scores.decisions.iter().filter(|decision| is_anomaly(**decision)).count();
        #[allow(clippy::cast_precision_loss)]
        let most = nu * count as f64;
        // The nearest neighbour is judged by the distance to the others, and of its own rows none is far from itself.
        prop_assert!(flagged as f64 <= most, "{} of {}", flagged, count);
        let hostile = &hostile[..dimension];
        model.score_rows_on(CodePath::best(), hostile, &mut scratch, &mut scores).unwrap();
        prop_assert!(scores.decisions[0].is_finite() && scores.scores[0].is_finite());
        prop_assert_eq!(is_anomaly(scores.decisions[0]), scores.scores[0] >= 0.0);
    }
}

#[test]
fn a_statistic_beyond_its_limit_has_the_logarithm_of_their_ratio() {
    let near = |(decision, score): (f64, f64), right: (f64, f64)| {
        assert!(
            (decision - right.0).abs() < 1e-12 && (score - right.1).abs() < 1e-12,
            "{score}"
        );
    };
    let robust = RobustZ::new(vec![10.0], vec![2.0], vec![4.0]).unwrap().into();
    near(scored(&robust, 34.0), (-2.0, 3.0_f64.ln()));
    near(scored(&robust, 6.0), (0.5, 0.5_f64.ln()));
    assert_eq!(scored(&robust, 18.0), (f64::MIN_POSITIVE, -f64::MIN_POSITIVE));
    let nearest = NearestNeighbours::new(1, 2, &[1.0, 3.0, 9.0], 4.0)
        .unwrap()
        .into();
    near(scored(&nearest, 15.0), (4.0 - 12.0, 3.0_f64.ln()));
    near(scored(&nearest, 2.0), (3.0, 0.25_f64.ln()));
    // Two features: one component is kept, along which 2 is a deviation, and 1 off it is the limit of Q.
    let half = 0.5_f64.sqrt();
    let components =
        PrincipalComponents::new(vec![1.0, 1.0], vec![half, half, half, -half], vec![4.0], 2.0, 1.0);
    let components = Detector::from(components.unwrap());
    let score = |row: [f64; 2]| {
        let (mut decisions, mut scores) = ([0.0], [0.0]);
        components.score(CodePath::best(), &row, &mut decisions, &mut scores);
        (decisions[0], scores[0])
    };
    near(score([5.0, 5.0]), (1.0 - 4.0, 4.0_f64.ln()));
    near(score([3.0, -1.0]), (1.0 - 8.0, 8.0_f64.ln()));
    for far in [1e300, f64::MAX] {
        let (decision, score) = score([far, -far]);
        assert!(
            decision.is_finite() && score.is_finite() && score > 300.0,
            "{far}"
        );
    }
}

#[test]
fn few_windows_constants_and_values_that_hardly_change_have_a_robust_z() {
    let train = |rows: &[f64], list: &str| {
        let options = TrainOptions {
            detector: TrainDetector::RobustZ,
            ..TrainOptions::default()
        };
        train_and_tell(rows, list.parse().unwrap(), &options).unwrap().0
    };
    let flags = |model: &crate::Model, row: &[f64]| {
        let mut decisions = Vec::new();
        model
            .decide_rows(row, &mut Scratch::default(), &mut decisions)
            .unwrap();
        is_anomaly(decisions[0])
    };
    // Three windows are enough; two are a deviation apart.
    let tiny = train(&[20.0, 21.0, 22.0], "mean");
    for (value, anomaly) in [(16.0, false), (26.0, false), (14.9, true), (27.1, true)] {
        assert_eq!(flags(&tiny, &[value]), anomaly, "{value}");
    }
    // A tolerance for the value, and some freedom for the number of readings.
    let constant = train(&[5.0, 40.0].repeat(30), "count,mean");
    assert!(!flags(&constant, &[6.0, 40.0]) && flags(&constant, &[5.0, 40.001]));
    assert!(flags(&constant, &[9.0, 40.0]));
    // Three in four windows are 0: the mean deviation takes the place of the median one.
    let valve = train(&[0.0, 0.0, 0.0, 1.0].repeat(50), "mean");
    assert!(!flags(&valve, &[1.0]) && flags(&valve, &[2.0]));
}

#[test]
fn parts_of_trained_detectors_that_do_not_fit_are_refused() {
    assert!(RobustZ::new(vec![], vec![], vec![]).is_err());
    assert!(RobustZ::new(vec![1.0], vec![0.0], vec![1.0]).is_err());
    assert!(RobustZ::new(vec![1.0], vec![1.0], vec![-1.0]).is_err());
    assert!(RobustZ::new(vec![1.0], vec![1.0; 2], vec![1.0]).is_err());
    assert!(NearestNeighbours::new(1, 2, &[1.0], 1.0).is_err());
    assert!(NearestNeighbours::new(2, 1, &[1.0; 3], 1.0).is_err());
    assert!(NearestNeighbours::new(1, 1, &[f64::NAN], 1.0).is_err());
    assert!(NearestNeighbours::new(1, 1, &[1.0], 0.0).is_err());
    let components = |variances: Vec<f64>, limit| {
        PrincipalComponents::new(vec![0.0; 2], vec![1.0, 0.0, 0.0, 1.0], variances, limit, 1.0)
    };
    assert!(components(vec![1.0], 1.0).is_ok());
    assert!(components(vec![], 1.0).is_err() && components(vec![1.0; 3], 1.0).is_err());
    assert!(components(vec![0.0], 1.0).is_err() && components(vec![1.0], f64::INFINITY).is_err());
}
