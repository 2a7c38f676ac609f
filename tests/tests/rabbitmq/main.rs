//! Windrow on RabbitMQ: the queue's promises, and real processes that are killed, cut off and drained.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod chaos;
mod conformance;
mod drain;
mod encrypted;
mod flaky;
mod letters;
mod recovery;
mod refusals;
mod stage;

use windrow_common::queue::{Amqp, AmqpConfig, Message, QueueNames, Reconnect};
use windrow_common::{EventTime, ScoringMessage};
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
        kind: ScoringMessage::KIND.to_owned(),
        content_type: ScoringMessage::CONTENT_TYPE.to_owned(),
        enqueued_at: EventTime::from_millis(1_767_571_200_123),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
        body: id.as_bytes().to_vec().into(),
    }
}
