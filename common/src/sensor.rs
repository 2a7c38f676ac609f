//! The sensor: who measured, and what.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Longest device or tag, in bytes of UTF-8.
pub const MAX_NAME_BYTES: usize = 128;

/// Longest segment of a store path, in bytes: the longest name of a file on Linux. Clouds cap whole keys at 1,024.
const MAX_SEGMENT: usize = 255;
/// Room that a folder store needs in a file's name while it writes the file: `#` and a number.
const WHILE_WRITTEN: usize = 8;
/// Longest AMQP short string, such as a routing key, in bytes.
const MAX_SHORT_STRING: usize = 255;

/// The tag under which several tags of a device are scored together. No source has a tag of this name.
pub const GROUP_TAG: &str = "(group)";

/// Precedes the hash in a shortened name. Percent-encoding leaves no such character in a name, so a shortened name never
/// equals another one.
const CUT: char = '=';
/// Hexadecimal digits of the hash: 128 bits, so that no two names ever share one.
const HASH_DIGITS: usize = 32;

/// The ASCII characters that are percent-encoded in a path segment: all but letters, digits, `-`, `_`, `.` and `~`.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// A (device, tag) pair, which has readings, a model and predictions.
///
/// Its text is `device/tag` with both halves percent-encoded.
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
    /// The tag is the one that stands for several tags together.
    #[error("the tag `{GROUP_TAG}` stands for all tags of a device together: give the readings another tag")]
    Reserved,
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

    /// Returns the sensor that stands for several tags of a device together.
    pub fn of_group(device: &Arc<str>) -> Self {
        Self {
            device: Arc::clone(device),
            tag: GROUP_TAG.into(),
        }
    }

    /// Returns whether it stands for several tags of a device together.
    pub fn is_group(&self) -> bool {
        *self.tag == *GROUP_TAG
    }

    /// Returns its path in a store: `device/tag`, each encoded by [`encode_segment`].
    pub fn path(&self) -> String {
        format!("{}/{}", encode_segment(&self.device), encode_segment(&self.tag))
    }

    /// Returns `device.tag` as an AMQP routing key. Dots inside a name are encoded too, because dots separate the words
    /// of a key. If the key exceeds 255 bytes, AMQP's limit, words longer than half of that are shortened.
    pub fn topic(&self) -> String {
        let words = [&self.device, &self.tag].map(|name| encode_name(name).replace('.', "%2E"));
        if words[0].len() + 1 + words[1].len() <= MAX_SHORT_STRING {
            return words.join(".");
        }
        words.map(|word| shortened(word, MAX_SHORT_STRING / 2)).join(".")
    }

    /// Returns its text in at most `limit` bytes, shortened if necessary.
    pub(crate) fn text_within(&self, limit: usize) -> String {
        shortened(self.to_string(), limit)
    }
}

impl fmt::Display for SensorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", encode_name(&self.device), encode_name(&self.tag))
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

/// Percent-encodes `name` as one segment of a store path.
///
/// A dot at its start is encoded too, because a segment of dots alone would climb the tree. A segment of more than 255
/// bytes fits no folder: it is shortened to its first characters, `=` and a hash of all of it, on every store alike. So
/// different names have different segments, and a store can be copied from a cloud to a folder.
pub fn encode_segment(name: &str) -> String {
    shortened(encode_name(name), MAX_SEGMENT)
}

/// Percent-encodes `name` as the name of a file with this ending, as [`encode_segment`] does.
pub fn encode_file_name(name: &str, ending: &str) -> String {
    let limit = MAX_SEGMENT - WHILE_WRITTEN - ending.len();
    shortened(encode_name(name), limit) + ending
}

/// Returns whether a segment or path holds a name that was shortened, so that the name cannot be read back from it.
pub fn is_shortened(path: &str) -> bool {
    path.contains(CUT)
}

/// Percent-encodes `name` in full, as people see it. Equals [`encode_segment`] for names that are not too long.
pub fn encode_name(name: &str) -> String {
    let encoded = utf8_percent_encode(name, SEGMENT).to_string();
    match encoded.strip_prefix('.') {
        Some(rest) => format!("%2E{rest}"),
        None => encoded,
    }
}

/// Cuts percent-encoded text that is longer than `limit` bytes, and appends a hash of the whole. No escape is cut in two.
fn shortened(encoded: String, limit: usize) -> String {
    if encoded.len() <= limit {
        return encoded;
    }
    let mut end = limit - HASH_DIGITS - CUT.len_utf8();
    let escape = encoded[..end].rfind('%').filter(|start| start + 3 > end);
    end = escape.unwrap_or(end);
    let mut short = encoded[..end].to_owned();
    short.push(CUT);
    for byte in &Sha256::digest(&encoded)[..HASH_DIGITS / 2] {
        short.push_str(&format!("{byte:02x}"));
    }
    short
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_sensor_reads_back_from_its_own_text(device in ".{1,20}", tag in ".{1,20}") {
            let sensor = SensorId::new(&device, &tag).unwrap();
            prop_assert_eq!(sensor.to_string().parse::<SensorId>().unwrap(), sensor);
        }

        #[test]
        fn names_that_differ_have_segments_keys_and_files_that_differ_and_fit(
            // Names that share all but their last characters, of one to four bytes and three times as many encoded.
            start in "(漢|é|a|%|\\.|=){0,60}",
            ends in proptest::collection::hash_set("[字a.%=~]{1,8}", 2..6),
        ) {
            let names = ends.iter().map(|end| format!("{start}{end}"));
            let names: Vec<String> = names.filter(|name| name.len() <= MAX_NAME_BYTES).collect();
            let mut all = HashSet::new();
            for name in &names {
                let sensor = SensorId::new(name, name).unwrap();
                let (segment, file) = (encode_segment(name), encode_file_name(name, ".json"));
                prop_assert!(segment.len() <= 255 && file.len() <= 247 && sensor.topic().len() <= 255);
                prop_assert!(!segment.contains('/') && segment != "." && segment != "..");
                prop_assert_eq!(sensor.topic().split('.').count(), 2);
                for text in [&segment, &file, &sensor.topic()] {
                    // A cut escape would decode to itself, with its percent sign.
                    let broken = text.match_indices('%').any(|(at, _)| {
                        text.as_bytes().get(at + 1..at + 3).is_none_or(|hex| !hex.iter().all(u8::is_ascii_hexdigit))
                    });
                    prop_assert!(!broken, "{}", text);
                }
                if encode_name(name).len() <= 255 {
                    prop_assert_eq!(&segment, &encode_name(name));
                }
                prop_assert_eq!(is_shortened(&segment), encode_name(name).len() > 255);
                // A segment may look like another sensor's key: each kind is compared with its like.
                let (topic, path) = (sensor.topic(), sensor.path());
                all.extend([("segment", segment), ("file", file), ("topic", topic), ("path", path)]);
            }
            prop_assert_eq!(all.len(), 4 * names.len());
        }
    }

    #[test]
    fn a_long_name_is_cut_and_a_hash_of_all_of_it_is_appended() {
        // As in docs/formats.md: a change would lose the models of such names.
        let pump = SensorId::new(&"泵".repeat(30), "temp").unwrap();
        let cut = "%E6%B3%B5".repeat(24) + "%E6%B3";
        assert_eq!(
            pump.path(),
            format!("{cut}=2194972d52ca2aebf0e17c2754b68fb0/temp")
        );
        let other = SensorId::new(&("泵".repeat(29) + "水"), "temp").unwrap();
        assert!(other.path().starts_with(&cut) && other.path() != pump.path());
        assert_eq!(pump.to_string(), "%E6%B3%B5".repeat(30) + "/temp");
        assert_eq!(encode_segment(&"a".repeat(255)), "a".repeat(255));
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
