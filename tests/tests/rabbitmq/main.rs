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
mod groups;
mod majority;
mod policies;
mod promotion;
mod recovery;
mod refusals;
mod rights;
mod rotation;
mod sizes;
mod users;
mod waiting;
mod window;

use windrow_queue::testing::message;
use windrow_queue::{Amqp, AmqpConfig, QueueNames, Reconnect};
use windrow_tests::{Broker, scoring_message};

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
