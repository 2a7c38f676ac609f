//! Transformers of scikit-learn, as steps.

use super::super::parts::Parts;
use super::super::value::{Global, Value};
use super::super::{ImportError, shown};
use super::MAX_DEPTH;
use super::estimator::Estimator;
use crate::{Clip, Feature, ModelError, Projection, Scaler, Step, Stretch};

/// Returns the steps of a transformer, or `None` if it is not one that can be imported.
pub(super) fn steps(transformer: Estimator<'_, '_>, depth: usize) -> Result<Option<Vec<Step>>, ImportError> {
    let Some(class) = transformer.values.class(transformer.id) else {
        return Ok(None);
    };
    Ok(Some(match class {
        Global::StandardScaler => {
            let mean = part(transformer, "with_mean", "mean_")?;
            let scale = part(transformer, "with_std", "scale_")?;
            scaler(mean, scale)?
        }
        Global::RobustScaler => {
            let centre = part(transformer, "with_centering", "center_")?;
            let scale = part(transformer, "with_scaling", "scale_")?;
            scaler(centre, scale)?
        }
        Global::MaxAbsScaler => scaler(None, Some(transformer.row("scale_")?))?,
        Global::MinMaxScaler => {
            if transformer.optional("clip").is_some() && transformer.flag("clip")? {
                return Err(transformer.wrong(
                    "clip",
                    "is set, which no step of Windrow does: fit it with `clip=False`",
                ));
            }
            vec![Step::Stretch(Stretch::new(
                transformer.row("scale_")?,
                transformer.row("min_")?,
            )?)]
        }
        Global::Pca => pca(transformer)?,
        Global::FunctionTransformer => match transformer.values.get(transformer.required("func")?) {
            Value::None => Vec::new(),
            _ => return Err(transformer.wrong("func", "is a function, and no function is ever run")),
        },
        Global::ColumnTransformer => columns(transformer, depth)?,
        _ => return Ok(None),
    }))
}

/// Reads an array if the switch is on: scikit-learn stores some of the numbers even if its options say not to use them.
fn part(
    scaler: Estimator<'_, '_>,
    switch: &'static str,
    numbers: &'static str,
) -> Result<Option<Vec<f64>>, ImportError> {
    match scaler.flag(switch)? {
        true => scaler.row(numbers).map(Some),
        false => Ok(None),
    }
}

/// Returns the step of a scaler, or none if it neither centres nor scales.
fn scaler(mean: Option<Vec<f64>>, scale: Option<Vec<f64>>) -> Result<Vec<Step>, ImportError> {
    // Subtracting 0 and dividing by 1 change nothing, not even in the last digit.
    let (mean, scale) = match (mean, scale) {
        (None, None) => return Ok(Vec::new()),
        (Some(mean), None) => {
            let ones = vec![1.0; mean.len()];
            (mean, ones)
        }
        (None, Some(scale)) => (vec![0.0; scale.len()], scale),
        (Some(mean), Some(scale)) => (mean, scale),
    };
    Ok(vec![Step::Scale(Scaler::new(mean, scale)?)])
}

/// scikit-learn projects first, and then subtracts the projected mean.
fn pca(pca: Estimator<'_, '_>) -> Result<Vec<Step>, ImportError> {
    let components = pca.array("components_")?;
    let &[outputs, inputs] = components.shape.as_slice() else {
        return Err(pca.wrong("components_", "is not a table of components"));
    };
    let mean = pca.row("mean_")?;
    if mean.len() != inputs || inputs == 0 {
        return Err(pca.wrong("mean_", "has another length than the components"));
    }
    let projected = components.numbers.chunks_exact(inputs).map(|weights| {
        let terms = weights.iter().zip(&mean).map(|(weight, mean)| weight * mean);
        terms.sum::<f64>()
    });
    let projected: Vec<f64> = projected.collect();
    let scale = match pca.flag("whiten")? {
        true => pca
            .row("explained_variance_")?
            .into_iter()
            .map(|variance| variance.sqrt().max(f64::EPSILON))
            .collect(),
        false => vec![1.0; outputs],
    };
    Ok(vec![
        Step::Project(Projection::new(inputs, components.numbers)?),
        Step::Scale(Scaler::new(projected, scale)?),
    ])
}

/// Returns a `ColumnTransformer` as a selection of columns, and then its transformers, one after another, each of which
/// leaves the columns of the others as they are.
fn columns(transformer: Estimator<'_, '_>, depth: usize) -> Result<Vec<Step>, ImportError> {
    let values = transformer.values;
    let inputs = transformer.count("n_features_in_")?;
    if let Some(weights) = transformer.optional("transformer_weights")
        && !matches!(values.get(weights), Value::None)
    {
        return Err(transformer.wrong("transformer_weights", "are set, which cannot be imported"));
    }
    let list = values.items(transformer.required("transformers_")?);
    let list = list.ok_or(transformer.wrong("transformers_", "is not a list"))?;
    let indices = values.entries(transformer.required("_transformer_to_input_indices")?);
    let indices = indices.ok_or(transformer.wrong("_transformer_to_input_indices", "is not a dict"))?;
    let (mut selected, mut groups) = (Vec::new(), Vec::new());
    for item in list {
        let Some([name, inner, _]) = values.items(*item) else {
            return Err(transformer.wrong(
                "transformers_",
                "is not a list of names, transformers and columns",
            ));
        };
        let name = values.text(*name).unwrap_or("?");
        if values.text(*inner) == Some("drop") {
            continue;
        }
        let columns = indices.iter().find(|(known, _)| *known == name);
        let columns = columns.and_then(|(_, columns)| Estimator::indices(values, *columns));
        let columns =
            columns.ok_or(transformer.wrong("_transformer_to_input_indices", "does not name the columns"))?;
        if columns.is_empty() {
            continue;
        }
        let mut group = Parts::default();
        // Each may hold ten, so that three levels are enough.
        group.add(values, *inner, name, depth + MAX_DEPTH / 2)?;
        if group.detector.is_some() || depth >= MAX_DEPTH {
            let (step, found) = (shown(name), values.kind(*inner));
            return Err(ImportError::Step { step, found });
        }
        groups.push((columns.len(), group.steps));
        selected.extend(columns);
        if selected.len() > Feature::ALL.len() {
            return Err(ModelError::Dimension(selected.len()).into());
        }
    }
    side_by_side(inputs, &selected, groups)
}

/// Returns the steps of groups of columns as steps of all columns.
fn side_by_side(
    inputs: usize,
    selected: &[usize],
    groups: Vec<(usize, Vec<Step>)>,
) -> Result<Vec<Step>, ImportError> {
    let mut steps = vec![Step::Project(Projection::select(inputs, selected)?)];
    if selected.iter().copied().eq(0..inputs) {
        steps.clear();
    }
    let mut width = selected.len();
    let mut before = 0;
    for (mut own, group) in groups {
        for step in group {
            if step.inputs() != own {
                return Err(ImportError::Model(ModelError::Steps {
                    step: steps.len(),
                    takes: step.inputs(),
                    given: own,
                }));
            }
            let after = width - before - own;
            width = before + step.outputs() + after;
            own = step.outputs();
            steps.push(widened(&step, before, after)?);
        }
        before += own;
    }
    Ok(steps)
}

/// Returns a step that leaves the columns before and after its own as they are.
fn widened(step: &Step, before: usize, after: usize) -> Result<Step, ImportError> {
    let padded = |numbers: &[f64], with: f64| [&vec![with; before], numbers, &vec![with; after]].concat();
    Ok(match step {
        Step::Scale(scaler) => Step::Scale(Scaler::new(
            padded(scaler.mean(), 0.0),
            padded(scaler.scale(), 1.0),
        )?),
        Step::Stretch(stretch) => Step::Stretch(Stretch::new(
            padded(stretch.factor(), 1.0),
            padded(stretch.offset(), 0.0),
        )?),
        Step::Clip(clip) => Step::Clip(Clip::new(padded(clip.limits(), f64::MAX))?),
        Step::Project(projection) => {
            let (inputs, outputs) = (before + step.inputs() + after, before + step.outputs() + after);
            let mut weights = vec![0.0; inputs * outputs];
            for (row, own) in projection.weights().chunks_exact(step.inputs()).enumerate() {
                weights[(before + row) * inputs + before..][..step.inputs()].copy_from_slice(own);
            }
            for at in 0..before {
                weights[at * inputs + at] = 1.0;
            }
            for at in 0..after {
                weights[(before + step.outputs() + at) * inputs + before + step.inputs() + at] = 1.0;
            }
            Step::Project(Projection::new(inputs, weights)?)
        }
    })
}
