use super::*;
use crate::{Scratch, is_anomaly};

/// Returns pseudo-random rows, the same on every machine.
fn rows(count: usize, dimension: usize) -> Vec<f64> {
    let mut state = 42_u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1_u64 << 53) as f64
    };
    (0..count * dimension)
        .map(|_| (0..6).map(|_| next()).sum::<f64>() * 3.0 + 20.0)
        .collect()
}

fn anomalies(model: &Model, rows: &[f64]) -> usize {
    let mut decisions = Vec::new();
    model
        .decide_rows(rows, &mut Scratch::default(), &mut decisions)
        .unwrap();
    decisions
        .into_iter()
        .filter(|decision| is_anomaly(*decision))
        .count()
}

fn features(list: &str) -> Features {
    list.parse().unwrap()
}

#[test]
fn about_nu_of_the_training_rows_are_outliers_and_far_rows_are_too() {
    for kernel in [
        TrainKernel::Rbf,
        TrainKernel::Polynomial {
            coef0: 1.0,
            degree: 2,
        },
    ] {
        let options = TrainOptions {
            nu: 0.05,
            kernel,
            ..TrainOptions::default()
        };
        let rows = rows(800, 2);
        let model = train(&rows, features("mean,std"), &options).unwrap();
        let flagged = anomalies(&model, &rows);
        assert!((20..=60).contains(&flagged), "{kernel:?}: {flagged}");
        assert!(model.svm().coefficients().len() < 100);
        if kernel == TrainKernel::Rbf {
            assert_eq!(anomalies(&model, &[90.0, 29.0, 29.0, -50.0]), 2);
        }
    }
}

#[test]
fn the_same_rows_give_the_same_model() {
    let rows = rows(500, 1);
    let train = || train(&rows, features("mean"), &TrainOptions::default()).unwrap();
    assert_eq!(train().to_bytes().unwrap(), train().to_bytes().unwrap());
}

#[test]
fn too_many_rows_are_thinned_evenly() {
    let options = TrainOptions {
        max_rows: 100,
        nu: 0.1,
        ..TrainOptions::default()
    };
    let rows = rows(1_050, 2);
    let model = train(&rows, features("mean,max"), &options).unwrap();
    assert!(
        model.provenance().contains("100 of 1050 rows"),
        "{}",
        model.provenance()
    );
    let flagged = anomalies(&model, &rows);
    assert!((50..=250).contains(&flagged), "{flagged}");
}

#[test]
fn a_stuck_sensor_still_gets_a_model() {
    for rows in [vec![5.0; 400], vec![0.0; 2], vec![0.1; 3_001]] {
        let model = train(&rows, features("mean"), &TrainOptions::default()).unwrap();
        assert_eq!(model.scaler().unwrap().scale(), [1.0]);
        assert_eq!(anomalies(&model, &[rows[0] + 50.0]), 1);
    }
}

#[test]
fn a_scaler_centres_and_scales_as_numpy_does() {
    let scaler = standard_scaler(&[1.0, 5.0, 2.0, 5.0, 4.0, 5.0, 9.0, 5.0], 2).unwrap();
    assert_eq!(scaler.mean(), [4.0, 5.0]);
    assert_eq!(scaler.scale(), [9.5_f64.sqrt(), 1.0]);
}

#[test]
fn gamma_follows_scikit_learns_rules() {
    let rows = [0.0, 2.0, 4.0, 6.0];
    let gamma = |gamma, standardise| {
        let options = TrainOptions {
            gamma,
            standardise,
            nu: 0.5,
            ..TrainOptions::default()
        };
        match train(&rows, features("min,max"), &options)
            .unwrap()
            .svm()
            .kernel()
        {
            Kernel::Rbf { gamma } => gamma,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(gamma(Gamma::Scale, false), 1.0 / (2.0 * 5.0));
    assert_eq!(gamma(Gamma::Scale, true), 0.5);
    assert_eq!(gamma(Gamma::Auto, false), 0.5);
    assert_eq!(gamma(Gamma::Value(0.01), false), 0.01);
    assert_eq!("scale".parse::<Gamma>().unwrap(), Gamma::Scale);
    assert_eq!("0.25".parse::<Gamma>().unwrap(), Gamma::Value(0.25));
    for text in ["", "-1", "0", "inf", "NaN", "wide"] {
        assert!(text.parse::<Gamma>().is_err(), "{text}");
    }
}

#[test]
fn what_cannot_be_learnt_from_is_refused() {
    let options = TrainOptions::default();
    let with = |rows: &[f64], options: &TrainOptions| train(rows, features("mean,std"), options);
    assert!(matches!(with(&[], &options), Err(TrainError::TooFew(0))));
    assert!(matches!(with(&[1.0, 2.0], &options), Err(TrainError::TooFew(1))));
    assert!(matches!(with(&[1.0; 3], &options), Err(TrainError::Rows { .. })));
    for value in [f64::NAN, f64::INFINITY, 1e200] {
        let refused = with(&[1.0, 2.0, 3.0, value], &options);
        assert!(matches!(refused, Err(TrainError::NotFinite { row: 1, .. })));
    }
    for wrong in [
        TrainOptions {
            nu: 0.0,
            ..options.clone()
        },
        TrainOptions {
            nu: 1.0,
            ..options.clone()
        },
        TrainOptions {
            nu: f64::NAN,
            ..options.clone()
        },
        TrainOptions {
            tolerance: 0.0,
            ..options.clone()
        },
        TrainOptions {
            max_rows: 1,
            ..options.clone()
        },
        TrainOptions {
            max_rows: 5_001,
            ..options.clone()
        },
        TrainOptions {
            gamma: Gamma::Value(0.0),
            ..options.clone()
        },
        TrainOptions {
            kernel: TrainKernel::Polynomial {
                coef0: 0.0,
                degree: 0,
            },
            ..options
        },
    ] {
        let refused = with(&[1.0, 2.0, 3.0, 4.0], &wrong);
        assert!(matches!(refused, Err(TrainError::Option { .. })), "{wrong:?}");
    }
}
