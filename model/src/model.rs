//! A model: a feature list, perhaps a seasonal profile or a group of tags, the steps that prepare the features, and a detector.

mod score;

use std::sync::Arc;

pub use score::{Scores, Scratch, is_anomaly};

use crate::{Detector, Feature, Features, Group, ModelError, OneClassSvm, Profile, Scaler, Step};

/// Most steps before the detector; a pipeline has a handful.
pub(crate) const MAX_STEPS: usize = 64;

/// Longest provenance text, in bytes.
pub(crate) const MAX_PROVENANCE_BYTES: usize = 1_024;

/// A model that scores a sensor, or several tags of a device together.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// The tags that it scores together; `None` if it scores one sensor.
    group: Option<Group>,
    /// Of the sensor, or of each tag.
    features: Features,
    profile: Option<Profile>,
    steps: Box<[Step]>,
    detector: Detector,
    /// Of each column, relative to the profile; empty if the training rows are unknown.
    bands: Box<[Band]>,
    threshold: Option<f64>,
    provenance: String,
}

/// Where nearly all values of a feature lay in training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Band {
    /// Value below which one in a hundred lay.
    pub low: f64,
    /// Value above which one in a hundred lay.
    pub high: f64,
}

impl Model {
    /// Creates a model of a detector, after a scaler if there is one; `provenance` tells people where it comes from.
    pub fn new(
        features: Features,
        scaler: Option<Scaler>,
        detector: impl Into<Detector>,
        provenance: impl Into<String>,
    ) -> Result<Self, ModelError> {
        let detector = detector.into();
        if let Some(scaler) = &scaler
            && scaler.mean().len() != detector.dimension()
        {
            return Err(ModelError::ScalerSize {
                mean: scaler.mean().len(),
                scale: scaler.scale().len(),
                dimension: detector.dimension(),
            });
        }
        let steps = scaler.into_iter().map(Step::Scale).collect();
        Self::with_steps(features, steps, detector, provenance)
    }

    /// Creates a model of steps, each of which takes the rows that the one before it returns, and a detector.
    pub fn with_steps(
        features: Features,
        steps: Vec<Step>,
        detector: Detector,
        provenance: impl Into<String>,
    ) -> Result<Self, ModelError> {
        let dimension = steps.first().map_or(detector.dimension(), Step::inputs);
        if dimension > Feature::ALL.len() {
            return Err(ModelError::Dimension(dimension));
        }
        if features.len() != dimension {
            return Err(ModelError::FeatureCount {
                dimension,
                named: features.len(),
                features: features.to_string(),
            });
        }
        Self::checked(None, features, steps, detector, provenance.into())
    }

    /// Creates a model of several tags, whose rows have the features of each tag; see [`Group`].
    pub fn of_group(
        group: Group,
        features: Features,
        steps: Vec<Step>,
        detector: Detector,
        provenance: impl Into<String>,
    ) -> Result<Self, ModelError> {
        let dimension = steps.first().map_or(detector.dimension(), Step::inputs);
        if group.tags().len() * features.len() != dimension {
            return Err(ModelError::Group(
                "it has another number of columns than its first step takes",
            ));
        }
        Self::checked(Some(group), features, steps, detector, provenance.into())
    }

    /// Creates a model whose first step takes its columns, if the rest fits together.
    fn checked(
        group: Option<Group>,
        features: Features,
        steps: Vec<Step>,
        detector: Detector,
        provenance: String,
    ) -> Result<Self, ModelError> {
        if steps.len() > MAX_STEPS {
            return Err(ModelError::TooManySteps(steps.len()));
        }
        let takes = steps
            .iter()
            .skip(1)
            .map(Step::inputs)
            .chain([detector.dimension()]);
        for (at, (takes, before)) in takes.zip(&steps).enumerate() {
            let (step, given) = (at + 1, before.outputs());
            if takes != given {
                return Err(ModelError::Steps { step, takes, given });
            }
        }
        if provenance.len() > MAX_PROVENANCE_BYTES {
            return Err(ModelError::Provenance(provenance.len()));
        }
        Ok(Self {
            group,
            features,
            profile: None,
            steps: steps.into(),
            detector,
            bands: [].into(),
            threshold: None,
            provenance,
        })
    }

    /// Returns the model with one more step, after the others.
    pub(crate) fn with_step(self, step: Step) -> Result<Self, ModelError> {
        let mut steps = self.steps.into_vec();
        steps.push(step);
        let model = Self::checked(self.group, self.features, steps, self.detector, self.provenance)?;
        Ok(Self {
            profile: self.profile,
            bands: self.bands,
            threshold: self.threshold,
            ..model
        })
    }

    /// Returns the model with a profile, which is subtracted from the level features before the steps.
    pub fn with_profile(mut self, profile: Option<Profile>) -> Self {
        self.profile = profile;
        self
    }

    /// Returns the model with the normal band of each column, relative to the profile if it has one; or with none, if
    /// `bands` is empty.
    pub fn with_bands(mut self, bands: Vec<Band>) -> Result<Self, ModelError> {
        if !bands.is_empty() && bands.len() != self.columns() {
            return Err(ModelError::Bands {
                bands: bands.len(),
                features: self.columns(),
            });
        }
        if bands
            .iter()
            .any(|band| !(band.low.is_finite() && band.high.is_finite()))
        {
            return Err(ModelError::NotFinite("a normal band"));
        }
        self.bands = bands.into();
        Ok(self)
    }

    /// Returns the model with a threshold of its own: windows with a score above it count towards an incident.
    pub fn with_threshold(mut self, threshold: Option<f64>) -> Result<Self, ModelError> {
        if threshold.is_some_and(|threshold| !threshold.is_finite()) {
            return Err(ModelError::NotFinite("the threshold"));
        }
        self.threshold = threshold;
        Ok(self)
    }

    /// Returns the tags that the model scores together; `None` if it scores one sensor.
    pub fn group(&self) -> Option<&Group> {
        self.group.as_ref()
    }

    /// Returns the length of a row: the number of features; for a group, of all its tags together.
    pub fn columns(&self) -> usize {
        self.features.len() * self.group.as_ref().map_or(1, |group| group.tags().len())
    }

    /// Returns the tag and the feature of a column.
    pub fn column(&self, at: usize) -> (Option<&Arc<str>>, Feature) {
        let features = self.features.as_slice();
        let tag = self
            .group
            .as_ref()
            .and_then(|group| group.tags().get(at / features.len()));
        (tag, features[at % features.len()])
    }

    /// Returns the features that the model reads; for a group, those that it reads of each tag.
    pub fn features(&self) -> &Features {
        &self.features
    }

    /// Returns the profile, if the model has one.
    pub fn profile(&self) -> Option<&Profile> {
        self.profile.as_ref()
    }

    /// Returns the normal band of each column, relative to the profile; none if the training rows are unknown.
    pub fn bands(&self) -> &[Band] {
        &self.bands
    }

    /// Returns the score above which a window of this sensor counts towards an incident, if it was calibrated.
    pub fn threshold(&self) -> Option<f64> {
        self.threshold
    }

    /// Returns the steps that prepare the features for the detector.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Returns the scaler, if it is the only step.
    pub fn scaler(&self) -> Option<&Scaler> {
        match &*self.steps {
            [Step::Scale(scaler)] => Some(scaler),
            _ => None,
        }
    }

    /// Returns the detector.
    pub fn detector(&self) -> &Detector {
        &self.detector
    }

    /// Returns the detector if it is a one-class SVM.
    pub fn svm(&self) -> Option<&OneClassSvm> {
        match &self.detector {
            Detector::OneClassSvm(svm) => Some(svm),
            _ => None,
        }
    }

    /// Returns a text that tells people where the model comes from.
    pub fn provenance(&self) -> &str {
        &self.provenance
    }

    /// Returns the memory that the model takes, for a cache bounded in bytes.
    pub fn memory_bytes(&self) -> usize {
        let steps: usize = self
            .steps
            .iter()
            .map(|step| size_of::<Step>() + step.heap_bytes())
            .sum();
        size_of::<Self>()
            + self.features.len()
            + self.group.as_ref().map_or(0, Group::heap_bytes)
            + steps
            + self.profile.as_ref().map_or(0, Profile::heap_bytes)
            + size_of_val(&*self.bands)
            + self.detector.heap_bytes()
            + self.provenance.capacity()
    }
}

#[cfg(test)]
mod tests;
