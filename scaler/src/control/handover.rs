//! The handover from one scaler to the next, in the lease's blob.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::policy::Learned;

/// The state that a leader hands over to the next one, and shows to followers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Handover {
    /// The last decision.
    #[serde(default)]
    pub decision: Option<Shown>,
    /// What the policy has learned.
    #[serde(default)]
    pub learned: Learned,
}

/// A decision as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shown {
    /// When it was made.
    pub at: Timestamp,
    /// How many workers there should be.
    pub workers: u32,
    /// Why.
    pub reason: String,
}
