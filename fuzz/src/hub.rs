//! Bodies of Event Hubs' events.

use windrow_eventhubs::testing::decode_body;
use windrow_producer::sensors::SensorTable;
use windrow_producer::source::Batch;

use crate::files::{Items, items_of, readings};

/// Checks that a body is read or refused with a reason, and that a second reading gives the same result.
pub(crate) fn body(bytes: &[u8]) {
    let items = read(bytes);
    assert_eq!(items, read(bytes), "read twice");
    if !bytes.trim_ascii().is_empty() && !holds_nothing(bytes) {
        assert!(!items.is_empty(), "neither read nor set aside");
    }
    // An array holds what its objects hold.
    if reads_line_by_line(bytes) && !items.is_empty() {
        let lines = bytes.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
        let objects: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
        let array = [b"[", &objects.join(&b","[..])[..], b"]"].concat();
        let array = readings(read(&array));
        assert_eq!(readings(items), array, "the lines and the array differ");
    }
}

/// Returns the items of an event with this body.
pub(crate) fn read(bytes: &[u8]) -> Items {
    let (mut sensors, mut batch) = (SensorTable::new(), Batch::default());
    decode_body(bytes, &mut sensors, &mut batch);
    items_of(&batch, &sensors)
}

/// Returns whether the bytes are lines of one JSON object each.
pub(crate) fn reads_line_by_line(bytes: &[u8]) -> bool {
    let mut lines = bytes.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
    lines.all(|line| line.is_empty() || is_object(line))
}

/// Empty arrays hold no reading, and neither does compressed nothing.
fn holds_nothing(bytes: &[u8]) -> bool {
    let solid = bytes.iter().copied().filter(|byte| !byte.is_ascii_whitespace());
    let solid: Vec<u8> = solid.collect();
    solid.chunks(2).all(|pair| pair == b"[]") || bytes.starts_with(&[0x1f, 0x8b])
}

fn is_object(text: &[u8]) -> bool {
    text.starts_with(b"{") && serde_json::from_slice::<&serde_json::value::RawValue>(text).is_ok()
}
