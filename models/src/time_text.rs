//! Times in JSON, as text such as `2026-01-05T00:00:00Z`.

use serde::{Deserialize, Deserializer, Serializer, de};
use windrow_common::EventTime;

pub(crate) fn serialize<S: Serializer>(time: &EventTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(time)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<EventTime, D::Error> {
    String::deserialize(deserializer)?
        .parse()
        .map_err(de::Error::custom)
}

/// The same for a time that may be absent.
pub(crate) mod optional {
    use serde::{Deserialize, Deserializer, Serializer, de};
    use windrow_common::EventTime;

    #[allow(clippy::ref_option)] // The signature that serde expects.
    pub(crate) fn serialize<S: Serializer>(
        time: &Option<EventTime>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => serializer.collect_str(time),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<EventTime>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| text.parse().map_err(de::Error::custom))
            .transpose()
    }
}
