//! Version 3 of the model file: a profile, normal bands and a threshold beside what version 2 holds.

use serde::{Deserialize, Serialize};

use super::{FormatError, second};
use crate::{Band, Model, Profile, Season};

/// The contents after the header. A change to them must raise the version.
#[derive(Serialize, Deserialize)]
pub(super) struct Body {
    model: second::Body,
    profile: Option<StoredProfile>,
    bands: Vec<(f64, f64)>,
    threshold: Option<f64>,
}

#[derive(Serialize, Deserialize)]
struct StoredProfile {
    /// Index in [`Season::ALL`].
    season: u8,
    /// Name in the IANA time zone database.
    zone: String,
    levels: Vec<f64>,
}

impl Body {
    /// Returns whether a model needs this version.
    pub(super) fn is_needed_by(model: &Model) -> bool {
        let beside = model.profile().is_some() || model.threshold().is_some() || !model.bands().is_empty();
        beside || model.steps().iter().any(second::is_newer)
    }

    pub(super) fn of(model: &Model) -> Self {
        Self {
            model: second::Body::of(model),
            profile: model.profile().map(StoredProfile::of),
            bands: model.bands().iter().map(|band| (band.low, band.high)).collect(),
            threshold: model.threshold(),
        }
    }

    /// Returns the model, if the contents fit together.
    pub(super) fn model(self) -> Result<Model, FormatError> {
        let profile = self.profile.map(StoredProfile::profile).transpose()?;
        let bands = self.bands.into_iter().map(|(low, high)| Band { low, high });
        let model = self.model.model()?.with_profile(profile);
        Ok(model
            .with_bands(bands.collect())?
            .with_threshold(self.threshold)?)
    }
}

impl StoredProfile {
    #[allow(clippy::cast_possible_truncation)] // There are three seasons.
    fn of(profile: &Profile) -> Self {
        Self {
            season: profile.season() as u8,
            zone: profile.zone().to_owned(),
            levels: profile.levels().to_vec(),
        }
    }

    fn profile(self) -> Result<Profile, FormatError> {
        let season = Season::ALL
            .get(usize::from(self.season))
            .ok_or(FormatError::Code {
                what: "season",
                code: self.season,
            })?;
        Ok(Profile::new(*season, &self.zone, self.levels)?)
    }
}
