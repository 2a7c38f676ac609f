//! Undoes a projection.

use crate::Projection;

/// A pivot below this share of the largest weight counts as 0.
const NO_PIVOT: f64 = 1e-12;

/// Returns the row that a square projection turns into `outputs`; `None` if several rows do, or none.
///
/// Gaussian elimination with partial pivoting.
pub(super) fn solve(projection: &Projection, outputs: &[f64]) -> Option<Vec<f64>> {
    let size = outputs.len();
    if projection.weights().len() != size * size {
        return None;
    }
    let mut rows: Vec<Vec<f64>> = (projection.weights().chunks_exact(size).zip(outputs))
        .map(|(weights, output)| weights.iter().chain([output]).copied().collect())
        .collect();
    let largest = projection
        .weights()
        .iter()
        .fold(0.0, |most: f64, weight| most.max(weight.abs()));
    for column in 0..size {
        let pivot =
            (column..size).max_by(|a, b| rows[*a][column].abs().total_cmp(&rows[*b][column].abs()))?;
        if rows[pivot][column].abs() <= NO_PIVOT * largest {
            return None;
        }
        rows.swap(column, pivot);
        let (done, below) = rows.split_at_mut(column + 1);
        let pivot = &done[column];
        for row in below {
            let factor = row[column] / pivot[column];
            for (value, above) in row.iter_mut().zip(pivot).skip(column) {
                *value -= factor * above;
            }
        }
    }
    let mut inputs = vec![0.0; size];
    for at in (0..size).rev() {
        let known: f64 = (at + 1..size).map(|other| rows[at][other] * inputs[other]).sum();
        inputs[at] = (rows[at][size] - known) / rows[at][at];
    }
    Some(inputs)
}
