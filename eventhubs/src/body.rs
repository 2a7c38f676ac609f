//! Finds the texts to decode in the AMQP body of an event.

use std::borrow::Cow;
use std::time::SystemTime;

use azure_core_amqp::message::AmqpMessageBody;
use azure_core_amqp::{AmqpMessage, AmqpOrderedMap, AmqpValue};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use windrow_common::EventTime;

/// Depth to which a value is converted to JSON; no reading is nested, and a deep one must not exhaust the stack.
const MAX_DEPTH: usize = 16;

/// The content of a body, ready to decode.
#[derive(Debug, PartialEq)]
pub(crate) enum Body<'a> {
    /// Text or compressed text.
    Bytes(Cow<'a, [u8]>),
    /// One text for each reading.
    Items(Vec<Cow<'a, [u8]>>),
    /// The body cannot be decoded, for this reason.
    Refused(String),
}

/// Returns the content of a body, ready to decode.
pub(crate) fn body_of(body: &AmqpMessageBody) -> Body<'_> {
    match body {
        AmqpMessageBody::Empty => Body::Bytes(Cow::Borrowed(&[])),
        AmqpMessageBody::Binary(sections) => match &sections[..] {
            [section] => Body::Bytes(section.into()),
            // AMQP 1.0, 3.2.6: the sections of one message are one body.
            sections => Body::Bytes(sections.concat().into()),
        },
        AmqpMessageBody::Value(AmqpValue::String(text)) => Body::Bytes(text.as_bytes().into()),
        AmqpMessageBody::Value(AmqpValue::Binary(bytes)) => Body::Bytes(bytes.into()),
        AmqpMessageBody::Value(value @ AmqpValue::Map(_)) => items("value", std::iter::once(value)),
        AmqpMessageBody::Value(AmqpValue::List(list)) => items("list", list.0.iter()),
        AmqpMessageBody::Value(AmqpValue::Array(array)) => items("array", array.iter()),
        AmqpMessageBody::Value(value) => Body::Refused(format!(
            "the body is an AMQP value of the type {}; only text, binary data, maps, and lists of these are read",
            name_of(value)
        )),
        AmqpMessageBody::Sequence(lists) => items("sequence", lists.iter().flat_map(|list| list.0.iter())),
    }
}

/// Returns the elements, if there is an object among them.
fn items<'a>(kind: &str, values: impl Iterator<Item = &'a AmqpValue> + Clone) -> Body<'a> {
    if values.clone().any(may_be_object) {
        return Body::Items(values.map(text_of).collect());
    }
    let (mut count, mut types) = (0_u64, Vec::new());
    for value in values {
        count += 1;
        if !types.contains(&name_of(value)) {
            types.push(name_of(value));
        }
    }
    Body::Refused(match count {
        0 => format!("the body is an empty AMQP {kind}"),
        _ => format!(
            "the body is an AMQP {kind} of the types {}; only maps and JSON objects as text are read",
            types.join(", ")
        ),
    })
}

fn may_be_object(value: &AmqpValue) -> bool {
    match value {
        AmqpValue::Map(_) => true,
        AmqpValue::String(_) | AmqpValue::Binary(_) => text_of(value).trim_ascii_start().starts_with(b"{"),
        _ => false,
    }
}

fn text_of(value: &AmqpValue) -> Cow<'_, [u8]> {
    match value {
        AmqpValue::String(text) => text.as_bytes().into(),
        AmqpValue::Binary(bytes) => bytes.into(),
        other => json_of(other, MAX_DEPTH).to_string().into_bytes().into(),
    }
}

/// Returns a value as JSON. Values without a JSON form become strings: bytes become base64, and NaN and infinity become
/// their text.
fn json_of(value: &AmqpValue, depth: usize) -> Value {
    use AmqpValue as V;
    if depth == 0 {
        return Value::String("(nested too deep)".to_owned());
    }
    match value {
        V::Null => Value::Null,
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
        V::TimeStamp(time) => time
            .0
            .map_or(Value::Null, |time| time_of(time).to_string().into()),
        V::Uuid(uuid) => uuid.to_string().into(),
        V::Binary(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => text.into(),
            Err(_) => STANDARD.encode(bytes).into(),
        },
        V::String(text) => text.as_str().into(),
        V::Symbol(symbol) => symbol.0.as_str().into(),
        V::Decimal128(bytes) => STANDARD.encode(bytes).into(),
        V::Decimal64(bytes) => STANDARD.encode(bytes).into(),
        V::Decimal32(bytes) => STANDARD.encode(bytes).into(),
        V::List(list) => list.iter().map(|value| json_of(value, depth - 1)).collect(),
        V::Array(array) => array.iter().map(|value| json_of(value, depth - 1)).collect(),
        V::Map(map) => Value::Object(object(map, depth - 1)),
        V::Described(described) => json_of(&described.value, depth - 1),
    }
}

fn object(map: &AmqpOrderedMap<AmqpValue, AmqpValue>, depth: usize) -> Map<String, Value> {
    let fields = map.iter().map(|(key, value)| {
        let key = match json_of(key, depth) {
            Value::String(text) => text,
            other => other.to_string(),
        };
        (key, json_of(value, depth))
    });
    fields.collect()
}

/// Returns a number as JSON.
pub(crate) fn float(number: f64) -> Value {
    serde_json::Number::from_f64(number).map_or_else(|| number.to_string().into(), Value::Number)
}

/// Returns a time as event time.
pub(crate) fn time_of(time: SystemTime) -> EventTime {
    let since_epoch = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    EventTime::from_millis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}

fn name_of(value: &AmqpValue) -> &'static str {
    use AmqpValue as V;
    match value {
        V::Null => "null",
        V::Boolean(_) => "boolean",
        V::UByte(_) | V::UShort(_) | V::UInt(_) | V::ULong(_) => "unsigned integer",
        V::Byte(_) | V::Short(_) | V::Int(_) | V::Long(_) => "integer",
        V::Float(_) | V::Double(_) => "float",
        V::Char(_) => "char",
        V::TimeStamp(_) => "timestamp",
        V::Uuid(_) => "uuid",
        V::Binary(_) => "binary",
        V::String(_) => "string",
        V::Symbol(_) => "symbol",
        V::Decimal128(_) | V::Decimal64(_) | V::Decimal32(_) => "decimal",
        V::List(_) => "list",
        V::Map(_) => "map",
        V::Array(_) => "array",
        V::Described(_) => "described value",
    }
}

/// Returns about how many bytes a body has.
pub(crate) fn size_of(body: &AmqpMessageBody) -> usize {
    match body {
        AmqpMessageBody::Empty => 0,
        AmqpMessageBody::Binary(sections) => sections.iter().map(Vec::len).sum(),
        AmqpMessageBody::Value(value) => size_of_value(value),
        AmqpMessageBody::Sequence(lists) => {
            lists.iter().flat_map(|list| list.iter()).map(size_of_value).sum()
        }
    }
}

fn size_of_value(value: &AmqpValue) -> usize {
    /// Bytes that a value occupies in memory besides its text.
    const EACH: usize = std::mem::size_of::<AmqpValue>();
    EACH + match value {
        AmqpValue::String(text) => text.len(),
        AmqpValue::Symbol(symbol) => symbol.0.len(),
        AmqpValue::Binary(bytes) => bytes.len(),
        AmqpValue::List(list) => list.iter().map(size_of_value).sum(),
        AmqpValue::Array(array) => array.iter().map(size_of_value).sum(),
        AmqpValue::Map(map) => map
            .iter()
            .map(|(key, value)| size_of_value(key) + size_of_value(value))
            .sum(),
        _ => 0,
    }
}

/// Returns the form in which quarantine keeps a refused body: its bytes, or else its section in AMQP 1.0 encoding.
pub(crate) fn kept(body: &AmqpMessageBody) -> Kept<'_> {
    if let Body::Bytes(bytes) = body_of(body) {
        return Kept::Bytes(bytes);
    }
    let message = AmqpMessage::builder().with_body(body.clone()).build();
    match AmqpMessage::serialize(&message) {
        Ok(encoded) => Kept::Encoded(encoded),
        // A body that was decoded can also be encoded; if not, its text is better than nothing.
        Err(_) => Kept::Bytes(format!("{body:?}").into_bytes().into()),
    }
}

/// The bytes of a refused body.
pub(crate) enum Kept<'a> {
    /// As they came.
    Bytes(Cow<'a, [u8]>),
    /// The body's section of the message in AMQP 1.0 encoding.
    Encoded(Vec<u8>),
}
