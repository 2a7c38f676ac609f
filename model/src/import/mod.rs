//! Models that scikit-learn pickled, read strictly as data.
//!
//! A pickle is a program: loading one in Python runs whatever it asks for. Here a stack machine with just the
//! instructions that scikit-learn's own pickles need builds a tree of plain values, in which a call is only a note that
//! it was asked for; the names it may ask for are a fixed list. Then the few attributes that scoring needs are looked up
//! in that tree. Nothing is ever called, whatever the file says.
//!
//! ```text
//! bytes ──pickle──▶ values ──numpy──▶ arrays ──sklearn──▶ Model
//! ```
//!
//! What the instructions mean: `pickletools.py` of CPython. What the attributes mean: `sklearn/svm/_base.py`; the
//! decision is Σ dual_coef · K + intercept in every version from 0.19 on.

mod numpy;
mod pickle;
mod sklearn;
mod value;

use crate::{Features, Model, ModelError};

/// Largest pickle that is read: a bit more than the largest model has.
const MAX_PICKLE_BYTES: usize = 64 << 20;

/// Most instructions that are followed; a model has a few hundred. It bounds every count below: values, stack, memo.
const MAX_INSTRUCTIONS: usize = 1 << 18;

/// Why a pickle gives no model.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum ImportError {
    /// Larger than any model.
    #[error("the pickle has {0} bytes; at most {MAX_PICKLE_BYTES} are read")]
    TooLarge(usize),
    /// Something else altogether.
    #[error(
        "this is not a pickle: if it is compressed (joblib's `compress`, gzip), load it in Python and save it with \
         `pickle.dump`"
    )]
    NotAPickle,
    /// Written by a newer Python.
    #[error("the pickle has protocol {0}, which is not known here: save it again with `protocol=5`")]
    Protocol(u8),
    /// Written by Python 2.
    #[error(
        "the pickle was written by Python 2: load it in Python 3 with `encoding=\"latin1\"` and save it again"
    )]
    Python2,
    /// The end is missing.
    #[error("the pickle is cut off: it ends at byte {0}, in the middle of its contents; copy it again")]
    CutOff(usize),
    /// There is more than one thing in the file.
    #[error("the pickle's contents end at byte {end} but the file has {bytes} bytes: save the model alone")]
    Trailing {
        /// Where the contents end.
        end: usize,
        /// How many bytes there are.
        bytes: usize,
    },
    /// Not in any model scikit-learn writes.
    #[error(
        "the pickle is damaged or no model: the instruction {code:#04x} at byte {at} is not one that scikit-learn's \
         models need; nothing was run"
    )]
    Instruction {
        /// The instruction.
        code: u8,
        /// Where it is.
        at: usize,
    },
    /// The instructions make no sense.
    #[error("the pickle is damaged: {problem} at byte {at}")]
    Malformed {
        /// Where.
        at: usize,
        /// What is wrong there.
        problem: &'static str,
    },
    /// It goes on and on.
    #[error("the pickle has more than {MAX_INSTRUCTIONS} instructions; a one-class SVM has a few hundred")]
    TooLong,
    /// It asks for a class or function that no one-class SVM needs.
    #[error(
        "the pickle asks for `{0}`, which is none of the classes a one-class SVM needs; it was not run. Only \
         `OneClassSVM`, alone or after a `StandardScaler` in a `Pipeline`, can be imported"
    )]
    Global(String),
    /// Saved by joblib.
    #[error("the file was saved by joblib: load it with `joblib.load` and save it with `pickle.dump`")]
    Joblib,
    /// Fitted on a sparse matrix.
    #[error("the model was fitted on a sparse matrix: fit it on a plain array (`X.toarray()`)")]
    Sparse,
    /// A good pickle, of something else.
    #[error("the pickle holds {0}; a fitted `OneClassSVM`, or a `Pipeline` that ends in one, is needed")]
    NotAModel(&'static str),
    /// The pipeline is not one of those known here.
    #[error(
        "the pipeline's step `{step}` is {found}: only a `StandardScaler` and then a `OneClassSVM` can be imported"
    )]
    Step {
        /// Its name.
        step: String,
        /// What it is.
        found: &'static str,
    },
    /// An attribute is not there.
    #[error("the {class} has no `{attribute}`: fit it before it is saved")]
    Missing {
        /// Of which class.
        class: &'static str,
        /// Which one.
        attribute: &'static str,
    },
    /// An attribute is not what it should be.
    #[error("the {class}'s `{attribute}` {problem}")]
    Attribute {
        /// Of which class.
        class: &'static str,
        /// Which one.
        attribute: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A kernel of the user's own.
    #[error("the model's kernel is `{0}`: only linear, rbf, poly and sigmoid can be imported")]
    Kernel(String),
    /// The columns it was fitted on are features of ours, but not those given.
    #[error(
        "the model was fitted on the columns {fitted} but the features {given} are named: name them as fitted"
    )]
    Columns {
        /// What the model says.
        fitted: Features,
        /// What the caller says.
        given: Features,
    },
    /// Arrays or numbers that no model can have.
    #[error("the pickle's model cannot be used: {0}")]
    Model(#[from] ModelError),
}

/// Reads a pickle of a scikit-learn `OneClassSVM`, alone or after a `StandardScaler` in a `Pipeline`, as a model of
/// `features`, which are the columns it was fitted on.
///
/// Pickle protocols 0 to 5 and scikit-learn from 0.19 on are understood. Nothing in the file is ever run. The decisions
/// are those of scikit-learn's `decision_function`, but for the rounding of the last digits.
pub fn import(pickle: &[u8], features: Features) -> Result<Model, ImportError> {
    if pickle.len() > MAX_PICKLE_BYTES {
        return Err(ImportError::TooLarge(pickle.len()));
    }
    sklearn::model(&pickle::read(pickle)?, features)
}

/// Text from the file as an error shows it: no longer than a line, and nothing that a terminal would act on.
fn shown(text: &str) -> String {
    text.chars().take(120).flat_map(char::escape_default).collect()
}
