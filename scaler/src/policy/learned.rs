//! What the policy has measured, kept from one start to the next.

use serde::{Deserialize, Serialize};

use super::rates::Rates;

/// How many idle times are remembered.
const GAPS: usize = 8;
/// How many have to be remembered before they say something.
const FEWEST_GAPS: usize = 3;

/// What the policy has measured. It is saved, so that a scaler that has just started knows it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Learned {
    /// Messages per second and busy worker.
    #[serde(default)]
    pub(super) rates: Rates,
    /// Seconds from asking for a worker until it scores.
    #[serde(default)]
    pub(super) boot_seconds: Option<f64>,
    /// Messages of a scheduled batch.
    #[serde(default)]
    pub(super) batch_messages: Option<f64>,
    /// The last times without any message, in seconds.
    #[serde(default)]
    pub(super) gaps: Vec<f64>,
}

impl Learned {
    /// Returns the messages that a busy worker scores in a second, in a fleet of this size.
    pub fn rate(&self, workers: u32) -> Option<f64> {
        self.rates.of(workers)
    }

    /// Returns the seconds from asking for a worker until it scores.
    pub fn boot_seconds(&self) -> Option<f64> {
        self.boot_seconds
    }

    pub(super) fn booted_in(&mut self, seconds: f64) {
        let known = self.boot_seconds.unwrap_or(seconds);
        self.boot_seconds = Some(known + 0.3 * (seconds - known));
    }

    pub(super) fn batch_had(&mut self, messages: f64) {
        let known = self.batch_messages.unwrap_or(messages);
        // The larger of two batches is the safe guess; a smaller one lowers it slowly.
        self.batch_messages = Some(messages.max(known + 0.3 * (messages - known)));
    }

    pub(super) fn gap_was(&mut self, seconds: f64) {
        self.gaps.push(seconds);
        let surplus = self.gaps.len().saturating_sub(GAPS);
        self.gaps.drain(..surplus);
    }

    /// Returns whether most of the last idle times were longer than `seconds`.
    pub(super) fn gaps_are_longer_than(&self, seconds: f64) -> bool {
        let longer = self.gaps.iter().filter(|gap| **gap > seconds).count();
        self.gaps.len() >= FEWEST_GAPS && 2 * longer > self.gaps.len()
    }

    /// Returns whether all numbers are ones that the policy could have measured. A damaged file must not misguide it.
    pub fn is_plausible(&self) -> bool {
        let mut numbers = self
            .gaps
            .iter()
            .copied()
            .chain(self.boot_seconds)
            .chain(self.batch_messages);
        numbers.all(|number| number.is_finite() && number >= 0.0) && self.rates.is_plausible()
    }
}
