//! Times in other forms than the usual ones, and in the time zone of a site.

use std::fmt;
use std::str::FromStr;

use jiff::civil::DateTime;
use jiff::fmt::strtime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use windrow_common::{EpochUnit, EventTime, LocalTime, TimeError, WrittenTime};

use super::sink::shown;

/// A form of time that has to be named, because it could be mistaken for another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimeFormat {
    /// The usual forms, where a number may be any time since 1970.
    AnyEpoch,
    /// A number of these since 1970-01-01T00:00:00Z, of any size.
    Epoch(EpochUnit),
    /// Days since 1899-12-30 in the site's zone: the serial dates of spreadsheets.
    Excel,
    /// Days since the year 0 in the site's zone: Matlab's `datenum`.
    Datenum,
    /// Seconds since 1904-01-01T00:00:00Z: LabVIEW.
    LabView,
    /// Units of 100 ns since 1601-01-01T00:00:00Z: Windows.
    FileTime,
    /// Units of 100 ns since 0001-01-01T00:00:00Z: .NET.
    Ticks,
    /// A pattern of `strftime`, such as `%d/%m/%Y %H:%M:%S`.
    Pattern(String),
}

const NAMES: [(&str, TimeFormat); 10] = [
    ("epoch", TimeFormat::AnyEpoch),
    ("epoch-s", TimeFormat::Epoch(EpochUnit::Seconds)),
    ("epoch-ms", TimeFormat::Epoch(EpochUnit::Millis)),
    ("epoch-us", TimeFormat::Epoch(EpochUnit::Micros)),
    ("epoch-ns", TimeFormat::Epoch(EpochUnit::Nanos)),
    ("excel", TimeFormat::Excel),
    ("datenum", TimeFormat::Datenum),
    ("labview", TimeFormat::LabView),
    ("filetime", TimeFormat::FileTime),
    ("ticks", TimeFormat::Ticks),
];

impl FromStr for TimeFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((_, format)) = NAMES.iter().find(|(name, _)| *name == text) {
            return Ok(format.clone());
        }
        let names = || NAMES.map(|(name, _)| name).join(", ");
        if !text.contains('%') {
            return Err(format!(
                "`{text}` is no form of time: write {}, or a pattern such as '%d/%m/%Y %H:%M:%S'",
                names()
            ));
        }
        // Some patterns can format a time but not parse one.
        let now = jiff::Timestamp::UNIX_EPOCH.to_zoned_datetime(TimeZone::UTC);
        match strtime::format(text, &now) {
            Ok(written) if by_pattern(text, &written).is_some() => Ok(Self::Pattern(text.to_owned())),
            Ok(written) => Err(format!(
                "`{text}` is not a pattern of a time that can be read: `{written}`, which it writes, does not give a date"
            )),
            Err(error) => Err(format!("`{text}` is not a pattern of a time: {error}")),
        }
    }
}

impl fmt::Display for TimeFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pattern(pattern) => f.write_str(pattern),
            named => {
                let name = NAMES.iter().find(|(_, format)| format == named);
                f.write_str(name.map_or("", |(name, _)| name))
            }
        }
    }
}

/// Returns the time zone of this name in the IANA database, such as `Europe/Berlin`.
pub fn zone(name: &str) -> Result<TimeZone, String> {
    TimeZone::get(name).map_err(|_| {
        format!("`{name}` is no time zone: write a name of the IANA database, such as Europe/Berlin or UTC")
    })
}

/// What was noticed about the times read so far, to be said once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::source) struct Noticed {
    /// Times without a zone were read.
    pub(in crate::source) without_zone: bool,
    /// A time was read that occurs twice, because the clocks were put back.
    pub(in crate::source) twice: Option<LocalTime>,
}

/// A reader of times in one form and one zone.
#[derive(Default)]
pub(in crate::source) struct TimeReader {
    format: Option<TimeFormat>,
    zone: Option<TimeZone>,
    pub(in crate::source) noticed: Noticed,
}

impl TimeReader {
    /// Creates a reader. An unknown zone is read as UTC; [`zone`] has already rejected it.
    pub(in crate::source) fn new(format: Option<&TimeFormat>, zone: Option<&str>) -> Self {
        Self {
            format: format.cloned(),
            zone: zone.and_then(|name| TimeZone::get(name).ok()),
            noticed: Noticed::default(),
        }
    }

    /// Reads a time; the error says why the text is none.
    #[inline]
    pub(in crate::source) fn read(&mut self, text: &[u8]) -> Result<EventTime, String> {
        let written = match &self.format {
            None => WrittenTime::parse(text).map_err(|error| no_time(text, &error)),
            Some(TimeFormat::AnyEpoch) => WrittenTime::parse_any(text).map_err(|error| no_time(text, &error)),
            Some(format) => written_as(format, text)
                .ok_or_else(|| format!("`{}` is not a time of the form {format}", shown(text))),
        };
        match written? {
            WrittenTime::Instant(time) => Ok(time),
            WrittenTime::Local(local) => self.instant(local),
        }
    }

    /// Returns the instant of a time without a zone. If the time occurs twice, returns the first instant: before the
    /// clocks were put back.
    #[inline]
    pub(in crate::source) fn instant(&mut self, local: LocalTime) -> Result<EventTime, String> {
        self.noticed.without_zone = true;
        match &self.zone {
            None => Ok(local.in_utc()),
            Some(zone) => in_zone(local, zone, &mut self.noticed),
        }
    }
}

/// Explains why a text is not a time, and names the option that reads it, if there is one.
#[cold]
fn no_time(text: &[u8], error: &TimeError) -> String {
    let options = std::str::from_utf8(text).map(patterns_of).unwrap_or_default();
    let text = shown(text);
    match options.as_slice() {
        _ if is_time_of_day(&text) => format!(
            "`{text}` is a time of the day without a date; name the date's column too, with --column-time DATE+TIME"
        ),
        [] => error.to_string(),
        [only] => format!("`{text}` is not one of the usual forms of a time; give --time-format '{only}'"),
        [one, other, ..] => format!(
            "`{text}` could begin with the day or with the month; give --time-format '{one}' or --time-format '{other}'"
        ),
    }
}

/// Returns whether a text is a time of the day, such as `10:00` or `10:00:05`.
pub(super) fn is_time_of_day(text: &str) -> bool {
    let mut parts = text.split(':');
    let is_number = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
    parts.next().is_some_and(is_number) && parts.next().is_some_and(is_number)
}

/// Returns the patterns that a date with its day or month first may have, such as `%d/%m/%Y %H:%M:%S`. Both are tried on
/// the text itself.
pub(in crate::source) fn patterns_of(text: &str) -> Vec<String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let Some(separator @ ('/' | '.' | '-')) = text[digits..].chars().next() else {
        return Vec::new();
    };
    let mut patterns = Vec::new();
    for (first, second) in [("%d", "%m"), ("%m", "%d"), ("%d", "%b")] {
        // A year of two digits would also be one of the first century.
        let digits = text.split([separator, ' ']).nth(2).map_or(0, str::len);
        for year in [if digits == 4 { "%Y" } else { "%y" }] {
            for time in [
                "",
                " %H:%M",
                " %H:%M:%S",
                " %H:%M:%S%.f",
                " %I:%M %p",
                " %I:%M:%S %p",
            ] {
                let pattern = format!("{first}{separator}{second}{separator}{year}{time}");
                if by_pattern(&pattern, text).is_some() {
                    patterns.push(pattern);
                    break;
                }
            }
        }
    }
    patterns
}

fn in_zone(local: LocalTime, zone: &TimeZone, noticed: &mut Noticed) -> Result<EventTime, String> {
    let shown = || local.in_utc().to_string().trim_end_matches('Z').to_owned();
    let name = || zone.iana_name().unwrap_or("the time zone").to_owned();
    let civil = jiff::Timestamp::from_millisecond(local.as_millis())
        .map(|time| TimeZone::UTC.to_datetime(time))
        .map_err(|_| format!("`{}` is out of range", shown()))?;
    let offset = match zone.to_ambiguous_timestamp(civil).offset() {
        AmbiguousOffset::Unambiguous { offset } => offset,
        AmbiguousOffset::Gap { .. } => {
            return Err(format!(
                "`{}` does not exist in {}: the clocks are put forward over it",
                shown(),
                name()
            ));
        }
        AmbiguousOffset::Fold { before, .. } => {
            noticed.twice.get_or_insert(local);
            before
        }
    };
    let millis = local.as_millis() - i64::from(offset.seconds()) * 1_000;
    Ok(EventTime::from_millis(millis))
}

fn written_as(format: &TimeFormat, text: &[u8]) -> Option<WrittenTime> {
    /// The days from the origin of each count to 1970-01-01, negated.
    const EXCEL: i64 = -25_569;
    const DATENUM: i64 = -719_529;
    const Y1904: i64 = -24_107;
    const Y1601: i64 = -134_774;
    const Y0001: i64 = -719_162;
    let text = std::str::from_utf8(text).ok()?;
    let local = |time: EventTime| LocalTime::of_utc(time);
    let days = |origin: i64| {
        Some(WrittenTime::Local(local(EventTime::days_after(
            origin,
            text.parse().ok()?,
        )?)))
    };
    let hundreds = |origin: i64| {
        let millis = text.parse::<i64>().ok()? / 10_000 + origin * 86_400_000;
        let time = EventTime::from_millis(millis);
        (time.as_millis() == millis).then_some(WrittenTime::Instant(time))
    };
    match format {
        TimeFormat::AnyEpoch => WrittenTime::parse_any(text.as_bytes()).ok(),
        TimeFormat::Epoch(unit) => unit.read(text.as_bytes()).map(WrittenTime::Instant),
        TimeFormat::Excel => days(EXCEL),
        TimeFormat::Datenum => days(DATENUM),
        TimeFormat::LabView => {
            let days = text.parse::<f64>().ok()? / 86_400.0;
            EventTime::days_after(Y1904, days).map(WrittenTime::Instant)
        }
        TimeFormat::FileTime => hundreds(Y1601),
        TimeFormat::Ticks => hundreds(Y0001),
        TimeFormat::Pattern(pattern) => by_pattern(pattern, text),
    }
}

fn by_pattern(pattern: &str, text: &str) -> Option<WrittenTime> {
    let parsed = strtime::parse(pattern, text).ok()?;
    let instant = match (parsed.iana_time_zone(), parsed.timestamp()) {
        (_, Some(timestamp)) => Some(timestamp),
        (Some(_), None) => Some(parsed.to_zoned_datetime().ok()?.timestamp()),
        (None, None) if parsed.offset().is_some() => Some(parsed.to_timestamp().ok()?),
        (None, None) => None,
    };
    if let Some(instant) = instant {
        return Some(WrittenTime::Instant(EventTime::from_millis(
            instant.as_millisecond(),
        )));
    }
    let time: DateTime = parsed.to_datetime().ok()?;
    let local = LocalTime::of(
        (time.year().into(), time.month().into(), time.day().into()),
        (time.hour().into(), time.minute().into(), time.second().into()),
        i64::from(time.subsec_nanosecond()) / 1_000_000,
    );
    local.map(WrittenTime::Local)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(format: Option<&str>, zone: Option<&str>, text: &str) -> Result<String, String> {
        let format = format.map(|format| format.parse().unwrap());
        let mut reader = TimeReader::new(format.as_ref(), zone);
        Ok(reader.read(text.as_bytes())?.to_string())
    }

    #[test]
    fn named_forms_give_the_time_that_their_programs_mean() {
        for (format, text) in [
            ("epoch-s", "1767571200"),
            ("epoch-ms", "1767571200000"),
            ("excel", "46027"),
            ("datenum", "739987.0"),
            ("labview", "3850416000"),
            ("filetime", "134120448000000000"),
            ("ticks", "639031680000000000"),
            ("%d/%m/%Y %H:%M:%S", "05/01/2026 00:00:00"),
            ("%Y%m%d", "20260105"),
            ("%d-%b-%y %I:%M %p", "05-Jan-26 12:00 AM"),
            ("%Y-%m-%d %H:%M:%S %z", "2026-01-05 01:00:00 +0100"),
            ("%Y-%m-%d %H:%M:%S %Q", "2026-01-05 01:00:00 Europe/Berlin"),
            ("%s", "1767571200"),
        ] {
            assert_eq!(
                read(Some(format), None, text).as_deref(),
                Ok("2026-01-05T00:00:00Z"),
                "{format}"
            );
            assert_eq!(format.parse::<TimeFormat>().unwrap().to_string(), format);
        }
        assert_eq!(
            read(Some("excel"), None, "46027.000231481").as_deref(),
            Ok("2026-01-05T00:00:20Z")
        );
        assert_eq!(
            read(Some("epoch-s"), None, "-1").as_deref(),
            Ok("1969-12-31T23:59:59Z")
        );
        assert_eq!(
            read(Some("%H:%M:%S%.f %d.%m.%Y"), None, "10:20:30.75 31.12.2026").as_deref(),
            Ok("2026-12-31T10:20:30.750Z")
        );
        for (format, text) in [("excel", "x"), ("%Y%m%d", "2026-01-05"), ("ticks", "1.5")] {
            assert!(read(Some(format), None, text).is_err(), "{format} {text}");
        }
        for format in ["", "iso", "%", "%Q %!", "%H:%M", "%c"] {
            assert!(format.parse::<TimeFormat>().is_err(), "{format}");
        }
    }

    #[test]
    fn a_form_that_is_not_usual_is_refused_with_the_option_that_reads_it() {
        for (text, wanted) in [
            (
                "05/01/2026 00:00:20",
                "'%d/%m/%Y %H:%M:%S' or --time-format '%m/%d/%Y %H:%M:%S'",
            ),
            ("25/01/2026 00:00", "give --time-format '%d/%m/%Y %H:%M'"),
            ("01/25/26 1:05 PM", "give --time-format '%m/%d/%y %I:%M %p'"),
            (
                "25.01.2026 00:00:00.250",
                "give --time-format '%d.%m.%Y %H:%M:%S%.f'",
            ),
            ("25-Jan-2026", "give --time-format '%d-%b-%Y'"),
            ("00:00:20", "--column-time DATE+TIME"),
            ("yesterday", "is not a timestamp"),
        ] {
            let error = read(None, None, text).unwrap_err();
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }

    #[test]
    fn a_zone_is_kept_through_both_changes_of_the_clock() {
        let berlin = |text| read(None, Some("Europe/Berlin"), text);
        assert_eq!(
            berlin("2026-01-05 01:00:00").as_deref(),
            Ok("2026-01-05T00:00:00Z")
        );
        assert_eq!(
            berlin("2026-07-05 02:00:00").as_deref(),
            Ok("2026-07-05T00:00:00Z")
        );
        assert_eq!(
            berlin("2026-03-29 01:59:59").as_deref(),
            Ok("2026-03-29T00:59:59Z")
        );
        assert!(
            berlin("2026-03-29 02:30:00")
                .unwrap_err()
                .contains("does not exist in Europe/Berlin")
        );
        assert_eq!(
            berlin("2026-03-29 03:00:00").as_deref(),
            Ok("2026-03-29T01:00:00Z")
        );
        // 02:30 occurs twice: the first is in summer time.
        assert_eq!(
            berlin("2026-10-25 02:30:00").as_deref(),
            Ok("2026-10-25T00:30:00Z")
        );
        assert_eq!(
            berlin("2026-10-25 03:00:00").as_deref(),
            Ok("2026-10-25T02:00:00Z")
        );
        // A time with a zone of its own does not change.
        assert_eq!(
            berlin("2026-01-05 01:00:00Z").as_deref(),
            Ok("2026-01-05T01:00:00Z")
        );
        let mut reader = TimeReader::new(None, Some("Europe/Berlin"));
        reader.read(b"2026-10-25 02:30:00").unwrap();
        assert!(reader.noticed.without_zone && reader.noticed.twice.is_some());
    }
}
