//! What a checkpoint belongs to. It says nothing about another source, or about the same files read otherwise.

use serde::{Deserialize, Serialize};

use super::CheckpointError;
use crate::source::decode::{ColumnMapping, FieldSource};

/// The source that was read, and the options that decide what is read in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The URL of a hub, the absolute path of a file or folder, or `sim:` for any simulated fleet. Empty in
    /// checkpoints of versions that did not save it; these belong to any source.
    #[serde(default, alias = "hub", skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// Columns or fields that were named with options.
    #[serde(default, skip_serializing_if = "is_default")]
    pub columns: ColumnMapping,
}

fn is_default(columns: &ColumnMapping) -> bool {
    *columns == ColumnMapping::default()
}

impl Origin {
    /// Refuses the checkpoint at `path`, which belongs to this origin, if it belongs to another one than `now`. `way_on`
    /// says what else to do.
    pub(super) fn check(&self, path: &str, now: &Self, way_on: &'static str) -> Result<(), CheckpointError> {
        if self.source.is_empty() {
            return Ok(());
        }
        if self.source != now.source {
            return Err(CheckpointError::OtherSource {
                path: path.to_owned(),
                then: self.source.clone(),
                now: now.source.clone(),
                way_on,
            });
        }
        if self.columns != now.columns {
            return Err(CheckpointError::OtherColumns {
                path: path.to_owned(),
                then: options_text(&self.columns),
                now: options_text(&now.columns),
                way_on,
            });
        }
        Ok(())
    }
}

fn options_text(columns: &ColumnMapping) -> String {
    let given: Vec<_> = column_options(columns)
        .map(|(option, name)| format!("{option} {name}"))
        .collect();
    match given.is_empty() {
        true => "no column options".to_owned(),
        false => given.join(" "),
    }
}

/// Returns the options that were given to name columns or fields, with the names.
pub fn column_options(columns: &ColumnMapping) -> impl Iterator<Item = (String, &str)> {
    let ColumnMapping {
        timestamp,
        device,
        tag,
        value,
        time_from,
        device_from,
    } = columns;
    let options = [
        ("--column-time", timestamp.as_deref()),
        ("--column-device", device.as_deref()),
        ("--column-tag", tag.as_deref()),
        ("--column-value", value.as_deref()),
        ("--time-from", time_from.as_ref().map(FieldSource::as_str)),
        ("--device-from", device_from.as_ref().map(FieldSource::as_str)),
    ];
    options
        .into_iter()
        .filter_map(|(option, name)| Some((option.to_owned(), name?)))
}
