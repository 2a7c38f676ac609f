//! Tests Windrow on RabbitMQ: the queue's promises, and real processes that are killed, disconnected and drained.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod addresses;
mod alarm;
mod chaos;
mod conformance;
mod dead_letters;
mod drain;
mod encrypted;
mod flaky;
mod majority;
mod policies;
mod recovery;
mod refusals;
mod rights;
mod rotation;
mod sizes;
mod users;
mod waiting;
mod window;

use windrow_common::{Aggregate, EventTime, Interval, Length, ScoringMessage, SensorId};
use windrow_queue::testing::message;
use windrow_queue::{Amqp, AmqpConfig, Message, QueueNames, Reconnect};
use windrow_tests::Broker;

/// Creates a queue client with its own queues on `broker`.
fn queue(broker: &Broker, prefix: &str) -> Amqp {
    Amqp::new(AmqpConfig {
        names: QueueNames::under(prefix),
        delivery_limit: 4,
        ..AmqpConfig::new(broker.url().parse().unwrap())
    })
}

/// Creates the queues, as a service does, and returns a queue client that fails instead of waiting for the broker, as a
/// command's does.
async fn impatient(broker: &Broker, prefix: &str) -> Amqp {
    queue(broker, prefix).connect().await.unwrap();
    Amqp::new(AmqpConfig {
        names: QueueNames::under(prefix),
        delivery_limit: 4,
        reconnect: Reconnect::Never,
        ..AmqpConfig::new(broker.url().parse().unwrap())
    })
}

/// Creates a message of one window that workers can score if the sensor has a model.
fn scoring_message(sensor: SensorId, start_ms: i64, window_ms: i64) -> Message {
    let window_length = Length::from_millis(window_ms);
    let start = EventTime::from_millis(start_ms);
    let scoring = ScoringMessage {
        sensor,
        interval: Interval {
            start,
            length: window_length,
        },
        window_length,
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
