//! Models, and the files that are imported as models.

use std::fs;

use windrow_common::Length;
use windrow_model::{
    Band, Detector, EllipticEnvelope, Features, Group, IsolationForest, Kernel, LocalOutlierFactor, Metric,
    Model, NearestNeighbours, OneClassSvm, PrincipalComponents, Profile, Projection, RobustZ, Scaler, Season,
    Step, Stretch, TreeNode,
};

use super::{Seeds, repository};

pub(super) fn models() -> Seeds {
    let model = |kernel, scaled: bool| {
        let svm = OneClassSvm::new(2, vec![1.0, 2.0, 3.0, -4.0], vec![0.5; 2], -0.25, kernel).unwrap();
        let features: Features = "mean,std".parse().unwrap();
        let scaler = scaled.then(|| Scaler::new(vec![71.0, 0.5], vec![1.0, 2.0]).unwrap());
        Model::new(features, scaler, svm, "by hand")
            .unwrap()
            .to_bytes()
            .unwrap()
    };
    let polynomial = Kernel::Polynomial {
        gamma: 0.5,
        coef0: 1.0,
        degree: 3,
    };
    let group = Group::new(vec!["a".into(), "b".into()], 3, Length::from_millis(60_000)).unwrap();
    let svm = OneClassSvm::new(2, vec![1.0, 2.0], vec![1.0], -0.5, Kernel::Rbf { gamma: 0.5 }).unwrap();
    let whiten = Step::Project(Projection::new(2, vec![1.0, -0.5, -0.5, 1.0]).unwrap());
    let of_group = Model::of_group(
        group,
        "mean".parse().unwrap(),
        vec![whiten],
        svm.into(),
        "by hand",
    );
    let of_group = of_group
        .and_then(|model| model.with_threshold(Some(0.3)))
        .unwrap()
        .to_bytes()
        .unwrap();
    let stretch = Step::Stretch(Stretch::new(vec![2.0, 0.5], vec![0.5, 1.0]).unwrap());
    let project = Step::Project(Projection::select(2, &[1]).unwrap());
    let with_steps = |steps: Vec<Step>, detector| {
        let model = Model::with_steps("mean,std".parse().unwrap(), steps, detector, "by hand");
        model.unwrap().to_bytes().unwrap()
    };
    let seasonal = Model::from_bytes(&model(Kernel::Rbf { gamma: 0.5 }, true)).unwrap();
    let band = Band { low: -1.0, high: 2.0 };
    let seasonal = seasonal
        .with_profile(Some(
            Profile::new(Season::Day, "Europe/Berlin", vec![70.5; 24]).unwrap(),
        ))
        .with_bands(vec![band; 2])
        .and_then(|model| model.with_threshold(Some(0.3)));
    let seasonal = seasonal.unwrap().to_bytes().unwrap();
    let split = TreeNode::Split {
        feature: 0,
        threshold: 0.5,
        left: 1,
        right: 2,
    };
    let tree = vec![
        split,
        TreeNode::Leaf { depth: 1.0 },
        TreeNode::Leaf { depth: 2.5 },
    ];
    let forest = IsolationForest::new(1, vec![tree.clone(), tree], 3.0, -0.5).unwrap();
    let envelope = EllipticEnvelope::new(vec![1.0, 2.0], vec![1.0, 0.5, 0.5, 1.0], -3.0).unwrap();
    let rows = vec![1.0, 2.0, 3.0, 4.0, 5.0, 7.0];
    let factor =
        LocalOutlierFactor::new(2, Metric::Euclidean, rows, vec![1.0; 3], vec![0.5; 3], -1.5).unwrap();
    let components =
        PrincipalComponents::new(vec![1.0, 2.0], vec![0.6, 0.8, 0.8, -0.6], vec![1.5], 9.0, 0.5).unwrap();
    let robust = RobustZ::new(vec![70.0, 1.0], vec![0.5, 0.25], vec![3.5, 4.0]).unwrap();
    let nearest: Vec<f64> = (0..40).map(|at| f64::from(at * at % 17)).collect();
    let nearest = NearestNeighbours::new(2, 1, &nearest, 0.5).unwrap();
    vec![
        (
            "model_file",
            "components",
            with_steps(Vec::new(), components.into()),
        ),
        ("model_file", "robust_z", with_steps(Vec::new(), robust.into())),
        ("model_file", "nearest", with_steps(Vec::new(), nearest.into())),
        (
            "model_file",
            "forest",
            with_steps(vec![stretch.clone(), project], Detector::IsolationForest(forest)),
        ),
        ("model_file", "seasonal", seasonal),
        ("model_file", "two-tags", of_group),
        (
            "model_file",
            "envelope",
            with_steps(vec![stretch], Detector::EllipticEnvelope(envelope)),
        ),
        (
            "model_file",
            "factor",
            with_steps(Vec::new(), Detector::LocalOutlierFactor(factor)),
        ),
        ("model_file", "rbf", model(Kernel::Rbf { gamma: 1.0 }, true)),
        ("model_file", "linear", model(Kernel::Linear, false)),
        ("model_file", "polynomial", model(polynomial, true)),
        (
            "model_file",
            "sigmoid",
            model(
                Kernel::Sigmoid {
                    gamma: 0.5,
                    coef0: 0.0,
                },
                false,
            ),
        ),
    ]
}

/// The smallest of the pickles that scikit-learn has written for the import's tests.
pub(super) fn pickles() -> Seeds {
    let wanted = SMALL_PICKLES.iter().map(|name| {
        let path = repository("tests/fixtures/pickles").join(name);
        let own_name = name.rsplit('/').next().unwrap_or(name);
        ("pickle", own_name, fs::read(path).unwrap())
    });
    wanted.collect()
}

const SMALL_PICKLES: [&str; 6] = [
    "1.1.3/scaled-4d.p5.pkl",
    "1.9.1/linear-4d.p3.pkl",
    "1.9.1/odd-arrays-4d.p0.pkl",
    "1.9.1/one-row-1d.p0.pkl",
    "1.9.1/one-row-1d.p5.pkl",
    "1.9.1/rbf-auto-4d.p1.pkl",
];

/// The smallest of the other files that are imported, of each kind.
pub(super) fn other_files() -> Seeds {
    let wanted = OTHER_FILES.iter().map(|(target, name)| {
        let path = repository("tests/fixtures/models/1.9.1").join(name);
        (*target, *name, fs::read(path).unwrap())
    });
    wanted.collect()
}

const OTHER_FILES: [(&str, &str); 19] = [
    ("pickle", "search.pkl"),
    ("pickle", "columns.p2.pkl"),
    ("pickle", "envelope-scaled.p2.pkl"),
    ("joblib", "joblib-zlib"),
    ("joblib", "joblib-gzip"),
    ("joblib", "joblib-lz4"),
    ("joblib", "robust.joblib"),
    ("joblib", "sgd.joblib"),
    ("joblib", "pyod-forest.joblib"),
    ("joblib", "columns-in-order.joblib"),
    ("joblib", "scaler.joblib"),
    ("skops", "skops-pca.skops"),
    ("onnx", "onnx-svm.onnx"),
    ("onnx", "onnx-pca.onnx"),
    ("onnx", "onnx-minmax.onnx"),
    ("onnx", "onnx-sgd.onnx"),
    ("libsvm", "libsvm-rbf.model"),
    ("libsvm", "libsvm-poly.model"),
    ("libsvm", "libsvm-linear.model"),
];
