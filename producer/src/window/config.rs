//! How event time is cut into windows, and how long to wait for delayed readings.

use std::time::Duration;

use windrow_common::{Length, MAX_AGGREGATES, format_duration};

use super::passes::MAX_OPEN_WINDOWS;

/// Longest window or interval, in days.
const MAX_DAYS: u64 = 366;

/// A window configuration as a person sets it. [`WindowConfig::validate`] turns it into a [`Windowing`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowConfig {
    /// Length of a window.
    pub window: Duration,
    /// The dispatch interval, a whole number of windows; one window if absent.
    pub interval: Option<Duration>,
    /// How far a reading's time may lie behind the newest reading of its partition, or of its sensor.
    pub out_of_orderness: Duration,
    /// How much longer an interval stays open for delayed readings.
    pub allowed_lateness: Duration,
    /// How far a reading's time may lie ahead of its arrival.
    pub max_skew: Duration,
    /// How long a partition may be silent before the others stop waiting for it, and its partition may go on without a
    /// sensor before the sensor's windows stop waiting.
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

/// An error in a [`WindowConfig`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum WindowConfigError {
    /// A length is zero or too long.
    #[error("the {what} of {} is out of range: 1ms to {MAX_DAYS}d", format_duration(*.given))]
    Length {
        /// `window` or `interval`.
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
    /// A bound is too long.
    #[error("{what} of {} is out of range: at most {MAX_DAYS}d", format_duration(*.given))]
    Bound {
        /// Which bound.
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
    /// How many windows may be open beside those of the first open interval, before the latest are left to another pass.
    pub(crate) max_open: usize,
}

impl Windowing {
    /// Leaves windows to another pass over the source as soon as more than `windows` are open.
    #[cfg(feature = "testing")]
    pub fn with_max_open(self, windows: usize) -> Self {
        Self {
            max_open: windows,
            ..self
        }
    }

    /// Returns the dispatch interval.
    pub fn interval(&self) -> Length {
        self.interval
    }
}

impl WindowConfig {
    /// Checks that the lengths are in range and fit each other.
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
            max_open: MAX_OPEN_WINDOWS,
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
