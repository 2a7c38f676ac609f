//! Decodes an event into readings.
//!
//! A body is one JSON object, an array of objects, or a sequence of objects such as NDJSON. Gzip is recognised by its
//! first bytes. If an object has no device or tag, the event's application property of that name replaces it; the
//! partition key also replaces the device.

use std::io::Read;

use azure_messaging_eventhubs::models::{AmqpSimpleValue, ReceivedEventData};
use flate2::read::MultiGzDecoder;
use serde_json::value::RawValue;
use windrow_common::EventTime;

use windrow_producer::source::Offset;
use windrow_producer::source::decode::{ColumnMapping, DefaultNames, ObjectReader, RowSink};

/// Largest body, in bytes; the service itself takes at most 1 MiB in most tiers.
const MAX_BODY_BYTES: usize = 4 << 20;
/// Largest body after decompression.
const MAX_UNPACKED_BYTES: u64 = 16 << 20;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// A received event, reduced to the fields that are decoded.
#[derive(Debug)]
pub(crate) struct Event {
    /// Its sequence number in the partition.
    pub(crate) offset: Offset,
    /// When the service enqueued it.
    pub(crate) enqueued: EventTime,
    body: Vec<u8>,
    device: Option<String>,
    tag: Option<String>,
}

impl Event {
    /// Returns `None` if the event has no sequence number. The service numbers every event.
    pub(crate) fn of(received: &ReceivedEventData, mapping: &ColumnMapping) -> Option<Self> {
        let sequence_number = u64::try_from(received.sequence_number()?).ok()?;
        let event = received.event_data();
        let property = |given: &Option<String>, default: &str| {
            let name = given.as_deref().unwrap_or(default);
            let properties = event.properties()?;
            let (_, value) = properties
                .iter()
                .find(|(key, _)| key.eq_ignore_ascii_case(name))?;
            name_of(value)
        };
        Some(Self {
            offset: Offset(sequence_number),
            enqueued: received.enqueued_time().map_or_else(EventTime::now, time_of),
            body: event.body().unwrap_or_default().to_vec(),
            device: property(&mapping.device, "device").or_else(|| received.partition_key().clone()),
            tag: property(&mapping.tag, "tag"),
        })
    }
}

/// Returns the name in a property. As in a body, a name may be a number.
fn name_of(value: &AmqpSimpleValue) -> Option<String> {
    use AmqpSimpleValue as V;
    match value {
        V::String(text) => Some(text.clone()),
        V::UByte(number) => Some(number.to_string()),
        V::UShort(number) => Some(number.to_string()),
        V::UInt(number) => Some(number.to_string()),
        V::ULong(number) => Some(number.to_string()),
        V::Byte(number) => Some(number.to_string()),
        V::Short(number) => Some(number.to_string()),
        V::Int(number) => Some(number.to_string()),
        V::Long(number) => Some(number.to_string()),
        _ => None,
    }
}

impl Event {
    /// Returns the size of its body.
    pub(crate) fn body_bytes(&self) -> usize {
        self.body.len()
    }
}

pub(crate) fn time_of(time: std::time::SystemTime) -> EventTime {
    let since_epoch = time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    EventTime::from_millis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}

/// A decoder of the events of one partition.
pub(crate) struct EventDecoder {
    objects: ObjectReader,
    unpacked: Vec<u8>,
}

impl EventDecoder {
    pub(crate) fn new(mapping: &ColumnMapping) -> Self {
        Self {
            objects: ObjectReader::new(mapping),
            unpacked: Vec::new(),
        }
    }

    /// Appends the event's readings and its unreadable objects to `out`.
    pub(crate) fn decode(&mut self, event: &Event, out: &mut RowSink<'_>) {
        let offset = event.offset.0;
        if event.body.len() > MAX_BODY_BYTES {
            let detail = format!(
                "the body has {} bytes; at most {MAX_BODY_BYTES} are read",
                event.body.len()
            );
            return out.unreadable(offset, None, detail, &event.body);
        }
        let mut unpacked = std::mem::take(&mut self.unpacked);
        let body: &[u8] = if event.body.starts_with(&GZIP_MAGIC) {
            match unpack(&event.body, &mut unpacked) {
                Ok(()) => &unpacked[..],
                Err(detail) => {
                    out.unreadable(offset, None, detail, &event.body);
                    &[]
                }
            }
        } else if event.body.trim_ascii().is_empty() {
            out.unreadable(offset, None, "the body is empty".to_owned(), &event.body);
            &[]
        } else {
            &event.body
        };
        self.decode_body(body.trim_ascii(), event, out);
        self.unpacked = unpacked;
    }

    fn decode_body(&mut self, body: &[u8], event: &Event, out: &mut RowSink<'_>) {
        if body.starts_with(b"[") {
            return match serde_json::from_slice::<Vec<&RawValue>>(body) {
                Ok(objects) => {
                    for object in objects {
                        self.decode_object(object.get().as_bytes(), None, event, out);
                    }
                }
                Err(error) => {
                    out.unreadable(event.offset.0, None, format!("not a JSON array: {error}"), body);
                }
            };
        }
        let lines = || body.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
        let spread_over_lines = lines().any(|line| match line.strip_suffix(b",") {
            Some(object) => !is_object(object),
            None => line == b"{",
        });
        if !spread_over_lines {
            let several = body.contains(&b'\n');
            for (line, number) in lines().zip(1..).filter(|(line, _)| !line.is_empty()) {
                // Accepts a comma after an object even outside an array.
                let line = line.strip_suffix(b",").unwrap_or(line);
                self.decode_object(line, several.then_some(number), event, out);
            }
            return;
        }
        for object in serde_json::Deserializer::from_slice(body).into_iter::<&RawValue>() {
            match object {
                Ok(object) => self.decode_object(object.get().as_bytes(), None, event, out),
                Err(error) => {
                    out.unreadable(event.offset.0, None, format!("not a JSON object: {error}"), body);
                }
            }
        }
    }

    fn decode_object(&mut self, object: &[u8], line: Option<u64>, event: &Event, out: &mut RowSink<'_>) {
        let names = DefaultNames {
            device: event.device.as_deref(),
            tag: event.tag.as_deref(),
        };
        match self.objects.read(object, event.offset.0, names, out) {
            Ok(reading) => out.batch.readings.push(reading),
            Err(detail) => out.unreadable(event.offset.0, line, detail, object),
        }
    }
}

fn is_object(text: &[u8]) -> bool {
    text.starts_with(b"{") && serde_json::from_slice::<&RawValue>(text).is_ok()
}

fn unpack(packed: &[u8], into: &mut Vec<u8>) -> Result<(), String> {
    into.clear();
    let mut reader = MultiGzDecoder::new(packed).take(MAX_UNPACKED_BYTES + 1);
    match reader.read_to_end(into) {
        Ok(bytes) if bytes as u64 > MAX_UNPACKED_BYTES => Err(format!(
            "the body unpacks to more than {MAX_UNPACKED_BYTES} bytes"
        )),
        Ok(_) => Ok(()),
        Err(error) => Err(format!("the body is no gzip: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;
    use windrow_producer::sensors::SensorTable;
    use windrow_producer::source::Batch;

    /// Returns the readings (sensor, time in seconds, value) and the complaints of a body.
    fn decode(body: &[u8], device: Option<&str>) -> (Vec<(String, i64, f64)>, Vec<String>) {
        let (mut sensors, mut batch) = (SensorTable::new(), Batch::default());
        let event = Event {
            offset: Offset(7),
            enqueued: EventTime::from_millis(0),
            body: body.to_vec(),
            device: device.map(str::to_owned),
            tag: None,
        };
        let mut out = RowSink {
            sensors: &mut sensors,
            batch: &mut batch,
            arrival: event.enqueued,
            limit: usize::MAX,
        };
        EventDecoder::new(&ColumnMapping::default()).decode(&event, &mut out);
        let readings = batch.readings.iter().map(|reading| {
            assert_eq!(reading.offset, Offset(7));
            let seconds = reading.time.as_millis() / 1_000;
            (sensors.id(reading.sensor).to_string(), seconds, reading.value)
        });
        let complaints = batch.unreadable.iter().map(|bad| bad.detail.clone()).collect();
        (readings.collect(), complaints)
    }

    #[test]
    fn objects_arrays_lines_and_gzip_give_the_same_readings() {
        let (one, two) = (
            r#"{"ts":1767225600,"device":"a","tag":"t","value":1.5}"#,
            r#"{"ts":1767225601,"device":"b","tag":"t","value":2}"#,
        );
        let expected = vec![
            ("a/t".to_owned(), 1_767_225_600, 1.5),
            ("b/t".to_owned(), 1_767_225_601, 2.0),
        ];
        assert_eq!(decode(one.as_bytes(), None), (expected[..1].to_vec(), vec![]));
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(format!("{one}\n{two}").as_bytes()).unwrap();
        for body in [
            format!("{one}\n{two}\n").into_bytes(),
            format!(" [{one},\n {two}]").into_bytes(),
            format!("{one},\n{two},").into_bytes(),
            format!("{}\n{two}", one.replace(',', ",\n")).into_bytes(),
            packed.finish().unwrap(),
        ] {
            assert_eq!(decode(&body, None), (expected.clone(), vec![]));
        }
    }

    #[test]
    fn a_missing_device_is_the_event_s_and_a_present_one_the_object_s() {
        let body = br#"{"ts":1,"tag":"t","value":1}
            {"ts":2,"tag":"t","value":1,"device":"own"}"#;
        let (readings, complaints) = decode(body, Some("key"));
        let sensors: Vec<_> = readings.iter().map(|(sensor, ..)| sensor.as_str()).collect();
        assert_eq!(sensors, ["key/t", "own/t"]);
        assert!(complaints.is_empty());
    }

    #[test]
    fn a_bad_body_is_put_aside_and_its_good_lines_are_read() {
        for (body, wanted) in [
            (&b"not json"[..], "not a JSON object"),
            (b"", "is empty"),
            (b"[1, 2", "not a JSON array"),
            (b"\x1f\x8bxx", "no gzip"),
            (br#"{"ts":1,"device":"d","tag":"t"}"#, "field value: is missing"),
            (
                br#"{"ts":1,"device":"d","tag":"t","value":"high"}"#,
                "not a number",
            ),
            (br#"{"ts":[],"device":"d","tag":"t","value":1}"#, "field ts"),
            (b"\xff\xfe", "UTF-8"),
        ] {
            let (readings, complaints) = decode(body, None);
            assert!(readings.is_empty());
            assert_eq!(complaints.len(), 1, "{complaints:?}");
            assert!(
                complaints[0].contains(wanted) || complaints[0].contains("timestamp"),
                "{complaints:?}"
            );
        }
        let mixed = b"{\"ts\":1,\"device\":\"d\",\"tag\":\"t\",\"value\":1}\nx\n{\"ts\":2,\"device\":\"d\",\"tag\":\"t\",\"value\":1}";
        let (readings, complaints) = decode(mixed, None);
        assert_eq!((readings.len(), complaints.len()), (2, 1));
    }
}
