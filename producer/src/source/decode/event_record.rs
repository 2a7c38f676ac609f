//! An event that a service has written to a file: IoT Hub's routing, or the capture of an Event Hub.

use std::borrow::Cow;

use serde::de::DeserializeSeed;
use serde_json::value::RawValue;

use super::event_body::{Elements, GZIP_MAGIC, unpack};
use super::event_names::{Carrier, EventNames, IOT_HUB_DEVICE, IOT_HUB_TIME, TIME_HINT, say_guess};
use super::json_object::{DefaultNames, ObjectReader, RefusedObject};
use super::mapping::ColumnMapping;
use super::sink::RowSink;

/// An event with what came with it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct EventRecord {
    /// When the service enqueued it, as the file has it.
    pub(super) enqueued: Option<String>,
    /// The properties that the sender set.
    pub(super) properties: Vec<(String, String)>,
    /// The properties that the service set.
    pub(super) system: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Carrier for EventRecord {
    fn property(&self, name: &str) -> Option<Cow<'_, str>> {
        find(&self.properties, name)
    }

    fn annotation(&self, name: &str) -> Option<Cow<'_, str>> {
        // IoT Hub's routing gives its annotations other names in files.
        let other = match name {
            IOT_HUB_DEVICE => find(&self.system, "connectionDeviceId"),
            IOT_HUB_TIME => find(&self.system, "enqueuedTime").or_else(|| self.enqueued_time()),
            "x-opt-enqueued-time" => self.enqueued_time(),
            _ => None,
        };
        find(&self.system, name).or(other)
    }
}

impl EventRecord {
    fn enqueued_time(&self) -> Option<Cow<'_, str>> {
        let text = self.enqueued.as_deref()?;
        Some(of_capture(text).map_or(Cow::Borrowed(text), Cow::Owned))
    }
}

fn find<'a>(properties: &'a [(String, String)], wanted: &str) -> Option<Cow<'a, str>> {
    let mut properties = properties.iter();
    let found = properties.find(|(name, _)| name.eq_ignore_ascii_case(wanted));
    found.map(|(_, value)| value.as_str().into())
}

/// Returns a time as capture writes it, such as `1/31/2026 1:05:09 PM`, in ISO 8601; `None` if it is of another form.
fn of_capture(text: &str) -> Option<String> {
    let (date, rest) = text.split_once(' ')?;
    let (time, half) = rest.split_once(' ')?;
    let number = |text: &str| text.parse::<u32>().ok();
    let [month, day, year] = parts(date, '/')?.map(number);
    let [hour, minute, second] = parts(time, ':')?.map(number);
    let hour = match half {
        "AM" => hour? % 12,
        "PM" => hour? % 12 + 12,
        _ => return None,
    };
    Some(format!(
        "{:04}-{:02}-{:02}T{hour:02}:{:02}:{:02}Z",
        year?, month?, day?, minute?, second?
    ))
}

fn parts(text: &str, separator: char) -> Option<[&str; 3]> {
    let parts: Vec<&str> = text.split(separator).collect();
    parts.try_into().ok()
}

/// A reader of the events of one file.
pub(super) struct RecordReader {
    objects: ObjectReader,
    names: EventNames,
    unpacked: Vec<u8>,
    /// Whether a body was looked at for a device that IoT Hub names as well.
    has_looked: bool,
}

impl RecordReader {
    pub(super) fn new(mapping: &ColumnMapping) -> Self {
        Self {
            objects: ObjectReader::new(&EventNames::of_bodies(mapping)),
            names: EventNames::new(mapping),
            unpacked: Vec::new(),
            has_looked: false,
        }
    }

    /// Appends the event's readings and its unreadable objects to `out`. All of them have its offset.
    pub(super) fn read(
        &mut self,
        record: &EventRecord,
        offset: u64,
        line: Option<u64>,
        out: &mut RowSink<'_>,
    ) {
        let mut unpacked = std::mem::take(&mut self.unpacked);
        let body = if record.body.starts_with(&GZIP_MAGIC) {
            unpack(&record.body, &mut unpacked).map(|()| &unpacked[..])
        } else {
            Ok(&record.body[..])
        };
        match body {
            Err(detail) => out.unreadable(offset, line, detail, &record.body),
            Ok(body) if body.trim_ascii().is_empty() => {
                out.unreadable(offset, line, "the body is empty".to_owned(), b"");
            }
            Ok(body) => self.body(record, body.trim_ascii(), offset, line, out),
        }
        self.unpacked = unpacked;
    }

    /// Reads an array of objects, or objects that follow one another.
    fn body(
        &mut self,
        record: &EventRecord,
        body: &[u8],
        offset: u64,
        line: Option<u64>,
        out: &mut RowSink<'_>,
    ) {
        let mut one = |object: &[u8]| {
            if let Err(refused) = self.object(record, object, offset, out) {
                out.refuse_row(offset, line, refused.readings, refused.detail, object);
            }
        };
        let read = if body.starts_with(b"[") {
            let mut json = serde_json::Deserializer::from_slice(body);
            Elements(|element: &RawValue| one(element.get().as_bytes()))
                .deserialize(&mut json)
                .and_then(|()| json.end())
        } else {
            let mut objects = serde_json::Deserializer::from_slice(body).into_iter::<&RawValue>();
            objects.try_for_each(|object| object.map(|object| one(object.get().as_bytes())))
        };
        if let Err(error) = read {
            out.unreadable(offset, line, format!("the body is not JSON: {error}"), body);
        }
    }

    fn object(
        &mut self,
        record: &EventRecord,
        object: &[u8],
        offset: u64,
        out: &mut RowSink<'_>,
    ) -> Result<(), RefusedObject> {
        let found = self.names.find(record);
        let names = found.names();
        if found.is_guessed && !std::mem::replace(&mut self.has_looked, true) {
            let own = DefaultNames {
                device: None,
                ..names
            };
            if self.objects.would_read(object, names, out) && !self.objects.would_read(object, own, out) {
                say_guess();
            }
        }
        self.objects
            .read(object, offset, names, out)
            .map_err(|mut refused| {
                let time = self.names.iot_hub_time(record);
                let time = time.as_deref();
                let with_time = DefaultNames { time, ..names };
                if time.is_some() && self.objects.would_read(object, with_time, out) {
                    refused.detail += TIME_HINT;
                }
                refused
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_capture_is_read_and_any_other_left_as_it_is() {
        for (text, time) in [
            ("1/5/2026 12:00:00 AM", "2026-01-05T00:00:00Z"),
            ("12/31/2025 1:05:09 PM", "2025-12-31T13:05:09Z"),
            ("1/5/2026 12:30:00 PM", "2026-01-05T12:30:00Z"),
            ("2026-01-05T00:00:00.123Z", "2026-01-05T00:00:00.123Z"),
            ("soon", "soon"),
        ] {
            let record = EventRecord {
                enqueued: Some(text.to_owned()),
                ..EventRecord::default()
            };
            assert_eq!(record.annotation(IOT_HUB_TIME).as_deref(), Some(time));
        }
    }
}
