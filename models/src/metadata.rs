//! What is known of a version beside the model itself: `models/<device>/<tag>/<version>.json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use windrow_common::{EventTime, SensorId};

use crate::{ModelRepository, RepositoryError, folder, time_text};

/// Where a version comes from. Models of older versions of Windrow have none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// When it was stored, for the last time if several times.
    #[serde(with = "time_text")]
    pub created: EventTime,
    /// Whether it was trained here or imported.
    pub kind: Kind,
    /// The features that the model reads, in order.
    pub features: String,
    /// Where the model comes from, for people.
    pub provenance: String,
    /// What it was trained on; only if it was trained here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training: Option<Training>,
    /// The files that it was read from; none if it was trained here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<SourceFile>,
}

/// How a version came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Trained by Windrow: `windrow models train`, `windrow models tune` or `windrow retrain`.
    Trained,
    /// Imported by `windrow models import`.
    Imported,
}

/// What a model was trained on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Training {
    /// Start of the first window of the history.
    #[serde(with = "time_text")]
    pub from: EventTime,
    /// End of the last window of the history.
    #[serde(with = "time_text")]
    pub to: EventTime,
    /// Length of the windows, in milliseconds.
    pub window_ms: i64,
    /// Number of windows in the history.
    pub windows: u64,
    /// Number of rows that training was given; fewer than `windows` if the history was thinned.
    pub rows: u64,
    /// SHA-256 of these rows, as little-endian 64-bit floats, row by row.
    pub rows_sha256: String,
    /// The options of the training.
    pub parameters: BTreeMap<String, String>,
}

/// A file that a model was imported from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFile {
    /// Its path, as it was given.
    pub path: String,
    /// SHA-256 of its contents.
    pub sha256: String,
}

/// Returns the SHA-256 of rows of numbers, in hexadecimal digits.
pub fn sha256_of_rows(rows: &[f64]) -> String {
    let mut digest = Sha256::new();
    for value in rows {
        digest.update(value.to_le_bytes());
    }
    hexadecimal(&digest.finalize())
}

/// Returns the SHA-256 of bytes, in hexadecimal digits.
pub fn sha256_of(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

fn hexadecimal(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn metadata_path(sensor: &SensorId, version: &str) -> String {
    format!("{}/{version}.json", folder(sensor))
}

impl ModelRepository {
    /// Reads what is known of a version; `None` if nothing was written for it.
    pub async fn metadata(
        &self,
        sensor: &SensorId,
        version: &str,
    ) -> Result<Option<Metadata>, RepositoryError> {
        let path = metadata_path(sensor, version);
        let Some(bytes) = self.store.get(&path).await? else {
            return Ok(None);
        };
        match serde_json::from_slice(&bytes) {
            Ok(metadata) => Ok(Some(metadata)),
            Err(error) => Err(RepositoryError::NotJson {
                path,
                why: error.to_string(),
            }),
        }
    }

    /// Writes what is known of a version. The last writer wins: the same model may be trained again on newer data.
    pub(crate) async fn put_metadata(
        &self,
        sensor: &SensorId,
        version: &str,
        metadata: Option<&Metadata>,
    ) -> Result<(), RepositoryError> {
        let Some(metadata) = metadata else {
            return Ok(());
        };
        let path = metadata_path(sensor, version);
        self.store.put(&path, crate::json(&path, metadata)?).await?;
        Ok(())
    }
}
