//! Fits nearest neighbours: the different rows, and how far each is from the others.

use std::collections::HashSet;

use super::limit::Limits;
use super::{Replaced, TrainError, TrainOptions, to_f64};
use crate::NearestNeighbours;

/// Which of the nearest rows counts.
const NEIGHBOURS: usize = 1;

/// Rows count as one if their features are equal after rounding to this many parts of a scaled feature's unit.
const PARTS: f64 = 1e6;

/// Smallest limit, as a share of the rows' spread.
const LEAST: f64 = 1e-3;

/// Fits to scaled rows, of which there are at least two.
///
/// The limit is a quantile of the distance of each row to the nearest other one. Rows that repeat each other count once: else a
/// sensor of few values would have a limit of 0, and every new value would be an anomaly.
pub(super) fn fit(
    rows: &[f64],
    dimension: usize,
    options: &TrainOptions,
) -> Result<(NearestNeighbours, Option<Replaced>), TrainError> {
    let mut seen = HashSet::new();
    let mut different = Vec::new();
    for row in rows.chunks_exact(dimension) {
        // Adding 0 makes -0 and 0 one.
        let rounded: Vec<u64> = row
            .iter()
            .map(|value| ((value * PARTS).round() + 0.0).to_bits())
            .collect();
        if seen.insert(rounded) {
            different.extend_from_slice(row);
        }
    }
    let limits = Limits::of(rows, dimension, options, 1);
    let count = different.len() / dimension;
    let least = LEAST * spread(&different, dimension);
    let neighbours = NEIGHBOURS.min(count);
    let nearest = NearestNeighbours::new(dimension, neighbours, &different, least)?;
    let others = nearest.rows().chunks_exact(dimension);
    // Each row is its own nearest one. A single one has no other.
    let mut distances: Vec<f64> = match count > neighbours {
        true => others.map(|row| nearest.distance(row, neighbours + 1)).collect(),
        false => vec![0.0],
    };
    let limit = limits.limit(&mut distances).max(least);
    Ok((nearest.with_limit(limit), limits.moved))
}

/// Returns the root of the rows' variance over all features; 1 if they do not vary.
fn spread(rows: &[f64], dimension: usize) -> f64 {
    let count = to_f64(rows.len() / dimension);
    let variance = |at: usize| {
        let column = || rows.iter().skip(at).step_by(dimension);
        let mean = column().sum::<f64>() / count;
        column().map(|value| (value - mean) * (value - mean)).sum::<f64>() / count
    };
    let all: f64 = (0..dimension).map(variance).sum();
    if all > 0.0 { all.sqrt() } else { 1.0 }
}
