//! Whitening: the rows are turned and scaled so that what moves together counts once.
//!
//! The matrix is V max(Λ, floor)^-1/2 Vᵀ, where V Λ Vᵀ is the covariance (ZCA; Kessy, Lewin and Strimmer, "Optimal whitening and
//! decorrelation", 2018). Of all matrices that whiten it is the one whose columns remain closest to those of the row, and it
//! does not depend on the order or the signs of the eigenvectors. The floor keeps directions in which the history hardly
//! moved, and of which it says little, from dominating.

use super::to_f64;

/// Smallest eigenvalue that counts, as a share of their mean.
const FLOOR: f64 = 0.1;

/// Most sweeps of the Jacobi method, which needs about six for 64 columns.
const SWEEPS: usize = 60;

/// Returns the matrix that whitens rows whose columns have the mean 0, row by row.
pub(super) fn whitening(rows: &[f64], columns: usize) -> Vec<f64> {
    let (values, vectors) = eigen(covariance(rows, columns), columns);
    let floor = FLOOR * values.iter().sum::<f64>() / to_f64(columns);
    // Nothing varies: any matrix will do.
    let floor = if floor > 0.0 { floor } else { 1.0 };
    let mut matrix = vec![0.0; columns * columns];
    for (at, value) in values.iter().enumerate() {
        let scale = 1.0 / value.max(floor).sqrt();
        let part = |column: usize| vectors[column * columns + at];
        for (place, weight) in matrix.iter_mut().enumerate() {
            *weight += scale * part(place / columns) * part(place % columns);
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

/// Returns the eigenvalues of a symmetric matrix, and its eigenvectors as the columns of another one.
///
/// Cyclic Jacobi rotations (Golub and Van Loan, "Matrix Computations", section 8.5).
fn eigen(mut matrix: Vec<f64>, size: usize) -> (Vec<f64>, Vec<f64>) {
    let mut vectors = vec![0.0; size * size];
    for at in 0..size {
        vectors[at * size + at] = 1.0;
    }
    for _ in 0..SWEEPS {
        let mut rotated = false;
        for p in 0..size {
            for q in p + 1..size {
                let (own, other, beside) = (matrix[p * size + p], matrix[q * size + q], matrix[p * size + q]);
                if beside.abs() <= f64::EPSILON * (own.abs() * other.abs()).sqrt().max(f64::MIN_POSITIVE) {
                    continue;
                }
                rotated = true;
                let theta = (other - own) / (2.0 * beside);
                let tangent = theta.signum() / (theta.abs() + theta.hypot(1.0));
                let cosine = 1.0 / tangent.hypot(1.0);
                let sine = tangent * cosine;
                for at in 0..size {
                    rotate(&mut matrix, at * size + p, at * size + q, cosine, sine);
                    rotate(&mut vectors, at * size + p, at * size + q, cosine, sine);
                }
                for at in 0..size {
                    rotate(&mut matrix, p * size + at, q * size + at, cosine, sine);
                }
            }
        }
        if !rotated {
            break;
        }
    }
    ((0..size).map(|at| matrix[at * size + at]).collect(), vectors)
}

fn rotate(numbers: &mut [f64], p: usize, q: usize, cosine: f64, sine: f64) {
    let (first, second) = (numbers[p], numbers[q]);
    numbers[p] = cosine * first - sine * second;
    numbers[q] = sine * first + cosine * second;
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
    fn eigenvectors_and_values_give_the_matrix_back() {
        let covariance = covariance(&rows(), 3);
        let (values, vectors) = eigen(covariance.clone(), 3);
        for (place, right) in covariance.iter().enumerate() {
            let (row, column) = (place / 3, place % 3);
            let back: f64 = (0..3)
                .map(|at| values[at] * vectors[3 * row + at] * vectors[3 * column + at])
                .sum();
            assert!((back - right).abs() < 1e-12, "{back} {right}");
        }
    }

    #[test]
    fn whitened_columns_have_no_part_in_common_and_what_hardly_varies_is_not_blown_up() {
        let rows = rows();
        let matrix = whitening(&rows, 3);
        let whitened: Vec<f64> = rows
            .chunks_exact(3)
            .flat_map(|row| product(&matrix, row))
            .collect();
        let (values, _) = eigen(covariance(&whitened, 3), 3);
        let mut values: Vec<f64> = values;
        values.sort_by(f64::total_cmp);
        // The difference of the two columns has 1 % of the variance: a tenth of the mean counts instead.
        assert!(values[0] < 0.2, "{values:?}");
        assert!(
            (values[1] - 1.0).abs() < 1e-9 && (values[2] - 1.0).abs() < 1e-9,
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
