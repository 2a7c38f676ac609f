//! The origin of a checkpoint. A checkpoint is invalid for another source, and for the same files read with other
//! options.

use serde::{Deserialize, Serialize};
use windrow_common::shell_word;

use super::CheckpointError;
use crate::source::decode::ColumnMapping;

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
    /// Fails if this origin, which is that of the checkpoint at `path`, differs from `now`. `way_on` tells the person
    /// what to do.
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
    match columns == &ColumnMapping::default() {
        true => "no column options".to_owned(),
        false => column_options_text(columns),
    }
}

/// Returns the options that were given to say how readings are found, as they are written in a shell.
pub fn column_options_text(columns: &ColumnMapping) -> String {
    let options = column_options(columns).map(|(option, value)| format!("{option} {}", shell_word(&value)));
    options.collect::<Vec<_>>().join(" ")
}

/// Returns the options that were given to say how readings are found, with their values.
pub fn column_options(columns: &ColumnMapping) -> impl Iterator<Item = (&'static str, String)> {
    let ColumnMapping {
        timestamp,
        device,
        tag,
        value,
        tags,
        ignore,
        device_from,
        conditions,
        time_format,
        timezone,
        delimiter,
        header_line,
        time_from,
    } = columns;
    let list = |values: Vec<String>| (!values.is_empty()).then(|| values.join(","));
    let one = [
        ("--column-time", timestamp.clone()),
        ("--column-device", device.clone()),
        ("--column-tag", tag.clone()),
        ("--column-value", value.clone()),
        ("--tags", list(tags.iter().map(ToString::to_string).collect())),
        ("--ignore", list(ignore.clone())),
        ("--device-from", device_from.as_ref().map(ToString::to_string)),
        ("--time-from", time_from.as_ref().map(ToString::to_string)),
        ("--time-format", time_format.as_ref().map(ToString::to_string)),
        ("--timezone", timezone.clone()),
        (
            "--delimiter",
            delimiter.map(|delimiter| {
                if delimiter == '\t' {
                    "tab".to_owned()
                } else {
                    delimiter.to_string()
                }
            }),
        ),
        ("--header-line", header_line.map(|line| line.to_string())),
    ];
    let conditions = conditions
        .iter()
        .map(|condition| ("--where", Some(condition.to_string())));
    one.into_iter()
        .chain(conditions.collect::<Vec<_>>())
        .filter_map(|(option, value)| Some((option, value?)))
}
