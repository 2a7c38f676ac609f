//! Events as AMQP messages: how a partition stores them, and how the hub delivers them.

use bytes::Bytes;
use fe2o3_amqp::types::messaging::annotations::OwnedKey;
use fe2o3_amqp::types::messaging::message::DecodeIntoMessage;
// The library has no other way to write a message outside of a link; the official client uses it too.
use fe2o3_amqp::types::messaging::message::__private::Serializable;
use fe2o3_amqp::types::messaging::{AmqpSequence, AmqpValue, Batch, Body, Data, Message, MessageAnnotations};
use fe2o3_amqp::types::primitives::{Binary, Symbol, Timestamp, Value};
use serde_amqp::read::SliceReader;

/// A message with any body.
pub(crate) type AnyMessage = Message<Body<Value>>;

/// The body of an event that a test stores.
#[derive(Clone, Debug)]
pub enum EventBody {
    /// Data sections, as all official clients send them.
    Data(Vec<Vec<u8>>),
    /// A single AMQP value.
    Value(Value),
    /// Sequence sections.
    Sequence(Vec<Vec<Value>>),
}

impl From<EventBody> for Body<Value> {
    fn from(body: EventBody) -> Self {
        match body {
            EventBody::Data(sections) => {
                let sections = sections.into_iter().map(|bytes| Data(Binary::from(bytes)));
                Self::Data(Batch::from(sections.collect::<Vec<_>>()))
            }
            EventBody::Value(value) => Self::Value(AmqpValue(value)),
            EventBody::Sequence(sections) => {
                let sections = sections.into_iter().map(AmqpSequence);
                Self::Sequence(Batch::from(sections.collect::<Vec<_>>()))
            }
        }
    }
}

/// The annotation that decides the partition.
const PARTITION_KEY: &str = "x-opt-partition-key";
/// The annotations that the service sets itself; it overwrites those of the sender.
const SEQUENCE_NUMBER: &str = "x-opt-sequence-number";
const OFFSET: &str = "x-opt-offset";
const ENQUEUED_TIME: &str = "x-opt-enqueued-time";

/// An event in a partition.
#[derive(Clone, Debug)]
pub(crate) struct StoredEvent {
    /// Sequence number in the partition, without gaps.
    pub(crate) sequence: i64,
    /// Position in the partition, in bytes. It differs from the sequence number, so that a mix-up of the two shows.
    pub(crate) offset: i64,
    /// When it arrived, in milliseconds since 1970.
    pub(crate) enqueued_ms: i64,
    /// The sent message, kept encoded: it takes a fraction of the memory of a decoded one.
    pub(crate) encoded: Bytes,
}

impl StoredEvent {
    /// Returns the message to deliver: the sent message with the service's annotations.
    pub(crate) fn to_message(&self) -> Result<AnyMessage, serde_amqp::Error> {
        let mut message = decode(&self.encoded)?;
        // Delivery annotations are for one hop, from the sender to the hub.
        message.delivery_annotations = None;
        let MessageAnnotations(annotations) = message.message_annotations.get_or_insert_default();
        let mut set = |key: &str, value| annotations.insert(OwnedKey::from(Symbol::from(key)), value);
        set(SEQUENCE_NUMBER, Value::Long(self.sequence));
        set(OFFSET, Value::String(self.offset.to_string()));
        set(
            ENQUEUED_TIME,
            Value::Timestamp(Timestamp::from_milliseconds(self.enqueued_ms)),
        );
        Ok(message)
    }

    /// Returns the same message without its sequence number.
    pub(crate) fn to_unnumbered_message(&self) -> Result<AnyMessage, serde_amqp::Error> {
        let mut message = self.to_message()?;
        let MessageAnnotations(annotations) = message.message_annotations.get_or_insert_default();
        annotations.swap_remove(&OwnedKey::from(Symbol::from(SEQUENCE_NUMBER)));
        Ok(message)
    }
}

/// Returns the partition key that the sender set, if any.
pub(crate) fn partition_key(message: &AnyMessage) -> Option<&str> {
    let MessageAnnotations(annotations) = message.message_annotations.as_ref()?;
    annotations.iter().find_map(|(key, value)| match (key, value) {
        (OwnedKey::Symbol(name), Value::String(text)) if name.as_str() == PARTITION_KEY => {
            Some(text.as_str())
        }
        _ => None,
    })
}

/// Decodes a whole message.
pub(crate) fn decode(encoded: &[u8]) -> Result<AnyMessage, serde_amqp::Error> {
    Body::<Value>::decode_message_from_reader(SliceReader::new(encoded))
}

/// Encodes a whole message.
pub(crate) fn encode(message: &AnyMessage) -> Result<Vec<u8>, serde_amqp::Error> {
    serde_amqp::to_vec(&Serializable(message))
}
