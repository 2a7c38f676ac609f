//! The properties of the hub and its partitions, as `$management` returns them.

use fe2o3_amqp::types::primitives::{Array, OrderedMap, SimpleValue, Timestamp, Value};

use crate::event::AnyMessage;
use crate::request::Answer;
use crate::state::State;

/// Answers a request to read properties.
pub(crate) fn answer(state: &State, request: &AnyMessage) -> Answer {
    let text = |name: &str| match request.application_properties.as_ref()?.0.get(name) {
        Some(SimpleValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    if text("operation") != Some("READ") {
        return refused(400, "Only the operation READ is supported.");
    }
    let Some(hub) = text("name") else {
        return refused(400, "The request names no event hub.");
    };
    if state.check_name(hub).is_err() {
        return refused(404, format!("The messaging entity '{hub}' could not be found."));
    }
    match text("type") {
        Some("com.microsoft:eventhub") => hub_properties(state),
        Some("com.microsoft:partition") => partition_properties(state, text("partition").unwrap_or_default()),
        other => refused(400, format!("{other:?} is not an entity type.")),
    }
}

fn hub_properties(state: &State) -> Answer {
    let partitions = state.partitions();
    let ids = (0..partitions).map(|number| Value::String(number.to_string()));
    let count = i32::try_from(partitions).unwrap_or(i32::MAX);
    told([
        ("name", Value::String(state.hub.clone())),
        ("type", Value::String("com.microsoft:eventhub".to_owned())),
        ("created_at", time(state.created_ms)),
        ("partition_count", Value::Int(count)),
        (
            "partition_ids",
            Value::Array(Array::from(ids.collect::<Vec<_>>())),
        ),
    ])
}

fn partition_properties(state: &State, id: &str) -> Answer {
    let partition = id.parse().ok().and_then(|number| state.partition(number));
    let Some(partition) = partition else {
        return refused(404, format!("There is no partition '{id}'."));
    };
    let bounds = partition.bounds();
    told([
        ("name", Value::String(state.hub.clone())),
        ("type", Value::String("com.microsoft:partition".to_owned())),
        ("partition", Value::String(id.to_owned())),
        ("begin_sequence_number", Value::Long(bounds.begin)),
        // A partition that never stored an event reports -1, as in the service.
        ("last_enqueued_sequence_number", Value::Long(bounds.end - 1)),
        ("last_enqueued_sequence_number_epoch", Value::Long(0)),
        (
            "last_enqueued_offset",
            Value::String(bounds.last_offset.to_string()),
        ),
        ("last_enqueued_time_utc", time(bounds.last_enqueued_ms)),
        ("is_partition_empty", Value::Bool(bounds.begin == bounds.end)),
    ])
}

fn time(ms: i64) -> Value {
    Value::Timestamp(Timestamp::from_milliseconds(ms))
}

fn told<const N: usize>(properties: [(&str, Value); N]) -> Answer {
    let mut map = OrderedMap::new();
    for (name, value) in properties {
        map.insert(Value::String(name.to_owned()), value);
    }
    Answer {
        status: 200,
        description: "OK".to_owned(),
        body: Value::Map(map),
    }
}

fn refused(status: i32, description: impl Into<String>) -> Answer {
    Answer {
        status,
        description: description.into(),
        body: Value::Map(OrderedMap::new()),
    }
}
