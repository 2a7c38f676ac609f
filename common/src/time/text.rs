//! How people write times: calendar forms with or without a zone, and numbers since an epoch.

use super::{EventTime, MS_PER_DAY, TimeError, days_from_civil, days_in_month};

/// A time of the calendar without a zone, so that no instant is known yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LocalTime(i64);

/// A time as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WrittenTime {
    /// The text names an instant: it has a zone, or counts from an epoch.
    Instant(EventTime),
    /// The text has no zone.
    Local(LocalTime),
}

/// What a number since the epoch counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EpochUnit {
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Millis,
    /// Microseconds.
    Micros,
    /// Nanoseconds.
    Nanos,
}

impl LocalTime {
    /// Returns the time of these fields, or `None` if the calendar has no such time. A second of 60 is the next minute's
    /// first, as in POSIX time.
    pub fn of(date: (i64, i64, i64), time: (i64, i64, i64), milli: i64) -> Option<Self> {
        let ((year, month, day), (hour, minute, second)) = (date, time);
        let is_valid = (1..=12).contains(&month)
            && (1..=days_in_month(year, month)).contains(&day)
            && (0..=23).contains(&hour)
            && (0..=59).contains(&minute)
            && (0..=60).contains(&second)
            && (0..=999).contains(&milli);
        let seconds = || days_from_civil(year, month, day) * 86_400 + (hour * 60 + minute) * 60 + second;
        is_valid.then(|| Self(seconds() * 1_000 + milli))
    }

    /// Returns the instant at which it is this time in UTC.
    pub const fn in_utc(self) -> EventTime {
        EventTime::from_millis(self.0)
    }

    /// Returns what a clock in UTC shows at an instant.
    pub const fn of_utc(time: EventTime) -> Self {
        Self(time.as_millis())
    }

    /// Returns the milliseconds from 1970-01-01 00:00, both in the same zone.
    pub const fn as_millis(self) -> i64 {
        self.0
    }
}

impl EpochUnit {
    /// Returns how many of the unit make a second.
    const fn per_second(self) -> f64 {
        match self {
            Self::Seconds => 1.0,
            Self::Millis => 1e3,
            Self::Micros => 1e6,
            Self::Nanos => 1e9,
        }
    }

    /// Returns the range, in seconds, in which a number of this unit counts as a time: from 1980 to before 2070. The
    /// range excludes the day counts of spreadsheets, dates written as one number, and seconds since 1904. Nanoseconds
    /// start at 2000; otherwise, ticks of 100 ns since the year 1 would pass for times in 1990.
    const fn plausible(self) -> std::ops::Range<i64> {
        const Y1980: i64 = 315_532_800;
        const Y2000: i64 = 946_684_800;
        const Y2070: i64 = 3_155_760_000;
        match self {
            Self::Nanos => Y2000..Y2070,
            _ => Y1980..Y2070,
        }
    }

    /// Returns the time that the decimal number `text` stands for; digits past the millisecond are dropped.
    pub fn read(self, text: &[u8]) -> Option<EventTime> {
        let number = Decimal::of(text)?;
        // A whole number of any length is exact; an exponent or a fraction needs no more than a double has.
        let millis = match (number.whole, self) {
            (Some(whole), Self::Seconds) => i128::from(whole) * 1_000 + i128::from(number.milli),
            (Some(whole), Self::Millis) => i128::from(whole),
            (Some(whole), Self::Micros) => i128::from(whole / 1_000),
            (Some(whole), Self::Nanos) => i128::from(whole / 1_000_000),
            (None, unit) => (number.value / unit.per_second() * 1_000.0).round() as i128,
        };
        in_range(i64::try_from(millis).ok()?)
    }
}

impl WrittenTime {
    /// Reads a time in a form that can mean only one thing: `YYYY-MM-DD[{T| }hh:mm[:ss[.f…]]]` with `Z`, ` UTC`, `±hh`,
    /// `±hhmm`, `±hh:mm` or no zone, or a number since 1970 whose unit (s, ms, µs or ns) its size tells.
    #[inline]
    pub fn parse(text: &[u8]) -> Result<Self, TimeError> {
        if let Some(written) = calendar(text) {
            return Ok(written);
        }
        number(text, true)
    }

    /// Reads a time in the same forms, where a number may also be a time before 1980 or after 2069.
    pub fn parse_any(text: &[u8]) -> Result<Self, TimeError> {
        calendar(text).map_or_else(|| number(text, false), Ok)
    }
}

fn shown(text: &[u8]) -> String {
    String::from_utf8_lossy(&text[..text.len().min(64)]).into_owned()
}

fn calendar(text: &[u8]) -> Option<WrittenTime> {
    let number = |from: usize, to: usize| -> Option<i64> {
        let mut value = 0;
        for digit in text.get(from..to)? {
            let digit = digit.wrapping_sub(b'0');
            if digit > 9 {
                return None;
            }
            value = value * 10 + i64::from(digit);
        }
        Some(value)
    };
    let is = |at: usize, byte: u8| text.get(at) == Some(&byte);
    let is_date = (is(4, b'-') && is(7, b'-')) || (is(4, b'/') && is(7, b'/'));
    if !is_date {
        return None;
    }
    let date = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    if text.len() == 10 {
        return Some(WrittenTime::Local(checked(date, (0, 0, 0), 0)?));
    }
    if !(is(13, b':') && (is(10, b'T') || is(10, b' ') || is(10, b't'))) {
        return None;
    }
    let (hour, minute) = (number(11, 13)?, number(14, 16)?);
    let (mut at, mut second, mut milli) = (16, 0, 0);
    if is(16, b':') {
        second = number(17, 19)?;
        at = 19;
        if is(19, b'.') || is(19, b',') {
            let digits = text[20..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            if digits == 0 {
                return None;
            }
            at = 20 + digits;
            let kept = digits.min(3);
            milli = number(20, 20 + kept)? * [100, 10, 1][kept - 1];
        }
    }
    let local = checked(date, (hour, minute, second), milli)?;
    // This runs for every row, so the most common endings are tried first.
    let offset_minutes = match &text[at..] {
        [b'Z'] => 0,
        [] => return Some(WrittenTime::Local(local)),
        other => zone(other)?,
    };
    in_range(local.as_millis() - offset_minutes * 60_000).map(WrittenTime::Instant)
}

fn checked(date: (i64, i64, i64), time: (i64, i64, i64), milli: i64) -> Option<LocalTime> {
    // The year 0 can be written, but times start at the year 1.
    LocalTime::of(date, time, milli).filter(|_| date.0 >= 1)
}

/// Returns the minutes east of UTC that the end of a timestamp says.
fn zone(text: &[u8]) -> Option<i64> {
    let two = |digits: &[u8]| -> Option<i64> {
        let [tens @ b'0'..=b'9', ones @ b'0'..=b'9'] = digits else {
            return None;
        };
        Some(i64::from(tens - b'0') * 10 + i64::from(ones - b'0'))
    };
    let text = text.strip_prefix(b" ").unwrap_or(text);
    let (sign, hours, minutes) = match text {
        b"Z" | b"z" | b"UTC" | b"GMT" => return Some(0),
        [sign, hours @ ..] if hours.len() == 2 => (sign, hours, &b"00"[..]),
        [sign, rest @ ..] if rest.len() == 4 => (sign, &rest[..2], &rest[2..]),
        [sign, rest @ ..] if rest.len() == 5 && rest[2] == b':' => (sign, &rest[..2], &rest[3..]),
        _ => return None,
    };
    let (hours, minutes) = (two(hours)?, two(minutes)?);
    if hours > 23 || minutes > 59 {
        return None;
    }
    match sign {
        b'+' => Some(hours * 60 + minutes),
        b'-' => Some(-(hours * 60 + minutes)),
        _ => None,
    }
}

/// A decimal number.
struct Decimal {
    /// The number without its fraction, unless it has an exponent.
    whole: Option<i64>,
    /// The first three digits of the fraction, with the sign of the number.
    milli: i64,
    value: f64,
}

impl Decimal {
    fn of(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let digits = text.strip_prefix('-').unwrap_or(text);
        if !digits.starts_with(|first: char| first.is_ascii_digit()) {
            return None;
        }
        let value: f64 = text.parse().ok()?;
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let sign = if digits.len() < text.len() { -1 } else { 1 };
        let exact = all_digits(whole) && all_digits(fraction);
        let milli = fraction.bytes().chain(*b"000").take(3);
        let milli = milli.fold(0, |value, digit| value * 10 + i64::from(digit.wrapping_sub(b'0')));
        let whole = match exact {
            // Too large for any unit.
            true => Some(sign * whole.parse::<i64>().ok()?),
            false => None,
        };
        let milli = if exact { sign * milli } else { 0 };
        Some(Self { whole, milli, value })
    }
}

/// Reads a plain whole number as a plausible time since 1970. This is a fast path for the most common form.
#[inline]
fn whole_number(text: &[u8]) -> Option<EventTime> {
    if text.is_empty() || text.len() > 19 {
        return None;
    }
    let mut number = 0_u64;
    for digit in text {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        // Nineteen digits are below 2^64.
        number = number * 10 + u64::from(digit);
    }
    let (unit, millis) = match number {
        0..100_000_000_000 => (EpochUnit::Seconds, number * 1_000),
        100_000_000_000..100_000_000_000_000 => (EpochUnit::Millis, number),
        100_000_000_000_000..100_000_000_000_000_000 => (EpochUnit::Micros, number / 1_000),
        _ => (EpochUnit::Nanos, number / 1_000_000),
    };
    let millis = i64::try_from(millis).ok()?;
    let is_plausible = unit.plausible().contains(&(millis / 1_000));
    is_plausible.then(|| EventTime::from_millis(millis))
}

/// Reads a number since 1970, whose size tells its unit.
fn number(text: &[u8], plausible: bool) -> Result<WrittenTime, TimeError> {
    if let Some(time) = whole_number(text) {
        return Ok(WrittenTime::Instant(time));
    }
    let number = Decimal::of(text).ok_or_else(|| TimeError::Timestamp(shown(text)))?;
    let unit = match number.value.abs() {
        ..1e11 => EpochUnit::Seconds,
        ..1e14 => EpochUnit::Millis,
        ..1e17 => EpochUnit::Micros,
        _ => EpochUnit::Nanos,
    };
    let seconds = number.value / unit.per_second();
    let range = unit.plausible();
    let time = unit.read(text).filter(|_| {
        let seconds = seconds.floor();
        !plausible || (seconds >= range.start as f64 && seconds < range.end as f64)
    });
    match time {
        Some(time) => Ok(WrittenTime::Instant(time)),
        None => Err(TimeError::Implausible {
            text: shown(text),
            hint: hint(text, number.value),
        }),
    }
}

/// Returns a hint about what a number may be if it is not a plausible time since 1970.
fn hint(text: &[u8], value: f64) -> &'static str {
    let is_date = |text: &[u8]| {
        let part = |from: usize, to: usize| std::str::from_utf8(&text[from..to]).ok()?.parse().ok();
        let date = || Some((part(0, 4)?, part(4, 6)?, part(6, 8)?));
        text.len() >= 8
            && date().is_some_and(|date| date.0 >= 1900 && LocalTime::of(date, (0, 0, 0), 0).is_some())
    };
    match (text.len(), value) {
        (8, _) if is_date(text) => "for a date such as 20260131 give --time-format %Y%m%d",
        (12, _) if is_date(text) => "for a date such as 202601312359 give --time-format %Y%m%d%H%M",
        (14, _) if is_date(text) => "for a date such as 20260131235959 give --time-format %Y%m%d%H%M%S",
        (_, 20_000.0..80_000.0) => {
            "for the days of a spreadsheet (since 1899-12-30) give --time-format excel"
        }
        (_, 690_000.0..800_000.0) => "for Matlab's datenum give --time-format datenum",
        (_, 3_155_760_000.0..5e9) => "for seconds since 1904 (LabVIEW) give --time-format labview",
        (_, 1e17..2.6e17) => "for Windows file times (100 ns since 1601) give --time-format filetime",
        (_, 6e17..9.46e17) => "for ticks of .NET (100 ns since the year 1) give --time-format ticks",
        _ => "if it counts from 1970 after all, or from the start of a recording, give --time-format epoch",
    }
}

fn in_range(millis: i64) -> Option<EventTime> {
    let time = EventTime::from_millis(millis);
    (time.as_millis() == millis).then_some(time)
}

/// Returns the time that is `days` days, with a fraction, after the day `origin` (counted from 1970-01-01).
pub(super) fn days_after(origin: i64, days: f64) -> Option<EventTime> {
    let millis = days * MS_PER_DAY as f64;
    // A double holds any millisecond of the accepted years.
    let is_known = millis.is_finite() && millis.abs() < 1e15;
    is_known.then(|| in_range(origin * MS_PER_DAY + millis.round() as i64))?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refusal(text: &str) -> String {
        WrittenTime::parse(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn a_number_that_is_no_plausible_time_is_refused_with_the_option_that_reads_it() {
        for (text, option) in [
            ("46027.000231481", "--time-format excel"),
            ("739987.0", "--time-format datenum"),
            ("20260101", "--time-format %Y%m%d,"),
            ("20260101235959", "--time-format %Y%m%d%H%M%S"),
            ("202601012359", "--time-format %Y%m%d%H%M"),
            ("3850416000", "--time-format labview"),
            ("134120448000000000", "--time-format filetime"),
            ("639031680000000000", "--time-format ticks"),
            ("0", "--time-format epoch"),
            ("86400", "--time-format epoch"),
            ("-1", "--time-format epoch"),
        ] {
            let option = option.trim_end_matches(',');
            assert!(refusal(text).contains(option), "{text}: {}", refusal(text));
        }
    }

    #[test]
    fn a_zone_makes_an_instant_and_no_zone_a_local_time() {
        let at = |text: &str| WrittenTime::parse(text.as_bytes()).unwrap();
        let instant = |text: &str| match at(text) {
            WrittenTime::Instant(time) => time.to_string(),
            WrittenTime::Local(_) => "local".to_owned(),
        };
        for text in [
            "2026-01-05 01:00:00+01",
            "2026-01-05 00:00:00+00",
            "2026-01-05 00:00:00 UTC",
            "2026-01-05 00:00:00 +0000",
            "2026-01-05T00:00:00.123456789123Z",
            "1.7675712E9",
            "1.7675712e+12",
        ] {
            assert_eq!(&instant(text)[..19], "2026-01-05T00:00:00", "{text}");
        }
        for text in ["2026-01-05", "2026/01/05 00:00", "2026-01-05T00:00:00"] {
            assert_eq!(
                at(text),
                WrittenTime::Local(LocalTime(1_767_571_200_000)),
                "{text}"
            );
        }
        for text in [
            "2026-01-05 00:00:00 CET",
            "2026-01-05 00:00:00+1",
            "2026-01-05 +00",
            "1e400",
            "1e9x",
        ] {
            assert!(WrittenTime::parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_number_in_any_unit_is_the_same_time(millis in 946_684_800_000_i64..3_155_760_000_000) {
            let read = |text: String| WrittenTime::parse(text.as_bytes()).unwrap();
            let expected = WrittenTime::Instant(EventTime::from_millis(millis));
            prop_assert_eq!(read(format!("{millis}")), expected);
            prop_assert_eq!(read(format!("{millis}999")), expected);
            prop_assert_eq!(read(format!("{millis}999999")), expected);
            prop_assert_eq!(read(format!("{}.{:03}7", millis / 1_000, millis % 1_000)), expected);
        }
    }
}
