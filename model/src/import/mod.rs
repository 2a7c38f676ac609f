//! Import of models that other programs fitted, read strictly as data.
//!
//! A pickle is a program: loading one in Python runs the code it names. Here a small stack machine builds a tree of
//! plain values instead. It has only the instructions that scikit-learn's own pickles need. It records a call in the
//! tree but never makes it, and refuses names from outside the libraries of models. The importer then looks up the few
//! attributes that scoring needs.
//!
//! ```text
//! bytes ──container──▶ contents ──pickle──▶ values ──numpy──▶ arrays ──sklearn──▶ Model
//! ```
//!
//! A file of skops becomes the same values. ONNX and LIBSVM have readers of their own, which return the same parts.
//!
//! CPython's `pickletools.py` describes the instructions, joblib's `numpy_pickle.py` the arrays between them, and
//! scikit-learn's classes the attributes, under names that all versions from 0.19 on use.

mod columns;
mod container;
mod libsvm;
mod numpy;
mod onnx;
mod parts;
mod pickle;
mod sklearn;
mod skops;
mod value;

use crate::{FeatureError, Features, Model, ModelError};
use parts::Parts;

/// Largest file to import, also when it is decompressed, in bytes: about the size of the largest model.
pub const MAX_IMPORT_BYTES: usize = 64 << 20;

/// Most instructions to follow; a one-class SVM has a few hundred, a forest of 100 trees some 10,000. This bounds the
/// number of values, the stack and the memo.
const MAX_INSTRUCTIONS: usize = 1 << 18;

/// What to know about a file that is imported.
#[derive(Clone, Copy, Debug, Default)]
pub struct ImportOptions<'a> {
    /// The columns that the model was fitted on. If the model names its columns, they decide the order. The default is
    /// what the model names, or else the mean alone.
    pub features: Option<&'a Features>,
    /// A file with a scaler that comes before the model.
    pub scaler: Option<&'a [u8]>,
}

/// An imported model.
#[derive(Clone, Debug, PartialEq)]
pub struct Imported {
    /// The model.
    pub model: Model,
    /// What was guessed or ignored, in sentences for people.
    pub notes: Vec<String>,
}

/// An error in importing a file.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum ImportError {
    /// The file is empty.
    #[error("the file is empty: copy it again")]
    Empty,
    /// The file is too large.
    #[error("the file has {0} bytes; the limit is {MAX_IMPORT_BYTES}")]
    TooLarge(usize),
    /// The decompressed contents are too large.
    #[error("the file has more than {MAX_IMPORT_BYTES} bytes when it is decompressed, which is the limit")]
    Unpacked,
    /// The file is compressed by a method that Windrow does not read.
    #[error(
        "the file is compressed with {0}: decompress it, or save it with `joblib.dump(model, file, compress=(\"zlib\", 3))`"
    )]
    Compression(&'static str),
    /// The compressed contents are damaged.
    #[error("the file cannot be decompressed as {method}: {problem}; copy it again")]
    Compressed {
        /// The method.
        method: &'static str,
        /// What is wrong with them.
        problem: String,
    },
    /// The file is something else, known by its first bytes.
    #[error("the file is {0}")]
    OtherFile(&'static str),
    /// The file is not a pickle.
    #[error("this is not a model that can be imported: save one with `pickle.dump` or `joblib.dump`")]
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
    #[error(
        "the pickle has more than {MAX_INSTRUCTIONS} instructions; a forest of 100 trees has some 10,000"
    )]
    TooLong,
    /// The pickle asks for a class or function that no model needs.
    #[error("the pickle asks for `{0}`, which no model that can be imported needs; it was not run")]
    Global(String),
    /// The file was saved by a joblib before 0.10, which writes arrays to files of their own.
    #[error("the file was saved by an old joblib, with its arrays in other files: load it and save it again")]
    OldJoblib,
    /// The model was fitted on a sparse matrix.
    #[error("the model was fitted on a sparse matrix: fit it on a plain array (`X.toarray()`)")]
    Sparse,
    /// The file is valid, but holds something else.
    #[error(
        "the file holds {0}: save a fitted detector (OneClassSVM, SGDOneClassSVM, IsolationForest, EllipticEnvelope, \
         LocalOutlierFactor), or a Pipeline that ends in one"
    )]
    NotAModel(String),
    /// A step cannot be imported.
    #[error(
        "the step `{step}` is {found}: scalers (Standard, MinMax, MaxAbs, Robust), PCA and a ColumnTransformer of them can \
         be imported, and then one detector"
    )]
    Step {
        /// The step's name.
        step: String,
        /// What the step is.
        found: String,
    },
    /// The file holds several scalers or models.
    #[error("the file holds several parts without an order ({0}): save them as one Pipeline")]
    Parts(String),
    /// The file holds a threshold beside the model.
    #[error(
        "the file holds `{0}` beside the model, and only scikit-learn's own boundary is applied: set the model's `offset_`, \
         and save it without the threshold"
    )]
    Threshold(String),
    /// The scaler's file holds a model.
    #[error("the scaler's file holds a model: give the file of the scaler")]
    ScalerIsModel,
    /// The metric is not one that can be imported.
    #[error("the model's metric is `{0}`: only euclidean, manhattan and chebyshev can be imported")]
    Metric(String),
    /// An attribute is not an estimator.
    #[error("the {class}'s `{attribute}` is {found}, which cannot be imported")]
    Inner {
        /// The class.
        class: &'static str,
        /// The attribute.
        attribute: &'static str,
        /// What it is.
        found: String,
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
    /// The model was fitted on columns that name other features than the given ones.
    #[error(
        "the model was fitted on the columns {columns}, which are the features {fitted}, but {given} are named: name the \
         features that it was fitted on",
        given = given.as_ref().map_or("others".to_owned(), ToString::to_string)
    )]
    Columns {
        /// The features that the columns name.
        fitted: Features,
        /// The columns that the model names.
        columns: String,
        /// The features that the caller names.
        given: Option<Features>,
    },
    /// The model was fitted on columns that name no features.
    #[error(
        "the model was fitted on the columns {0}, which are not the features of one sensor: a model of one sensor reads \
         count, mean, std, min, max, first, last, std_sample, rms or range of its readings. If these columns are such \
         features under other names, fit it on names like value_mean, or on a plain array (`X.to_numpy()`)"
    )]
    ColumnNames(String),
    /// The ZIP archive is damaged, or not one that skops writes.
    #[error("the file {0}")]
    Skops(&'static str),
    /// The LIBSVM model is damaged, or not a one-class SVM.
    #[error("line {line} of the LIBSVM model {problem}")]
    Libsvm {
        /// The line, from 1.
        line: usize,
        /// What is wrong there.
        problem: String,
    },
    /// The ONNX file is damaged.
    #[error("the ONNX file is damaged: {0}")]
    Protobuf(&'static str),
    /// The ONNX graph is not one that skl2onnx writes for a model that can be imported.
    #[error(
        "the ONNX graph {0}: graphs that skl2onnx writes for a OneClassSVM, SGDOneClassSVM or IsolationForest after scalers \
         and PCA can be imported; for others, save the estimator with `pickle.dump` or `joblib.dump`"
    )]
    Onnx(String),
    /// The list of features is not valid.
    #[error("the features are not valid: {0}")]
    Features(#[from] FeatureError),
    /// The model's arrays or numbers are not valid.
    #[error("the file's model cannot be used: {0}")]
    Model(#[from] ModelError),
}

/// Imports a model that was fitted on `features`, in this order unless it names its columns.
///
/// See [`import_with`].
///
/// ```
/// use windrow_model::{Features, Scratch, import, is_anomaly};
///
/// // As svm-train writes it; pickles, skops and ONNX are read in the same way.
/// let file = "svm_type one_class\nkernel_type rbf\ngamma 0.5\nnr_class 2\ntotal_sv 2\nrho 0.9\nSV\n1 1:0\n0.5 1:1\n";
/// let model = import(file.as_bytes(), "mean".parse::<Features>()?)?;
/// let mut decisions = Vec::new();
/// model.decide_rows(&[0.2, 10.0], &mut Scratch::default(), &mut decisions)?;
/// assert!(!is_anomaly(decisions[0]) && is_anomaly(decisions[1]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[allow(clippy::needless_pass_by_value)] // As `train` and `Model::new` take them.
pub fn import(file: &[u8], features: Features) -> Result<Model, ImportError> {
    let options = ImportOptions {
        features: Some(&features),
        scaler: None,
    };
    import_with(file, &options).map(|imported| imported.model)
}

/// Imports a model from a file of `pickle`, joblib, skops, skl2onnx or LIBSVM.
///
/// Pickle protocols 0 to 5 and scikit-learn from 0.19 on are supported. Nothing in the file is ever run. The decisions
/// equal those of scikit-learn's `decision_function`, up to rounding in the last digits; ONNX holds 32-bit numbers.
pub fn import_with(file: &[u8], options: &ImportOptions<'_>) -> Result<Imported, ImportError> {
    let mut parts = Parts::default();
    if let Some(scaler) = options.scaler {
        add(&mut parts, scaler, None)?;
        if parts.detector.is_some() {
            return Err(ImportError::ScalerIsModel);
        }
    }
    let found = add(&mut parts, file, options.features.map(Features::len))?;
    parts.model(options.features, &found)
}

/// Adds what a file holds to the parts of a model, and returns what it is. `width` is the number of features, for files
/// that do not tell it.
fn add(parts: &mut Parts, file: &[u8], width: Option<usize>) -> Result<String, ImportError> {
    let contents = open(file)?;
    if contents.starts_with(libsvm::START) {
        libsvm::add(parts, &contents, width)?;
        return Ok("a model of LIBSVM".to_owned());
    }
    // The first field of an ONNX file, its version, is a small number; no pickle begins with a backspace.
    if contents.first() == Some(&onnx::FIRST_BYTE) {
        onnx::add(parts, &contents)?;
        return Ok("an ONNX graph".to_owned());
    }
    if contents.starts_with(skops::START) {
        let contents = skops::unpack(&contents)?;
        let values = skops::read(&contents)?;
        parts.add_file(&values)?;
        return Ok(values.kind(values.root));
    }
    let values = pickle::read(&contents)?;
    parts.add_file(&values)?;
    Ok(values.kind(values.root))
}

/// Returns the contents of a file, decompressed, unless it is of a kind that is not imported.
fn open(file: &[u8]) -> Result<std::borrow::Cow<'_, [u8]>, ImportError> {
    if file.len() > MAX_IMPORT_BYTES {
        return Err(ImportError::TooLarge(file.len()));
    }
    let contents = container::contents(file)?;
    match other_kind(&contents) {
        Some(kind) => Err(ImportError::OtherFile(kind)),
        None if contents.is_empty() => Err(ImportError::Empty),
        None => Ok(contents),
    }
}

/// Returns what a file is if its first bytes say that it is no model that can be imported.
fn other_kind(contents: &[u8]) -> Option<&'static str> {
    let kinds: [(&[u8], &str); 4] = [
        (
            b"version https://git-lfs",
            "a pointer of Git LFS, not the model: run `git lfs pull`",
        ),
        (b"WNDM", "a model of Windrow already: it needs no import"),
        (
            b"\x89HDF\r\n",
            "an HDF5 file, such as Keras writes, which cannot be imported",
        ),
        (
            b"\x93NUMPY",
            "a NumPy array, not a model: save the estimator itself",
        ),
    ];
    let known = kinds.iter().find(|(start, _)| contents.starts_with(start));
    known.map(|(_, kind)| *kind)
}

/// Cuts text from the file to a line and escapes it, so that an error message carries no terminal control codes.
fn shown(text: &str) -> String {
    text.chars().take(200).flat_map(char::escape_default).collect()
}
