//! RabbitMQ keeps every promise of a queue, as the in-memory queue does in its own crate.

use windrow_queue::{Amqp, DeadLetter};
use windrow_tests::Broker;

use super::queue;

fn on_rabbitmq(name: &str) -> (Amqp, impl AsyncFn() -> Vec<DeadLetter>) {
    let queue = queue(&Broker::shared(), name);
    let dead_letters = queue.dead_letters();
    (queue, async move || dead_letters.list(100).await.unwrap())
}

windrow_queue::conformance!(on_rabbitmq);
