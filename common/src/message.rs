//! The unit of work on the queue.

use serde::{Deserialize, Serialize};

use crate::group_message::GROUP_SCHEMA;
use crate::{Aggregate, CodecError, Interval, Length, SensorId, codec};

/// Version of the body's layout, stored in its first byte. Raise it whenever [`ScoringMessage`] or [`Aggregate`]
/// changes.
pub(crate) const SCHEMA: u8 = 1;

/// Schema versions are below this, and so below every printable character. A body that begins with more is foreign.
pub(crate) const FIRST_FOREIGN: u8 = 32;

/// Maximum number of aggregates in one message: a day of one-second windows.
pub const MAX_AGGREGATES: usize = 86_400;

/// Maximum size of a body in bytes: [`MAX_AGGREGATES`] of 64 bytes each, plus room for the names.
pub const MAX_BODY_BYTES: usize = MAX_AGGREGATES * 64 + 1_024;

/// Maximum size of a message id, in bytes.
const MAX_ID_BYTES: usize = 255;

/// A message that asks for the scores of one sensor's aggregates in one interval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScoringMessage {
    /// The sensor to score.
    pub sensor: SensorId,
    /// The dispatch interval.
    pub interval: Interval,
    /// Length of each window; the interval is a whole number of windows.
    pub window_length: Length,
    /// One aggregate for each window with readings, in time order; at least one.
    pub aggregates: Vec<Aggregate>,
}

/// Why a body is not a scoring message.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// The body is empty.
    #[error("the message body is empty")]
    Empty,
    /// Something else than Windrow wrote the body.
    #[error("not a Windrow message: its first byte is {0}, which no version of the schema has")]
    Foreign(u8),
    /// A producer of another version wrote the body.
    #[error(
        "the message body has schema version {0}; this program reads versions {SCHEMA} and {GROUP_SCHEMA}: update the \
         workers first"
    )]
    Schema(u8),
    /// The message is of several tags together, where one of a single sensor is wanted.
    #[error("the message is of several tags of a device together, not of one sensor")]
    OfGroup,
    /// The bytes are not a scoring message.
    #[error("the message body is damaged: {0}")]
    Codec(#[from] CodecError),
    /// The body decodes, but its fields contradict each other.
    #[error("the message is inconsistent: {0}")]
    Inconsistent(&'static str),
}

/// Returns the id of a message; see [`ScoringMessage::id`].
pub(crate) fn id(sensor: &SensorId, interval: Interval, window_length: Length) -> String {
    let when = format!("@{interval}/{window_length}");
    sensor.text_within(MAX_ID_BYTES - when.len()) + &when
}

impl ScoringMessage {
    /// AMQP `type` of a scoring message.
    pub const KIND: &'static str = "windrow.scoring-message";
    /// AMQP `content_type` of its body.
    pub const CONTENT_TYPE: &'static str = "application/vnd.windrow.bincode";

    /// Returns the message id: the same for the same sensor, interval and window length, on every machine and in every
    /// replay. It has at most 255 bytes, AMQP's limit. The sensor's name is shortened for that, never the interval: two
    /// messages with one id would replace each other as dead letters.
    pub fn id(&self) -> String {
        id(&self.sensor, self.interval, self.window_length)
    }

    /// Splits the interval in two, at a whole window. A half is `None` if it has no aggregates. Returns `None` if there is
    /// one window only.
    pub fn halves(mut self) -> Option<[Option<Self>; 2]> {
        let Interval { start, length } = self.interval;
        let windows = length.as_millis() / self.window_length.as_millis();
        if windows < 2 {
            return None;
        }
        let first = Length::from_millis(windows.div_euclid(2) * self.window_length.as_millis());
        let middle = start.saturating_add(first.as_duration());
        let split = self
            .aggregates
            .partition_point(|aggregate| aggregate.window_start < middle);
        let later = Self {
            sensor: self.sensor.clone(),
            interval: Interval {
                start: middle,
                length: Length::from_millis(length.as_millis() - first.as_millis()),
            },
            window_length: self.window_length,
            aggregates: self.aggregates.split_off(split),
        };
        self.interval.length = first;
        Some([self, later].map(|half| (!half.aggregates.is_empty()).then_some(half)))
    }

    /// Encodes the body for the queue: the schema version, then the message.
    pub fn encode(&self) -> Result<Vec<u8>, CodecError> {
        let mut body = Vec::with_capacity(
            64 + self.sensor.device.len() + self.sensor.tag.len() + 64 * self.aggregates.len(),
        );
        body.push(SCHEMA);
        codec::encode(self, &mut body)?;
        Ok(body)
    }

    /// Decodes a body and checks everything that a worker relies on.
    pub fn decode(body: &[u8]) -> Result<Self, MessageError> {
        let (&schema, rest) = body.split_first().ok_or(MessageError::Empty)?;
        match schema {
            SCHEMA => {}
            GROUP_SCHEMA => return Err(MessageError::OfGroup),
            0 | FIRST_FOREIGN.. => return Err(MessageError::Foreign(schema)),
            other => return Err(MessageError::Schema(other)),
        }
        let message: Self = codec::decode::<_, MAX_BODY_BYTES>(rest)?;
        message.check().map_err(MessageError::Inconsistent)?;
        Ok(message)
    }

    fn check(&self) -> Result<(), &'static str> {
        let start = self.interval.start;
        let window = self.window_length;
        if SensorId::check(&self.sensor.device, &self.sensor.tag).is_err() {
            return Err("the sensor's name is empty or too long");
        }
        check_interval(self.interval, window)?;
        if self.aggregates.is_empty() || self.aggregates.len() > MAX_AGGREGATES {
            return Err("it holds no aggregate, or too many");
        }
        let mut next = start;
        for aggregate in &self.aggregates {
            let at = aggregate.window_start;
            if at < next
                || at >= self.interval.end()
                || (at.as_millis() - start.as_millis()) % window.as_millis() != 0
            {
                return Err("an aggregate's window is out of order, misaligned or outside the interval");
            }
            next = at.saturating_add(window.as_duration());
        }
        Ok(())
    }
}

/// Checks that an interval is a whole number of windows and within the calendar.
pub(crate) fn check_interval(interval: Interval, window: Length) -> Result<(), &'static str> {
    let Interval { start, length } = interval;
    if !window.is_positive() || !length.is_positive() || !length.is_multiple_of(window) {
        return Err("the interval is not a whole number of windows");
    }
    if start < crate::EventTime::MIN || start > crate::EventTime::MAX {
        return Err("the interval is outside the calendar");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EventTime;
    use proptest::prelude::*;

    prop_compose! {
        fn message()(
            device in "[a-z/%.é]{1,12}",
            tag in "[0-9]{1,4}",
            first in 0_i64..100_000,
            values in proptest::collection::vec(proptest::collection::vec(any::<f64>(), 6), 1..20),
        ) -> ScoringMessage {
            let start = EventTime::from_millis(first * 3_600_000);
            let aggregates = values.iter().enumerate().map(|(i, v)| Aggregate {
                window_start: EventTime::from_millis(start.as_millis() + i as i64 * 60_000),
                count: i as u64 + 1, mean: v[0], std: v[1], min: v[2], max: v[3], first: v[4], last: v[5],
            }).collect();
            ScoringMessage {
                sensor: SensorId::new(&device, &tag).unwrap(),
                interval: Interval { start, length: Length::HOUR },
                window_length: Length::from_millis(60_000),
                aggregates,
            }
        }
    }

    proptest! {
        #[test]
        fn a_message_reads_back_bit_for_bit(message in message()) {
            let body = message.encode().unwrap();
            let back = ScoringMessage::decode(&body).unwrap();
            prop_assert_eq!(back.encode().unwrap(), body);
            prop_assert_eq!(back.id(), message.id());
        }

        #[test]
        fn a_truncated_message_is_an_error(message in message(), cut in any::<prop::sample::Index>()) {
            let body = message.encode().unwrap();
            prop_assert!(ScoringMessage::decode(&body[..cut.index(body.len())]).is_err());
        }

        #[test]
        fn flipped_bits_never_panic(message in message(), at in any::<prop::sample::Index>(), bit in 0..8) {
            let mut body = message.encode().unwrap();
            let at = at.index(body.len());
            body[at] ^= 1_u8 << bit;
            if let Ok(read) = ScoringMessage::decode(&body) {
                prop_assert!(read.aggregates.len() <= MAX_AGGREGATES);
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = ScoringMessage::decode(&bytes);
        }
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_memory_is_set_aside() {
        let mut body = vec![SCHEMA];
        body.extend(u64::MAX.to_le_bytes());
        assert!(matches!(
            ScoringMessage::decode(&body),
            Err(MessageError::Codec(_))
        ));
    }

    #[test]
    fn another_schema_version_is_named() {
        let error = ScoringMessage::decode(&[9, 0, 0]).unwrap_err();
        assert!(error.to_string().contains("version 9"), "{error}");
    }

    #[test]
    fn a_foreign_body_is_not_called_another_version() {
        for body in [&b"hello"[..], b"{}", b"\0", b"\xff"] {
            let error = ScoringMessage::decode(body).unwrap_err();
            assert!(error.to_string().starts_with("not a Windrow message"), "{error}");
        }
    }
}
