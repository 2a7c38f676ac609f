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
            gamma: Gamma::Scale,
            kernel,
            ..TrainOptions::default()
        };
        let rows = rows(800, 2);
        let model = train(&rows, features("mean,std"), &options).unwrap();
        let flagged = anomalies(&model, &rows);
        assert!((20..=60).contains(&flagged), "{kernel:?}: {flagged}");
        assert!(model.svm().unwrap().coefficients().len() < 100);
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
        gamma: Gamma::Scale,
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

fn told(rows: &[f64], list: &str, options: &TrainOptions) -> (Model, Option<Replaced>) {
    train_and_tell(rows, features(list), options).unwrap()
}

#[test]
fn a_sensor_that_never_varied_flags_what_differs_and_nothing_of_its_history() {
    for value in [5.0, 0.0, 0.1, -9.25, 1e9, 1e-300] {
        for count in [2, 180, 3_001] {
            let rows = [value, 0.0, value, value].repeat(count);
            let (model, replaced) = told(&rows, "mean,std,min,max", &TrainOptions::default());
            let tolerance = (1e-6 * f64::abs(value)).max(1e-9);
            assert_eq!(replaced, Some(Replaced::NeverVaried { tolerance }));
            assert_eq!(anomalies(&model, &rows), 0, "{value}");
            let moved = |by: f64| [value + by, 0.0, value + by, value + by];
            assert_eq!(anomalies(&model, &moved(tolerance * 0.5)), 0, "{value}");
            assert_eq!(anomalies(&model, &moved(-tolerance * 1.1)), 1, "{value}");
            assert_eq!(
                anomalies(&model, &[value, tolerance * 1.1, value, value]),
                1,
                "{value}"
            );
            assert_eq!(anomalies(&model, &[1e300, 1e300, -1e300, 1e300]), 1, "{value}");
        }
    }
    // Every kernel, scaled or not, and means that differ in their last digit.
    for kernel in [
        TrainKernel::Linear,
        TrainKernel::Polynomial {
            coef0: 1.0,
            degree: 3,
        },
    ] {
        for standardise in [true, false] {
            let options = TrainOptions {
                kernel,
                standardise,
                ..TrainOptions::default()
            };
            let rows = [0.1, 0.1, 0.1 + 1e-17, 0.1_f64.next_up()];
            let (model, replaced) = told(&rows, "mean", &options);
            assert!(matches!(replaced, Some(Replaced::NeverVaried { .. })));
            assert_eq!(anomalies(&model, &rows), 0);
            assert_eq!(anomalies(&model, &[0.2]), 1);
        }
    }
}

#[test]
fn a_constant_value_shows_its_changes_although_the_counts_vary() {
    let rows: Vec<f64> = (0..200)
        .flat_map(|row| [9.0, 0.0, 58.0 + f64::from(row % 4)])
        .collect();
    let (model, replaced) = told(&rows, "mean,std,count", &TrainOptions::default());
    assert_eq!(replaced, Some(Replaced::NeverVaried { tolerance: 9e-6 }));
    assert_eq!(anomalies(&model, &rows), 0);
    assert_eq!(
        anomalies(&model, &[9.5, 0.0, 60.0, 9.0, 0.01, 60.0, 9.0, 0.0, 5.0]),
        3
    );
}

#[test]
fn values_that_repeat_are_not_flagged_and_others_are() {
    let window = |value: f64| [value, 0.0, value, value];
    let of = |levels: &[(f64, usize)]| -> Vec<f64> {
        levels
            .iter()
            .flat_map(|(value, count)| window(*value).repeat(*count))
            .collect()
    };
    for levels in [
        vec![(0.0, 90), (1.0, 90)],
        vec![(0.0, 171), (1.0, 9)],
        vec![(0.0, 179), (1.0, 1)],
        vec![(9.0, 50), (9.5, 60), (10.0, 70)],
        vec![(0.0, 1), (1.0, 1)],
        vec![(20.0, 3), (21.0, 4), (22.0, 2)],
    ] {
        let rows = of(&levels);
        for nu in [0.01, 0.1, 0.5] {
            let options = TrainOptions {
                nu,
                ..TrainOptions::default()
            };
            let (model, _) = told(&rows, "mean,std,min,max", &options);
            let flagged = anomalies(&model, &rows);
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let outliers = (nu * (rows.len() / 4) as f64) as usize;
            assert!(flagged <= outliers, "{levels:?} nu {nu}: {flagged}");
            assert_eq!(anomalies(&model, &window(50.0)), 1, "{levels:?} nu {nu}");
        }
        let (model, replaced) = told(&rows, "mean,std,min,max", &TrainOptions::default());
        assert!(
            matches!(replaced, Some(Replaced::BoundaryMoved { .. })),
            "{levels:?}"
        );
        // Levels that are near to each other make one cloud; others do not.
        if let [(low, _), (high, _)] = levels[..] {
            let between = window((low + high) / 2.0);
            assert_eq!(anomalies(&model, &between), 1, "{levels:?}");
        }
    }
}

#[test]
fn a_value_that_only_grew_is_told_of() {
    let counter = |rows: u32, reset: u32| -> Vec<f64> {
        let value = |row: u32| f64::from((row % reset) * 7 + row % 3);
        let window = |row| [value(row), 2.0, value(row) - 3.0, value(row) + 3.0];
        (0..rows).flat_map(window).collect()
    };
    let of = |rows: &[f64]| told(rows, "mean,std,min,max", &TrainOptions::default()).1;
    assert_eq!(of(&counter(400, 1_000)), Some(Replaced::OnlyGrew));
    assert_eq!(of(&counter(400, 399)), None);
    assert_ne!(of(&counter(19, 1_000)), Some(Replaced::OnlyGrew));
    assert_ne!(
        of(&counter(400, 1_000).into_iter().rev().collect::<Vec<_>>()),
        Some(Replaced::OnlyGrew)
    );
    // A set point that was raised once is none.
    let raised: Vec<f64> = (0..400).flat_map(|row| [f64::from(row / 200); 4]).collect();
    assert_ne!(of(&raised), Some(Replaced::OnlyGrew));
}

#[test]
fn values_that_differ_keep_the_boundary_of_the_solver() {
    for count in [800, 2_000] {
        for nu in [0.01, 0.1] {
            let options = TrainOptions {
                nu,
                ..TrainOptions::default()
            };
            assert_eq!(
                told(&rows(count, 4), "mean,std,min,max", &options).1,
                None,
                "{count} {nu}"
            );
        }
    }
}

#[test]
fn a_kernel_that_separates_nothing_is_refused() {
    let options = TrainOptions {
        kernel: TrainKernel::Linear,
        ..TrainOptions::default()
    };
    let refused = train(&rows(400, 2), features("mean,std"), &options).unwrap_err();
    assert!(matches!(refused, TrainError::Degenerate { .. }), "{refused}");
    assert!(refused.to_string().contains("use the rbf kernel"), "{refused}");
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
            .unwrap()
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
    assert_eq!(gamma(Gamma::PerFeature(3.0), true), 1.5);
    assert_eq!("scale".parse::<Gamma>().unwrap(), Gamma::Scale);
    assert_eq!("0.25".parse::<Gamma>().unwrap(), Gamma::Value(0.25));
    assert_eq!("3/d".parse::<Gamma>().unwrap(), Gamma::PerFeature(3.0));
    assert_eq!(Gamma::PerFeature(3.0).to_string(), "3/d");
    for text in ["", "-1", "0", "inf", "NaN", "wide", "/d", "0/d", "3/f"] {
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
            max_rows: 20_001,
            ..options.clone()
        },
        TrainOptions {
            max_rows: 5_001,
            kernel: TrainKernel::Linear,
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
