//! Windrow on RabbitMQ: the queue's promises, and real processes that are killed, cut off and drained.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod chaos;
mod conformance;
mod dead_letters;
mod drain;
mod encrypted;
mod flaky;
mod recovery;
mod refusals;

use windrow_common::queue::{Amqp, AmqpConfig, Message, QueueNames, Reconnect};
use windrow_common::{Aggregate, EventTime, Interval, ScoringMessage, SensorId};
use windrow_tests::Broker;

/// A queue of its own on `broker`.
fn queue(broker: &Broker, prefix: &str) -> Amqp {
    Amqp::new(AmqpConfig {
        names: QueueNames::under(prefix),
        delivery_limit: 4,
        ..AmqpConfig::new(broker.url().parse().unwrap())
    })
}

/// The same for a command, which does not wait for the broker.
fn impatient(broker: &Broker, prefix: &str) -> Amqp {
    Amqp::new(AmqpConfig {
        names: QueueNames::under(prefix),
        delivery_limit: 4,
        reconnect: Reconnect::Never,
        ..AmqpConfig::new(broker.url().parse().unwrap())
    })
}

fn message(id: &str) -> Message {
    Message {
        id: id.to_owned(),
        kind: ScoringMessage::KIND.into(),
        content_type: ScoringMessage::CONTENT_TYPE.into(),
        enqueued_at: EventTime::from_millis(1_767_571_200_123),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
        body: id.as_bytes().to_vec().into(),
    }
}

/// A message of one window that workers can score, if the sensor has a model.
fn scoring_message(sensor: SensorId, start_ms: i64, window_ms: i64) -> Message {
    let start = EventTime::from_millis(start_ms);
    let scoring = ScoringMessage {
        sensor,
        interval: Interval {
            start,
            length_ms: window_ms,
        },
        window_ms,
        aggregates: vec![Aggregate {
            window_start: start,
            count: 1,
            mean: 1.0,
            std: 0.0,
            min: 1.0,
            max: 1.0,
            first: 1.0,
            last: 1.0,
        }],
    };
    Message {
        body: scoring.encode().unwrap().into(),
        ..message(&scoring.id())
    }
}
