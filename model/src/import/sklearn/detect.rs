//! Detectors of scikit-learn, and PyOD's wrappers of them.

use super::super::numpy::Records;
use super::super::value::{Global, Value};
use super::super::{ImportError, shown};
use super::estimator::Estimator;
use crate::detector::average_depth;
use crate::{
    Detector, EllipticEnvelope, IsolationForest, Kernel, LocalOutlierFactor, MAX_NODES, Metric, ModelError,
    OneClassSvm, Tree, TreeNode,
};

/// Returns the detector, or `None` if it is not one that can be imported.
pub(super) fn detector(object: Estimator<'_, '_>) -> Result<Option<Detector>, ImportError> {
    let pyod = |inner: Estimator<'_, '_>, of: fn(Estimator<'_, '_>, f64) -> Result<Detector, ImportError>| {
        // PyOD's score is minus the decision, and a row is normal up to its threshold.
        of(inner, object.single("threshold_")?)
    };
    let class = object.values.class(object.id);
    Ok(Some(match class {
        Some(Global::OneClassSvm) => one_class_svm(object, 0.0)?,
        Some(Global::SgdOneClassSvm) => linear(object)?,
        Some(Global::IsolationForest) => isolation_forest(object, 0.0)?,
        Some(Global::EllipticEnvelope) => elliptic_envelope(object)?,
        Some(Global::LocalOutlierFactor) => local_outlier_factor(object, object.single("offset_")?)?,
        Some(Global::PyodForest) => pyod(object.inner("detector_")?, isolation_forest)?,
        Some(Global::PyodSvm) => pyod(object.inner("detector_")?, one_class_svm)?,
        // This one has its score from the factor itself, without the offset.
        Some(Global::PyodFactor) => {
            local_outlier_factor(object.inner("detector_")?, -object.single("threshold_")?)?
        }
        _ => return Ok(None),
    }))
}

fn one_class_svm(svm: Estimator<'_, '_>, threshold: f64) -> Result<Detector, ImportError> {
    svm.check_class("OneClassSVM")?;
    if svm.flag("_sparse")? {
        return Err(ImportError::Sparse);
    }
    let kernel = kernel(svm)?;
    let vectors = svm.array("support_vectors_")?;
    let &[count, dimension] = vectors.shape.as_slice() else {
        return Err(svm.wrong("support_vectors_", "is not a table of vectors"));
    };
    // decision_function uses the names with a leading underscore; models fitted by hand may have only the others.
    let coefficients = svm.first_of(["_dual_coef_", "dual_coef_"])?.numbers;
    if coefficients.len() != count {
        return Err(svm.wrong("dual_coef_", "has another length than `support_vectors_`"));
    }
    let intercept = svm.first_of(["_intercept_", "intercept_"])?;
    let [intercept] = *intercept.numbers else {
        return Err(svm.wrong("intercept_", "is not one number"));
    };
    let numbers = vectors.numbers;
    // Adding 0 changes nothing, not even in the last digit.
    let intercept = intercept + threshold;
    Ok(OneClassSvm::new(dimension, numbers, coefficients, intercept, kernel)?.into())
}

fn kernel(svm: Estimator<'_, '_>) -> Result<Kernel, ImportError> {
    let name = svm.required("kernel")?;
    let name = svm.values.text(name);
    match name.ok_or(svm.wrong("kernel", "is not the name of a kernel"))? {
        "linear" => Ok(Kernel::Linear),
        "rbf" => Ok(Kernel::Rbf {
            gamma: svm.number("_gamma")?,
        }),
        "poly" => Ok(Kernel::Polynomial {
            gamma: svm.number("_gamma")?,
            coef0: svm.number("coef0")?,
            degree: degree(svm)?,
        }),
        "sigmoid" => Ok(Kernel::Sigmoid {
            gamma: svm.number("_gamma")?,
            coef0: svm.number("coef0")?,
        }),
        other => Err(ImportError::Kernel(shown(other))),
    }
}

fn degree(svm: Estimator<'_, '_>) -> Result<u32, ImportError> {
    let degree = svm.number("degree")?;
    if degree.fract() != 0.0 {
        return Err(svm.wrong("degree", "is not a whole number"));
    }
    #[allow(clippy::cast_possible_truncation)] // Saturates, and is then refused.
    let degree = degree as i64;
    u32::try_from(degree).map_err(|_| ModelError::Degree(degree).into())
}

/// A linear SVM that was fitted step by step: its plane is one vector.
fn linear(svm: Estimator<'_, '_>) -> Result<Detector, ImportError> {
    let plane = svm.row("coef_")?;
    let offset = svm.single("offset_")?;
    Ok(OneClassSvm::new(plane.len(), plane, vec![1.0], -offset, Kernel::Linear)?.into())
}

fn isolation_forest(forest: Estimator<'_, '_>, threshold: f64) -> Result<Detector, ImportError> {
    forest.check_class("IsolationForest")?;
    let values = forest.values;
    let list = |attribute| -> Result<_, ImportError> {
        let items = values.items(forest.required(attribute)?);
        items.ok_or(forest.wrong(attribute, "is not a list"))
    };
    let (estimators, columns) = (list("estimators_")?, list("estimators_features_")?);
    if estimators.len() != columns.len() {
        return Err(forest.wrong("estimators_features_", "has another length than `estimators_`"));
    }
    let mut trees = Vec::with_capacity(estimators.len());
    for (estimator, columns) in estimators.iter().zip(columns) {
        let columns = Estimator::indices(values, *columns);
        let columns = columns.ok_or(forest.wrong("estimators_features_", "is not a list of columns"))?;
        let arrays = values.attribute(*estimator, "tree_");
        let arrays = arrays.and_then(|id| Estimator::of(values, id));
        trees.push(tree(
            arrays.ok_or(forest.wrong("estimators_", "is not a list of trees"))?,
            &columns,
            trees.iter().map(Vec::len).sum(),
        )?);
    }
    let dimension = match forest.optional("n_features_in_") {
        Some(_) => forest.count("n_features_in_")?,
        None => forest.count("n_features_")?,
    };
    #[allow(clippy::cast_precision_loss)] // A count of trees.
    let scale = trees.len() as f64 * average_depth(forest.number("_max_samples")?);
    let offset = forest.single("offset_")? - threshold;
    Ok(Detector::IsolationForest(IsolationForest::new(
        dimension, trees, scale, offset,
    )?))
}

/// Reads the nodes of a tree that was fitted on some of the columns.
///
/// There are `so_far` nodes already: many trees may share the same arrays.
fn tree(arrays: Estimator<'_, '_>, columns: &[usize], so_far: usize) -> Result<Tree, ImportError> {
    let nodes = arrays.required("nodes")?;
    let wrong = |problem| arrays.wrong("nodes", problem);
    let records = Records::read(arrays.values, nodes).map_err(wrong)?;
    let column = |name| records.column(name).map_err(wrong);
    let (left, right, feature) = (column("left_child")?, column("right_child")?, column("feature")?);
    let (threshold, rows) = (column("threshold")?, column("n_node_samples")?);
    let nodes = so_far + left.len();
    if nodes > MAX_NODES {
        return Err(ModelError::Nodes(nodes).into());
    }
    let mut steps = vec![1.0; left.len()];
    let mut tree = Vec::with_capacity(left.len());
    for at in 0..left.len() {
        if left[at] < 0.0 {
            let depth = steps[at] + average_depth(rows[at]) - 1.0;
            tree.push(TreeNode::Leaf { depth });
            continue;
        }
        let (left, right) = (index(left[at]), index(right[at]));
        let next = steps[at] + 1.0;
        for child in [left, right] {
            // Children come after their parents, or the forest refuses the tree.
            if let Some(steps) = steps.get_mut(child as usize) {
                *steps = next;
            }
        }
        let feature = columns.get(index(feature[at]) as usize).copied();
        let feature = feature.ok_or(wrong("reads a column that does not exist"))?;
        #[allow(clippy::cast_possible_truncation)] // The forest checks that it is below the dimension.
        let feature = feature as u32;
        tree.push(TreeNode::Split {
            feature,
            threshold: threshold[at],
            left,
            right,
        });
    }
    Ok(tree)
}

/// Converts an index that was read as a number; what is out of range does not exist and is refused as such.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn index(number: f64) -> u32 {
    number as u32
}

fn elliptic_envelope(envelope: Estimator<'_, '_>) -> Result<Detector, ImportError> {
    let location = envelope.row("location_")?;
    if let Some(precision) = envelope.optional("precision_")
        && matches!(envelope.values.get(precision), Value::None)
    {
        return Err(envelope.wrong("precision_", "is None: fit it with `store_precision=True`"));
    }
    let precision = envelope.array("precision_")?;
    if precision.shape != [location.len(), location.len()] {
        return Err(envelope.wrong("precision_", "is not a square of the centre's size"));
    }
    let offset = envelope.single("offset_")?;
    Ok(Detector::EllipticEnvelope(EllipticEnvelope::new(
        location,
        precision.numbers,
        offset,
    )?))
}

fn local_outlier_factor(factor: Estimator<'_, '_>, offset: f64) -> Result<Detector, ImportError> {
    factor.check_class("LocalOutlierFactor")?;
    if !factor.flag("novelty")? {
        return Err(factor.wrong(
            "novelty",
            "is False, so that it scores only the rows that it was fitted on: fit it with `novelty=True`",
        ));
    }
    let name = factor.values.text(factor.required("effective_metric_")?);
    let metric = match name {
        Some("euclidean" | "l2") => Metric::Euclidean,
        Some("manhattan" | "l1" | "cityblock") => Metric::Manhattan,
        Some("chebyshev") => Metric::Chebyshev,
        name => return Err(ImportError::Metric(name.map_or("a function".into(), shown))),
    };
    let neighbours = factor.count("n_neighbors_")?;
    let rows = factor.array("_fit_X")?;
    let distances = factor.array("_distances_fit_X_")?;
    let (&[count, _], &[of, each]) = (rows.shape.as_slice(), distances.shape.as_slice()) else {
        return Err(factor.wrong("_fit_X", "is not a table of rows"));
    };
    if count != of || neighbours == 0 || each < neighbours {
        return Err(factor.wrong("_distances_fit_X_", "does not hold the neighbours of every row"));
    }
    let reaches = distances
        .numbers
        .chunks_exact(each)
        .map(|row| row[neighbours - 1])
        .collect();
    let densities = factor.row("_lrd")?;
    let factor = LocalOutlierFactor::new(neighbours, metric, rows.numbers, reaches, densities, offset)?;
    Ok(Detector::LocalOutlierFactor(factor))
}
