//! Where a field is that comes with a body and is not in it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

const PROPERTY: &str = "property:";
const ANNOTATION: &str = "annotation:";

/// The place of a field outside of an event's body, such as `annotation:iothub-connection-device-id`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldSource(String);

/// The place that a [`FieldSource`] names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldPlace<'a> {
    /// A property of this name that the sender set.
    Property(&'a str),
    /// An annotation of this name that the service set. Files of events call it a system property.
    Annotation(&'a str),
}

impl FieldSource {
    /// Returns the place that it names; `None` if an older or newer version has written another form.
    pub fn place(&self) -> Option<FieldPlace<'_>> {
        if let Some(name) = self.0.strip_prefix(PROPERTY) {
            return Some(FieldPlace::Property(name));
        }
        self.0.strip_prefix(ANNOTATION).map(FieldPlace::Annotation)
    }

    /// Returns it as it is written in options.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for FieldSource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let source = Self(text.to_owned());
        match source.place() {
            Some(FieldPlace::Property(name) | FieldPlace::Annotation(name)) if !name.is_empty() => Ok(source),
            _ => Err(
                "write property:NAME for a property of the event, or annotation:NAME for an annotation, such as \
                 annotation:iothub-connection-device-id"
                    .to_owned(),
            ),
        }
    }
}

impl fmt::Display for FieldSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_named_by_its_kind_and_its_name() {
        let source: FieldSource = "annotation:iothub-connection-device-id".parse().unwrap();
        assert_eq!(
            source.place(),
            Some(FieldPlace::Annotation("iothub-connection-device-id"))
        );
        let source: FieldSource = "property:plant:line".parse().unwrap();
        assert_eq!(source.place(), Some(FieldPlace::Property("plant:line")));
        for other in ["", "device", "annotation:", "Property:x"] {
            assert!(other.parse::<FieldSource>().is_err(), "{other}");
        }
    }
}
