//! The rules by which windows become incidents.

use std::time::Duration;

use crate::votes::MOST_VOTERS;

/// Rules by which windows become incidents.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules {
    /// A window with a score above this is anomalous, if its sensor has no threshold of its own.
    pub threshold: f64,
    /// How many of the last [`Rules::of`] windows have to be anomalous for an incident to open.
    pub open_after: u32,
    /// See [`Rules::open_after`].
    pub of: u32,
    /// How many windows in a row have to be normal for an incident to close.
    pub quiet: u32,
    /// An incident with a score above this is critical; of a sensor with a threshold of its own, it is as far above that.
    pub critical: f64,
    /// Shortest time without windows that counts as silence; zero turns silence off.
    pub silent_after: Duration,
    /// Least number of windows with one value after which a sensor counts as stuck; a sixth of it if the sensor repeated nothing
    /// lately; 0 turns it off.
    pub stuck_after: u32,
    /// Least number of slow windows after which a sensor counts as one that lost its rate; 0 turns it off.
    pub rate_after: u32,
}

/// Rules that make no sense.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum RulesError {
    /// A score is not a finite number.
    #[error("the {what} is {score}: it must be a finite number")]
    Score {
        /// `threshold` or `critical score`.
        what: &'static str,
        /// The score.
        score: f64,
    },
    /// The scores are in the wrong order.
    #[error("the critical score {critical} is below the threshold {threshold}")]
    Order {
        /// The threshold.
        threshold: f64,
        /// The critical score.
        critical: f64,
    },
    /// The vote cannot be won, or is too large.
    #[error(
        "{open_after} of {of} windows cannot open an incident: give N/M with N from 1 to M, and M at most {MOST_VOTERS}"
    )]
    Votes {
        /// Windows needed.
        open_after: u32,
        /// Windows looked at.
        of: u32,
    },
    /// An incident would close before it has opened.
    #[error("an incident has to be quiet for at least 1 window before it closes")]
    Quiet,
}

impl Default for Rules {
    /// Returns the rules for windows of about a minute.
    fn default() -> Self {
        Self {
            threshold: 0.6,
            open_after: 1,
            of: 1,
            quiet: 60,
            critical: 3.0,
            silent_after: Duration::from_secs(30 * 60),
            stuck_after: 60,
            rate_after: 15,
        }
    }
}

impl Rules {
    /// Returns the score above which a window is anomalous, whose sensor has `own` threshold.
    pub fn threshold_of(&self, own: Option<f64>) -> f64 {
        own.unwrap_or(self.threshold)
    }

    /// Returns the score above which such a window is critical: as far above the sensor's threshold as for any sensor, so that
    /// a high threshold does not make every incident critical.
    pub(super) fn critical_of(&self, own: Option<f64>) -> f64 {
        self.critical + (self.threshold_of(own) - self.threshold)
    }

    /// Returns the same rules for anomalies alone: no sensor is silent, stuck or slow, and nothing is critical.
    pub fn for_anomalies_alone(self) -> Self {
        Self {
            critical: f64::MAX,
            silent_after: Duration::ZERO,
            stuck_after: 0,
            rate_after: 0,
            ..self
        }
    }

    /// Returns the rules for several tags together, which have no value of their own: their scores alone count. If they are
    /// silent, so are the tags, which say so.
    pub fn for_group(self) -> Self {
        Self {
            silent_after: Duration::ZERO,
            stuck_after: 0,
            rate_after: 0,
            ..self
        }
    }

    /// Checks that the rules make sense.
    pub fn check(&self) -> Result<(), RulesError> {
        for (what, score) in [("threshold", self.threshold), ("critical score", self.critical)] {
            if !score.is_finite() {
                return Err(RulesError::Score { what, score });
            }
        }
        if self.critical < self.threshold {
            return Err(RulesError::Order {
                threshold: self.threshold,
                critical: self.critical,
            });
        }
        if self.open_after == 0 || self.open_after > self.of || self.of > MOST_VOTERS {
            return Err(RulesError::Votes {
                open_after: self.open_after,
                of: self.of,
            });
        }
        if self.quiet == 0 {
            return Err(RulesError::Quiet);
        }
        Ok(())
    }
}
