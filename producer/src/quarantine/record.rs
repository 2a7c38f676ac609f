//! A record of the quarantine, and its text in the store: the one place that knows the format.

use std::borrow::Cow;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use windrow_common::{EventTime, Length, SensorId};

use super::QuarantineReason;
use crate::source::{Envelope, Raw};

/// Something that was set aside.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Why.
    pub reason: QuarantineReason,
    /// Its position in its partition.
    pub offset: u64,
    /// Its number at its offset, counted separately for unreadable items and for readings.
    pub index: u32,
    /// How many readings it holds, as far as can be told.
    pub readings: u64,
    /// What is wrong with it, for a person to read.
    pub detail: Cow<'static, str>,
    /// What was set aside.
    pub content: Content,
}

/// What a record keeps.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// An item that could not be decoded.
    Item {
        /// Its line, counted from 1, if that is known.
        line: Option<u64>,
        /// Its bytes.
        raw: Raw,
        /// What came with the event.
        envelope: Option<Box<Envelope>>,
    },
    /// A reading.
    Reading {
        /// The sensor.
        sensor: SensorId,
        /// When it was measured.
        time: EventTime,
        /// The measured value.
        value: f64,
        /// The length of the interval that it belongs to; of late readings only.
        interval: Option<Length>,
    },
}

/// A record as it is in the store.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// The source's name.
    pub source: String,
    /// The partition's name.
    pub partition: String,
    /// When it was set aside; an old record tells only the hour.
    pub at: EventTime,
    /// The rest.
    pub record: Record,
}

impl Record {
    /// Returns what is wrong, without the offending values, so that items of the same kind have equal texts. Empty for
    /// readings.
    pub fn kind(&self) -> String {
        // Values are in quotes, or numbers.
        let mut quote = None;
        let outside = self.detail.chars().filter(|&char| match quote {
            Some(opened) => {
                if char == opened {
                    quote = None;
                }
                false
            }
            None => {
                if matches!(char, '`' | '"') {
                    quote = Some(char);
                }
                !char.is_ascii_digit()
            }
        });
        match self.content {
            Content::Item { .. } => outside.collect(),
            Content::Reading { .. } => String::new(),
        }
    }

    /// Returns where it is in `partition` and what is wrong, on one line.
    pub fn at(&self, partition: &str) -> String {
        let Self { offset, detail, .. } = self;
        match &self.content {
            Content::Item { line: Some(line), .. } => format!("{partition}, line {line}: {detail}"),
            Content::Item { line: None, .. } => format!("{partition}, offset {offset}: {detail}"),
            Content::Reading { sensor, time, .. } => {
                format!("{partition}, offset {offset}: {sensor} at {time}: {detail}")
            }
        }
    }

    /// Returns whether bytes of the item are missing.
    pub fn is_cut(&self) -> bool {
        matches!(&self.content, Content::Item { raw, .. } if raw.is_cut())
    }
}

impl Stored {
    /// Returns it as it is in the store.
    pub fn to_json(&self) -> serde_json::Value {
        let line = Line::new(&self.source, &self.partition, self.at, &self.record);
        serde_json::to_value(line).unwrap_or_default()
    }

    /// Returns the bytes to read it from once more: an item's own, or a reading as a line of NDJSON.
    pub fn to_bytes(&self) -> Cow<'_, [u8]> {
        match &self.record.content {
            Content::Item { raw, .. } => raw.bytes().into(),
            Content::Reading {
                sensor, time, value, ..
            } => {
                let number = serde_json::Number::from_f64(*value).map(serde_json::Value::Number);
                let line = serde_json::json!({
                    "ts": time.to_string(), "device": sensor.device, "tag": sensor.tag,
                    "value": number.unwrap_or_else(|| value.to_string().into()),
                });
                line.to_string().into_bytes().into()
            }
        }
    }

    /// Returns when a late reading was measured; `None` of other records.
    pub(super) fn late(&self) -> Option<EventTime> {
        match &self.record.content {
            Content::Reading { time, .. } if self.record.reason == QuarantineReason::Late => Some(*time),
            _ => None,
        }
    }

    /// Returns the start and end of the interval of a late reading; `None` for other records. Old records do not hold
    /// the interval's length; for these, returns the shortest interval possible.
    pub fn interval(&self) -> Option<(EventTime, EventTime)> {
        let time = self.late()?;
        let Content::Reading { interval, .. } = &self.record.content else {
            return None;
        };
        let length = interval.unwrap_or(Length::from_millis(1));
        let start = time.floor(length);
        Some((start, start.saturating_add(length.as_duration())))
    }
}

/// One line of the table.
#[derive(Serialize, Deserialize)]
pub(super) struct Line<'a> {
    source: Cow<'a, str>,
    partition: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at: Option<String>,
    reason: QuarantineReason,
    offset: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    index: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    #[serde(default = "one", skip_serializing_if = "is_one")]
    readings: u64,
    detail: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tag: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    /// As text, because JSON has no number for NaN and infinity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    interval_ms: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    raw: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    raw_base64: Option<String>,
    /// How many bytes there were; only if not all of them are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    raw_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    event: Option<Cow<'a, Envelope>>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde passes a reference.
fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde passes a reference.
pub(super) fn is_one(number: &u64) -> bool {
    *number == 1
}

pub(super) fn one() -> u64 {
    1
}

impl<'a> Line<'a> {
    pub(super) fn new(source: &'a str, partition: &'a str, at: EventTime, record: &'a Record) -> Self {
        let mut line = Self {
            source: source.into(),
            partition: partition.into(),
            at: Some(at.to_string()),
            reason: record.reason,
            offset: record.offset,
            index: record.index,
            line: None,
            readings: record.readings,
            detail: Cow::Borrowed(&record.detail),
            device: None,
            tag: None,
            time: None,
            value: None,
            interval_ms: None,
            raw: None,
            raw_base64: None,
            raw_bytes: None,
            event: None,
        };
        match &record.content {
            Content::Item {
                line: at,
                raw,
                envelope,
            } => {
                line.line = *at;
                // Bytes that are no text would not survive as JSON.
                match std::str::from_utf8(raw.bytes()) {
                    Ok(text) => line.raw = Some(text.into()),
                    Err(_) => line.raw_base64 = Some(STANDARD.encode(raw.bytes())),
                }
                line.raw_bytes = raw.is_cut().then(|| raw.whole_bytes());
                line.event = envelope.as_deref().map(Cow::Borrowed);
            }
            Content::Reading {
                sensor,
                time,
                value,
                interval,
            } => {
                line.device = Some(Cow::Borrowed(&sensor.device));
                line.tag = Some(Cow::Borrowed(&sensor.tag));
                line.time = Some(time.to_string());
                line.value = Some(value.to_string());
                line.interval_ms = interval.map(Length::as_millis);
            }
        }
        line
    }

    /// Returns the record of a line in a part of the hour `hour`. The error says what is wrong with the line.
    pub(super) fn stored(self, hour: EventTime) -> Result<Stored, String> {
        let at = match &self.at {
            Some(at) => parse("at", at)?,
            None => hour,
        };
        let content = match (&self.device, &self.tag, &self.time, &self.value) {
            (Some(device), Some(tag), Some(time), Some(value)) => Content::Reading {
                sensor: SensorId::new(device, tag).map_err(|error| error.to_string())?,
                time: parse("time", time)?,
                value: parse("value", value)?,
                interval: self
                    .interval_ms
                    .map(Length::from_millis)
                    .filter(|it| it.is_positive()),
            },
            _ => Content::Item {
                line: self.line,
                raw: self.raw_of_item()?,
                envelope: self.event.map(|event| Box::new(event.into_owned())),
            },
        };
        Ok(Stored {
            source: self.source.into_owned(),
            partition: self.partition.into_owned(),
            at,
            record: Record {
                reason: self.reason,
                offset: self.offset,
                index: self.index,
                readings: self.readings,
                detail: Cow::Owned(self.detail.into_owned()),
                content,
            },
        })
    }

    fn raw_of_item(&self) -> Result<Raw, String> {
        let kept: Cow<'_, [u8]> = match (&self.raw, &self.raw_base64) {
            (Some(text), _) => Cow::Borrowed(text.as_bytes()),
            (None, Some(encoded)) => STANDARD
                .decode(encoded)
                .map_err(|error| format!("raw_base64: {error}"))?
                .into(),
            (None, None) => Cow::Borrowed(&[]),
        };
        Ok(Raw::head(&kept, self.raw_bytes.unwrap_or(kept.len() as u64)))
    }
}

fn parse<T: std::str::FromStr<Err: fmt::Display>>(field: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|error| format!("{field}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::MAX_RAW_BYTES;

    fn item(raw: Raw, envelope: Option<Envelope>) -> Record {
        Record {
            reason: QuarantineReason::Unreadable,
            offset: 20,
            index: 3,
            readings: 100,
            detail: "not a JSON object".into(),
            content: Content::Item {
                line: Some(2),
                raw,
                envelope: envelope.map(Box::new),
            },
        }
    }

    /// Writes a record as text and reads it back.
    fn again(record: &Record) -> (String, Stored) {
        let at = EventTime::from_millis(1_767_571_200_123);
        let text = serde_json::to_string(&Line::new("plant a", "x/ä.csv", at, record)).unwrap();
        let line: Line<'_> = serde_json::from_str(&text).unwrap();
        (text, line.stored(EventTime::MIN).unwrap())
    }

    #[test]
    fn bytes_of_any_kind_come_back_exactly() {
        let envelope = Envelope {
            body: "data".to_owned(),
            sections: vec![3, 4],
            enqueued_time: Some("2026-01-05T00:00:00Z".to_owned()),
            offset: Some("4096".to_owned()),
            sequence_number: Some(20),
            partition_key: Some("pump-7".to_owned()),
            properties: serde_json::from_str(r#"{"device":"pump-7","n":1}"#).unwrap(),
            ..Envelope::default()
        };
        let all: Vec<u8> = (0..=255).collect();
        for (bytes, field) in [
            (&b""[..], r#""raw":"""#),
            ("{\"a\": \"\u{feff}ä\\\"\"}\r\n\0".as_bytes(), r#""raw":"#),
            (&all, r#""raw_base64":"#),
            (b"\x1f\x8b\x08\0", r#""raw_base64":"#),
        ] {
            let record = item(Raw::of(bytes), Some(envelope.clone()));
            let (text, stored) = again(&record);
            assert_eq!(stored.record, record);
            assert_eq!((&*stored.source, &*stored.partition), ("plant a", "x/ä.csv"));
            assert_eq!(stored.at.to_string(), "2026-01-05T00:00:00.123Z");
            assert!(text.contains(field) && !text.contains("raw_bytes"), "{text}");
        }
        let cut = item(Raw::of(&vec![0xff; MAX_RAW_BYTES + 1]), None);
        let (text, stored) = again(&cut);
        assert_eq!(stored.record, cut);
        assert!(text.contains("\"raw_bytes\":16777217"));
    }

    #[test]
    fn readings_come_back_with_every_value() {
        for value in [71.3, f64::NAN, f64::INFINITY, -0.0, 1e300] {
            let record = Record {
                reason: QuarantineReason::Late,
                offset: 7,
                index: 0,
                readings: 1,
                detail: "late".into(),
                content: Content::Reading {
                    sensor: SensorId::new("pump 7", "temp").unwrap(),
                    time: EventTime::from_millis(-1),
                    value,
                    interval: Some(Length::HOUR),
                },
            };
            let (text, stored) = again(&record);
            assert_eq!(format!("{:?}", stored.record), format!("{record:?}"), "{text}");
        }
    }

    #[test]
    fn a_line_of_an_earlier_version_is_read() {
        let hour = EventTime::from_millis(3_600_000);
        for (text, at) in [
            (
                r#"{"source":"r","partition":"a.csv","reason":"unreadable","offset":20,"line":2,"detail":"column value: is empty","raw":"2026-01-05T00:00:00Z,pump-7,temp,"}"#,
                "a.csv, line 2: column value: is empty",
            ),
            (
                r#"{"source":"r","partition":"a.csv","reason":"late","offset":54,"detail":"its interval was dispatched","device":"pump-7","tag":"temp","time":"2026-01-04T23:58:00Z","value":"71.3"}"#,
                "a.csv, offset 54: pump-7/temp at 2026-01-04T23:58:00Z: its interval was dispatched",
            ),
        ] {
            let line: Line<'_> = serde_json::from_str(text).unwrap();
            let stored = line.stored(hour).unwrap();
            assert_eq!(
                (stored.at, stored.record.readings, stored.record.index),
                (hour, 1, 0)
            );
            assert_eq!(stored.record.at("a.csv"), at);
        }
        let bad =
            r#"{"source":"r","partition":"a","reason":"unreadable","offset":1,"detail":"","raw_base64":"?"}"#;
        let line: Line<'_> = serde_json::from_str(bad).unwrap();
        assert!(line.stored(hour).unwrap_err().starts_with("raw_base64: "));
    }
}
