//! Version 1 of the model file: an SVM, after a scaler if there is one.

use serde::{Deserialize, Serialize};

use super::{FormatError, feature_codes, features, kernel, kernel_parts};
use crate::{Model, OneClassSvm, Scaler};

/// The contents after the header, which never change.
#[derive(Serialize, Deserialize)]
pub(super) struct Body {
    provenance: String,
    features: Vec<u8>,
    scaler: Option<(Vec<f64>, Vec<f64>)>,
    kernel: u8,
    gamma: f64,
    coef0: f64,
    degree: u32,
    intercept: f64,
    coefficients: Vec<f64>,
    vectors: Vec<f64>,
}

impl Body {
    /// Returns the contents for a model, or `None` if this version cannot hold it.
    pub(super) fn of(model: &Model) -> Option<Self> {
        let svm = model.svm()?;
        let scaler = model.scaler();
        if scaler.is_none() && !model.steps().is_empty() {
            return None;
        }
        let (kernel, gamma, coef0, degree) = kernel_parts(svm.kernel());
        Some(Self {
            provenance: model.provenance().to_owned(),
            features: feature_codes(model.features()),
            scaler: scaler.map(|scaler| (scaler.mean().to_vec(), scaler.scale().to_vec())),
            kernel,
            gamma,
            coef0,
            degree,
            intercept: svm.intercept(),
            coefficients: svm.coefficients().to_vec(),
            vectors: svm.vectors().to_vec(),
        })
    }

    /// Returns the model, if the contents fit together.
    pub(super) fn model(self) -> Result<Model, FormatError> {
        let features = features(&self.features)?;
        let kernel = kernel((self.kernel, self.gamma, self.coef0, self.degree))?;
        let scaler = self
            .scaler
            .map(|(mean, scale)| Scaler::new(mean, scale))
            .transpose()?;
        let svm = OneClassSvm::new(
            features.len(),
            self.vectors,
            self.coefficients,
            self.intercept,
            kernel,
        )?;
        Ok(Model::new(features, scaler, svm, self.provenance)?)
    }
}
