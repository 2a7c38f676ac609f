//! The contents of a pickle: values that refer to each other by number.
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

/// A class or function that a pickle may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Global {
    Pipeline,
    StandardScaler,
    OneClassSvm,
    /// Creates an empty array, which its state then fills.
    Reconstruct,
    /// Creates an array from bytes, in protocol 5.
    FromBuffer,
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
}

/// All values of a pickle.
#[derive(Debug)]
pub(super) struct Values<'a> {
    all: Vec<Value<'a>>,
    pub(super) root: Id,
}

impl Global {
    /// Returns the class or function of this name, or an error if no model needs it.
    pub(super) fn named(module: &str, name: &str) -> Result<Self, ImportError> {
        match (module, name) {
            ("sklearn.pipeline", "Pipeline") => Ok(Self::Pipeline),
            ("sklearn.preprocessing.data" | "sklearn.preprocessing._data", "StandardScaler") => {
                Ok(Self::StandardScaler)
            }
            ("sklearn.svm.classes" | "sklearn.svm._classes", "OneClassSVM") => Ok(Self::OneClassSvm),
            ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct") => Ok(Self::Reconstruct),
            ("numpy.core.numeric" | "numpy._core.numeric", "_frombuffer") => Ok(Self::FromBuffer),
            ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar") => Ok(Self::Scalar),
            ("numpy", "ndarray") => Ok(Self::Ndarray),
            ("numpy", "dtype") => Ok(Self::Dtype),
            ("copyreg" | "copy_reg", "_reconstructor") => Ok(Self::Reconstructor),
            ("builtins" | "__builtin__", "object") => Ok(Self::PlainObject),
            ("_codecs", "encode") => Ok(Self::Encode),
            ("builtins" | "__builtin__", "bytes") => Ok(Self::NoBytes),
            ("joblib.numpy_pickle" | "sklearn.externals.joblib.numpy_pickle", _) => Err(ImportError::Joblib),
            _ if module == "scipy.sparse" || module.starts_with("scipy.sparse.") => Err(ImportError::Sparse),
            _ => Err(ImportError::Global(format!("{}.{}", shown(module), shown(name)))),
        }
    }
}

impl<'a> Values<'a> {
    /// Creates an empty collection; the caller sets its root.
    pub(super) fn new() -> Self {
        Self {
            all: Vec::new(),
            root: Id(0),
        }
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

    /// Returns what a value is, in words for an error message.
    pub(super) fn kind(&self, id: Id) -> &'static str {
        match self.get(id) {
            Value::None => "None",
            Value::Bool(_) => "a bool",
            Value::Int(_) | Value::Float(_) => "a number",
            Value::Text(_) => "a text",
            Value::Bytes(_) => "bytes",
            Value::Tuple(_) => "a tuple",
            Value::List(_) => "a list",
            Value::Dict(_) => "a dict",
            Value::Global(_) => "a class itself",
            Value::Object(_) => match self.class(id) {
                Some(Global::Pipeline) => "a Pipeline",
                Some(Global::StandardScaler) => "a StandardScaler",
                Some(Global::OneClassSvm) => "a OneClassSVM",
                Some(Global::Reconstruct | Global::FromBuffer) => "an array",
                _ => "an object of another kind",
            },
        }
    }
}
