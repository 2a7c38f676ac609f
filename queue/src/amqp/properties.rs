//! The AMQP properties and headers of messages.

use std::borrow::Cow;

use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::{AMQPValue, FieldTable, ShortString};

use super::connection::text;
use crate::{DeadLetter, Message, Reason};
use windrow_common::{EventTime, ScoringMessage};

/// The AMQP timestamp counts seconds, which is too coarse for a latency.
const ENQUEUED_MS: &str = "x-windrow-enqueued-ms";
const REASON: &str = "x-windrow-reason";
const DETAIL: &str = "x-windrow-detail";
const WORKER: &str = "x-windrow-worker";
const DEAD_MS: &str = "x-windrow-dead-ms";
const DELIVERIES: &str = "x-windrow-deliveries";
/// The name that W3C Trace Context defines (<https://www.w3.org/TR/trace-context/>).
const TRACEPARENT: &str = "traceparent";
/// Set by quorum queues from the second delivery on.
const DELIVERY_COUNT: &str = "x-delivery-count";
/// Set by the broker when it dead-letters a message itself.
const DEATHS: &str = "x-death";

/// Maximum size of a detail in a header, in bytes. All headers must fit into one frame, 128 KiB by default.
const MAX_DETAIL_BYTES: usize = 4_096;
const PERSISTENT: u8 = 2;

/// Returns the properties of a scoring message.
pub(super) fn of_message(message: &Message) -> BasicProperties {
    let mut headers = FieldTable::default();
    let enqueued_ms = message.enqueued_at.as_millis();
    headers.insert(ENQUEUED_MS.into(), AMQPValue::LongLongInt(enqueued_ms));
    if let Some(traceparent) = &message.traceparent {
        headers.insert(TRACEPARENT.into(), text(traceparent));
    }
    BasicProperties::default()
        .with_message_id(short(&message.id))
        .with_type(short(&message.kind))
        .with_content_type(short(&message.content_type))
        .with_timestamp(u64::try_from(enqueued_ms / 1_000).unwrap_or_default())
        .with_delivery_mode(PERSISTENT)
        .with_headers(headers)
}

/// Returns the properties of a dead letter: those of its message, and the reason.
pub(super) fn of_dead_letter(dead_letter: &DeadLetter) -> BasicProperties {
    let properties = of_message(&dead_letter.message);
    let mut headers = properties.headers().clone().unwrap_or_default();
    headers.insert(REASON.into(), text(&dead_letter.reason.code));
    let detail = cut(&dead_letter.reason.detail, MAX_DETAIL_BYTES);
    headers.insert(DETAIL.into(), text(detail));
    headers.insert(WORKER.into(), text(&dead_letter.reason.worker));
    headers.insert(
        DEAD_MS.into(),
        AMQPValue::LongLongInt(dead_letter.dead_at.as_millis()),
    );
    headers.insert(DELIVERIES.into(), AMQPValue::LongUInt(dead_letter.deliveries));
    properties.with_headers(headers)
}

/// Returns the properties of an anomaly: JSON, as durable as the queue that it may be routed to.
pub(super) fn of_announcement() -> BasicProperties {
    BasicProperties::default()
        .with_content_type("application/json".into())
        .with_type("windrow.anomaly".into())
        .with_delivery_mode(PERSISTENT)
}

/// Returns a delivery's message, and how many consumers ended while they held it.
pub(super) fn message_of(delivery: &mut Delivery) -> (Message, u32) {
    let body = std::mem::take(&mut delivery.data).into();
    let properties = &delivery.properties;
    let headers = properties.headers().as_ref();
    let seconds = properties.timestamp().unwrap_or_default();
    let enqueued_ms = headers
        .and_then(|headers| integer(headers, ENQUEUED_MS))
        .unwrap_or_else(|| i64::try_from(seconds.saturating_mul(1_000)).unwrap_or(i64::MAX));
    let message = Message {
        id: value_of(properties.message_id()).to_owned(),
        kind: known_or_owned(ScoringMessage::KIND, value_of(properties.kind())),
        content_type: known_or_owned(ScoringMessage::CONTENT_TYPE, value_of(properties.content_type())),
        enqueued_at: EventTime::from_millis(enqueued_ms),
        traceparent: headers.and_then(|headers| string_of(headers, TRACEPARENT)),
        body,
    };
    let failures = headers
        .and_then(|headers| integer(headers, DELIVERY_COUNT))
        .unwrap_or(0);
    (message, u32::try_from(failures).unwrap_or(u32::MAX))
}

/// Returns the dead letter in a delivery. A worker set it aside, or the broker did at the delivery limit.
pub(super) fn dead_letter_of(delivery: &mut Delivery) -> DeadLetter {
    let (message, _) = message_of(delivery);
    let none = FieldTable::default();
    let headers = delivery.properties.headers().as_ref().unwrap_or(&none);
    let number = |name| integer(headers, name);
    if let Some(code) = string_of(headers, REASON) {
        return DeadLetter {
            message,
            reason: Reason {
                code,
                detail: string_of(headers, DETAIL).unwrap_or_default(),
                worker: string_of(headers, WORKER).unwrap_or_default(),
            },
            dead_at: EventTime::from_millis(number(DEAD_MS).unwrap_or_default()),
            deliveries: number(DELIVERIES)
                .and_then(|count| u32::try_from(count).ok())
                .unwrap_or(1),
        };
    }
    let (why, seconds) = death_of(headers);
    // The broker writes `delivery_limit`; all other codes have dashes.
    let code = why.replace('_', "-");
    let failures = number(DELIVERY_COUNT).unwrap_or_default();
    DeadLetter {
        reason: Reason {
            detail: match code.as_str() {
                "delivery-limit" => "every worker that received it ended before settling it".to_owned(),
                _ => "set aside by the broker".to_owned(),
            },
            code,
            worker: String::new(),
        },
        dead_at: EventTime::from_millis(i64::try_from(seconds.saturating_mul(1_000)).unwrap_or_default()),
        deliveries: u32::try_from(failures).unwrap_or(u32::MAX),
        message,
    }
}

/// Returns why and when (epoch seconds) the broker last dead-lettered the message.
fn death_of(headers: &FieldTable) -> (String, u64) {
    let unknown = ("unknown".to_owned(), 0);
    let Some(AMQPValue::FieldArray(deaths)) = headers.inner().get(DEATHS) else {
        return unknown;
    };
    let Some(AMQPValue::FieldTable(death)) = deaths.as_slice().first() else {
        return unknown;
    };
    let seconds = match death.inner().get("time") {
        Some(AMQPValue::Timestamp(seconds)) => *seconds,
        _ => 0,
    };
    (string_of(death, "reason").unwrap_or(unknown.0), seconds)
}

fn value_of(property: &Option<ShortString>) -> &str {
    property.as_ref().map_or("", ShortString::as_str)
}

/// Returns `value`, without copying it if it is `known`, the value of nearly every message.
fn known_or_owned(known: &'static str, value: &str) -> Cow<'static, str> {
    if value == known {
        Cow::Borrowed(known)
    } else {
        Cow::Owned(value.to_owned())
    }
}

/// Cuts `value` at 255 bytes, AMQP's limit for short strings. Only ids with long, percent-encoded names exceed it.
fn short(value: &str) -> ShortString {
    cut(value, 255).into()
}

/// Returns the start of `value`: whole characters, at most `bytes` bytes.
fn cut(value: &str, bytes: usize) -> &str {
    let mut end = bytes.min(value.len());
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    &value[..end]
}

fn integer(headers: &FieldTable, name: &str) -> Option<i64> {
    match headers.inner().get(name)? {
        AMQPValue::LongLongInt(value) => Some(*value),
        AMQPValue::LongInt(value) => Some(i64::from(*value)),
        AMQPValue::LongUInt(value) => Some(i64::from(*value)),
        AMQPValue::ShortInt(value) => Some(i64::from(*value)),
        AMQPValue::ShortUInt(value) => Some(i64::from(*value)),
        AMQPValue::ShortShortInt(value) => Some(i64::from(*value)),
        AMQPValue::ShortShortUInt(value) => Some(i64::from(*value)),
        _ => None,
    }
}

fn string_of(headers: &FieldTable, name: &str) -> Option<String> {
    match headers.inner().get(name)? {
        AMQPValue::LongString(value) => Some(String::from_utf8_lossy(value.as_bytes()).into_owned()),
        AMQPValue::ShortString(value) => Some(value.as_str().to_owned()),
        _ => None,
    }
}
