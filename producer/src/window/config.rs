//! How event time is cut up, and how long stragglers are waited for.

use std::time::Duration;

use windrow_common::{Length, MAX_AGGREGATES, format_duration};

/// Longest window or interval, in days.
const MAX_DAYS: u64 = 366;

/// As a person sets it; [`WindowConfig::validate`] makes the [`Windowing`] the code works with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowConfig {
    /// Length of a window.
    pub window: Duration,
    /// The dispatch interval, a whole number of windows; one window when absent.
    pub interval: Option<Duration>,
    /// How far a partition's event times may run backwards.
    pub out_of_orderness: Duration,
    /// How much longer an interval stays open for stragglers.
    pub allowed_lateness: Duration,
    /// How far a reading may be ahead of its arrival.
    pub max_skew: Duration,
    /// After how long without a reading a partition no longer holds the others back.
    pub idle_after: Duration,
}

impl Default for WindowConfig {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(60),
            interval: None,
            out_of_orderness: Duration::from_secs(5),
            allowed_lateness: Duration::ZERO,
            max_skew: Duration::from_secs(300),
            idle_after: Duration::from_secs(60),
        }
    }
}

/// Why a [`WindowConfig`] makes no sense.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum WindowConfigError {
    /// A length is zero or absurdly long.
    #[error("the {what} of {} is out of range: 1ms to {MAX_DAYS}d", format_duration(*.given))]
    Length {
        /// Window or interval.
        what: &'static str,
        /// As given.
        given: Duration,
    },
    /// The interval is not a whole number of windows.
    #[error(
        "the interval of {} is not a whole number of windows of {}", format_duration(*.interval), format_duration(*.window)
    )]
    NotWhole {
        /// The interval.
        interval: Duration,
        /// The window.
        window: Duration,
    },
    /// Too many windows would go into one message.
    #[error("{windows} windows in an interval are too many for one message; at most {MAX_AGGREGATES}")]
    TooMany {
        /// Windows in an interval.
        windows: u128,
    },
    /// A bound is absurdly long.
    #[error("{what} of {} is out of range: at most {MAX_DAYS}d", format_duration(*.given))]
    Bound {
        /// Which.
        what: &'static str,
        /// As given.
        given: Duration,
    },
}

/// A checked [`WindowConfig`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windowing {
    pub(crate) window: Length,
    pub(crate) interval: Length,
    pub(crate) out_of_orderness: Duration,
    pub(crate) allowed_lateness: Duration,
    pub(crate) max_skew: Duration,
    pub(crate) idle_after: Duration,
}

impl WindowConfig {
    /// Checks that the lengths make sense and fit each other.
    pub fn validate(self) -> Result<Windowing, WindowConfigError> {
        let longest = Duration::from_secs(MAX_DAYS * 86_400);
        let interval = self.interval.unwrap_or(self.window);
        for (what, given) in [("window", self.window), ("interval", interval)] {
            if given < Duration::from_millis(1) || given > longest {
                return Err(WindowConfigError::Length { what, given });
            }
        }
        let windows = interval.as_millis() / self.window.as_millis();
        if !interval.as_millis().is_multiple_of(self.window.as_millis()) {
            return Err(WindowConfigError::NotWhole {
                interval,
                window: self.window,
            });
        }
        if windows > MAX_AGGREGATES as u128 {
            return Err(WindowConfigError::TooMany { windows });
        }
        for (what, given) in [
            ("an out-of-orderness", self.out_of_orderness),
            ("an allowed lateness", self.allowed_lateness),
            ("a skew", self.max_skew),
        ] {
            if given > longest {
                return Err(WindowConfigError::Bound { what, given });
            }
        }
        Ok(Windowing {
            window: Length::from_duration(self.window),
            interval: Length::from_duration(interval),
            out_of_orderness: self.out_of_orderness,
            allowed_lateness: self.allowed_lateness,
            max_skew: self.max_skew,
            idle_after: self.idle_after,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_that_do_not_fit_are_refused() {
        let with = |window, interval| WindowConfig {
            window: Duration::from_millis(window),
            interval: Some(Duration::from_millis(interval)),
            ..WindowConfig::default()
        };
        assert!(with(60_000, 3_600_000).validate().is_ok());
        assert!(matches!(
            with(0, 1).validate(),
            Err(WindowConfigError::Length { what: "window", .. })
        ));
        assert!(matches!(
            with(60_000, 90_000).validate(),
            Err(WindowConfigError::NotWhole { .. })
        ));
        assert!(matches!(
            with(60_000, 30_000).validate(),
            Err(WindowConfigError::NotWhole { .. })
        ));
        assert!(matches!(
            with(1, 86_400_001).validate(),
            Err(WindowConfigError::TooMany { .. })
        ));
        let day = Duration::from_secs(86_400);
        let absurd = WindowConfig {
            window: day * 400,
            ..WindowConfig::default()
        };
        assert!(matches!(absurd.validate(), Err(WindowConfigError::Length { .. })));
    }
}
