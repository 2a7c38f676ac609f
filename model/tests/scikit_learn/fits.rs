//! Models with an RBF kernel are those of libsvm, to nine digits.

use serde::Deserialize;
use windrow_model::{Feature, Features, Gamma, TrainOptions, train_and_tell};

use crate::fixtures::{Numbers, decide, read};

#[derive(Deserialize)]
struct Fits {
    fits: Vec<Fitted>,
}

/// A fit, and what it decides about 50 or more of its own rows and 50 others.
#[derive(Deserialize)]
struct Fitted {
    rows: usize,
    dimension: usize,
    nu: f64,
    gamma: f64,
    /// The step that values are rounded to; 0 if they are not.
    step: f64,
    /// By libsvm with kernel values of 64 bits.
    libsvm: Vec<f64>,
    /// By scikit-learn, whose libsvm keeps 32 bits of them.
    scikit_learn: Vec<f64>,
}

impl Fitted {
    fn draw(&self, numbers: &mut Numbers, count: usize, step: f64) -> Vec<f64> {
        let round = |value: f64| {
            if step > 0.0 {
                (value / step).floor() * step
            } else {
                value
            }
        };
        (0..count * self.dimension)
            .map(|_| round(2.0 * numbers.normal()))
            .collect()
    }
}

#[test]
fn trained_models_decide_as_libsvms_to_nine_digits() {
    let Fits { fits } = read("fits.json");
    assert_eq!(fits.len(), 8);
    for fit in fits {
        let mut numbers = Numbers(fit.rows as u64);
        let rows = fit.draw(&mut numbers, fit.rows, fit.step);
        let others = fit.draw(&mut numbers, 50, 0.0);
        let own = rows.chunks_exact(fit.dimension).step_by((fit.rows / 50).max(1));
        let mut held_out: Vec<f64> = own.flatten().copied().collect();
        held_out.extend(others.iter().map(|value| 1.5 * value));
        let options = TrainOptions {
            nu: fit.nu,
            gamma: Gamma::Value(fit.gamma),
            standardise: false,
            tolerance: 1e-12,
            max_rows: 5_000,
            ..TrainOptions::default()
        };
        let features = Features::new(&Feature::ALL[..fit.dimension]).unwrap();
        let (model, replaced) = train_and_tell(&rows, features, &options).unwrap();
        let decisions = decide(&model, &held_out);
        assert_eq!(decisions.len(), fit.libsvm.len());
        let moved = if replaced.is_some() {
            decisions[0] - fit.libsvm[0]
        } else {
            0.0
        };
        let largest = fit
            .libsvm
            .iter()
            .fold(0.0, |all: f64, right| all.max(right.abs()));
        let difference = |right: &[f64]| {
            let pairs = decisions.iter().zip(right);
            pairs.fold(0.0, |all: f64, (decision, right)| {
                all.max((decision - moved - right).abs())
            }) / largest
        };
        let (exact, rounded) = (difference(&fit.libsvm), difference(&fit.scikit_learn));
        println!(
            "{:>5} x {} nu {}: {exact:.1e}, scikit-learn {rounded:.1e}; {replaced:?}",
            fit.rows, fit.dimension, fit.nu
        );
        assert!(exact <= 1e-9, "{} x {}: {exact}", fit.rows, fit.dimension);
        assert!(rounded <= 1e-5, "{} x {}: {rounded}", fit.rows, fit.dimension);
    }
}
