//! Anomaly models: scoring, training, import and the model file.
//!
//! | to | use |
//! |---|---|
//! | name the features a model reads | [`Feature`], [`Features`] (`mean,std,min,max`) |
//! | build a model from arrays | [`Model::new`] of [`Features`], [`Scaler`], [`OneClassSvm`] with a [`Kernel`] |
//! | train one | [`train()`] with [`TrainOptions`], which name the detector: a one-class SVM by default |
//! | import one from scikit-learn | [`import()`]; nothing in the file is ever run |
//! | decide about aggregates, or plain rows | [`Model::decide`], [`Model::decide_rows`], then [`is_anomaly`] |
//! | get scores that compare between sensors, too | [`Model::score`] |
//! | tell why a window is anomalous | [`Model::explain`] |
//! | write it to bytes, and read it back | [`Model::to_bytes`], [`Model::from_bytes`], [`Model::version`] |
//!
//! A decision depends on the model and one row alone, not on the batch or the CPU. See [`CodePath`].
//!
//! ```
//! use windrow_model::{Features, Scratch, TrainOptions, is_anomaly, train};
//!
//! // One row per window, one column per feature: here the mean alone.
//! let normal: Vec<f64> = (0..100).map(|row| 70.0 + f64::from(row % 10) / 10.0).collect();
//! let model = train(&normal, "mean".parse::<Features>()?, &TrainOptions::default())?;
//! let mut decisions = Vec::new();
//! model.decide_rows(&[70.4, 95.0], &mut Scratch::default(), &mut decisions)?;
//! let verdicts: Vec<bool> = decisions.into_iter().map(is_anomaly).collect();
//! assert_eq!(verdicts, [false, true]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod detector;
mod error;
mod explain;
mod feature;
mod format;
mod group;
mod import;
mod median;
mod model;
mod profile;
mod step;
mod svm;
mod train;

pub use detector::{
    Detector, EllipticEnvelope, IsolationForest, LocalOutlierFactor, MAX_NEIGHBOURS, MAX_NODES,
    MAX_TRAINING_ROWS, Metric, NearestNeighbours, PrincipalComponents, RobustZ, Tree, TreeNode,
};
pub use error::{ModelError, ScoreError};
pub use explain::Contribution;
pub use feature::{Feature, FeatureError, Features};
pub use format::{FormatError, MAX_MODEL_BYTES, version_of};
pub use group::{Group, GroupRows, GroupWindow, MAX_COLUMNS, MAX_SMOOTHING};
pub use import::{ImportError, ImportOptions, Imported, MAX_IMPORT_BYTES, import, import_with};
pub use model::{Band, Model, Scores, Scratch, is_anomaly};
pub use profile::{Profile, Season};
pub use step::{Clip, Projection, Scaler, Step, Stretch};
pub use svm::{CodePath, Kernel, MAX_DEGREE, MAX_SUPPORT_VECTORS, OneClassSvm};
pub use train::{
    Gamma, LEAST_GROUP_ROWS, ProfileChoice, Replaced, TrainDetector, TrainError, TrainKernel, TrainOptions,
    TrainingWindows, train, train_and_tell, train_group, train_windows,
};
