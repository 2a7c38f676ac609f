//! Decodes an event into readings.
//!
//! A body is one JSON object, an array of objects, or a sequence of objects such as NDJSON. Gzip is recognised by its
//! first bytes, a byte order mark is skipped, and UTF-16 is decoded if it has one. What an object lacks may come from the
//! event's properties and annotations ([`EventNames`]).
//!
//! The readings and their order depend on the body alone, because a checkpoint identifies a reading by its number
//! within its event. In a damaged body, everything before the damage is read, and the rest is set aside.

use std::borrow::Cow;

use serde::de::DeserializeSeed;
use serde_json::value::RawValue;

use windrow_producer::source::decode::{
    ColumnMapping, DefaultNames, Elements, EventNames, GZIP_MAGIC, ObjectReader, RefusedObject, RowSink,
    TIME_HINT, say_guess, unpack,
};
use windrow_producer::source::{Raw, Unreadable};

use crate::body::{Body, Kept, body_of, kept, size_of};
use crate::event::Event;
use crate::stretches::Stretches;

/// Largest body, in bytes; the service itself takes at most 1 MiB in most tiers.
const MAX_BODY_BYTES: usize = 4 << 20;
const UTF8_MARK: &[u8] = b"\xef\xbb\xbf";
const UTF16_MARKS: [&[u8]; 2] = [b"\xff\xfe", b"\xfe\xff"];

/// A decoder of the events of one partition.
pub(crate) struct EventDecoder {
    objects: ObjectReader,
    unpacked: Vec<u8>,
    names: EventNames,
    /// Whether one body has been searched for a device although IoT Hub names the device too.
    has_looked: bool,
}

impl EventDecoder {
    pub(crate) fn new(mapping: &ColumnMapping) -> Self {
        Self {
            objects: ObjectReader::new(&EventNames::of_bodies(mapping)),
            unpacked: Vec::new(),
            names: EventNames::new(mapping),
            has_looked: false,
        }
    }

    /// Appends the event's readings and its unreadable objects to `out`.
    pub(crate) fn decode(&mut self, event: &Event, out: &mut RowSink<'_>) {
        let bytes = size_of(event.body());
        if bytes > MAX_BODY_BYTES {
            let detail = format!("the body has {bytes} bytes; at most {MAX_BODY_BYTES} are read");
            return refuse(event, detail, 1, out);
        }
        let mut unpacked = std::mem::take(&mut self.unpacked);
        let found = self.names.find(event);
        let mut reader = Reader {
            objects: &mut self.objects,
            event,
            names: found.names(),
            of_event: &self.names,
            look: found.is_guessed && !std::mem::replace(&mut self.has_looked, found.is_guessed),
            out,
        };
        match body_of(event.body()) {
            Body::Bytes(body) => reader.bytes(&body, &mut unpacked),
            Body::Items(items) => reader.items(&items),
            Body::Refused(detail) => refuse(event, detail, 1, reader.out),
        }
        self.unpacked = unpacked;
    }
}

/// Sets a whole event aside.
fn refuse(event: &Event, detail: String, readings: u64, out: &mut RowSink<'_>) {
    let (raw, encoding) = match kept(event.body()) {
        Kept::Bytes(bytes) => (Raw::of(&bytes), None),
        Kept::Encoded(bytes) => (Raw::of(&bytes), Some("amqp".to_owned())),
    };
    let mut envelope = event.envelope();
    envelope.encoding = encoding;
    out.set_aside(Unreadable {
        readings: readings.max(1),
        envelope: Some(Box::new(envelope)),
        ..Unreadable::new(event.offset, None, detail, raw)
    });
}

/// A reader of one event.
struct Reader<'a, 'b> {
    objects: &'a mut ObjectReader,
    event: &'a Event,
    names: DefaultNames<'a>,
    of_event: &'a EventNames,
    /// Whether to check whether the next object names a device.
    look: bool,
    out: &'a mut RowSink<'b>,
}

impl Reader<'_, '_> {
    /// Reads a body of bytes.
    fn bytes(&mut self, body: &[u8], unpacked: &mut Vec<u8>) {
        let plain = if body.starts_with(&GZIP_MAGIC) {
            if let Err(detail) = unpack(body, unpacked) {
                // The compressed bytes are set aside as a whole: no part of them can be unpacked alone.
                return refuse(self.event, detail, objects_in(unpacked), self.out);
            }
            &unpacked[..]
        } else {
            body
        };
        match text_of(plain) {
            Err(detail) => refuse(self.event, detail, 1, self.out),
            Ok(text) if text.trim_ascii().is_empty() => {
                refuse(self.event, "the body is empty".to_owned(), 1, self.out);
            }
            Ok(text) => self.text(&text),
        }
    }

    /// Reads the elements of an AMQP list.
    fn items(&mut self, items: &[Cow<'_, [u8]>]) {
        for item in items {
            if let Err(refused) = self.object(item.trim_ascii()) {
                let mut aside = Stretches::new(item);
                aside.add(item, refused.readings, None, refused.detail);
                aside.end(self.event, self.out);
            }
        }
    }

    /// Reads the text of a body.
    fn text(&mut self, text: &[u8]) {
        let mut aside = Stretches::new(text);
        let mut rest = text.trim_ascii();
        while rest.starts_with(b"[") {
            let (result, read) = self.array(rest, &mut aside);
            rest = rest[read..].trim_ascii_start();
            if let Err(error) = result {
                let detail = format!("not a JSON array: {error}");
                aside.add(rest, objects_in(rest), None, detail);
                rest = &[];
            }
        }
        if !rest.is_empty() {
            self.sequence(rest, &mut aside);
        }
        aside.end(self.event, self.out);
    }

    /// Reads the elements of the array that `text` begins with. Returns the length of what has been read.
    fn array(&mut self, text: &[u8], aside: &mut Stretches<'_>) -> (Result<(), serde_json::Error>, usize) {
        let mut json = serde_json::Deserializer::from_slice(text);
        let mut read = 0;
        let result = Elements(|element: &RawValue| {
            let element = element.get().as_bytes();
            read = aside.place(element).1 - aside.place(text).0;
            self.object_or_aside(element, None, aside);
        })
        .deserialize(&mut json);
        match result {
            Ok(()) => (Ok(()), json.into_iter::<serde::de::IgnoredAny>().byte_offset()),
            Err(error) => (Err(error), read),
        }
    }

    /// Reads objects that follow one another.
    fn sequence(&mut self, text: &[u8], aside: &mut Stretches<'_>) {
        let lines = || text.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
        let spread_over_lines = lines().any(|line| match line.strip_suffix(b",") {
            Some(object) => !is_object(object),
            None => line == b"{",
        });
        if !spread_over_lines {
            let several = text.contains(&b'\n');
            for (line, number) in lines().zip(1..).filter(|(line, _)| !line.is_empty()) {
                // Accepts a comma after an object even outside an array.
                let line = line.strip_suffix(b",").unwrap_or(line);
                self.object_or_aside(line, several.then_some(number), aside);
            }
            return;
        }
        let mut objects = serde_json::Deserializer::from_slice(text).into_iter::<&RawValue>();
        loop {
            let read = objects.byte_offset();
            match objects.next() {
                None => return,
                Some(Ok(object)) => self.object_or_aside(object.get().as_bytes(), None, aside),
                Some(Err(error)) => {
                    let rest = text[read..].trim_ascii_start();
                    return aside.add(
                        rest,
                        objects_in(rest),
                        None,
                        format!("not a JSON object: {error}"),
                    );
                }
            }
        }
    }

    fn object_or_aside(&mut self, object: &[u8], line: Option<u64>, aside: &mut Stretches<'_>) {
        match self.object(object) {
            // Readings and unreadable objects go to separate lists, so their relative order does not matter.
            Ok(()) => aside.interrupt(),
            Err(refused) => aside.add(object, refused.readings, line, refused.detail),
        }
    }

    fn object(&mut self, object: &[u8]) -> Result<(), RefusedObject> {
        let offset = self.event.offset.0;
        if std::mem::take(&mut self.look) {
            let own = DefaultNames {
                device: None,
                ..self.names
            };
            if self.objects.would_read(object, self.names, self.out)
                && !self.objects.would_read(object, own, self.out)
            {
                say_guess();
            }
        }
        let read = self.objects.read(object, offset, self.names, self.out);
        read.map_err(|refused| self.explain(object, refused))
    }

    /// Adds a hint to the reason why an object is not a reading: which setting would make it one.
    #[cold]
    fn explain(&mut self, object: &[u8], mut refused: RefusedObject) -> RefusedObject {
        let time = self.of_event.iot_hub_time(self.event);
        let with_time = DefaultNames {
            time: time.as_deref(),
            ..self.names
        };
        if time.is_some() && self.objects.would_read(object, with_time, self.out) {
            refused.detail += TIME_HINT;
        }
        refused
    }
}

fn is_object(text: &[u8]) -> bool {
    text.starts_with(b"{") && serde_json::from_slice::<&RawValue>(text).is_ok()
}

/// Returns how many JSON objects begin in `text`, not counting those within others: about how many readings it holds.
fn objects_in(text: &[u8]) -> u64 {
    let (mut objects, mut depth, mut in_string, mut escaped) = (0, 0_u64, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' => {
                objects += u64::from(depth == 0);
                depth += 1;
            }
            b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    objects
}

/// Returns text without its byte order mark, as UTF-8 if the mark says UTF-16.
fn text_of(bytes: &[u8]) -> Result<Cow<'_, [u8]>, String> {
    if let Some(text) = bytes.strip_prefix(UTF8_MARK) {
        return Ok(text.into());
    }
    let Some(mark) = UTF16_MARKS.iter().find(|mark| bytes.starts_with(mark)) else {
        return Ok(bytes.into());
    };
    let (units, half) = bytes[mark.len()..].as_chunks::<2>();
    let from = if *mark == UTF16_MARKS[0] {
        u16::from_le_bytes
    } else {
        u16::from_be_bytes
    };
    let text: Result<String, _> = char::decode_utf16(units.iter().map(|unit| from(*unit))).collect();
    match text {
        Ok(text) if half.is_empty() => Ok(text.into_bytes().into()),
        _ => Err("the body begins with the mark of UTF-16 and is not UTF-16 text".to_owned()),
    }
}

#[cfg(test)]
mod tests;
