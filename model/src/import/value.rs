//! The contents of a pickle or a skops file: values that refer to each other by number.
//!
//! They use numbers, not boxes: a value may occur in many places, even inside itself. Neither this code nor `Drop`
//! recurses, however deep the nesting.

use std::borrow::Cow;

use super::{ImportError, shown};

/// The index of a value in [`Values`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Id(u32);

/// A value that borrows its bytes, and its text where possible, from the pickle (`'a`).
#[derive(Debug)]
pub(super) enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Cow<'a, str>),
    Bytes(&'a [u8]),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global),
    Object(Object),
}

/// A call that Python would have made, with its arguments and the state to set afterwards; it is never made here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Object {
    pub(super) called: Global,
    /// Always a tuple.
    pub(super) arguments: Id,
    pub(super) state: Option<Id>,
}

/// A class or function that a file may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Global {
    Pipeline,
    /// `GridSearchCV` and its like: the model is their best estimator.
    Search,
    ColumnTransformer,
    FunctionTransformer,
    StandardScaler,
    MinMaxScaler,
    MaxAbsScaler,
    RobustScaler,
    Pca,
    OneClassSvm,
    SgdOneClassSvm,
    IsolationForest,
    EllipticEnvelope,
    LocalOutlierFactor,
    /// A wrapper of PyOD around a detector of scikit-learn.
    PyodForest,
    PyodSvm,
    PyodFactor,
    /// A tree of a forest.
    ExtraTree,
    /// The arrays of a tree.
    Tree,
    /// Creates an empty array, which its state then fills.
    Reconstruct,
    /// Creates an array from bytes, in protocol 5.
    FromBuffer,
    /// Describes an array whose bytes joblib writes behind it.
    JoblibArray,
    Scalar,
    Ndarray,
    Dtype,
    /// Creates an empty object of a class, in protocols 0 and 1.
    Reconstructor,
    PlainObject,
    /// Converts text to bytes: protocols below 3 write bytes this way.
    Encode,
    /// Creates empty bytes: protocols below 3 write them this way.
    NoBytes,
    /// A slice of columns.
    Slice,
    /// A class or function of scikit-learn, NumPy or SciPy that no model needs, by its index in [`Values`]: parameters
    /// and statistics of an estimator. What it would create is never read.
    Other(u32),
}

/// All values of a pickle.
#[derive(Debug)]
pub(super) struct Values<'a> {
    all: Vec<Value<'a>>,
    /// The names of the globals that no model needs.
    others: Vec<String>,
    pub(super) root: Id,
}

impl Global {
    /// Returns the class or function of this name if a model may need it.
    fn known(module: &str, name: &str) -> Option<Self> {
        // Modules of scikit-learn have had a leading underscore since 0.22.
        Some(match (module, name) {
            ("sklearn.pipeline", "Pipeline") => Self::Pipeline,
            (
                "sklearn.model_selection._search" | "sklearn.model_selection._search_successive_halving",
                "GridSearchCV" | "RandomizedSearchCV" | "HalvingGridSearchCV" | "HalvingRandomSearchCV",
            ) => Self::Search,
            ("sklearn.compose._column_transformer", "ColumnTransformer") => Self::ColumnTransformer,
            ("sklearn.preprocessing._function_transformer", "FunctionTransformer") => {
                Self::FunctionTransformer
            }
            ("sklearn.preprocessing.data" | "sklearn.preprocessing._data", _) => match name {
                "StandardScaler" => Self::StandardScaler,
                "MinMaxScaler" => Self::MinMaxScaler,
                "MaxAbsScaler" => Self::MaxAbsScaler,
                "RobustScaler" => Self::RobustScaler,
                _ => return None,
            },
            ("sklearn.decomposition.pca" | "sklearn.decomposition._pca", "PCA") => Self::Pca,
            ("sklearn.svm.classes" | "sklearn.svm._classes", "OneClassSVM") => Self::OneClassSvm,
            ("sklearn.linear_model._stochastic_gradient", "SGDOneClassSVM") => Self::SgdOneClassSvm,
            ("sklearn.ensemble.iforest" | "sklearn.ensemble._iforest", "IsolationForest") => {
                Self::IsolationForest
            }
            (
                "sklearn.covariance.elliptic_envelope" | "sklearn.covariance._elliptic_envelope",
                "EllipticEnvelope",
            ) => Self::EllipticEnvelope,
            ("sklearn.neighbors.lof" | "sklearn.neighbors._lof", "LocalOutlierFactor") => {
                Self::LocalOutlierFactor
            }
            ("pyod.models.iforest", "IForest") => Self::PyodForest,
            ("pyod.models.ocsvm", "OCSVM") => Self::PyodSvm,
            ("pyod.models.lof", "LOF") => Self::PyodFactor,
            ("sklearn.tree.tree" | "sklearn.tree._classes", "ExtraTreeRegressor") => Self::ExtraTree,
            ("sklearn.tree._tree", "Tree") => Self::Tree,
            ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct") => Self::Reconstruct,
            ("numpy.core.numeric" | "numpy._core.numeric", "_frombuffer") => Self::FromBuffer,
            ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar") => Self::Scalar,
            ("joblib.numpy_pickle" | "sklearn.externals.joblib.numpy_pickle", "NumpyArrayWrapper") => {
                Self::JoblibArray
            }
            ("numpy", "ndarray") => Self::Ndarray,
            ("numpy", "dtype") => Self::Dtype,
            ("copyreg" | "copy_reg", "_reconstructor") => Self::Reconstructor,
            ("builtins" | "__builtin__", "object") => Self::PlainObject,
            ("_codecs", "encode") => Self::Encode,
            ("builtins" | "__builtin__", "bytes") => Self::NoBytes,
            ("builtins" | "__builtin__", "slice") => Self::Slice,
            _ => return None,
        })
    }
}

/// Returns whether a name may stand in a model's file beside what is read: a plain name in a library of models. It is
/// never looked up, so that this decides only which files are refused at once.
fn is_harmless(module: &str, name: &str) -> bool {
    let plain = |text: &str| {
        text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let library = ["sklearn.", "scipy.stats.", "numpy.ma", "numpy.random.", "pyod."];
    let known = library.iter().any(|library| module.starts_with(library))
        || matches!(
            (module, name),
            ("collections", "OrderedDict" | "defaultdict" | "Counter")
        )
        || matches!(
            (module, name),
            (
                "numpy",
                "float64" | "float32" | "int64" | "int32" | "bool_" | "nan"
            )
        )
        || matches!(
            (module, name),
            (
                "builtins",
                "set"
                    | "frozenset"
                    | "range"
                    | "int"
                    | "float"
                    | "str"
                    | "dict"
                    | "list"
                    | "tuple"
                    | "bool"
                    | "type"
            )
        );
    known && plain(name) && module.split('.').all(plain)
}

impl<'a> Values<'a> {
    /// Creates an empty collection; the caller sets its root.
    pub(super) fn new() -> Self {
        Self {
            all: Vec::new(),
            others: Vec::new(),
            root: Id(0),
        }
    }

    /// Returns the class or function of this name, or an error if no file of a model names it.
    pub(super) fn global(&mut self, module: &str, name: &str) -> Result<Global, ImportError> {
        if let Some(known) = Global::known(module, name) {
            return Ok(known);
        }
        if matches!(
            module,
            "joblib.numpy_pickle" | "sklearn.externals.joblib.numpy_pickle"
        ) {
            return Err(ImportError::OldJoblib);
        }
        if module == "scipy.sparse" || module.starts_with("scipy.sparse.") {
            return Err(ImportError::Sparse);
        }
        if !is_harmless(module, name) {
            return Err(ImportError::Global(format!("{}.{}", shown(module), shown(name))));
        }
        // There are fewer names than instructions, which are bounded.
        #[allow(clippy::cast_possible_truncation)]
        let index = self.others.len() as u32;
        self.others.push(shown(name));
        Ok(Global::Other(index))
    }

    /// Adds a value and returns its index.
    pub(super) fn add(&mut self, value: Value<'a>) -> Id {
        // There are fewer values than instructions, which are bounded.
        #[allow(clippy::cast_possible_truncation)]
        let id = Id(self.all.len() as u32);
        self.all.push(value);
        id
    }

    pub(super) fn get(&self, id: Id) -> &Value<'a> {
        &self.all[id.0 as usize]
    }

    pub(super) fn get_mut(&mut self, id: Id) -> &mut Value<'a> {
        &mut self.all[id.0 as usize]
    }

    pub(super) fn text(&self, id: Id) -> Option<&str> {
        match self.get(id) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn tuple(&self, id: Id) -> Option<&[Id]> {
        match self.get(id) {
            Value::Tuple(items) => Some(items),
            _ => None,
        }
    }

    /// Returns the items of a list or tuple.
    pub(super) fn items(&self, id: Id) -> Option<&[Id]> {
        match self.get(id) {
            Value::Tuple(items) | Value::List(items) => Some(items),
            _ => None,
        }
    }

    pub(super) fn object(&self, id: Id) -> Option<Object> {
        match self.get(id) {
            Value::Object(object) => Some(*object),
            _ => None,
        }
    }

    /// Returns the arguments and the state of a value that is a call of `called`.
    pub(super) fn call(&self, id: Id, called: Global) -> Option<(&[Id], Option<Id>)> {
        let object = self.object(id).filter(|object| object.called == called)?;
        Some((self.tuple(object.arguments)?, object.state))
    }

    /// Returns the class of an object, whichever call creates it.
    pub(super) fn class(&self, id: Id) -> Option<Global> {
        let object = self.object(id)?;
        if object.called != Global::Reconstructor {
            return Some(object.called);
        }
        match self.get(*self.tuple(object.arguments)?.first()?) {
            Value::Global(class) => Some(*class),
            _ => None,
        }
    }

    /// Returns an attribute from the state of an object.
    pub(super) fn attribute(&self, id: Id, name: &str) -> Option<Id> {
        let Value::Dict(pairs) = self.get(self.object(id)?.state?) else {
            return None;
        };
        // Python keeps the last value of a name.
        let pair = pairs.iter().rev().find(|(key, _)| self.text(*key) == Some(name));
        pair.map(|(_, value)| *value)
    }

    /// Returns the items of a dict whose keys are texts.
    pub(super) fn entries(&self, id: Id) -> Option<Vec<(&str, Id)>> {
        let Value::Dict(pairs) = self.get(id) else {
            return None;
        };
        pairs
            .iter()
            .map(|(key, value)| Some((self.text(*key)?, *value)))
            .collect()
    }

    /// Returns what a value is, in words for an error message.
    pub(super) fn kind(&self, id: Id) -> String {
        let kind = match self.get(id) {
            Value::None => "None",
            Value::Bool(_) => "a bool",
            Value::Int(_) | Value::Float(_) => "a number",
            Value::Text(_) => "a text",
            Value::Bytes(_) => "bytes",
            Value::Tuple(_) => "a tuple",
            Value::List(_) => "a list",
            Value::Dict(_) => "a dict",
            Value::Global(_) => "a class itself",
            Value::Object(_) => {
                return self
                    .class(id)
                    .map_or("an object".into(), |class| self.object_kind(class));
            }
        };
        kind.to_owned()
    }

    fn object_kind(&self, class: Global) -> String {
        match class {
            Global::Other(index) => match self.others.get(index as usize) {
                Some(name) => format!("a {name}"),
                None => "an object of another kind".to_owned(),
            },
            Global::Reconstruct | Global::FromBuffer | Global::JoblibArray => "an array".to_owned(),
            class => match class.name() {
                "" => "an object of another kind".to_owned(),
                name if name.starts_with(['I', 'E', 'O']) => {
                    format!("an {name}").replace("an OneClass", "a OneClass")
                }
                name => format!("a {name}"),
            },
        }
    }
}

impl Global {
    /// Returns the name of an estimator's class, and an empty text for anything else.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Pipeline => "Pipeline",
            Self::Search => "GridSearchCV",
            Self::ColumnTransformer => "ColumnTransformer",
            Self::FunctionTransformer => "FunctionTransformer",
            Self::StandardScaler => "StandardScaler",
            Self::MinMaxScaler => "MinMaxScaler",
            Self::MaxAbsScaler => "MaxAbsScaler",
            Self::RobustScaler => "RobustScaler",
            Self::Pca => "PCA",
            Self::OneClassSvm => "OneClassSVM",
            Self::SgdOneClassSvm => "SGDOneClassSVM",
            Self::IsolationForest => "IsolationForest",
            Self::EllipticEnvelope => "EllipticEnvelope",
            Self::LocalOutlierFactor => "LocalOutlierFactor",
            Self::PyodForest => "IForest of PyOD",
            Self::PyodSvm => "OCSVM of PyOD",
            Self::PyodFactor => "LOF of PyOD",
            Self::ExtraTree => "ExtraTreeRegressor",
            Self::Tree => "Tree",
            _ => "",
        }
    }
}
