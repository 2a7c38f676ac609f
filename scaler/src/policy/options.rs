//! What a person decides about a fleet.

use std::time::Duration;

use super::Schedule;

/// The bounds and the aim of a fleet.
#[derive(Clone, Debug)]
pub struct PolicyOptions {
    /// Fewest workers; 0 lets the fleet end between batches.
    pub min: u32,
    /// Most workers.
    pub max: u32,
    /// How long a message may take from its arrival to its predictions.
    pub drain_target: Duration,
    /// When batches are known to arrive.
    pub schedule: Option<Schedule>,
    /// The shortest time that is billed for a worker.
    pub minimum_billed: Duration,
    /// The rate of a worker until it has been measured, in messages per second.
    pub first_rate: f64,
    /// The time from asking for a worker to its first message, until it has been measured.
    pub first_boot: Duration,
}

impl Default for PolicyOptions {
    fn default() -> Self {
        Self {
            min: 0,
            max: 10,
            drain_target: Duration::from_secs(300),
            schedule: None,
            minimum_billed: Duration::ZERO,
            first_rate: 500.0,
            first_boot: Duration::from_secs(90),
        }
    }
}

/// Options that contradict each other.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum PolicyOptionsError {
    /// The bounds are the wrong way round.
    #[error("--min-workers {min} is more than --max-workers {max}")]
    Bounds {
        /// The minimum.
        min: u32,
        /// The maximum.
        max: u32,
    },
    /// No worker may ever run.
    #[error("--max-workers 0 lets no worker run")]
    NoWorkers,
    /// The target cannot be aimed at.
    #[error("--drain-target {0:?} is too short: the broker's figures are five seconds old")]
    DrainTarget(Duration),
    /// The rate is no rate.
    #[error("--first-rate {0} is not a positive number of messages per second")]
    FirstRate(f64),
}

/// The shortest drain target: twice the interval at which RabbitMQ updates its figures.
const SHORTEST_DRAIN_TARGET: Duration = Duration::from_secs(10);

impl PolicyOptions {
    /// Checks the options against each other.
    pub fn validate(&self) -> Result<(), PolicyOptionsError> {
        match self {
            Self { max: 0, .. } => Err(PolicyOptionsError::NoWorkers),
            Self { min, max, .. } if min > max => Err(PolicyOptionsError::Bounds { min: *min, max: *max }),
            Self { drain_target, .. } if *drain_target < SHORTEST_DRAIN_TARGET => {
                Err(PolicyOptionsError::DrainTarget(*drain_target))
            }
            Self { first_rate, .. } if !(first_rate.is_finite() && *first_rate > 0.0) => {
                Err(PolicyOptionsError::FirstRate(*first_rate))
            }
            _ => Ok(()),
        }
    }
}
