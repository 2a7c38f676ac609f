//! Whitening: the rows are turned and scaled so that what moves together counts once.
//!
//! The matrix is V max(Λ, floor)^-1/2 Vᵀ, where V Λ Vᵀ is the covariance (ZCA; Kessy, Lewin and Strimmer, "Optimal whitening and
//! decorrelation", 2018). Of all matrices that whiten it is the one whose columns remain closest to those of the row, and it
//! does not depend on the order or the signs of the eigenvectors. The floor keeps directions in which the history hardly
//! moved, and of which it says little, from dominating.

use super::{eigen, to_f64};

/// Smallest eigenvalue that counts, as a share of their mean.
const FLOOR: f64 = 0.1;

/// Returns the matrix that whitens rows whose columns have the mean 0, row by row.
pub(super) fn whitening(rows: &[f64], columns: usize) -> Vec<f64> {
    let (values, vectors) = eigen::symmetric(covariance(rows, columns), columns);
    let floor = FLOOR * values.iter().sum::<f64>() / to_f64(columns);
    // Nothing varies: any matrix will do.
    let floor = if floor > 0.0 { floor } else { 1.0 };
    let mut matrix = vec![0.0; columns * columns];
    for (value, vector) in values.iter().zip(vectors.chunks_exact(columns)) {
        let scale = 1.0 / value.max(floor).sqrt();
        for (place, weight) in matrix.iter_mut().enumerate() {
            *weight += scale * vector[place / columns] * vector[place % columns];
        }
    }
    matrix
}

/// Returns the covariance of rows whose columns have the mean 0.
fn covariance(rows: &[f64], columns: usize) -> Vec<f64> {
    let count = to_f64(rows.len() / columns);
    let mut sums = vec![0.0; columns * columns];
    for row in rows.chunks_exact(columns) {
        for (sums, own) in sums.chunks_exact_mut(columns).zip(row) {
            for (sum, other) in sums.iter_mut().zip(row) {
                *sum += own * other;
            }
        }
    }
    sums.iter().map(|sum| sum / count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns rows of three columns: two that move together, and one of its own.
    fn rows() -> Vec<f64> {
        let wave = |row: u32, every: f64| (f64::from(row) / every).sin();
        let row = |row: u32| {
            let common = 1.4 * wave(row, 3.0);
            [
                common + 0.1 * wave(row, 0.7),
                common - 0.1 * wave(row, 0.9),
                1.4 * wave(row, 5.0),
            ]
        };
        let mut rows: Vec<f64> = (0..1_000).flat_map(row).collect();
        for column in 0..3 {
            let mean = rows.iter().skip(column).step_by(3).sum::<f64>() / 1_000.0;
            rows.iter_mut()
                .skip(column)
                .step_by(3)
                .for_each(|value| *value -= mean);
        }
        rows
    }

    fn product(matrix: &[f64], row: &[f64]) -> Vec<f64> {
        matrix
            .chunks_exact(row.len())
            .map(|weights| {
                weights
                    .iter()
                    .zip(row)
                    .map(|(weight, value)| weight * value)
                    .sum()
            })
            .collect()
    }

    #[test]
    fn whitened_columns_have_no_part_in_common_and_what_hardly_varies_is_not_blown_up() {
        let rows = rows();
        let matrix = whitening(&rows, 3);
        let whitened: Vec<f64> = rows
            .chunks_exact(3)
            .flat_map(|row| product(&matrix, row))
            .collect();
        let (values, _) = eigen::symmetric(covariance(&whitened, 3), 3);
        // The difference of the two columns has 1 % of the variance: a tenth of the mean counts instead.
        assert!(values[2] < 0.2, "{values:?}");
        assert!(
            (values[0] - 1.0).abs() < 1e-9 && (values[1] - 1.0).abs() < 1e-9,
            "{values:?}"
        );
        // Against the common part, a difference stands out more than as much of what is common.
        let length = |row: &[f64]| {
            product(&matrix, row)
                .iter()
                .map(|value| value * value)
                .sum::<f64>()
        };
        assert!(length(&[1.0, -1.0, 0.0]) > 5.0 * length(&[1.0, 1.0, 0.0]));
        assert!(whitening(&[0.0; 9], 3).iter().all(|weight| weight.is_finite()));
    }
}
