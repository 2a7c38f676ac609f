//! A received event: its place, its names, and what comes with its body.

use std::borrow::Cow;

use azure_core_amqp::message::{AmqpAnnotationKey, AmqpMessageBody};
use azure_messaging_eventhubs::models::{AmqpSimpleValue, AmqpValue, ReceivedEventData};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use windrow_common::EventTime;
use windrow_producer::source::decode::Carrier;
use windrow_producer::source::{Envelope, Offset};

use crate::body::{float, size_of, time_of};

const OFFSET: &str = "x-opt-offset";
const PARTITION_KEY: &str = "x-opt-partition-key";

/// A received event.
pub(crate) struct Event {
    /// Its sequence number in the partition.
    pub(crate) offset: Offset,
    /// When the service enqueued it.
    pub(crate) enqueued: EventTime,
    received: ReceivedEventData,
}

impl Event {
    /// Returns `None` if the event has no sequence number. The service numbers every event.
    pub(crate) fn of(received: ReceivedEventData) -> Option<Self> {
        Some(Self {
            offset: Offset(u64::try_from(received.sequence_number()?).ok()?),
            enqueued: received.enqueued_time().map_or_else(EventTime::now, time_of),
            received,
        })
    }

    /// Returns its body.
    pub(crate) fn body(&self) -> &AmqpMessageBody {
        &self.received.raw_amqp_message().body
    }

    /// Returns about how many bytes its body and its application properties have.
    pub(crate) fn bytes(&self) -> usize {
        let properties = self.properties().map(|(name, value)| {
            name.len()
                + match value {
                    AmqpSimpleValue::String(text) => text.len(),
                    AmqpSimpleValue::Binary(bytes) => bytes.len(),
                    _ => 0,
                }
        });
        size_of(self.body()) + properties.sum::<usize>()
    }

    fn properties(&self) -> impl Iterator<Item = (&String, &AmqpSimpleValue)> {
        let properties = &self.received.raw_amqp_message().application_properties;
        properties.iter().flat_map(|properties| properties.0.iter())
    }

    fn text_in(&self, wanted: &str) -> Option<&str> {
        let annotations = self.received.raw_amqp_message().message_annotations.as_ref()?;
        annotations.0.iter().find_map(|(key, value)| match (key, value) {
            (AmqpAnnotationKey::Symbol(name), AmqpValue::String(text)) if name.0 == wanted => {
                Some(text.as_str())
            }
            _ => None,
        })
    }

    /// Returns what it carries besides its body.
    pub(crate) fn envelope(&self) -> Envelope {
        let (body, sections) = match self.body() {
            AmqpMessageBody::Empty => ("none", Vec::new()),
            AmqpMessageBody::Binary(sections) => {
                let sizes = sections.iter().map(|section| section.len() as u64);
                let several = sections.len() > 1;
                ("data", if several { sizes.collect() } else { Vec::new() })
            }
            AmqpMessageBody::Value(_) => ("value", Vec::new()),
            AmqpMessageBody::Sequence(_) => ("sequence", Vec::new()),
        };
        let properties = self.properties();
        Envelope {
            body: body.to_owned(),
            sections,
            encoding: None,
            enqueued_time: Some(self.enqueued.to_string()),
            offset: self.text_in(OFFSET).map(str::to_owned),
            sequence_number: i64::try_from(self.offset.0).ok(),
            partition_key: self.text_in(PARTITION_KEY).map(str::to_owned),
            properties: properties
                .map(|(name, value)| (name.clone(), json_of(value)))
                .collect(),
        }
    }
}

impl Carrier for Event {
    fn property(&self, property: &str) -> Option<Cow<'_, str>> {
        let mut properties = self.properties();
        let (_, value) = properties.find(|(name, _)| name.eq_ignore_ascii_case(property))?;
        name_of(value)
    }

    fn annotation(&self, wanted: &str) -> Option<Cow<'_, str>> {
        let annotations = self.received.raw_amqp_message().message_annotations.as_ref()?;
        let (_, value) = annotations.0.iter().find(
            |(key, _)| matches!(key, AmqpAnnotationKey::Symbol(name) if name.0.eq_ignore_ascii_case(wanted)),
        )?;
        name_of_value(value)
    }
}

/// Returns the name or the time in an annotation.
fn name_of_value(value: &AmqpValue) -> Option<Cow<'_, str>> {
    use AmqpValue as V;
    Some(match value {
        V::String(text) => text.into(),
        V::Symbol(symbol) => symbol.0.as_str().into(),
        V::UByte(number) => number.to_string().into(),
        V::UShort(number) => number.to_string().into(),
        V::UInt(number) => number.to_string().into(),
        V::ULong(number) => number.to_string().into(),
        V::Byte(number) => number.to_string().into(),
        V::Short(number) => number.to_string().into(),
        V::Int(number) => number.to_string().into(),
        V::Long(number) => number.to_string().into(),
        V::TimeStamp(time) => time_of(time.0?).to_string().into(),
        _ => return None,
    })
}

/// Returns the name or the time in a property.
fn name_of(value: &AmqpSimpleValue) -> Option<Cow<'_, str>> {
    use AmqpSimpleValue as V;
    Some(match value {
        V::String(text) => text.into(),
        V::UByte(number) => number.to_string().into(),
        V::UShort(number) => number.to_string().into(),
        V::UInt(number) => number.to_string().into(),
        V::ULong(number) => number.to_string().into(),
        V::Byte(number) => number.to_string().into(),
        V::Short(number) => number.to_string().into(),
        V::Int(number) => number.to_string().into(),
        V::Long(number) => number.to_string().into(),
        V::Symbol(symbol) => symbol.0.as_str().into(),
        V::TimeStamp(time) => time_of(time.0?).to_string().into(),
        _ => return None,
    })
}

/// Returns a property as JSON; bytes as `{"base64": …}`.
fn json_of(value: &AmqpSimpleValue) -> Value {
    use AmqpSimpleValue as V;
    let bytes = |bytes: &[u8]| serde_json::json!({ "base64": STANDARD.encode(bytes) });
    match value {
        V::Boolean(truth) => (*truth).into(),
        V::UByte(number) => (*number).into(),
        V::UShort(number) => (*number).into(),
        V::UInt(number) => (*number).into(),
        V::ULong(number) => (*number).into(),
        V::Byte(number) => (*number).into(),
        V::Short(number) => (*number).into(),
        V::Int(number) => (*number).into(),
        V::Long(number) => (*number).into(),
        V::Float(number) => float(f64::from(*number)),
        V::Double(number) => float(*number),
        V::Char(char) => char.to_string().into(),
        V::String(text) => text.as_str().into(),
        V::Symbol(symbol) => symbol.0.as_str().into(),
        V::Uuid(uuid) => uuid.to_string().into(),
        V::TimeStamp(time) => time
            .0
            .map_or(Value::Null, |time| time_of(time).to_string().into()),
        V::Binary(binary) => bytes(binary),
        V::Decimal128(decimal) => bytes(decimal),
        V::Decimal64(decimal) => bytes(decimal),
        V::Decimal32(decimal) => bytes(decimal),
        V::Null | V::Described(_) => Value::Null,
    }
}
