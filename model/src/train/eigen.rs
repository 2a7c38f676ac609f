//! Eigenvectors of a symmetric matrix.

/// Most rounds through all pairs: the off-diagonal falls quadratically, so that six or seven suffice.
const ROUNDS: usize = 64;

/// Returns the eigenvalues of a symmetric matrix, the largest first, and their unit vectors, one after the other.
///
/// The cyclic method of Jacobi (Golub and Van Loan, "Matrix computations", 4th edition, section 8.5), which is exact to
/// rounding for matrices as small as these. The largest entry of each vector is positive, so that the result is one.
pub(super) fn symmetric(mut matrix: Vec<f64>, dimension: usize) -> (Vec<f64>, Vec<f64>) {
    let mut vectors = vec![0.0; dimension * dimension];
    vectors
        .iter_mut()
        .step_by(dimension + 1)
        .for_each(|one| *one = 1.0);
    for _ in 0..ROUNDS {
        let mut rotated = false;
        for p in 0..dimension {
            for q in p + 1..dimension {
                rotated |= rotate(&mut matrix, &mut vectors, dimension, (p, q));
            }
        }
        if !rotated {
            break;
        }
    }
    let mut order: Vec<usize> = (0..dimension).collect();
    let value = |at: usize| matrix[at * dimension + at];
    order.sort_by(|a, b| value(*b).total_cmp(&value(*a)));
    let values = order.iter().map(|at| value(*at)).collect();
    let mut sorted = Vec::with_capacity(vectors.len());
    for at in order {
        let vector = &vectors[at * dimension..][..dimension];
        let largest = vector.iter().copied().max_by(|a, b| a.abs().total_cmp(&b.abs()));
        let sign = largest.map_or(1.0, f64::signum);
        sorted.extend(vector.iter().map(|entry| sign * entry));
    }
    (values, sorted)
}

/// Rotates two axes so that their entry off the diagonal becomes 0; `false` if it is 0 already, next to the diagonal.
fn rotate(matrix: &mut [f64], vectors: &mut [f64], dimension: usize, (p, q): (usize, usize)) -> bool {
    let at = |row: usize, column: usize| row * dimension + column;
    let (pp, qq, pq) = (matrix[at(p, p)], matrix[at(q, q)], matrix[at(p, q)]);
    if pq.abs() <= f64::EPSILON * (pp.abs() * qq.abs()).sqrt() || pq == 0.0 {
        return false;
    }
    let ratio = (qq - pp) / (2.0 * pq);
    let tangent = ratio.signum() / (ratio.abs() + ratio.hypot(1.0));
    let cosine = 1.0 / tangent.hypot(1.0);
    let sine = tangent * cosine;
    let turn = |numbers: &mut [f64], a: usize, b: usize| {
        (numbers[a], numbers[b]) = (
            cosine * numbers[a] - sine * numbers[b],
            sine * numbers[a] + cosine * numbers[b],
        );
    };
    for k in 0..dimension {
        turn(matrix, at(k, p), at(k, q));
    }
    for k in 0..dimension {
        turn(matrix, at(p, k), at(q, k));
        turn(vectors, at(p, k), at(q, k));
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_orthonormal_and_give_the_matrix_back() {
        for dimension in 1..=10 {
            let mut state = 7_u64;
            let mut next = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 11) as f64 / (1_u64 << 53) as f64 - 0.5
            };
            let mut matrix = vec![0.0; dimension * dimension];
            for row in 0..dimension {
                for column in 0..=row {
                    let entry = next();
                    matrix[row * dimension + column] = entry;
                    matrix[column * dimension + row] = entry;
                }
            }
            let (values, vectors) = symmetric(matrix.clone(), dimension);
            assert!(values.is_sorted_by(|a, b| a >= b));
            let vector = |at: usize| &vectors[at * dimension..][..dimension];
            for a in 0..dimension {
                for b in 0..dimension {
                    let dot: f64 = vector(a).iter().zip(vector(b)).map(|(a, b)| a * b).sum();
                    assert!((dot - f64::from(u8::from(a == b))).abs() < 1e-14);
                    let entry = (0..dimension).map(|at| values[at] * vector(at)[a] * vector(at)[b]);
                    assert!((entry.sum::<f64>() - matrix[a * dimension + b]).abs() < 1e-14);
                }
            }
        }
    }
}
