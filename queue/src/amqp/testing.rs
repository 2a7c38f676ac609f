//! Messages that anyone may have published, for tests of other crates.

use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::protocol::basic::parse_properties;

use super::properties;
use crate::{DeadLetter, Message};

/// Returns what a consumer makes of a message with these properties, which are encoded as on the wire: the message, how
/// many consumers failed on it, and the dead letter that it may be. `None` if they are no properties.
pub fn received(encoded: &[u8]) -> Option<(Message, u32, DeadLetter)> {
    let (_, parsed) = parse_properties(encoded).ok()?;
    let (message, failures) = properties::message_of(&mut delivery(parsed.clone(), b"body"));
    let dead_letter = properties::dead_letter_of(&mut delivery(parsed, b"body"));
    Some((message, failures, dead_letter))
}

/// Returns what arrives of a dead letter that is published.
pub fn sent_and_received(dead_letter: &DeadLetter) -> DeadLetter {
    let sent = properties::of_dead_letter(dead_letter);
    properties::dead_letter_of(&mut delivery(sent, &dead_letter.message.body))
}

fn delivery(properties: BasicProperties, body: &[u8]) -> Delivery {
    let mut delivery = Delivery::mock(1, "".into(), "".into(), false, body.to_vec());
    delivery.properties = properties;
    delivery
}
