//! Converts the cells of a row to a reading, and remembers what repeats from row to row.

use windrow_common::{EventTime, LocalTime, SensorId};

use crate::sensors::{SensorError, SensorIndex, SensorTable};
use crate::source::{Offset, Reading};

use super::mapping::{ColumnMapping, Role};
use super::sink::{RowSink, shown};
use super::time_format::{Noticed, TimeReader};

/// Returns the text without the spaces and tabs around it.
#[inline]
pub(in crate::source) fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// The reason why a row is not a reading.
pub(in crate::source) enum CellError {
    /// The row as a whole is wrong.
    Row(String),
    /// The cell of this role is wrong, for this reason.
    Cell(Role, String),
    /// The device or the tag is not a valid name; the error says which.
    Sensor(SensorError),
}

/// A converter from cells to readings.
#[derive(Default)]
pub(in crate::source) struct Cells {
    times: TimeMemo,
    sensors: SensorMemo,
    decimal_comma: DecimalComma,
}

/// Whether a number may have a comma as its decimal point.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::source) enum DecimalComma {
    /// It may not.
    #[default]
    No,
    /// It may.
    Yes,
    /// It may, unless the comma could also separate thousands, as in `1,234`.
    UnlessThousands,
}

impl Cells {
    /// Creates a converter for cells as `mapping` says.
    pub(in crate::source) fn new(mapping: &ColumnMapping, decimal_comma: DecimalComma) -> Self {
        let reader = TimeReader::new(mapping.time_format.as_ref(), mapping.timezone.as_deref());
        Self {
            times: TimeMemo {
                reader,
                ..TimeMemo::default()
            },
            sensors: SensorMemo::default(),
            decimal_comma,
        }
    }

    /// Returns the reading with these cells, ordered by [`Role`].
    #[inline]
    pub(in crate::source) fn reading(
        &mut self,
        [time, device, tag, value]: [&[u8]; 4],
        offset: u64,
        out: &mut RowSink<'_>,
    ) -> Result<Reading, CellError> {
        let time = self.time(trim(time))?;
        let sensor = self.sensor(trim(device), trim(tag), out.sensors)?;
        let value = self.value(trim(value))?;
        Ok(Reading {
            sensor,
            time,
            arrival: out.arrival,
            value,
            offset: Offset(offset),
        })
    }

    /// Parses a timestamp.
    #[inline]
    pub(in crate::source) fn time(&mut self, text: &[u8]) -> Result<EventTime, CellError> {
        self.times.parse(text)
    }

    /// Returns the instant of a time without a zone.
    #[inline]
    pub(in crate::source) fn local_time(&mut self, local: LocalTime) -> Result<EventTime, CellError> {
        self.times.instant(local)
    }

    /// Parses a value.
    #[inline]
    pub(in crate::source) fn value(&self, text: &[u8]) -> Result<f64, CellError> {
        self.decimal_comma.number(text)
    }

    /// Returns what was noticed about the times.
    pub(in crate::source) fn noticed(&self) -> Noticed {
        self.times.reader.noticed
    }

    /// Returns the index of the sensor with these names.
    #[inline]
    pub(in crate::source) fn sensor(
        &mut self,
        device: &[u8],
        tag: &[u8],
        sensors: &mut SensorTable,
    ) -> Result<SensorIndex, CellError> {
        self.sensors.intern(device, tag, sensors)
    }
}

impl DecimalComma {
    /// Parses a value.
    #[inline]
    pub(in crate::source) fn number(self, text: &[u8]) -> Result<f64, CellError> {
        match self {
            Self::No => number(text),
            _ => self.with_comma(text),
        }
    }

    /// Parses a number such as `1,5` or `1.5`.
    fn with_comma(self, text: &[u8]) -> Result<f64, CellError> {
        let mut point = [0; 40];
        let (Some(point), Some(at)) = (point.get_mut(..text.len()), memchr::memchr(b',', text)) else {
            return number(text);
        };
        let (whole, fraction) = (&text[..at], &text[at + 1..]);
        let is_thousands = self == Self::UnlessThousands && fraction.len() == 3 && whole.len() <= 4;
        if is_thousands || fraction.contains(&b',') || text.contains(&b'.') {
            return number(text);
        }
        point.copy_from_slice(text);
        point[at] = b'.';
        // The message shows the number as it was written.
        number(point).or_else(|_| number(text))
    }
}

/// Parses a value.
#[inline]
pub(in crate::source) fn number(text: &[u8]) -> Result<f64, CellError> {
    short_decimal(text)
        .or_else(|| std::str::from_utf8(text).ok()?.parse().ok())
        .or_else(|| truth(text))
        .ok_or_else(|| {
            let why = if text.is_empty() {
                "is empty".to_owned()
            } else {
                format!("\"{}\" is not a number", shown(text))
            };
            CellError::Cell(Role::Value, why)
        })
}

/// Returns the number of a state: 1 for `true`, 0 for `false`.
#[cold]
fn truth(text: &[u8]) -> Option<f64> {
    let is = |word: &[u8]| text.eq_ignore_ascii_case(word);
    if is(b"true") {
        Some(1.0)
    } else {
        is(b"false").then_some(0.0)
    }
}

/// Parses a short decimal such as `-12.50`; returns `None` for a text that `f64::from_str` must parse.
///
/// The digits (at most 53 bits) and the power of ten are both exact, so their quotient is rounded only once, and so
/// correctly. This is the fast path of W. D. Clinger, "How to Read Floating Point Numbers Accurately" (PLDI 1990).
#[inline]
fn short_decimal(text: &[u8]) -> Option<f64> {
    const POWERS: [f64; 19] = [
        1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17,
        1e18,
    ];
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    // At most 19 digits: the sum below cannot overflow.
    if digits.is_empty() || digits.len() > 19 {
        return None;
    }
    let (mut sum, mut point) = (0_u64, None);
    for (at, &byte) in digits.iter().enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit <= 9 {
            sum = sum.wrapping_mul(10).wrapping_add(u64::from(digit));
        } else if byte == b'.' && point.is_none() {
            point = Some(at);
        } else {
            return None;
        }
    }
    let places = point.map_or(0, |at| digits.len() - at - 1);
    let count = digits.len() - usize::from(point.is_some());
    if count == 0 || count > 18 || sum > 1 << 53 {
        return None;
    }
    let value = sum as f64 / POWERS[places];
    Some(if negative { -value } else { value })
}

/// The last timestamp read. All sensors of a fleet that reports in step have the same one.
struct TimeMemo {
    text: [u8; Self::LENGTH],
    length: usize,
    time: EventTime,
    /// The last time without a zone that did not come from text, and its instant.
    local: Option<(LocalTime, EventTime)>,
    reader: TimeReader,
}

impl Default for TimeMemo {
    fn default() -> Self {
        Self {
            text: [0; Self::LENGTH],
            length: 0,
            time: EventTime::MIN,
            local: None,
            reader: TimeReader::default(),
        }
    }
}

impl TimeMemo {
    const LENGTH: usize = 40;

    #[inline]
    fn instant(&mut self, local: LocalTime) -> Result<EventTime, CellError> {
        if let Some((before, time)) = self.local
            && before == local
        {
            return Ok(time);
        }
        let time = self.reader.instant(local);
        let time = time.map_err(|why| CellError::Cell(Role::Timestamp, why))?;
        self.local = Some((local, time));
        Ok(time)
    }

    #[inline]
    fn parse(&mut self, text: &[u8]) -> Result<EventTime, CellError> {
        if !text.is_empty() && self.text[..self.length] == *text {
            return Ok(self.time);
        }
        let time = self.reader.read(text).map_err(|error| {
            let why = if text.is_empty() {
                "is empty".to_owned()
            } else {
                error
            };
            CellError::Cell(Role::Timestamp, why)
        })?;
        if let Some(memo) = self.text.get_mut(..text.len()) {
            memo.copy_from_slice(text);
            (self.length, self.time) = (text.len(), time);
        }
        Ok(time)
    }
}

/// A memory of which sensor followed which: a fleet tends to report in the same order each time.
#[derive(Default)]
struct SensorMemo {
    /// For each sensor, by index, the sensor that followed it last.
    successors: Vec<SensorIndex>,
    last: usize,
}

impl SensorMemo {
    #[inline]
    fn intern(
        &mut self,
        device: &[u8],
        tag: &[u8],
        sensors: &mut SensorTable,
    ) -> Result<SensorIndex, CellError> {
        if let Some(&guess) = self.successors.get(self.last)
            && guess.as_usize() < sensors.len()
            && is_named(sensors.id(guess), device, tag)
        {
            self.last = guess.as_usize();
            return Ok(guess);
        }
        let index = sensors
            .intern(utf8(device, Role::Device)?, utf8(tag, Role::Tag)?)
            .map_err(CellError::Sensor)?;
        if self.successors.len() <= self.last {
            self.successors.resize(self.last + 1, SensorIndex(0));
        }
        self.successors[self.last] = index;
        self.last = index.as_usize();
        Ok(index)
    }
}

#[inline]
fn is_named(id: &SensorId, device: &[u8], tag: &[u8]) -> bool {
    *id.tag.as_bytes() == *tag && *id.device.as_bytes() == *device
}

fn utf8(text: &[u8], role: Role) -> Result<&str, CellError> {
    std::str::from_utf8(text)
        .map_err(|_| CellError::Cell(role, format!("\"{}\" is not UTF-8 text", shown(text))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Option<f64> {
        number(text.as_bytes()).ok()
    }

    proptest! {
        #[test]
        fn numbers_are_read_exactly_as_the_standard_library_does(text in "[-+]?[0-9]{0,20}(\\.[0-9]{0,22})?(e-?[0-9]{1,3})?") {
            prop_assert_eq!(read(&text).map(f64::to_bits), text.parse().ok().map(f64::to_bits));
        }

        #[test]
        fn any_float_reads_back_from_its_own_text(value in any::<f64>()) {
            prop_assert_eq!(read(&value.to_string()).map(f64::to_bits), Some(value.to_bits()));
        }
    }

    #[test]
    fn odd_numbers_are_what_the_standard_library_says_they_are() {
        for text in [
            "",
            ".",
            "-",
            "-.",
            "1.",
            ".5",
            "-0",
            "1..2",
            "9007199254740993",
            "NaN",
            "inf",
            "0x1",
            "1 2",
            "1,5",
        ] {
            assert_eq!(
                read(text).map(f64::to_bits),
                text.parse().ok().map(f64::to_bits),
                "{text}"
            );
        }
    }

    #[test]
    fn a_comma_is_a_point_where_cells_are_not_separated_by_commas() {
        let read = |text: &str| DecimalComma::Yes.number(text.as_bytes()).ok();
        assert_eq!(read("1,5"), Some(1.5));
        assert_eq!(read("-0,25"), Some(-0.25));
        assert_eq!(read("1.5"), Some(1.5));
        assert_eq!(read("1,5e3"), Some(1_500.0));
        for text in ["1,234,567", "1.234,5", ",", "x,y"] {
            assert_eq!(read(text), None, "{text}");
        }
        let careful = |text: &str| DecimalComma::UnlessThousands.number(text.as_bytes()).ok();
        assert_eq!(
            (careful("1,5"), careful("1,234"), careful("12345,678")),
            (Some(1.5), None, Some(12_345.678))
        );
    }

    #[test]
    fn states_are_numbers() {
        assert_eq!(read("true"), Some(1.0));
        assert_eq!(read("FALSE"), Some(0.0));
        assert_eq!(read("yes"), None);
    }

    #[test]
    fn a_guessed_sensor_is_never_taken_without_looking() {
        let (mut memo, mut sensors) = (SensorMemo::default(), SensorTable::new());
        let order = ["a", "b", "a", "c", "a", "b", "b", "c", "c", "a"];
        for tag in order {
            let index = memo.intern(b"d", tag.as_bytes(), &mut sensors).ok().unwrap();
            assert_eq!(*sensors.id(index).tag, *tag);
        }
        assert_eq!(sensors.len(), 3);
        let mut other = SensorTable::new();
        let index = memo.intern(b"d", b"z", &mut other).ok().unwrap();
        assert_eq!(*other.id(index).tag, *"z");
    }
}
