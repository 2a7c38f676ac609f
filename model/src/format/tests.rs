use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::{
    Band, Clip, Detector, EllipticEnvelope, IsolationForest, LocalOutlierFactor, Metric, NearestNeighbours,
    OneClassSvm, PrincipalComponents, Profile, Projection, RobustZ, Scaler, Season, Step, Stretch, Tree,
    TreeNode,
};

fn finite() -> impl Strategy<Value = f64> {
    any::<f64>().prop_filter("finite", |number| number.is_finite())
}

prop_compose! {
    fn svm(dimension: usize)(vectors in 1_usize..20)(
        vectors_flat in vec(finite(), vectors * dimension),
        coefficients in vec(finite(), vectors),
        kernel in 0..4,
        gamma in 0.0..1e9_f64,
        coef0 in finite(),
        degree in 0_u32..=64,
        intercept in finite(),
    ) -> Detector {
        let kernel = match kernel {
            0 => Kernel::Linear,
            1 => Kernel::Rbf { gamma },
            2 => Kernel::Polynomial { gamma, coef0, degree },
            _ => Kernel::Sigmoid { gamma, coef0 },
        };
        OneClassSvm::new(dimension, vectors_flat, coefficients, intercept, kernel).unwrap().into()
    }
}

/// A tree whose splits are a chain: each has a leaf on its left.
fn tree(dimension: usize) -> impl Strategy<Value = Tree> {
    let splits = vec((0..u32::try_from(dimension).unwrap(), finite(), finite()), 0..6);
    (splits, finite()).prop_map(|(splits, last)| {
        let mut tree = Tree::new();
        for (feature, threshold, depth) in splits {
            let at = u32::try_from(tree.len()).unwrap();
            tree.push(TreeNode::Split {
                feature,
                threshold,
                left: at + 1,
                right: at + 2,
            });
            tree.push(TreeNode::Leaf { depth });
        }
        tree.push(TreeNode::Leaf { depth: last });
        tree
    })
}

fn detector(dimension: usize) -> impl Strategy<Value = Detector> {
    let forest = (vec(tree(dimension), 1..4), finite(), finite()).prop_map(move |(trees, scale, offset)| {
        Detector::IsolationForest(IsolationForest::new(dimension, trees, scale, offset).unwrap())
    });
    let envelope = (
        vec(finite(), dimension),
        vec(finite(), dimension * dimension),
        finite(),
    );
    let envelope = envelope.prop_map(|(location, precision, offset)| {
        Detector::EllipticEnvelope(EllipticEnvelope::new(location, precision, offset).unwrap())
    });
    let factor = (
        vec(finite(), 3 * dimension),
        vec(finite(), 3),
        vec(finite(), 3),
        1_usize..4,
        0..3,
        finite(),
    );
    let factor = factor.prop_map(|(rows, reaches, densities, neighbours, metric, offset)| {
        let metric =
            [Metric::Euclidean, Metric::Manhattan, Metric::Chebyshev][usize::try_from(metric).unwrap()];
        let factor = LocalOutlierFactor::new(neighbours, metric, rows, reaches, densities, offset);
        Detector::LocalOutlierFactor(factor.unwrap())
    });
    let above_0 = || f64::MIN_POSITIVE..f64::MAX;
    let components = (
        vec(finite(), dimension),
        vec(finite(), dimension * dimension),
        vec(above_0(), 1..=dimension),
        (above_0(), above_0()),
    );
    let components = components.prop_map(|(centre, components, variances, (t2, q))| {
        PrincipalComponents::new(centre, components, variances, t2, q)
            .unwrap()
            .into()
    });
    let robust = (
        vec(finite(), dimension),
        vec(above_0(), dimension),
        vec(above_0(), dimension),
    );
    let robust =
        robust.prop_map(|(centre, scale, limits)| RobustZ::new(centre, scale, limits).unwrap().into());
    let nearest = (vec(finite(), 30 * dimension), 1_usize..4, above_0());
    let nearest = nearest.prop_map(move |(rows, neighbours, limit)| {
        NearestNeighbours::new(dimension, neighbours, &rows, limit)
            .unwrap()
            .into()
    });
    prop_oneof![
        svm(dimension),
        forest,
        envelope,
        factor,
        components,
        robust,
        nearest
    ]
}

fn step(dimension: usize) -> impl Strategy<Value = Step> {
    let not_zero = finite().prop_filter("not 0", |scale| *scale != 0.0);
    prop_oneof![
        (vec(finite(), dimension), vec(not_zero, dimension))
            .prop_map(|(mean, scale)| Step::Scale(Scaler::new(mean, scale).unwrap())),
        (vec(finite(), dimension), vec(finite(), dimension))
            .prop_map(|(factor, offset)| Step::Stretch(Stretch::new(factor, offset).unwrap())),
        vec(finite(), dimension * dimension)
            .prop_map(move |weights| Step::Project(Projection::new(dimension, weights).unwrap())),
        vec(0.0..f64::MAX, dimension).prop_map(|limits| Step::Clip(Clip::new(limits).unwrap())),
    ]
}

fn profile() -> impl Strategy<Value = Profile> {
    let zones = prop::sample::select(vec!["UTC", "Europe/Berlin", "America/New_York"]);
    (prop::sample::select(Season::ALL.to_vec()), zones).prop_flat_map(|(season, zone)| {
        vec(finite(), season.levels()).prop_map(move |levels| Profile::new(season, zone, levels).unwrap())
    })
}

fn bands(dimension: usize) -> impl Strategy<Value = Vec<Band>> {
    let bands = vec(
        (finite(), finite()).prop_map(|(low, high)| Band { low, high }),
        dimension,
    );
    prop_oneof![Just(Vec::new()), bands]
}

fn model() -> impl Strategy<Value = Model> {
    (1_usize..=10).prop_flat_map(|dimension| {
        let parts = (vec(step(dimension), 0..4), detector(dimension), ".{0,40}");
        let beside = (option::of(profile()), bands(dimension), option::of(finite()));
        (parts, beside).prop_map(
            move |((steps, detector, provenance), (profile, bands, threshold))| {
                let features = Features::new(&Feature::ALL[10 - dimension..]).unwrap();
                let model = Model::with_steps(features, steps, detector, provenance).unwrap();
                model
                    .with_profile(profile)
                    .with_bands(bands)
                    .unwrap()
                    .with_threshold(threshold)
                    .unwrap()
            },
        )
    })
}

fn small() -> Model {
    let svm = OneClassSvm::new(1, vec![1.0, 2.0], vec![0.5; 2], -0.25, Kernel::Rbf { gamma: 1.0 });
    Model::new("mean".parse().unwrap(), None, svm.unwrap(), "by hand").unwrap()
}

/// Returns a file with this body and a matching checksum.
fn sealed(version: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = [
        &MAGIC[..],
        &version.to_le_bytes(),
        &crc32fast::hash(body).to_le_bytes(),
    ]
    .concat();
    bytes.extend(body);
    bytes
}

proptest! {
    #[test]
    fn a_model_reads_back_bit_for_bit(model in model()) {
        let bytes = model.to_bytes().unwrap();
        let back = Model::from_bytes(&bytes).unwrap();
        prop_assert_eq!(back.to_bytes().unwrap(), bytes);
        prop_assert_eq!(back.version().unwrap(), model.version().unwrap());
        prop_assert_eq!(back, model);
    }

    #[test]
    fn a_truncated_model_is_an_error(model in model(), cut in any::<prop::sample::Index>()) {
        let bytes = model.to_bytes().unwrap();
        prop_assert!(Model::from_bytes(&bytes[..cut.index(bytes.len())]).is_err());
    }

    #[test]
    fn a_flipped_bit_is_an_error(model in model(), at in any::<prop::sample::Index>(), bit in 0..8) {
        let mut bytes = model.to_bytes().unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= 1_u8 << bit;
        prop_assert!(Model::from_bytes(&bytes).is_err());
    }

    #[test]
    fn damage_behind_a_right_checksum_never_panics(
        model in model(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut file = model.to_bytes().unwrap();
        let mut body = file.split_off(HEADER_BYTES);
        let at = at.index(body.len());
        body[at] = byte;
        let _ = Model::from_bytes(&sealed(u16::from(file[4]), &body));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        let _ = Model::from_bytes(&bytes);
        let _ = Model::from_bytes(&sealed(1, &bytes));
        let _ = Model::from_bytes(&sealed(2, &bytes));
        let _ = Model::from_bytes(&sealed(3, &bytes));
        let _ = Model::from_bytes(&sealed(5, &bytes));
    }
}

#[test]
fn a_length_beyond_the_limit_is_refused_before_memory_is_set_aside() {
    for (version, length) in [
        (1, u64::MAX),
        (1, 1 << 40),
        (2, 1 << 40),
        (2, MAX_MODEL_BYTES as u64),
    ] {
        let mut body = 0_u64.to_le_bytes().to_vec();
        body.extend(length.to_le_bytes());
        let error = Model::from_bytes(&sealed(version, &body)).unwrap_err();
        assert!(matches!(error, FormatError::Codec(_)), "{error}");
    }
}

#[test]
fn the_largest_model_fits_the_limit() {
    let features = Feature::ALL.len();
    let svm = crate::MAX_SUPPORT_VECTORS * (features + 1) * 8;
    let factor = crate::MAX_TRAINING_ROWS * (features + 2) * 8;
    // Each node has three links and a value; a tree with one node has a size too.
    let forest = crate::MAX_NODES * (3 * 4 + 8 + 4);
    for bytes in [svm, factor, forest] {
        assert!(bytes + (1 << 20) <= MAX_MODEL_BYTES, "{bytes}");
    }
}

#[test]
fn the_version_is_a_function_of_the_contents() {
    let (model, bytes) = (small(), small().to_bytes().unwrap());
    assert_eq!(model.version().unwrap(), version_of(&bytes));
    assert_eq!(model.version().unwrap().len(), 16);
    let other = Model::new(
        "mean".parse().unwrap(),
        None,
        model.svm().unwrap().clone(),
        "by hand too",
    )
    .unwrap();
    assert_ne!(other.version().unwrap(), model.version().unwrap());
}

#[test]
fn the_file_layout_does_not_change_unnoticed() {
    // Stored models must stay readable: a new layout needs a new format version, and this version must still be
    // read.
    assert_eq!(small().version().unwrap(), "401f28cf007fea62");
    let stretch = Step::Stretch(Stretch::new(vec![2.0], vec![0.5]).unwrap());
    let leaf = |depth| TreeNode::Leaf { depth };
    let split = TreeNode::Split {
        feature: 0,
        threshold: 0.5,
        left: 1,
        right: 2,
    };
    let forest = IsolationForest::new(1, vec![vec![split, leaf(1.0), leaf(2.0)]], 3.0, -0.5).unwrap();
    let mean = || "mean".parse::<Features>().unwrap();
    let version = |steps, detector| {
        let model = Model::with_steps(mean(), steps, detector, "by hand").unwrap();
        assert_eq!(model.to_bytes().unwrap()[4], 2);
        model.version().unwrap()
    };
    let envelope = EllipticEnvelope::new(vec![1.0], vec![2.0], -3.0).unwrap();
    let factor =
        LocalOutlierFactor::new(1, Metric::Manhattan, vec![1.0], vec![2.0], vec![3.0], -1.5).unwrap();
    assert_eq!(
        [
            version(vec![stretch], Detector::IsolationForest(forest)),
            version(vec![], Detector::EllipticEnvelope(envelope)),
            version(vec![], Detector::LocalOutlierFactor(factor)),
        ],
        ["952019bcb9b1fc18", "a397a8f71fe9f735", "1527334afcf9747a"]
    );
    let by_day = Profile::new(Season::Day, "Europe/Berlin", vec![1.5; 24]).unwrap();
    let by_week = Profile::new(Season::Week, "Europe/Berlin", vec![2.5; 168]).unwrap();
    let clip = Step::Clip(Clip::new(vec![1_000.0]).unwrap());
    let clipped = small().with_step(clip.clone()).unwrap();
    assert_eq!(
        clipped.to_bytes().unwrap()[4],
        3,
        "older programs do not know the step"
    );
    let band = Band { low: -1.0, high: 2.0 };
    let third = [
        small().with_profile(Some(by_day)),
        small().with_step(clip).unwrap().with_profile(Some(by_week)),
        small()
            .with_bands(vec![band])
            .unwrap()
            .with_threshold(Some(0.3))
            .unwrap(),
    ];
    let version = |model: &Model| {
        assert_eq!(model.to_bytes().unwrap()[4], 3);
        model.version().unwrap()
    };
    assert_eq!(
        third.each_ref().map(version),
        ["30f07845d9f54d26", "4e8841a3bd5ec907", "4e33eebcc49aa9aa"]
    );
    let fifth: [Detector; 3] = [
        PrincipalComponents::new(vec![1.0], vec![1.0], vec![2.0], 3.0, 4.0)
            .unwrap()
            .into(),
        RobustZ::new(vec![1.0], vec![2.0], vec![3.5]).unwrap().into(),
        NearestNeighbours::new(1, 1, &[1.0, 2.0], 0.5).unwrap().into(),
    ];
    let version = |detector| {
        let model = Model::with_steps(mean(), vec![], detector, "by hand").unwrap();
        assert_eq!(model.to_bytes().unwrap()[4], 5);
        model.version().unwrap()
    };
    assert_eq!(
        fifth.map(version),
        ["ef5e95dd671f327b", "6c98cb45eff27b7d", "18afa42764d17f47"]
    );
}

#[test]
fn a_profile_that_this_program_cannot_use_is_refused() {
    let body = |zone: &str, season: u8, levels: usize| {
        let model = (
            ("by hand", vec![1_u8], Vec::<u8>::new()),
            (
                0_u32,
                1_u32,
                (1_u8, 1.0, 0.0, 0_u32),
                -0.25,
                vec![0.5; 2],
                vec![1.0, 2.0],
            ),
        );
        let mut bytes = Vec::new();
        let profile = Some((season, zone, vec![1.0; levels]));
        let beside = (profile, Vec::<(f64, f64)>::new(), None::<f64>);
        windrow_common::encode(&(model, beside), &mut bytes).unwrap();
        sealed(3, &bytes)
    };
    assert!(Model::from_bytes(&body("Europe/Berlin", 0, 24)).is_ok());
    for (file, why) in [
        (
            body("Europe/Berlin", 0, 25),
            "a profile by hour of the day has 24 levels, not 25",
        ),
        (body("Europe/Berlin", 3, 24), "the unknown season code 3"),
        (
            body("Mars/Olympus", 0, 24),
            "the time zone `Mars/Olympus` of the model's profile is unknown",
        ),
    ] {
        let error = Model::from_bytes(&file).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn other_files_and_versions_are_named() {
    let mut bytes = small().to_bytes().unwrap();
    for version in [0, 6, 9] {
        bytes[4] = version;
        let error = Model::from_bytes(&bytes).unwrap_err();
        assert!(matches!(error, FormatError::Version(_)), "{error}");
    }
    assert!(matches!(
        Model::from_bytes(b"PK\x03\x04 and so on"),
        Err(FormatError::NotAModel)
    ));
    assert!(matches!(Model::from_bytes(b"WNDM"), Err(FormatError::NotAModel)));
}
