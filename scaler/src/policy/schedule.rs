//! When the next batch arrives.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use cronexpr::Crontab;
use jiff::Timestamp;
use windrow_common::parse_duration;

/// The times at which batches arrive.
#[derive(Clone, Debug)]
pub enum Schedule {
    /// Whole multiples of a time since 1970, such as every full hour.
    Every(Duration),
    /// A cron expression.
    Cron {
        /// As it was written.
        text: String,
        /// Parsed.
        crontab: Box<Crontab>,
    },
}

impl Schedule {
    /// Returns the first batch after `now`.
    pub fn next(&self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Every(every) => {
                let every = i64::try_from(every.as_millis()).ok()?.max(1);
                let next = now.as_millisecond().div_euclid(every).checked_add(1)?;
                Timestamp::from_millisecond(next.checked_mul(every)?).ok()
            }
            Self::Cron { crontab, .. } => {
                // Another version of jiff.
                let now = cronexpr::jiff::Timestamp::from_millisecond(now.as_millisecond()).ok()?;
                let next = crontab.find_next(now).ok()?.timestamp();
                Timestamp::from_millisecond(next.as_millisecond()).ok()
            }
        }
    }
}

impl FromStr for Schedule {
    type Err = String;

    /// Parses an interval such as `1h`, or a cron expression of five fields and, optionally, a time zone.
    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if !text.contains(char::is_whitespace) {
            let every = parse_duration(text).map_err(|error| {
                format!("{error}; write an interval such as 1h, or a cron expression such as \"5 * * * *\"")
            })?;
            return match every {
                every if every < Duration::from_secs(1) => {
                    Err("batches cannot be less than 1s apart".to_owned())
                }
                every => Ok(Self::Every(every)),
            };
        }
        let has_zone = text.split_whitespace().count() > 5;
        let with_zone = if has_zone {
            text.to_owned()
        } else {
            format!("{text} UTC")
        };
        let crontab = cronexpr::parse_crontab(&with_zone)
            .map_err(|error| format!("`{text}` is not a cron expression: {error}"))?;
        Ok(Self::Cron {
            text: text.to_owned(),
            crontab: Box::new(crontab),
        })
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Every(every) => write!(f, "every {}", windrow_common::format_duration(*every)),
            Self::Cron { text, .. } => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(schedule: &str, now: &str) -> String {
        let schedule: Schedule = schedule.parse().unwrap();
        schedule.next(now.parse().unwrap()).unwrap().to_string()
    }

    #[test]
    fn the_next_batch_is_after_now() {
        assert_eq!(next("1h", "2026-01-05T07:59:59Z"), "2026-01-05T08:00:00Z");
        assert_eq!(next("1h", "2026-01-05T08:00:00Z"), "2026-01-05T09:00:00Z");
        assert_eq!(next("5 * * * *", "2026-01-05T08:05:00Z"), "2026-01-05T09:05:00Z");
        // Berlin is an hour ahead in winter and two in summer.
        assert_eq!(
            next("0 6 * * * Europe/Berlin", "2026-01-05T08:00:00Z"),
            "2026-01-06T05:00:00Z"
        );
        assert_eq!(
            next("0 6 * * * Europe/Berlin", "2026-07-05T08:00:00Z"),
            "2026-07-06T04:00:00Z"
        );
    }

    #[test]
    fn what_is_no_schedule_is_refused_with_an_example() {
        for (text, said) in [
            ("", "such as 1h"),
            ("hourly", "such as 1h"),
            ("1ms", "less than 1s"),
            ("61 * * * *", "cron"),
        ] {
            let error = text.parse::<Schedule>().unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
