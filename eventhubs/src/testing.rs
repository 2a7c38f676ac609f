//! Decodes arbitrary event bodies, for tests of other crates.

use azure_core_amqp::{AmqpMessage, AmqpSymbol, AmqpValue};
use azure_messaging_eventhubs::models::ReceivedEventData;
use windrow_producer::sensors::SensorTable;
use windrow_producer::source::Batch;
use windrow_producer::source::decode::{ColumnMapping, RowSink};

use crate::decode::EventDecoder;
use crate::event::Event;

/// Decodes an event with this body and the sequence number 7, and appends its readings and unreadable items to `batch`.
pub fn decode_body(body: &[u8], sensors: &mut SensorTable, batch: &mut Batch) {
    let mut message = AmqpMessage::builder()
        .add_message_body_binary(body.to_vec())
        .build();
    message.add_message_annotation(AmqpSymbol::from("x-opt-sequence-number"), AmqpValue::Long(7));
    let mapping = ColumnMapping::default();
    let Some(event) = Event::of(ReceivedEventData::from(message)) else {
        return;
    };
    let mut out = RowSink {
        sensors,
        batch,
        arrival: event.enqueued,
        limit: usize::MAX,
    };
    EventDecoder::new(&mapping).decode(&event, &mut out);
}
