//! Conversion of scikit-learn's objects to a model: the few attributes that scoring needs, under the names that all
//! versions from 0.19 on use.

use super::numpy::{self, Array};
use super::value::{Global, Id, Value, Values};
use super::{ImportError, shown};
use crate::{Features, Kernel, Model, ModelError, OneClassSvm, Scaler};

/// An object to read attributes from, with its class for errors.
#[derive(Clone, Copy)]
struct Estimator<'v, 'a> {
    values: &'v Values<'a>,
    id: Id,
    class: &'static str,
}

/// Returns the model that the pickle holds.
pub(super) fn model(values: &Values<'_>, features: Features) -> Result<Model, ImportError> {
    let (scaler, svm) = steps(values)?;
    for estimator in scaler.iter().chain([&svm]) {
        estimator.check_columns(&features)?;
    }
    let version = svm.optional("_sklearn_version").and_then(|id| values.text(id));
    let provenance = format!(
        "scikit-learn {}",
        version.map_or("of unknown version".into(), shown)
    );
    let svm = one_class_svm(svm)?;
    let scaler = match scaler {
        Some(scaler) => standard_scaler(scaler, svm.dimension())?,
        None => None,
    };
    Ok(Model::new(features, scaler, svm, provenance)?)
}

type Steps<'v, 'a> = (Option<Estimator<'v, 'a>>, Estimator<'v, 'a>);

/// Returns the scaler, if there is one, and the SVM.
fn steps<'v, 'a>(values: &'v Values<'a>) -> Result<Steps<'v, 'a>, ImportError> {
    let root = values.root;
    let svm = |id| Estimator {
        values,
        id,
        class: "OneClassSVM",
    };
    match values.class(root) {
        Some(Global::OneClassSvm) => return Ok((None, svm(root))),
        Some(Global::Pipeline) => {}
        _ => return Err(ImportError::NotAModel(values.kind(root))),
    }
    let pipeline = Estimator {
        values,
        id: root,
        class: "Pipeline",
    };
    let steps = values.items(pipeline.required("steps")?);
    let steps = steps.ok_or(pipeline.wrong("steps", "is not a list"))?;
    let (mut scaler, mut last) = (None, None);
    for step in steps {
        let Some([name, step]) = values.items(*step) else {
            return Err(pipeline.wrong("steps", "is not a list of names and estimators"));
        };
        let found = match (values.get(*step), values.class(*step)) {
            (Value::None, _) if last.is_none() => continue,
            (Value::Text(text), _) if text == "passthrough" && last.is_none() => continue,
            (_, Some(Global::StandardScaler)) if last.is_some() => "a StandardScaler after the OneClassSVM",
            (_, Some(Global::StandardScaler)) if scaler.is_some() => "a second StandardScaler",
            (_, Some(Global::StandardScaler)) => {
                scaler = Some(Estimator {
                    values,
                    id: *step,
                    class: "StandardScaler",
                });
                continue;
            }
            (_, Some(Global::OneClassSvm)) if last.is_none() => {
                last = Some(svm(*step));
                continue;
            }
            _ => values.kind(*step),
        };
        let step = shown(values.text(*name).unwrap_or("?"));
        return Err(ImportError::Step { step, found });
    }
    let last = last.ok_or(ImportError::NotAModel("a Pipeline without a OneClassSVM"))?;
    Ok((scaler, last))
}

/// Returns the scaler, or `None` if it neither centres nor scales.
fn standard_scaler(scaler: Estimator<'_, '_>, dimension: usize) -> Result<Option<Scaler>, ImportError> {
    // scikit-learn stores some of the numbers even if its options say not to use them.
    let part = |switch, numbers| -> Result<Option<Vec<f64>>, ImportError> {
        let on = scaler.flag(switch)?;
        Ok(if on {
            Some(scaler.array(numbers)?.numbers)
        } else {
            None
        })
    };
    let mean = part("with_mean", "mean_")?;
    let scale = part("with_std", "scale_")?;
    if mean.is_none() && scale.is_none() {
        return Ok(None);
    }
    // Subtracting 0 and dividing by 1 change nothing, not even in the last digit.
    let mean = mean.unwrap_or_else(|| vec![0.0; dimension]);
    let scale = scale.unwrap_or_else(|| vec![1.0; dimension]);
    Ok(Some(Scaler::new(mean, scale)?))
}

fn one_class_svm(svm: Estimator<'_, '_>) -> Result<OneClassSvm, ImportError> {
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
    Ok(OneClassSvm::new(
        dimension,
        numbers,
        coefficients,
        intercept,
        kernel,
    )?)
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

impl Estimator<'_, '_> {
    /// Checks the features against the columns of the table that the model was fitted on.
    ///
    /// Columns that do not have the names of features are not checked.
    fn check_columns(self, features: &Features) -> Result<(), ImportError> {
        let names = self.optional("feature_names_in_");
        let names = names.and_then(|names| numpy::texts(self.values, names));
        match names.map(|names| names.join(",").parse::<Features>()) {
            Some(Ok(fitted)) if fitted.len() == features.len() && fitted != *features => {
                let given = features.clone();
                Err(ImportError::Columns { fitted, given })
            }
            _ => Ok(()),
        }
    }

    fn optional(self, attribute: &str) -> Option<Id> {
        self.values.attribute(self.id, attribute)
    }

    fn required(self, attribute: &'static str) -> Result<Id, ImportError> {
        let class = self.class;
        self.optional(attribute)
            .ok_or(ImportError::Missing { class, attribute })
    }

    fn wrong(self, attribute: &'static str, problem: &'static str) -> ImportError {
        ImportError::Attribute {
            class: self.class,
            attribute,
            problem,
        }
    }

    fn flag(self, attribute: &'static str) -> Result<bool, ImportError> {
        match self.values.get(self.required(attribute)?) {
            Value::Bool(flag) => Ok(*flag),
            _ => Err(self.wrong(attribute, "is neither True nor False")),
        }
    }

    fn number(self, attribute: &'static str) -> Result<f64, ImportError> {
        let id = self.required(attribute)?;
        numpy::number(self.values, id).map_err(|problem| self.wrong(attribute, problem))
    }

    fn array(self, attribute: &'static str) -> Result<Array, ImportError> {
        let id = self.required(attribute)?;
        Array::read(self.values, id).map_err(|problem| self.wrong(attribute, problem))
    }

    /// Reads the first of two attributes, or the second if the first is missing.
    fn first_of(self, [first, second]: [&'static str; 2]) -> Result<Array, ImportError> {
        self.array(if self.optional(first).is_some() {
            first
        } else {
            second
        })
    }
}
