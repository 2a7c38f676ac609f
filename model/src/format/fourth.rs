//! Version 4 of the model file: a model of several tags of a device.

use serde::{Deserialize, Serialize};
use windrow_common::Length;

use super::second::{StoredDetector, StoredStep};
use super::{FormatError, feature_codes, features};
use crate::{Band, Group, Model, ModelError, Step};

/// The contents after the header. A change to them must raise the version.
#[derive(Serialize, Deserialize)]
pub(super) struct Body {
    provenance: String,
    tags: Vec<String>,
    smoothing: u32,
    window_ms: i64,
    /// Of each tag.
    features: Vec<u8>,
    steps: Vec<StoredStep>,
    detector: StoredDetector,
    /// Of each column.
    bands: Vec<(f64, f64)>,
    threshold: Option<f64>,
}

impl Body {
    /// Returns the contents for a model of a group; `None` for a model of one sensor, which older versions hold.
    pub(super) fn of(model: &Model) -> Option<Self> {
        let group = model.group()?;
        Some(Self {
            provenance: model.provenance().to_owned(),
            tags: group.tags().iter().map(ToString::to_string).collect(),
            smoothing: u32::try_from(group.smoothing()).unwrap_or(u32::MAX),
            window_ms: group.window_length().as_millis(),
            features: feature_codes(model.features()),
            steps: model.steps().iter().map(StoredStep::of).collect(),
            detector: StoredDetector::of(model.detector()),
            bands: model.bands().iter().map(|band| (band.low, band.high)).collect(),
            threshold: model.threshold(),
        })
    }

    /// Returns the model, if the contents fit together.
    pub(super) fn model(self) -> Result<Model, FormatError> {
        let tags = self.tags.iter().map(|tag| tag.as_str().into()).collect();
        let window_length = Length::from_millis(self.window_ms);
        let group = Group::new(tags, self.smoothing as usize, window_length)?;
        let features = features(&self.features)?;
        let steps: Result<Vec<Step>, ModelError> = self.steps.into_iter().map(StoredStep::step).collect();
        let detector = self.detector.detector()?;
        let bands = self.bands.into_iter().map(|(low, high)| Band { low, high });
        let model = Model::of_group(group, features, steps?, detector, self.provenance)?;
        Ok(model
            .with_bands(bands.collect())?
            .with_threshold(self.threshold)?)
    }
}
