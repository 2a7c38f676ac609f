//! The mapping from the columns or fields of a source to what they hold.

use std::fmt::Display;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::source::SourceError;

use super::field_source::FieldSource;
use super::pattern::{Condition, DeviceFrom, TagPattern};
use super::time_format::TimeFormat;

/// How readings are found in a row, document or event, as the options say. `None` means the default.
///
/// The comparison of names ignores ASCII case. A column named here is not used for another role. In JSON, a name may be
/// a path, such as `body.value` or `metrics[].name`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ColumnMapping {
    /// When it was measured; by default `ts`, `timestamp`, `time`, `event_time` or `datetime`, or `date` and `time`.
    /// `DATE+TIME` names two columns.
    #[serde(rename = "time", skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<String>,
    /// Who measured; by default `device`, `device_id` or `deviceid`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// What was measured; by default `tag`, `sensor` or `metric`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// The measured value; by default `value` or `reading`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The columns that hold one measurement each; then there is neither a tag's nor a value's column.
    #[serde(skip_serializing_if = "Vec::is_empty", with = "texts")]
    pub tags: Vec<TagPattern>,
    /// Patterns of columns to exclude from those that match a pattern in `tags`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ignore: Vec<String>,
    /// Where the device is named, if it is in no column of its own.
    #[serde(skip_serializing_if = "Option::is_none", with = "text")]
    pub device_from: Option<DeviceFrom>,
    /// What a row must hold to be read.
    #[serde(skip_serializing_if = "Vec::is_empty", with = "texts")]
    pub conditions: Vec<Condition>,
    /// The form of the times.
    #[serde(skip_serializing_if = "Option::is_none", with = "text")]
    pub time_format: Option<TimeFormat>,
    /// The time zone of times that do not say theirs, by its name in the IANA database; by default UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// What separates the cells of delimited text; by default what the first rows suggest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delimiter: Option<char>,
    /// The line of delimited text that names the columns, counted from 1; by default the first that names those needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header_line: Option<u64>,
    /// Where an event's time is, if not in its body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_from: Option<FieldSource>,
}

/// Values that are saved as the options that give them.
mod text {
    use super::*;

    pub(super) fn serialize<T: Display, S: Serializer>(value: &Option<T>, to: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => to.collect_str(value),
            None => to.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, T: FromStr<Err = String>, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<T>, D::Error> {
        let text: Option<String> = Deserialize::deserialize(from)?;
        text.map(|text| text.parse())
            .transpose()
            .map_err(serde::de::Error::custom)
    }
}

/// Lists of values that are saved as the options that give them.
mod texts {
    use super::*;

    pub(super) fn serialize<T: Display, S: Serializer>(values: &[T], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(values.iter().map(ToString::to_string))
    }

    pub(super) fn deserialize<'de, T: FromStr<Err = String>, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<T>, D::Error> {
        let texts: Vec<String> = Deserialize::deserialize(from)?;
        let parsed = texts.iter().map(|text| text.parse());
        parsed.collect::<Result<_, _>>().map_err(serde::de::Error::custom)
    }
}

/// What a column holds; as a number, an index into arrays of four.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::source) enum Role {
    Timestamp,
    Device,
    Tag,
    Value,
}

impl Role {
    pub(in crate::source) const ALL: [Self; 4] = [Self::Timestamp, Self::Device, Self::Tag, Self::Value];

    pub(in crate::source) const fn name(self) -> &'static str {
        match self {
            Self::Timestamp => "timestamp",
            Self::Device => "device",
            Self::Tag => "tag",
            Self::Value => "value",
        }
    }

    /// Returns the option that names the role's column.
    pub(in crate::source) const fn option(self) -> &'static str {
        match self {
            Self::Timestamp => "--column-time",
            Self::Device => "--column-device",
            Self::Tag => "--column-tag",
            Self::Value => "--column-value",
        }
    }

    /// Returns the default names of a role.
    pub(in crate::source) const fn usual_names(self) -> &'static [&'static str] {
        match self {
            Self::Timestamp => &["ts", "timestamp", "time", "event_time", "datetime"],
            Self::Device => &["device", "device_id", "deviceid"],
            Self::Tag => &["tag", "sensor", "metric"],
            Self::Value => &["value", "reading"],
        }
    }
}

impl ColumnMapping {
    pub(in crate::source) fn given(&self, role: Role) -> Option<&str> {
        match role {
            Role::Timestamp => self.timestamp.as_deref(),
            Role::Device => self.device.as_deref(),
            Role::Tag => self.tag.as_deref(),
            Role::Value => self.value.as_deref(),
        }
    }

    /// Returns whether a row has a column or field for this role.
    pub(in crate::source) fn has(&self, role: Role) -> bool {
        match role {
            Role::Timestamp => true,
            Role::Device => self.device_from.is_none(),
            Role::Tag | Role::Value => self.tags.is_empty(),
        }
    }

    /// Returns the name of a role's field for messages.
    pub(in crate::source) fn shown_name(&self, role: Role) -> &str {
        self.given(role).unwrap_or(role.name())
    }

    /// Returns the role of a column with this name, and which of the role's names it is. A row with two of them is
    /// ambiguous.
    pub(in crate::source) fn role_of(&self, column: &str) -> Option<(Role, u8)> {
        let roles = || Role::ALL.into_iter().filter(|&role| self.has(role));
        let is = |name: &str| name.eq_ignore_ascii_case(column);
        if let Some(role) = roles().find(|&role| self.given(role).is_some_and(is)) {
            return Some((role, 0));
        }
        roles()
            .filter(|&role| self.given(role).is_none())
            .find_map(|role| {
                let place = role.usual_names().iter().position(|name| is(name))?;
                Some((role, place as u8))
            })
    }

    /// Checks options that exclude one another.
    pub fn check(&self) -> Result<(), String> {
        let beside = |one: &str, other: &str| {
            Err(format!(
                "{one} and {other} exclude one another: give the one that fits the source"
            ))
        };
        if self.device_from.is_some() && self.device.is_some() {
            return beside("--device-from", "--column-device");
        }
        if !self.tags.is_empty() && self.tag.is_some() {
            return beside("--tags", "--column-tag");
        }
        if !self.tags.is_empty() && self.value.is_some() {
            return beside("--tags", "--column-value");
        }
        if self.tags.is_empty() && !self.ignore.is_empty() {
            return Err("--ignore leaves out columns of --tags: give --tags '*' as well".to_owned());
        }
        Ok(())
    }

    /// Refuses options that say something about files, for the `source` of events.
    pub fn check_for_events(&self, source: &str) -> Result<(), SourceError> {
        let of_files = match &self.device_from {
            Some(from @ (DeviceFrom::File | DeviceFrom::Path(_))) => Some(format!("--device-from {from}")),
            _ if self.delimiter.is_some() => Some("--delimiter".to_owned()),
            _ => self.header_line.map(|_| "--header-line".to_owned()),
        };
        of_files.map_or(Ok(()), |option| {
            Err(SourceError::Spec {
                spec: source.to_owned(),
                why: format!("{option} is about files; events have none"),
            })
        })
    }

    pub(in crate::source) fn missing<S: AsRef<str>>(
        &self,
        path: &Path,
        role: Role,
        found: &[S],
    ) -> SourceError {
        let found: Vec<_> = found.iter().take(50).map(|name| name.as_ref().trim()).collect();
        SourceError::MissingColumn {
            path: path.to_owned(),
            role: role.name(),
            wanted: match self.given(role) {
                Some(name) => name.to_owned(),
                None => role.usual_names().join(" | "),
            },
            found: if found.is_empty() {
                "none".to_owned()
            } else {
                found.join(", ")
            },
        }
    }
}
