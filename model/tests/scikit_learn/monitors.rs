//! Principal components, robust z and the nearest neighbour that are trained here score as numpy and scikit-learn do.

use serde::Deserialize;
use windrow_model::{
    CodePath, Detector, Feature, Features, Replaced, Scores, Scratch, TrainDetector, TrainOptions,
    train_and_tell,
};

use crate::fixtures::{Numbers, read};

#[derive(Deserialize)]
struct Monitors {
    monitors: Vec<Monitor>,
}

/// The scores of 50 rows after training on others.
#[derive(Deserialize)]
struct Monitor {
    rows: usize,
    dimension: usize,
    nu: f64,
    /// The step that training values are rounded to; 0 if they are not.
    step: f64,
    /// Number of components that explain nine tenths of the variance.
    kept: usize,
    /// Whether the rows are too few, so that limits are a tenth further out.
    few: bool,
    pca: Vec<f64>,
    robust_z: Vec<f64>,
    neighbours: Vec<f64>,
}

impl Monitor {
    fn draw(&self, numbers: &mut Numbers, count: usize, step: f64) -> Vec<f64> {
        let mut rows = Vec::new();
        for _ in 0..count {
            let level = numbers.normal();
            for at in 0..self.dimension {
                let at = at as f64;
                let value = (level + 0.3 * (at + 1.0) * numbers.normal()) * (at + 1.0) + 10.0 * at;
                rows.push(if step > 0.0 {
                    (value / step).floor() * step
                } else {
                    value
                });
            }
        }
        rows
    }
}

#[test]
fn trained_detectors_score_as_numpy_and_scikit_learn_do() {
    let Monitors { monitors } = read("monitors.json");
    assert_eq!(monitors.len(), 5);
    let mut flagged = 0;
    for monitor in monitors {
        let mut numbers = Numbers(monitor.rows as u64);
        let rows = monitor.draw(&mut numbers, monitor.rows, monitor.step);
        let mut others = monitor.draw(&mut numbers, 50, 0.0);
        for (at, value) in others.iter_mut().enumerate() {
            let centre = 10.0 * (at % monitor.dimension) as f64;
            *value = centre + 1.7 * (*value - centre);
        }
        for (detector, right) in [
            (TrainDetector::PrincipalComponents, &monitor.pca),
            (TrainDetector::RobustZ, &monitor.robust_z),
            (TrainDetector::NearestNeighbours, &monitor.neighbours),
        ] {
            let options = TrainOptions {
                detector,
                nu: monitor.nu,
                ..TrainOptions::default()
            };
            let features = Features::new(&Feature::ALL[1..=monitor.dimension]).unwrap();
            let (model, replaced) = train_and_tell(&rows, features, &options).unwrap();
            let moved = matches!(replaced, Some(Replaced::BoundaryMoved { .. }));
            assert_eq!(moved, monitor.few);
            if let Detector::PrincipalComponents(components) = model.detector() {
                assert_eq!(components.variances().len(), monitor.kept);
            }
            let mut scores = Scores::default();
            model
                .score_rows_on(CodePath::best(), &others, &mut Scratch::default(), &mut scores)
                .unwrap();
            for (score, right) in scores.scores.iter().zip(right) {
                assert!(
                    (score - right).abs() <= 1e-9 * right.abs().max(1.0),
                    "{detector} of {} rows: {score} is not {right}",
                    monitor.rows
                );
            }
            flagged += scores.scores.iter().filter(|score| **score > 0.0).count();
        }
    }
    assert!((50..700).contains(&flagged), "{flagged} of 750");
}
