//! Trains a model on a sensor's normal windows and scores two new ones with it.
//!
//! `cargo run --example score_a_window`

use std::error::Error;

use windrow_common::{Aggregate, EventTime};
use windrow_model::{Features, Scratch, TrainOptions, is_anomaly, train};

fn main() -> Result<(), Box<dyn Error>> {
    // One row per window, one column per feature: here the mean alone.
    let normal: Vec<f64> = (0..200)
        .map(|minute| 70.0 + (f64::from(minute) / 9.0).sin())
        .collect();
    let options = TrainOptions {
        nu: 0.05,
        ..TrainOptions::default()
    };
    let model = train(&normal, "mean".parse::<Features>()?, &options)?;
    let windows = [window(0, 70.3), window(1, 91.0)];
    let (mut scratch, mut decisions) = (Scratch::default(), Vec::new());
    model.decide(&windows, &mut scratch, &mut decisions)?;
    for (window, decision) in windows.iter().zip(&decisions) {
        let verdict = if is_anomaly(*decision) {
            "ANOMALY"
        } else {
            "normal"
        };
        println!(
            "{} mean {:.1} decision {decision:+.3} {verdict}",
            window.window_start, window.mean
        );
    }
    Ok(())
}

/// A window of a minute in which every reading was `value`.
fn window(minute: i64, value: f64) -> Aggregate {
    Aggregate {
        window_start: EventTime::from_millis(minute * 60_000),
        count: 60,
        mean: value,
        std: 0.0,
        min: value,
        max: value,
        first: value,
        last: value,
    }
}
