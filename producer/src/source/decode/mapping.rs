//! The mapping from the columns of a file to what they hold.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::source::SourceError;

use super::field_source::FieldSource;

/// The names of the columns to read; `None` takes the first default name that a file has.
///
/// The comparison of names ignores ASCII case. A column named here is not taken for another role.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnMapping {
    /// When it was measured; by default `ts`, `timestamp`, `time`, `event_time` or `datetime`.
    #[serde(rename = "time", default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<String>,
    /// Who measured; by default `device`, `device_id` or `deviceid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// What was measured; by default `tag`, `sensor` or `metric`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// The measured value; by default `value` or `reading`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Where an event's time is, if not in its body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_from: Option<FieldSource>,
    /// Where an event's device is, if not in its body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_from: Option<FieldSource>,
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

    /// Returns the default names of a role, the likeliest first.
    const fn usual_names(self) -> &'static [&'static str] {
        match self {
            Self::Timestamp => &["ts", "timestamp", "time", "event_time", "datetime"],
            Self::Device => &["device", "device_id", "deviceid"],
            Self::Tag => &["tag", "sensor", "metric"],
            Self::Value => &["value", "reading"],
        }
    }
}

impl ColumnMapping {
    fn given(&self, role: Role) -> Option<&str> {
        match role {
            Role::Timestamp => self.timestamp.as_deref(),
            Role::Device => self.device.as_deref(),
            Role::Tag => self.tag.as_deref(),
            Role::Value => self.value.as_deref(),
        }
    }

    /// Returns the name of a role's field for messages.
    pub(in crate::source) fn shown_name(&self, role: Role) -> &str {
        self.given(role).unwrap_or(role.name())
    }

    /// Returns the role of a column with this name, and the rank of the name for that role. The lowest rank wins.
    pub(in crate::source) fn role_of(&self, column: &str) -> Option<(Role, u8)> {
        let given = |role| {
            self.given(role)
                .is_some_and(|name| name.eq_ignore_ascii_case(column))
        };
        if let Some(role) = Role::ALL.into_iter().find(|&role| given(role)) {
            return Some((role, 0));
        }
        Role::ALL
            .into_iter()
            .filter(|&role| self.given(role).is_none())
            .find_map(|role| {
                let rank = role
                    .usual_names()
                    .iter()
                    .position(|name| name.eq_ignore_ascii_case(column))?;
                Some((role, rank as u8))
            })
    }

    /// Returns the index of each role's column among the names `found` in the file at `path`.
    pub(in crate::source) fn resolve<S: AsRef<str>>(
        &self,
        path: &Path,
        found: &[S],
    ) -> Result<[usize; 4], SourceError> {
        let mut best: [Option<(u8, usize)>; 4] = [None; 4];
        for (place, name) in found.iter().enumerate() {
            if let Some((role, rank)) = self.role_of(name.as_ref().trim()) {
                let best = &mut best[role as usize];
                if best.is_none_or(|(other, _)| rank < other) {
                    *best = Some((rank, place));
                }
            }
        }
        let mut places = [0; 4];
        for role in Role::ALL {
            let Some((_, place)) = best[role as usize] else {
                return Err(self.missing(path, role, found));
            };
            places[role as usize] = place;
        }
        Ok(places)
    }

    fn missing<S: AsRef<str>>(&self, path: &Path, role: Role, found: &[S]) -> SourceError {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(mapping: &ColumnMapping, found: &[&str]) -> Result<[usize; 4], SourceError> {
        mapping.resolve(Path::new("f.csv"), found)
    }

    #[test]
    fn usual_names_are_found_in_any_case_and_order() {
        let usual = ColumnMapping::default();
        assert_eq!(
            resolve(&usual, &["TS", "Device", "Tag", "Value"]).unwrap(),
            [0, 1, 2, 3]
        );
        assert_eq!(
            resolve(
                &usual,
                &["reading", "quality", "DeviceId", "Sensor", " event_time "]
            )
            .unwrap(),
            [4, 2, 3, 0]
        );
    }

    #[test]
    fn the_likeliest_of_several_usual_names_is_taken() {
        let usual = ColumnMapping::default();
        let columns = resolve(&usual, &["time", "ts", "sensor", "device", "tag", "value"]).unwrap();
        assert_eq!(columns, [1, 3, 4, 5]);
    }

    #[test]
    fn a_given_name_is_the_only_one_looked_for() {
        let mapping = ColumnMapping {
            value: Some("Pressure".into()),
            ..ColumnMapping::default()
        };
        assert_eq!(
            resolve(&mapping, &["ts", "device", "tag", "value", "pressure"]).unwrap()[3],
            4
        );
        let error = resolve(&mapping, &["ts", "device", "tag", "value"]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "f.csv: no column `Pressure` for the value; the file has ts, device, tag, value"
        );
    }

    #[test]
    fn a_column_given_to_one_role_is_not_taken_for_another() {
        let mapping = ColumnMapping {
            device: Some("sensor".into()),
            ..ColumnMapping::default()
        };
        let error = resolve(&mapping, &["ts", "sensor", "value"]).unwrap_err();
        assert!(
            error.to_string().contains("`tag | sensor | metric` for the tag"),
            "{error}"
        );
    }
}
