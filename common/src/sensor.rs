//! The sensor: who measured, and what.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Serialize};

/// Longest device or tag, in bytes of UTF-8: a blob path holds both percent-encoded, and stores cap paths at 1,024.
pub const MAX_NAME_BYTES: usize = 128;

/// The ASCII characters that are percent-encoded in a path segment: all but letters, digits, `-`, `_`, `.` and `~`.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// A (device, tag) pair, which has readings, a model and predictions.
///
/// Its text is `device/tag` with both halves percent-encoded, which is also its path in the store.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SensorId {
    /// Who measured.
    pub device: Arc<str>,
    /// What was measured.
    pub tag: Arc<str>,
}

/// Why a device, tag or `device/tag` text is not a sensor.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SensorIdError {
    /// The text is not two halves with one slash between them.
    #[error("`{0}` is not a sensor: write DEVICE/TAG, with a slash inside a name as %2F")]
    Shape(String),
    /// A half is empty.
    #[error("the {0} is empty")]
    Empty(&'static str),
    /// A half is longer than [`MAX_NAME_BYTES`].
    #[error("the {what} has {bytes} bytes; at most {MAX_NAME_BYTES} are allowed")]
    TooLong {
        /// `device` or `tag`.
        what: &'static str,
        /// Its length.
        bytes: usize,
    },
    /// A half does not percent-decode to UTF-8.
    #[error("`{0}` does not percent-decode to UTF-8 text")]
    Encoding(String),
}

impl SensorId {
    /// Creates a sensor from its two names.
    pub fn new(device: &str, tag: &str) -> Result<Self, SensorIdError> {
        Self::check(device, tag)?;
        Ok(Self {
            device: device.into(),
            tag: tag.into(),
        })
    }

    /// Checks that the two names make a sensor, without creating one.
    pub fn check(device: &str, tag: &str) -> Result<(), SensorIdError> {
        for (what, name) in [("device", device), ("tag", tag)] {
            if name.is_empty() {
                return Err(SensorIdError::Empty(what));
            }
            if name.len() > MAX_NAME_BYTES {
                return Err(SensorIdError::TooLong {
                    what,
                    bytes: name.len(),
                });
            }
        }
        Ok(())
    }

    /// Returns `device.tag` as an AMQP routing key. Dots inside a name are encoded too, because dots separate the words
    /// of a key. The key is cut at 255 bytes, AMQP's limit.
    pub fn topic(&self) -> String {
        let word = |name: &str| encode_segment(name).replace('.', "%2E");
        let mut topic = format!("{}.{}", word(&self.device), word(&self.tag));
        topic.truncate(255);
        topic
    }
}

impl fmt::Display for SensorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}/{}",
            encode_segment(&self.device),
            encode_segment(&self.tag)
        )
    }
}

impl FromStr for SensorId {
    type Err = SensorIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let shape = || SensorIdError::Shape(text.to_owned());
        let (device, tag) = text.split_once('/').ok_or_else(shape)?;
        if tag.contains('/') {
            return Err(shape());
        }
        let decode = |half: &str| {
            percent_decode_str(half)
                .decode_utf8()
                .map(|name| name.into_owned())
                .map_err(|_| SensorIdError::Encoding(half.to_owned()))
        };
        Self::new(&decode(device)?, &decode(tag)?)
    }
}

/// Percent-encodes `name` as one segment of a store path. A dot at its start is encoded too, because a segment of dots
/// alone would climb the tree.
pub fn encode_segment(name: &str) -> String {
    let encoded = utf8_percent_encode(name, SEGMENT).to_string();
    match encoded.strip_prefix('.') {
        Some(rest) => format!("%2E{rest}"),
        None => encoded,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_sensor_reads_back_from_its_own_text(device in ".{1,20}", tag in ".{1,20}") {
            let sensor = SensorId::new(&device, &tag).unwrap();
            prop_assert_eq!(sensor.to_string().parse::<SensorId>().unwrap(), sensor);
        }
    }

    #[test]
    fn names_that_would_climb_or_split_the_path_are_encoded() {
        let sensor = SensorId::new("..", "a/b").unwrap();
        assert_eq!(sensor.to_string(), "%2E./a%2Fb");
    }

    #[test]
    fn bad_text_is_refused_with_what_to_write() {
        assert_eq!(
            "pump".parse::<SensorId>(),
            Err(SensorIdError::Shape("pump".into()))
        );
        assert_eq!(
            "a/b/c".parse::<SensorId>(),
            Err(SensorIdError::Shape("a/b/c".into()))
        );
        assert_eq!("/t".parse::<SensorId>(), Err(SensorIdError::Empty("device")));
        assert!(matches!(
            SensorId::new("d", &"x".repeat(129)),
            Err(SensorIdError::TooLong {
                what: "tag",
                bytes: 129
            })
        ));
    }
}
