//! What a model is, how it scores, where it lies and where it comes from.
//!
//! | to | use |
//! |---|---|
//! | name what a model looks at | [`Feature`], [`Features`] (`mean,std,min,max`) |
//! | build a model from arrays | [`Model::new`] of [`Features`], [`Scaler`], [`OneClassSvm`] with a [`Kernel`] |
//! | train one | [`train()`] with [`TrainOptions`] |
//! | read one that scikit-learn wrote | [`import()`]; nothing in the file is ever run |
//! | score aggregates, or plain rows | [`Model::decide`], [`Model::decide_rows`], then [`is_anomaly`] |
//! | turn it into bytes and back | [`Model::to_bytes`], [`Model::from_bytes`], [`Model::version`] |
//! | keep it in a store, by sensor | [`ModelRepository`] |
//!
//! A decision is a function of the model and one row alone: not of the batch the row came in, and not of the CPU. See
//! [`CodePath`].

mod feature;
mod format;
mod import;
mod model;
mod repository;
mod svm;
mod train;

pub use feature::{Feature, FeatureError, Features};
pub use format::{FormatError, MAX_MODEL_BYTES};
pub use import::{ImportError, import};
pub use model::{Model, ModelError, Scaler, ScoreError, Scratch, is_anomaly};
pub use repository::{ModelEntry, ModelRepository, RepositoryError};
pub use svm::{CodePath, Kernel, MAX_DEGREE, MAX_SUPPORT_VECTORS, OneClassSvm};
pub use train::{Gamma, TrainError, TrainKernel, TrainOptions, train};
