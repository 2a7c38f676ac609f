//! Patterns of sensors, as people write them in options and files.

use std::fmt;
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{MAX_NAME_BYTES, SensorId, encode_name, matches_wildcard};

/// Sensors by name, where `*` in the device or the tag stands for any text.
///
/// Its text is `device/tag`, percent-encoded like that of a sensor. A star in a name cannot be told from a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SensorPattern {
    device: String,
    tag: String,
}

/// Why a text is not a pattern of sensors.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SensorPatternError {
    /// The text is not two halves with one slash between them.
    #[error(
        "`{0}` names no sensors: write DEVICE/TAG, in which * stands for any text, and a slash inside a name as %2F"
    )]
    Shape(String),
    /// A half is empty.
    #[error("the {0} is empty; write * for any {0}")]
    Empty(&'static str),
    /// A half is longer than any name.
    #[error("the {what} has {bytes} bytes; no name has more than {MAX_NAME_BYTES}")]
    TooLong {
        /// `device` or `tag`.
        what: &'static str,
        /// Its length.
        bytes: usize,
    },
}

impl SensorPattern {
    /// Creates a pattern from a device pattern and a tag pattern.
    pub fn new(device: &str, tag: &str) -> Result<Self, SensorPatternError> {
        for (what, name) in [("device", device), ("tag", tag)] {
            if name.is_empty() {
                return Err(SensorPatternError::Empty(what));
            }
            if name.len() > MAX_NAME_BYTES {
                return Err(SensorPatternError::TooLong {
                    what,
                    bytes: name.len(),
                });
            }
        }
        Ok(Self {
            device: device.to_owned(),
            tag: tag.to_owned(),
        })
    }

    /// Returns whether the pattern matches `sensor`.
    pub fn matches(&self, sensor: &SensorId) -> bool {
        matches(&self.device, &sensor.device) && matches(&self.tag, &sensor.tag)
    }

    /// Returns the one sensor that it names; `None` if it contains a `*`.
    pub fn only(&self) -> Option<SensorId> {
        if self.device.contains('*') || self.tag.contains('*') {
            return None;
        }
        SensorId::new(&self.device, &self.tag).ok()
    }
}

/// Returns whether `name` matches `pattern`. Case matters.
fn matches(pattern: &str, name: &str) -> bool {
    matches_wildcard(pattern, name, |a, b| a == b)
}

/// Percent-encodes a name, and leaves its stars.
fn encode_pattern(name: &str) -> String {
    let parts: Vec<String> = name.split('*').map(encode_name).collect();
    parts.join("*")
}

impl fmt::Display for SensorPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}/{}",
            encode_pattern(&self.device),
            encode_pattern(&self.tag)
        )
    }
}

impl FromStr for SensorPattern {
    type Err = SensorPatternError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let shape = || SensorPatternError::Shape(text.to_owned());
        let (device, tag) = text.split_once('/').ok_or_else(shape)?;
        let decoded = |half: &str| {
            let name = percent_decode_str(half).decode_utf8();
            name.map(|name| name.into_owned()).map_err(|_| shape())
        };
        if tag.contains('/') {
            return Err(shape());
        }
        Self::new(&decoded(device)?, &decoded(tag)?)
    }
}

impl Serialize for SensorPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SensorPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text_in_one_name() {
        let is = |pattern: &str, device: &str, tag: &str| {
            let pattern: SensorPattern = pattern.parse().unwrap();
            assert_eq!(pattern.to_string().parse::<SensorPattern>().unwrap(), pattern);
            pattern.matches(&SensorId::new(device, tag).unwrap())
        };
        assert!(is("*/*", "pump-7", "temp"));
        assert!(is("pump-*/temp", "pump-7", "temp"));
        assert!(is("p*-7/t*p", "pump-7", "temp"));
        assert!(is("a%2Fb/*", "a/b", "temp"));
        assert!(is("wärme*/*", "wärme 1", "é"));
        assert!(!is("pump-*/temp", "pump-7", "temp2"));
        assert!(!is("Pump-7/temp", "pump-7", "temp"));
        for (text, why) in [
            ("pump-7", "names no sensors"),
            ("a/b/c", "names no sensors"),
            ("/temp", "the device is empty"),
        ] {
            let error = text.parse::<SensorPattern>().unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        let only = |text: &str| text.parse::<SensorPattern>().unwrap().only();
        assert_eq!(only("pump-7/temp"), SensorId::new("pump-7", "temp").ok());
        assert_eq!(only("pump-*/temp"), None);
    }
}
