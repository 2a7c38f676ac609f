//! Version 2 of the model file: any steps and detector.

use serde::{Deserialize, Serialize};

use super::{FormatError, feature_codes, features, kernel, kernel_parts};
use crate::{
    Clip, Detector, EllipticEnvelope, IsolationForest, LocalOutlierFactor, Metric, Model, ModelError,
    NearestNeighbours, OneClassSvm, PrincipalComponents, Projection, RobustZ, Scaler, Step, Stretch, Tree,
    TreeNode,
};

/// The contents after the header. A change to them must raise the version; new variants go at the end.
#[derive(Serialize, Deserialize)]
pub(super) struct Body {
    provenance: String,
    features: Vec<u8>,
    steps: Vec<StoredStep>,
    detector: StoredDetector,
}

#[derive(Serialize, Deserialize)]
pub(super) enum StoredStep {
    Scale {
        mean: Vec<f64>,
        scale: Vec<f64>,
    },
    Stretch {
        factor: Vec<f64>,
        offset: Vec<f64>,
    },
    Project {
        inputs: u32,
        weights: Vec<f64>,
    },
    /// Since version 3.
    Clip {
        limits: Vec<f64>,
    },
}

#[derive(Serialize, Deserialize)]
pub(super) enum StoredDetector {
    OneClassSvm {
        dimension: u32,
        kernel: (u8, f64, f64, u32),
        intercept: f64,
        coefficients: Vec<f64>,
        vectors: Vec<f64>,
    },
    IsolationForest {
        dimension: u32,
        scale: f64,
        offset: f64,
        /// Number of nodes of each tree.
        sizes: Vec<u32>,
        /// The feature, left and right node of each split; the right node of a leaf is 0, which is no node's child.
        links: Vec<(u32, u32, u32)>,
        /// The threshold of a split, or the depth of a leaf.
        values: Vec<f64>,
    },
    EllipticEnvelope {
        location: Vec<f64>,
        precision: Vec<f64>,
        offset: f64,
    },
    LocalOutlierFactor {
        neighbours: u32,
        metric: u8,
        rows: Vec<f64>,
        reaches: Vec<f64>,
        densities: Vec<f64>,
        offset: f64,
    },
    /// Since version 5, as are the next.
    PrincipalComponents {
        centre: Vec<f64>,
        components: Vec<f64>,
        variances: Vec<f64>,
        t2_limit: f64,
        q_limit: f64,
    },
    RobustZ {
        centre: Vec<f64>,
        scale: Vec<f64>,
        limits: Vec<f64>,
    },
    NearestNeighbours {
        dimension: u32,
        neighbours: u32,
        rows: Vec<f64>,
        limit: f64,
    },
}

impl Body {
    pub(super) fn of(model: &Model) -> Self {
        Self {
            provenance: model.provenance().to_owned(),
            features: feature_codes(model.features()),
            steps: model.steps().iter().map(StoredStep::of).collect(),
            detector: StoredDetector::of(model.detector()),
        }
    }

    /// Returns the model, if the contents fit together.
    pub(super) fn model(self) -> Result<Model, FormatError> {
        let features = features(&self.features)?;
        let steps: Result<Vec<Step>, ModelError> = self.steps.into_iter().map(StoredStep::step).collect();
        let detector = self.detector.detector()?;
        Ok(Model::with_steps(features, steps?, detector, self.provenance)?)
    }
}

impl StoredStep {
    pub(super) fn of(step: &Step) -> Self {
        match step {
            Step::Scale(scaler) => Self::Scale {
                mean: scaler.mean().to_vec(),
                scale: scaler.scale().to_vec(),
            },
            Step::Stretch(stretch) => Self::Stretch {
                factor: stretch.factor().to_vec(),
                offset: stretch.offset().to_vec(),
            },
            Step::Project(projection) => Self::Project {
                inputs: narrow(step.inputs()),
                weights: projection.weights().to_vec(),
            },
            Step::Clip(clip) => Self::Clip {
                limits: clip.limits().to_vec(),
            },
        }
    }

    pub(super) fn step(self) -> Result<Step, ModelError> {
        Ok(match self {
            Self::Scale { mean, scale } => Step::Scale(Scaler::new(mean, scale)?),
            Self::Stretch { factor, offset } => Step::Stretch(Stretch::new(factor, offset)?),
            Self::Project { inputs, weights } => Step::Project(Projection::new(inputs as usize, weights)?),
            Self::Clip { limits } => Step::Clip(Clip::new(limits)?),
        })
    }
}

impl StoredDetector {
    pub(super) fn of(detector: &Detector) -> Self {
        match detector {
            Detector::OneClassSvm(svm) => Self::OneClassSvm {
                dimension: narrow(svm.dimension()),
                kernel: kernel_parts(svm.kernel()),
                intercept: svm.intercept(),
                coefficients: svm.coefficients().to_vec(),
                vectors: svm.vectors().to_vec(),
            },
            Detector::IsolationForest(forest) => Self::of_forest(forest),
            Detector::EllipticEnvelope(envelope) => Self::EllipticEnvelope {
                location: envelope.location().to_vec(),
                precision: envelope.precision().to_vec(),
                offset: envelope.offset(),
            },
            Detector::LocalOutlierFactor(factor) => Self::LocalOutlierFactor {
                neighbours: narrow(factor.neighbours()),
                metric: match factor.metric() {
                    Metric::Euclidean => 0,
                    Metric::Manhattan => 1,
                    Metric::Chebyshev => 2,
                },
                rows: factor.rows().to_vec(),
                reaches: factor.reaches().to_vec(),
                densities: factor.densities().to_vec(),
                offset: factor.offset(),
            },
            Detector::PrincipalComponents(components) => Self::PrincipalComponents {
                centre: components.centre().to_vec(),
                components: components.components().to_vec(),
                variances: components.variances().to_vec(),
                t2_limit: components.t2_limit(),
                q_limit: components.q_limit(),
            },
            Detector::RobustZ(robust) => Self::RobustZ {
                centre: robust.centre().to_vec(),
                scale: robust.scale().to_vec(),
                limits: robust.limits().to_vec(),
            },
            Detector::NearestNeighbours(nearest) => Self::NearestNeighbours {
                dimension: narrow(nearest.dimension()),
                neighbours: narrow(nearest.neighbours()),
                rows: nearest.rows().to_vec(),
                limit: nearest.limit(),
            },
        }
    }

    fn of_forest(forest: &IsolationForest) -> Self {
        let (mut links, mut values) = (Vec::new(), Vec::new());
        for node in forest.trees().iter().flatten() {
            match *node {
                TreeNode::Leaf { depth } => {
                    links.push((0, 0, 0));
                    values.push(depth);
                }
                TreeNode::Split {
                    feature,
                    threshold,
                    left,
                    right,
                } => {
                    links.push((feature, left, right));
                    values.push(threshold);
                }
            }
        }
        Self::IsolationForest {
            dimension: narrow(forest.dimension()),
            scale: forest.scale(),
            offset: forest.offset(),
            sizes: forest.trees().iter().map(|tree| narrow(tree.len())).collect(),
            links,
            values,
        }
    }

    pub(super) fn detector(self) -> Result<Detector, FormatError> {
        Ok(match self {
            Self::OneClassSvm {
                dimension,
                kernel: parts,
                intercept,
                coefficients,
                vectors,
            } => Detector::OneClassSvm(OneClassSvm::new(
                dimension as usize,
                vectors,
                coefficients,
                intercept,
                kernel(parts)?,
            )?),
            Self::IsolationForest {
                dimension,
                scale,
                offset,
                sizes,
                links,
                values,
            } => {
                let trees = trees(&sizes, &links, &values)?;
                Detector::IsolationForest(IsolationForest::new(dimension as usize, trees, scale, offset)?)
            }
            Self::EllipticEnvelope {
                location,
                precision,
                offset,
            } => Detector::EllipticEnvelope(EllipticEnvelope::new(location, precision, offset)?),
            Self::LocalOutlierFactor {
                neighbours,
                metric,
                rows,
                reaches,
                densities,
                offset,
            } => {
                let metric = match metric {
                    0 => Metric::Euclidean,
                    1 => Metric::Manhattan,
                    2 => Metric::Chebyshev,
                    code => return Err(FormatError::Code { what: "metric", code }),
                };
                let neighbours = neighbours as usize;
                Detector::LocalOutlierFactor(LocalOutlierFactor::new(
                    neighbours, metric, rows, reaches, densities, offset,
                )?)
            }
            Self::PrincipalComponents {
                centre,
                components,
                variances,
                t2_limit,
                q_limit,
            } => PrincipalComponents::new(centre, components, variances, t2_limit, q_limit)?.into(),
            Self::RobustZ {
                centre,
                scale,
                limits,
            } => RobustZ::new(centre, scale, limits)?.into(),
            Self::NearestNeighbours {
                dimension,
                neighbours,
                rows,
                limit,
            } => NearestNeighbours::new(dimension as usize, neighbours as usize, &rows, limit)?.into(),
        })
    }
}

/// Returns whether programs that read no newer version than 2 do not know a step.
pub(super) fn is_newer(step: &Step) -> bool {
    matches!(step, Step::Clip(_))
}

/// Returns whether programs that read no newer version than 3 do not know a detector.
pub(super) fn is_newest(detector: &Detector) -> bool {
    matches!(
        detector,
        Detector::PrincipalComponents(_) | Detector::RobustZ(_) | Detector::NearestNeighbours(_)
    )
}

/// Cuts the nodes into trees.
fn trees(sizes: &[u32], links: &[(u32, u32, u32)], values: &[f64]) -> Result<Vec<Tree>, ModelError> {
    let all: usize = sizes
        .iter()
        .fold(0, |all, size| all.saturating_add(*size as usize));
    if all != links.len() || all != values.len() {
        return Err(ModelError::Nodes(all));
    }
    let mut nodes = links.iter().zip(values).map(|(link, value)| match *link {
        (_, _, 0) => TreeNode::Leaf { depth: *value },
        (feature, left, right) => TreeNode::Split {
            feature,
            threshold: *value,
            left,
            right,
        },
    });
    Ok(sizes
        .iter()
        .map(|size| nodes.by_ref().take(*size as usize).collect())
        .collect())
}

/// Converts a size: all are checked to be far below 2^32.
#[allow(clippy::cast_possible_truncation)]
fn narrow(size: usize) -> u32 {
    size as u32
}
