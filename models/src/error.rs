//! The errors of the models in a store.

use windrow_common::{HasRemedy, Remedy, SensorId};
use windrow_model::FormatError;
use windrow_store::StoreError;

/// An error from the models of a store.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    /// The version does not exist.
    #[error("{sensor} has no model of version {version}: {path} does not exist")]
    Missing {
        /// The sensor.
        sensor: SensorId,
        /// The version that was asked for.
        version: String,
        /// The path of the missing file.
        path: String,
    },
    /// The file exists but is not a usable model.
    #[error("{path} cannot be used: {source}")]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong with it.
        source: FormatError,
    },
    /// The file holds a model of another version.
    #[error("{path} holds a model of version {found}: restore the file, or import the model again")]
    Misnamed {
        /// The file.
        path: String,
        /// The version that it holds.
        found: String,
    },
    /// The `current` blob does not name a version.
    #[error("{path} does not name a version (16 hexadecimal digits): import or train the model again")]
    Current {
        /// The blob.
        path: String,
    },
    /// The blob that holds the name of a sensor with a shortened path is missing or names another sensor.
    #[error("{path} does not name the sensor whose models are beside it: import or train its model again")]
    Unnamed {
        /// The blob.
        path: String,
    },
    /// A blob beside the models is not what Windrow writes there.
    #[error("{path} is not readable: {why}; restore it, or delete it: what it records is then lost")]
    NotJson {
        /// The blob.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// The sensor's current version may not be replaced.
    #[error("{sensor} is pinned: `windrow models unpin` releases it")]
    Pinned {
        /// The sensor.
        sensor: SensorId,
    },
    /// Another command changed what is current in the meantime.
    #[error(
        "{sensor} was promoted by another command in the meantime: look at it with `windrow models show`"
    )]
    Changed {
        /// The sensor.
        sensor: SensorId,
    },
    /// Other commands write a blob all the time.
    #[error("cannot write {path}: other commands kept changing it; run the command again")]
    Contended {
        /// The blob.
        path: String,
    },
    /// A record cannot be written as JSON.
    #[error("{path} cannot be written: {why}")]
    NoJson {
        /// The blob.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// The model cannot be written as a file.
    #[error("the model of {sensor} cannot be stored: {source}")]
    Encode {
        /// The sensor it scores.
        sensor: SensorId,
        /// What is wrong with it.
        source: FormatError,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl HasRemedy for RepositoryError {
    fn remedy(&self) -> Remedy {
        match self {
            Self::Store(error) => error.remedy(),
            _ => Remedy::GiveUp,
        }
    }
}

impl RepositoryError {
    /// Returns whether the error affects one model only.
    ///
    /// When the whole store refuses (missing rights, a wrong URL), every message would fail in the same way, and a
    /// person has to repair the store first.
    pub fn is_of_one_model(&self) -> bool {
        match self {
            Self::Store(error) => error.is_of_one_blob(),
            _ => true,
        }
    }

    /// Returns whether the model was moved to a tier from which it cannot be read.
    pub fn is_archived(&self) -> bool {
        matches!(self, Self::Store(StoreError::Archived { .. }))
    }
}
