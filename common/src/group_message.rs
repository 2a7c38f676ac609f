//! The unit of work for several tags of a device together.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::message::{self, FIRST_FOREIGN, check_interval};
use crate::{
    Aggregate, CodecError, EventTime, Interval, Length, MAX_AGGREGATES, MAX_BODY_BYTES, MessageError,
    SensorId, codec,
};

/// Version of the body's layout, stored in its first byte; version 1 is a message of one sensor.
pub(crate) const GROUP_SCHEMA: u8 = 2;

/// Maximum number of tags in one message.
const MAX_TAGS: usize = 64;

/// A message that asks for the scores of several tags of a device together, in the windows of one interval.
///
/// It holds the windows before the interval, too, as far as the first scores need them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupMessage {
    /// The sensor that stands for the tags; see [`SensorId::of_group`].
    pub sensor: SensorId,
    /// Where the windows to score start.
    pub interval: Interval,
    /// Length of each window; the interval is a whole number of windows.
    pub window_length: Length,
    /// The windows of each tag, in ascending order of the tags.
    pub series: Vec<TagSeries>,
}

/// The windows of one tag.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TagSeries {
    /// The tag.
    pub tag: Arc<str>,
    /// One aggregate for each window with readings, in time order: those of the interval, and those before it.
    pub aggregates: Vec<Aggregate>,
}

impl GroupMessage {
    /// Returns the message id, as [`crate::ScoringMessage::id`] does. It depends on the windows' times only, not on
    /// their contents.
    pub fn id(&self) -> String {
        message::id(&self.sensor, self.interval, self.window_length)
    }

    /// Encodes the body for the queue: the schema version, then the message.
    pub fn encode(&self) -> Result<Vec<u8>, CodecError> {
        let aggregates: usize = self.series.iter().map(|series| series.aggregates.len()).sum();
        let mut body = Vec::with_capacity(256 + 64 * (self.series.len() + aggregates));
        body.push(GROUP_SCHEMA);
        codec::encode(self, &mut body)?;
        Ok(body)
    }

    /// Decodes a body and checks everything that a worker relies on.
    pub fn decode(body: &[u8]) -> Result<Self, MessageError> {
        let (&schema, rest) = body.split_first().ok_or(MessageError::Empty)?;
        match schema {
            GROUP_SCHEMA => {}
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
        if SensorId::check(&self.sensor.device, &self.sensor.tag).is_err() || !self.sensor.is_group() {
            return Err("the device's name is empty or too long, or its tag is not that of a group");
        }
        check_interval(self.interval, window)?;
        if self.series.is_empty() || self.series.len() > MAX_TAGS {
            return Err("it holds no tag, or too many");
        }
        if self.series.windows(2).any(|pair| pair[0].tag >= pair[1].tag) {
            return Err("its tags are out of order");
        }
        let aggregates: usize = self.series.iter().map(|series| series.aggregates.len()).sum();
        if aggregates == 0 || aggregates > MAX_AGGREGATES {
            return Err("it holds no aggregate, or too many");
        }
        for series in &self.series {
            if SensorId::check(&self.sensor.device, &series.tag).is_err() {
                return Err("a tag's name is empty or too long");
            }
            let mut next = EventTime::MIN;
            for aggregate in &series.aggregates {
                let at = aggregate.window_start;
                let apart = at.as_millis().checked_sub(start.as_millis());
                if at < next
                    || at >= self.interval.end()
                    || apart.is_none_or(|apart| apart % window.as_millis() != 0)
                {
                    return Err("an aggregate's window is out of order, misaligned or after the interval");
                }
                next = at.saturating_add(window.as_duration());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ScoringMessage, ScoringTask};
    use proptest::prelude::*;

    prop_compose! {
        fn message()(
            device in "[a-z/%.é]{1,12}",
            first in 0_i64..100_000,
            values in proptest::collection::vec(proptest::collection::vec(any::<f64>(), 1..20), 1..9),
            context in 0_i64..8,
        ) -> GroupMessage {
            let start = EventTime::from_millis(first * 3_600_000);
            let series = values.iter().enumerate().map(|(tag, values)| TagSeries {
                tag: format!("t{tag}").into(),
                aggregates: values.iter().enumerate().map(|(at, value)| Aggregate {
                    window_start: EventTime::from_millis(start.as_millis() + (at as i64 - context) * 60_000),
                    count: at as u64 + 1,
                    mean: *value, std: *value, min: *value, max: *value, first: *value, last: *value,
                }).collect(),
            }).collect();
            GroupMessage {
                sensor: SensorId::of_group(&device.as_str().into()),
                interval: Interval { start, length: Length::HOUR },
                window_length: Length::from_millis(60_000),
                series,
            }
        }
    }

    proptest! {
        #[test]
        fn a_message_reads_back_bit_for_bit(message in message()) {
            let body = message.encode().unwrap();
            let back = GroupMessage::decode(&body).unwrap();
            prop_assert_eq!(&back.encode().unwrap(), &body);
            prop_assert_eq!(back.id(), message.id());
            prop_assert!(matches!(ScoringTask::decode(&body), Ok(ScoringTask::Group(_))));
            prop_assert!(matches!(ScoringMessage::decode(&body), Err(MessageError::OfGroup)));
        }

        #[test]
        fn a_truncated_message_is_an_error(message in message(), cut in any::<prop::sample::Index>()) {
            let body = message.encode().unwrap();
            prop_assert!(ScoringTask::decode(&body[..cut.index(body.len())]).is_err());
        }

        #[test]
        fn flipped_bits_never_panic(message in message(), at in any::<prop::sample::Index>(), bit in 0..8) {
            let mut body = message.encode().unwrap();
            let at = at.index(body.len());
            body[at] ^= 1_u8 << bit;
            if let Ok(ScoringTask::Group(read)) = ScoringTask::decode(&body) {
                prop_assert!(read.series.len() <= MAX_TAGS);
            }
        }
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_memory_is_set_aside() {
        let mut body = vec![GROUP_SCHEMA];
        body.extend(u64::MAX.to_le_bytes());
        assert!(matches!(GroupMessage::decode(&body), Err(MessageError::Codec(_))));
    }

    #[test]
    fn a_message_of_a_single_sensor_is_refused_as_one_of_a_group() {
        let message = GroupMessage {
            sensor: SensorId::new("d", "t").unwrap(),
            interval: Interval {
                start: EventTime::from_millis(0),
                length: Length::HOUR,
            },
            window_length: Length::HOUR,
            series: vec![TagSeries {
                tag: "t".into(),
                aggregates: vec![Aggregate::without_value(EventTime::from_millis(0), 1)],
            }],
        };
        let refused = GroupMessage::decode(&message.encode().unwrap());
        assert!(matches!(refused, Err(MessageError::Inconsistent(_))));
    }
}
