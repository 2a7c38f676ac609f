//! Conversion of scikit-learn's objects to a model: the few attributes that scoring needs, under the names that all
//! versions from 0.19 on use.
//!
//! | file | holds |
//! |---|---|
//! | `mod.rs` | what is around the estimators: pipelines, searches, dicts and tuples, a scaler in another file |
//! | `estimator.rs` | an object and its attributes |
//! | `transform.rs` | transformers, which become steps |
//! | `detect.rs` | detectors |

mod detect;
mod estimator;
mod transform;

use super::parts::Parts;
use super::value::{Global, Id, Value, Values};
use super::{ImportError, shown};
use estimator::Estimator;

/// Most estimators, pipelines and placeholders to look at.
const MAX_VISITED: usize = 10_000;

/// How deep pipelines may be nested: far deeper than anybody nests them, and a pipeline may be a step of itself.
const MAX_DEPTH: usize = 16;

impl Parts {
    /// Adds what a file of scikit-learn holds: an estimator, or a dict, list or tuple of a scaler and a model.
    pub(super) fn add_file(&mut self, values: &Values<'_>) -> Result<(), ImportError> {
        let root = values.root;
        match values.get(root) {
            Value::Dict(_) => {
                let entries = values.entries(root);
                let entries = entries.ok_or(ImportError::NotAModel(
                    "a dict with keys that are not texts".into(),
                ))?;
                self.add_each(values, entries)
            }
            Value::List(items) | Value::Tuple(items)
                if items.iter().any(|item| values.object(*item).is_some()) =>
            {
                self.add_each(values, items.iter().map(|item| ("?", *item)).collect())
            }
            Value::Object(_) if Estimator::of(values, root).is_some() => self.add(values, root, "?", 0),
            _ => Err(ImportError::NotAModel(values.kind(root))),
        }
    }

    /// Adds the scaler and the model of a dict, list or tuple; only their kinds say which is first.
    fn add_each(&mut self, values: &Values<'_>, parts: Vec<(&str, Id)>) -> Result<(), ImportError> {
        let (mut before, mut models, mut ignored) = (Vec::new(), Vec::new(), Vec::new());
        for (name, id) in parts {
            if let Some(estimator) = Estimator::of(values, id) {
                match ends_in_detector(estimator, 0) {
                    true => models.push((name, id)),
                    false => before.push((name, id)),
                }
            } else if matches!(values.class(id), Some(Global::Other(_))) {
                let (step, found) = (shown(name), values.kind(id));
                return Err(ImportError::Step { step, found });
            } else if name.contains("threshold") || name.contains("cutoff") {
                return Err(ImportError::Threshold(shown(name)));
            } else if let Some(names) = column_names(values, name, id) {
                self.columns = Some(names);
            } else {
                ignored.push(shown(name));
            }
        }
        if before.len() > 1 || models.len() > 1 {
            let names: Vec<String> = before
                .iter()
                .chain(&models)
                .map(|(name, id)| format!("{name}: {}", values.kind(*id)))
                .collect();
            return Err(ImportError::Parts(shown(&names.join(", "))));
        }
        if !ignored.is_empty() {
            self.notes
                .push(format!("ignored beside the model: {}", ignored.join(", ")));
        }
        for (name, id) in before.into_iter().chain(models) {
            self.add(values, id, name, 0)?;
        }
        Ok(())
    }

    /// Adds an estimator, or what is inside a pipeline or a search.
    fn add(&mut self, values: &Values<'_>, id: Id, name: &str, depth: usize) -> Result<(), ImportError> {
        let refused = |found: String| {
            Err(ImportError::Step {
                step: shown(name),
                found,
            })
        };
        // A list may name the same pipeline many times, and that one another.
        self.visited += 1;
        if self.visited > MAX_VISITED {
            return Err(ImportError::TooLong);
        }
        match values.get(id) {
            Value::None => return Ok(()),
            Value::Text(text) if text == "passthrough" => return Ok(()),
            _ => {}
        }
        let Some(estimator) = Estimator::of(values, id).filter(|_| depth <= MAX_DEPTH) else {
            return refused(values.kind(id));
        };
        if self.detector.is_some() {
            return refused(format!("{} after the detector", values.kind(id)));
        }
        match values.class(id) {
            Some(Global::Pipeline) => return self.add_pipeline(estimator, depth),
            Some(Global::Search) => {
                let best = estimator.inner("best_estimator_")?;
                return self.add(values, best.id, name, depth + 1);
            }
            _ => {}
        }
        if self.estimators == 0
            && let Some(columns) = estimator.columns()
        {
            self.columns = Some(columns);
        }
        self.estimators += 1;
        if let Some(steps) = transform::steps(estimator, depth)? {
            self.steps.extend(steps);
            return Ok(());
        }
        match detect::detector(estimator)? {
            Some(detector) => {
                let version = estimator.optional("_sklearn_version");
                let version = version.and_then(|id| values.text(id));
                let version = version.map_or("of unknown version".into(), shown);
                self.provenance = format!("scikit-learn {version}");
                self.detector = Some(detector);
                Ok(())
            }
            None => refused(values.kind(id)),
        }
    }

    fn add_pipeline(&mut self, pipeline: Estimator<'_, '_>, depth: usize) -> Result<(), ImportError> {
        let values = pipeline.values;
        let steps = values.items(pipeline.required("steps")?);
        for step in steps.ok_or(pipeline.wrong("steps", "is not a list"))? {
            let Some([name, step]) = values.items(*step) else {
                return Err(pipeline.wrong("steps", "is not a list of names and estimators"));
            };
            let name = values.text(*name).unwrap_or("?");
            // A final step that is left out leaves no model.
            self.add(values, *step, name, depth + 1)?;
        }
        Ok(())
    }
}

/// Returns the names of columns that a dict holds beside a model, if this entry is a list of them.
fn column_names(values: &Values<'_>, name: &str, id: Id) -> Option<Vec<String>> {
    if !name.contains("columns") && !name.contains("feature") {
        return None;
    }
    let names = values
        .items(id)?
        .iter()
        .map(|item| values.text(*item).map(str::to_owned));
    names.collect()
}

/// Returns whether an estimator is a detector, or a pipeline or search that ends in one.
fn ends_in_detector(estimator: Estimator<'_, '_>, depth: usize) -> bool {
    let values = estimator.values;
    let inner = |id| Estimator::of(values, id).is_some_and(|inner| ends_in_detector(inner, depth + 1));
    if depth > MAX_DEPTH {
        return false;
    }
    match values.class(estimator.id) {
        Some(Global::Search) => estimator.optional("best_estimator_").is_some_and(inner),
        Some(Global::Pipeline) => {
            let steps = estimator.optional("steps").and_then(|steps| values.items(steps));
            let last = steps.and_then(|steps| values.items(*steps.last()?)?.get(1));
            last.is_some_and(|last| inner(*last))
        }
        Some(
            Global::OneClassSvm
            | Global::SgdOneClassSvm
            | Global::IsolationForest
            | Global::EllipticEnvelope
            | Global::LocalOutlierFactor
            | Global::PyodForest
            | Global::PyodSvm
            | Global::PyodFactor,
        ) => true,
        _ => false,
    }
}
