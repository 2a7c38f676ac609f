//! Import of pickled scikit-learn models, read strictly as data.
//!
//! A pickle is a program: loading one in Python runs the code it names. Here a small stack machine builds a tree of
//! plain values instead. It has only the instructions that scikit-learn's own pickles need. It records a call in the
//! tree but never makes it, and accepts only names from a fixed list. The importer then looks up the few attributes
//! that scoring needs.
//!
//! ```text
//! bytes ──pickle──▶ values ──numpy──▶ arrays ──sklearn──▶ Model
//! ```
//!
//! CPython's `pickletools.py` describes the instructions, and `sklearn/svm/_base.py` the attributes. The decision is Σ
//! dual_coef · K + intercept in every version from 0.19 on.

mod numpy;
mod pickle;
mod sklearn;
mod value;

use crate::{Features, Model, ModelError};

/// Largest pickle to read, in bytes: about the size of the largest model.
const MAX_PICKLE_BYTES: usize = 64 << 20;

/// Most instructions to follow; a model has a few hundred. This bounds the number of values, the stack and the memo.
const MAX_INSTRUCTIONS: usize = 1 << 18;

/// An error in importing a pickle.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum ImportError {
    /// The pickle is too large.
    #[error("the pickle has {0} bytes; the limit is {MAX_PICKLE_BYTES}")]
    TooLarge(usize),
    /// The file is not a pickle.
    #[error(
        "this is not a pickle: if it is compressed (joblib's `compress`, gzip), load it in Python and save it with \
         `pickle.dump`"
    )]
    NotAPickle,
    /// A newer Python wrote the pickle.
    #[error("the pickle has protocol {0}, which Windrow cannot read: save it again with `protocol=5`")]
    Protocol(u8),
    /// Python 2 wrote the pickle.
    #[error(
        "the pickle was written by Python 2: load it in Python 3 with `encoding=\"latin1\"` and save it again"
    )]
    Python2,
    /// The end of the pickle is missing.
    #[error("the pickle is cut off: it ends at byte {0}, in the middle of its contents; copy it again")]
    CutOff(usize),
    /// The file holds more than the model.
    #[error("the pickle's contents end at byte {end} but the file has {bytes} bytes: save the model alone")]
    Trailing {
        /// Where the contents end.
        end: usize,
        /// Size of the file, in bytes.
        bytes: usize,
    },
    /// The pickle holds an instruction that scikit-learn's models do not use.
    #[error(
        "the pickle is damaged or not a model: scikit-learn's models do not use the instruction {code:#04x} at byte \
         {at}; nothing was run"
    )]
    Instruction {
        /// The instruction.
        code: u8,
        /// Its position, in bytes.
        at: usize,
    },
    /// The pickle's instructions are not valid.
    #[error("the pickle is damaged: {problem} at byte {at}")]
    Malformed {
        /// Position of the instruction, in bytes.
        at: usize,
        /// What is wrong there.
        problem: &'static str,
    },
    /// The pickle has too many instructions.
    #[error("the pickle has more than {MAX_INSTRUCTIONS} instructions; a one-class SVM has a few hundred")]
    TooLong,
    /// The pickle asks for a class or function that a one-class SVM does not need.
    #[error(
        "the pickle asks for `{0}`, which a one-class SVM does not need; it was not run. Only a `OneClassSVM`, \
         alone or after a `StandardScaler` in a `Pipeline`, can be imported"
    )]
    Global(String),
    /// The file was saved by joblib.
    #[error("the file was saved by joblib: load it with `joblib.load` and save it with `pickle.dump`")]
    Joblib,
    /// The model was fitted on a sparse matrix.
    #[error("the model was fitted on a sparse matrix: fit it on a plain array (`X.toarray()`)")]
    Sparse,
    /// The pickle is valid, but holds something else.
    #[error("the pickle holds {0}: save a fitted `OneClassSVM`, or a `Pipeline` that ends in one")]
    NotAModel(&'static str),
    /// The pipeline has a step that cannot be imported.
    #[error(
        "the pipeline's step `{step}` is {found}: only a `StandardScaler` and then a `OneClassSVM` can be imported"
    )]
    Step {
        /// The step's name.
        step: String,
        /// What the step is.
        found: &'static str,
    },
    /// An attribute is missing.
    #[error("the {class} has no `{attribute}`: fit it before you save it")]
    Missing {
        /// The class.
        class: &'static str,
        /// The attribute.
        attribute: &'static str,
    },
    /// An attribute has an unexpected type, shape or value.
    #[error("the {class}'s `{attribute}` {problem}")]
    Attribute {
        /// The class.
        class: &'static str,
        /// The attribute.
        attribute: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The kernel is a custom one.
    #[error("the model's kernel is `{0}`: only linear, rbf, poly and sigmoid can be imported")]
    Kernel(String),
    /// The model was fitted on columns with the names of features, but not on the given features.
    #[error(
        "the model was fitted on the columns {fitted} but the features {given} are named: name them as fitted"
    )]
    Columns {
        /// The columns that the model names.
        fitted: Features,
        /// The features that the caller names.
        given: Features,
    },
    /// The model's arrays or numbers are not valid.
    #[error("the pickle's model cannot be used: {0}")]
    Model(#[from] ModelError),
}

/// Imports a pickled scikit-learn `OneClassSVM`, alone or after a `StandardScaler` in a `Pipeline`.
///
/// `features` are the columns that the model was fitted on, in order. Pickle protocols 0 to 5 and scikit-learn from
/// 0.19 on are supported. Nothing in the file is ever run. The decisions equal those of scikit-learn's
/// `decision_function`, up to rounding in the last digits.
pub fn import(pickle: &[u8], features: Features) -> Result<Model, ImportError> {
    if pickle.len() > MAX_PICKLE_BYTES {
        return Err(ImportError::TooLarge(pickle.len()));
    }
    sklearn::model(&pickle::read(pickle)?, features)
}

/// Cuts text from the file to a line and escapes it, so that an error message carries no terminal control codes.
fn shown(text: &str) -> String {
    text.chars().take(120).flat_map(char::escape_default).collect()
}
