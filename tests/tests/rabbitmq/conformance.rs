//! RabbitMQ keeps every promise of a queue, as the in-memory queue does in its own crate.

use windrow_queue::{Amqp, DeadLetter};
use windrow_tests::Broker;

use super::queue;

fn on_rabbitmq(name: &str) -> (Amqp, impl AsyncFn() -> Vec<DeadLetter>) {
    let broker = Broker::shared();
    let queue = queue(&broker, name);
    let dead_letters = queue.dead_letters();
    let list = async move || {
        // The node ends with its last user, so this holds it for as long as the test lasts.
        let _broker = &broker;
        dead_letters.list(100).await.unwrap()
    };
    (queue, list)
}

windrow_queue::conformance!(on_rabbitmq);
