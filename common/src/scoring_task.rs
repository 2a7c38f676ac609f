//! What a message on the queue asks for: the scores of one sensor, or of several tags of a device together.

use crate::group_message::GROUP_SCHEMA;
use crate::{GroupMessage, MessageError, ScoringMessage, SensorId};

/// A decoded message of the queue.
#[derive(Clone, Debug, PartialEq)]
pub enum ScoringTask {
    /// Score the windows of a sensor.
    Sensor(ScoringMessage),
    /// Score the windows of several tags of a device together.
    Group(GroupMessage),
}

impl ScoringTask {
    /// Decodes a body of either kind, and checks everything that a worker relies on.
    pub fn decode(body: &[u8]) -> Result<Self, MessageError> {
        match body.first() {
            Some(&GROUP_SCHEMA) => Ok(Self::Group(GroupMessage::decode(body)?)),
            _ => Ok(Self::Sensor(ScoringMessage::decode(body)?)),
        }
    }

    /// Returns the sensor to score; for a group, the sensor that stands for it.
    pub fn sensor(&self) -> &SensorId {
        match self {
            Self::Sensor(message) => &message.sensor,
            Self::Group(message) => &message.sensor,
        }
    }
}
