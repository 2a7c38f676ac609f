//! Event time, intervals of it, and how people write times and durations.

use std::fmt;
use std::time::Duration;

mod text;

use serde::{Deserialize, Serialize};

use crate::Length;

pub use text::{EpochUnit, LocalTime, WrittenTime};

/// When something was measured: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EventTime(i64);

/// Why a text is not a time or a duration.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TimeError {
    /// Not one of the accepted timestamp forms, or not a date of the calendar.
    #[error(
        "`{0}` is not a timestamp: write RFC 3339, `YYYY-MM-DD hh:mm:ss[.fff]`, or epoch seconds or milliseconds, for \
         years 1 to 9999"
    )]
    Timestamp(String),
    /// A number that would be a time before 1980 or after 2069.
    #[error("`{text}` is no plausible time since 1970, in any unit: {hint}")]
    Implausible {
        /// The number.
        text: String,
        /// What it may be instead, and the option that reads it.
        hint: &'static str,
    },
    /// Not a duration.
    #[error("`{0}` is not a duration: write a number and a unit, such as 500ms, 5s, 1m, 1h or 1d")]
    Duration(String),
}

const MS_PER_DAY: i64 = 86_400_000;

impl EventTime {
    /// Earliest readable time, 0001-01-01T00:00:00Z.
    pub const MIN: Self = Self(-62_135_596_800_000);
    /// Latest readable time, 9999-12-31T23:59:59.999Z.
    pub const MAX: Self = Self(253_402_300_799_999);

    /// Returns the time `millis` ms after the epoch, clamped to [`EventTime::MIN`] and [`EventTime::MAX`].
    pub const fn from_millis(millis: i64) -> Self {
        if millis < Self::MIN.0 {
            Self::MIN
        } else if millis > Self::MAX.0 {
            Self::MAX
        } else {
            Self(millis)
        }
    }

    /// Returns the time `millis` ms after the epoch, also past [`EventTime::MAX`]: the last interval ends there.
    pub(crate) const fn unbounded(millis: i64) -> Self {
        Self(millis)
    }

    /// Returns the milliseconds since the epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Returns the wall-clock time.
    pub fn now() -> Self {
        let since = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        Self::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    /// Returns the start of the epoch-aligned interval of this length that contains this time.
    pub const fn floor(self, length: Length) -> Self {
        Self(self.0 - self.0.rem_euclid(length.as_millis()))
    }

    /// Returns this time plus `duration`, at most [`EventTime::MAX`].
    pub fn saturating_add(self, duration: Duration) -> Self {
        Self::from_millis(self.0.saturating_add(millis(duration)))
    }

    /// Returns this time minus `duration`, at least [`EventTime::MIN`].
    pub fn saturating_sub(self, duration: Duration) -> Self {
        Self::from_millis(self.0.saturating_sub(millis(duration)))
    }

    /// Returns the Hive-style partition of the store that this time falls into, in UTC: `date=YYYY-MM-DD/hour=HH`.
    pub fn hive_partition(self) -> String {
        let text = self.to_string();
        format!("date={}/hour={}", &text[..10], &text[11..13])
    }

    /// Returns the time `days` days, with a fraction, after the day `origin`, which counts from 1970-01-01; `None` if it is
    /// not readable.
    pub fn days_after(origin: i64, days: f64) -> Option<Self> {
        text::days_after(origin, days)
    }

    /// Parses a timestamp that Windrow or a person wrote, in any accepted form; see [`TimeError::Timestamp`]. One without
    /// a zone is taken as UTC, and a number may be any time since 1970.
    pub fn parse(text: &[u8]) -> Result<Self, TimeError> {
        Ok(match WrittenTime::parse_any(text)? {
            WrittenTime::Instant(time) => time,
            WrittenTime::Local(time) => time.in_utc(),
        })
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl fmt::Display for EventTime {
    /// Writes RFC 3339 in UTC, with milliseconds unless they are zero.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, ms) = (self.0.div_euclid(MS_PER_DAY), self.0.rem_euclid(MS_PER_DAY));
        let (year, month, day) = civil_from_days(days);
        let (hour, minute, second, milli) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60, ms % 1_000);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"
        )?;
        if milli != 0 {
            write!(f, ".{milli:03}")?;
        }
        f.write_str("Z")
    }
}

impl std::str::FromStr for EventTime {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<Self, TimeError> {
        Self::parse(text.as_bytes())
    }
}

/// Returns the days from the epoch to a proleptic Gregorian date.
///
/// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
const fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Returns the date of a day since the epoch: the inverse of [`days_from_civil`], from the same source.
const fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (
        year_of_era + era * 400 + if month <= 2 { 1 } else { 0 },
        month,
        day,
    )
}

const fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(text: &str) -> i64 {
        EventTime::parse(text.as_bytes()).unwrap().as_millis()
    }

    #[test]
    fn every_accepted_form_gives_the_same_instant() {
        let expected = 1_535_497_205_250;
        for text in [
            "2018-08-28T23:00:05.250Z",
            "2018-08-28 23:00:05.25",
            "2018-08-28T23:00:05.250999+00:00",
            "2018-08-29T01:00:05.250+02:00",
            "2018-08-28T17:30:05.250-0530",
            "1535497205.25",
            "1535497205250",
            "1535497205250000",
            "1535497205250000000",
        ] {
            assert_eq!(parsed(text), expected, "{text}");
        }
        assert_eq!(parsed("2018-08-28 23:00"), 1_535_497_200_000);
    }

    #[test]
    fn what_is_no_timestamp_is_refused() {
        for text in [
            "",
            "yesterday",
            "2018-02-29 00:00:00",
            "2018-13-01 00:00:00",
            "12:00",
            "2018-08-28 23:00:05.",
            "2018-08-28 24:00:00",
            "2018-08-28T23:00:05Zjunk",
            "--5",
            "9999999999999999999",
        ] {
            assert!(EventTime::parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_time_reads_back_from_its_own_text(millis in EventTime::MIN.0..=EventTime::MAX.0) {
            let time = EventTime::from_millis(millis);
            prop_assert_eq!(EventTime::parse(time.to_string().as_bytes()), Ok(time));
        }

        #[test]
        fn bytes_never_panic_the_timestamp_reader(text in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = EventTime::parse(&text);
        }
    }

    #[test]
    fn windows_are_aligned_to_the_epoch_before_it_too() {
        assert_eq!(
            EventTime::from_millis(-1)
                .floor(Length::from_millis(60_000))
                .as_millis(),
            -60_000
        );
        assert_eq!(
            EventTime::from_millis(60_000)
                .floor(Length::from_millis(60_000))
                .as_millis(),
            60_000
        );
    }
}
