//! What a history says of a sensor, until its own windows show whether that holds for them.
//!
//! A history may have been recorded in another way than what is scored now: a historian that keeps changes alone repeats no value,
//! and has fewer readings. So it counts only for a sensor that goes on soon after its history, with about as many readings.

use serde::{Deserialize, Serialize};
use windrow_common::EventTime;

use super::Window;
use super::silence::Silence;
use super::stuck::Stuck;

/// A history that ended longer ago says nothing, in ms.
const SAYS_SOMETHING_FOR: i64 = 14 * 86_400_000;

/// After so many windows it is known how many readings a sensor sends.
const LOOKS_AT: u32 = 4;

/// How many times more or fewer readings a window may have.
const TIMES: u32 = 2;

/// What is usual for a sensor by its history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Prior {
    /// End of the history.
    pub(super) until: EventTime,
    /// Usual number of readings of a window.
    pub(super) count: u32,
    pub(super) silence: Silence,
    pub(super) stuck: Stuck,
    /// Number of windows since.
    #[serde(default)]
    pub(super) windows: u32,
    /// Most readings of one of these.
    #[serde(default)]
    pub(super) most: u32,
}

impl Prior {
    /// Takes the next window since the history. Returns whether the history holds for the sensor, once that is known.
    pub(super) fn take(&mut self, window: &Window) -> Option<bool> {
        if self.windows == 0 {
            let since = window.start.as_millis().saturating_sub(self.until.as_millis());
            if !(0..=SAYS_SOMETHING_FOR).contains(&since) {
                return Some(false);
            }
        }
        self.windows += 1;
        self.most = self.most.max(window.count);
        let is_alike =
            self.most <= self.count.saturating_mul(TIMES) && self.count <= self.most.saturating_mul(TIMES);
        (self.windows >= LOOKS_AT).then_some(is_alike)
    }
}
