//! How a detector's score changes around a prepared row, and which way what is normal lies.

use crate::svm::exp_of_nonpositive;
use crate::{
    CodePath, Detector, EllipticEnvelope, IsolationForest, Kernel, LocalOutlierFactor, NearestNeighbours,
    OneClassSvm, PrincipalComponents, RobustZ, TreeNode,
};

/// The gradient of the score at a row, and the way to the row from what is normal there.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Slope {
    pub(super) gradient: Vec<f64>,
    pub(super) way: Vec<f64>,
}

impl Slope {
    /// Returns the slope at a prepared row.
    pub(super) fn of(detector: &Detector, row: &[f64]) -> Self {
        match detector {
            Detector::OneClassSvm(svm) => match svm.kernel() {
                Kernel::Rbf { gamma } => of_rbf(svm, gamma, row),
                kernel => of_dot_products(svm, kernel, row),
            },
            Detector::EllipticEnvelope(envelope) => of_envelope(envelope, row),
            Detector::IsolationForest(forest) => by_removal(detector, row, &middle_of_splits(forest, row)),
            Detector::LocalOutlierFactor(factor) => by_removal(detector, row, &mean_of_rows(factor)),
            Detector::PrincipalComponents(components) => of_components(components, row),
            Detector::RobustZ(robust) => of_robust_z(robust, row),
            Detector::NearestNeighbours(nearest) => of_nearest(nearest, row),
        }
    }

    /// Returns the part of each feature in the score.
    pub(super) fn parts(&self) -> impl Iterator<Item = f64> {
        let parts = self.gradient.iter().zip(&self.way);
        parts
            .map(|(gradient, way)| gradient * way)
            .map(|part| if part.is_finite() { part } else { f64::MAX })
    }

    /// Returns the slope before each feature was multiplied with a factor.
    pub(super) fn stretched(self, factors: impl Iterator<Item = f64> + Clone) -> Self {
        let gradient = self.gradient.iter().zip(factors.clone());
        let way = self.way.iter().zip(factors);
        Self {
            gradient: gradient.map(|(gradient, factor)| gradient * factor).collect(),
            // A factor of 0 hides the feature: its gradient is 0 as well.
            way: way
                .map(|(way, factor)| if factor == 0.0 { 0.0 } else { way / factor })
                .collect(),
        }
    }
}

/// score = ln ρ − ln Σ αᵢ exp(−γ|x − xᵢ|²), so its gradient is 2γ(x − Σ wᵢxᵢ), where wᵢ is the share of the sum.
fn of_rbf(svm: &OneClassSvm, gamma: f64, row: &[f64]) -> Slope {
    let vectors = || svm.vectors().chunks_exact(svm.dimension());
    let squares = |vector: &[f64]| -> f64 { vector.iter().zip(row).map(|(a, b)| (a - b) * (a - b)).sum() };
    let nearest = vectors().map(squares).fold(f64::INFINITY, f64::min);
    let mut normal = vec![0.0; row.len()];
    let mut all = 0.0;
    for (vector, coefficient) in vectors().zip(svm.coefficients()) {
        // Relative to the nearest vector, so that the weights of a far row do not all underflow.
        let weight = coefficient.max(0.0) * exp_of_nonpositive(-gamma * (squares(vector) - nearest));
        all += weight;
        for (value, of_vector) in normal.iter_mut().zip(vector) {
            *value += weight * of_vector;
        }
    }
    let way: Vec<f64> = normal
        .iter()
        .zip(row)
        .map(|(normal, value)| value - normal / all)
        .collect();
    Slope {
        gradient: way.iter().map(|way| 2.0 * gamma * way).collect(),
        way,
    }
}

/// Other kernels are functions of v·x, and their score falls with the decision; the way is from the support vectors' mean.
fn of_dot_products(svm: &OneClassSvm, kernel: Kernel, row: &[f64]) -> Slope {
    let (mut gradient, mut mean) = (vec![0.0; row.len()], vec![0.0; row.len()]);
    #[allow(clippy::cast_precision_loss)] // Far below 2^53.
    let count = svm.coefficients().len() as f64;
    for (vector, coefficient) in svm
        .vectors()
        .chunks_exact(svm.dimension())
        .zip(svm.coefficients())
    {
        let dot: f64 = vector.iter().zip(row).map(|(a, b)| a * b).sum();
        let slope = coefficient * kernel.slope(dot);
        for ((gradient, mean), value) in gradient.iter_mut().zip(&mut mean).zip(vector) {
            *gradient -= slope * value;
            *mean += value / count;
        }
    }
    let way = row.iter().zip(mean).map(|(value, mean)| value - mean).collect();
    Slope { gradient, way }
}

/// score = ln(d²/−offset), where d² = (x − μ)ᵀP(x − μ), so its gradient is 2P(x − μ)/d².
fn of_envelope(envelope: &EllipticEnvelope, row: &[f64]) -> Slope {
    let way: Vec<f64> = row
        .iter()
        .zip(envelope.location())
        .map(|(value, centre)| value - centre)
        .collect();
    let weighed = |line: &[f64]| -> f64 { line.iter().zip(&way).map(|(a, b)| a * b).sum() };
    let gradient: Vec<f64> = envelope
        .precision()
        .chunks_exact(way.len())
        .map(weighed)
        .collect();
    let square: f64 = gradient.iter().zip(&way).map(|(a, b)| a * b).sum();
    let gradient = gradient
        .into_iter()
        .map(|gradient| 2.0 * gradient / square)
        .collect();
    Slope { gradient, way }
}

/// score = ln(T²/limit) or ln(Q/limit), whichever is larger, with the gradient 2P(x − μ)/T² or /Q: P weighs the components that
/// are kept by 1/λ for T², and the others by 1 for Q.
fn of_components(components: &PrincipalComponents, row: &[f64]) -> Slope {
    let beyond = components.beyond(row);
    let kept = components.variances();
    let (mut gradient, mut square) = (vec![0.0; row.len()], 0.0);
    let coordinates = components.coordinates(row).enumerate();
    for ((at, coordinate), weights) in coordinates.zip(components.components().chunks_exact(row.len())) {
        let weighed = match (beyond.t2 >= beyond.q, kept.get(at)) {
            (true, Some(variance)) => coordinate / variance,
            (false, None) => coordinate,
            _ => continue,
        };
        square += weighed * coordinate;
        for (gradient, weight) in gradient.iter_mut().zip(weights) {
            *gradient += 2.0 * weighed * weight;
        }
    }
    let way = row.iter().zip(components.centre());
    Slope {
        gradient: match square > 0.0 {
            true => gradient.into_iter().map(|gradient| gradient / square).collect(),
            false => gradient,
        },
        way: way.map(|(value, centre)| value - centre).collect(),
    }
}

/// score = ln(|xⱼ − mⱼ|/scaleⱼ/limitⱼ) of the feature with the largest distance, which alone has a gradient: 1/(xⱼ − mⱼ).
fn of_robust_z(robust: &RobustZ, row: &[f64]) -> Slope {
    let way: Vec<f64> = row
        .iter()
        .zip(robust.centre())
        .map(|(value, centre)| value - centre)
        .collect();
    let largest = robust
        .beyond(row)
        .enumerate()
        .max_by(|(_, a), (_, b)| a.total_cmp(b));
    let mut gradient = vec![0.0; row.len()];
    if let Some((at, _)) = largest.filter(|(at, _)| way[*at] != 0.0) {
        gradient[at] = 1.0 / way[at];
    }
    Slope { gradient, way }
}

/// score = ln(|x − xᵢ|/limit), where xᵢ is the k-th nearest row, so its gradient is (x − xᵢ)/|x − xᵢ|².
fn of_nearest(nearest: &NearestNeighbours, row: &[f64]) -> Slope {
    let square = |other: &[f64]| -> f64 { other.iter().zip(row).map(|(a, b)| (a - b) * (a - b)).sum() };
    let mut others: Vec<&[f64]> = nearest.rows().chunks_exact(row.len()).collect();
    let order = |a: &&[f64], b: &&[f64]| square(a).total_cmp(&square(b));
    let (_, other, _) = others.select_nth_unstable_by(nearest.neighbours() - 1, order);
    let way: Vec<f64> = row
        .iter()
        .zip(other.iter())
        .map(|(value, other)| value - other)
        .collect();
    let square: f64 = way.iter().map(|way| way * way).sum();
    let gradient = way.iter().map(|way| match square > 0.0 {
        true => way / square,
        false => 0.0,
    });
    Slope {
        gradient: gradient.collect(),
        way,
    }
}

/// Where a score has steps instead of a gradient: how much it falls if one feature after the other has its usual value.
fn by_removal(detector: &Detector, row: &[f64], usual: &[f64]) -> Slope {
    let score = |row: &[f64]| {
        let (mut decision, mut score) = ([0.0], [0.0]);
        detector.score(CodePath::best(), row, &mut decision, &mut score);
        score[0]
    };
    let own = score(row);
    let mut without = row.to_vec();
    let gradient = (0..row.len()).map(|at| {
        without[at] = usual[at];
        let fall = own - score(&without);
        without[at] = row[at];
        let way = row[at] - usual[at];
        if way == 0.0 { 0.0 } else { fall / way }
    });
    Slope {
        gradient: gradient.collect(),
        way: row
            .iter()
            .zip(usual)
            .map(|(value, usual)| value - usual)
            .collect(),
    }
}

/// Returns the median of the thresholds at which a forest splits each feature; the row's own value where it splits none.
fn middle_of_splits(forest: &IsolationForest, row: &[f64]) -> Vec<f64> {
    let mut thresholds = vec![Vec::new(); row.len()];
    for node in forest.trees().iter().flatten() {
        if let TreeNode::Split {
            feature, threshold, ..
        } = node
        {
            thresholds[*feature as usize].push(*threshold);
        }
    }
    let middles = thresholds.iter_mut().zip(row).map(|(thresholds, value)| {
        let middle = thresholds.len() / 2;
        match thresholds.is_empty() {
            true => *value,
            false => *thresholds.select_nth_unstable_by(middle, f64::total_cmp).1,
        }
    });
    middles.collect()
}

fn mean_of_rows(factor: &LocalOutlierFactor) -> Vec<f64> {
    let dimension = factor.dimension();
    #[allow(clippy::cast_precision_loss)] // Far below 2^53.
    let count = factor.densities().len() as f64;
    let mut mean = vec![0.0; dimension];
    for row in factor.rows().chunks_exact(dimension) {
        for (mean, value) in mean.iter_mut().zip(row) {
            *mean += value / count;
        }
    }
    mean
}
