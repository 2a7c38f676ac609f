//! A fleet of workers, and the operations on it.

#[cfg(feature = "service")]
pub mod process;
#[cfg(feature = "service")]
pub mod serve;
#[cfg(feature = "service")]
pub mod vmss;

use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;
use windrow_common::{HasRemedy, Remedy};

/// A fleet of workers that can be resized.
///
/// The scaler calls [`Fleet::look`] and then [`Fleet::resize`] at every step, whether or not the wanted number changed:
/// a fleet converges by being asked again. Both return within the step; what takes minutes goes on between the calls.
#[async_trait]
pub trait Fleet: Send {
    /// Returns the fleet's present capacity. `consumers` is the number of consumers on the queue, or `None` if the
    /// broker cannot be asked. A fleet that cannot see its workers derives the ready ones from it.
    async fn look(&mut self, consumers: Option<u32>) -> Result<Capacity, FleetError>;

    /// Brings the fleet closer to `wanted` workers. Repeating a call changes nothing.
    ///
    /// Removes only workers that hold no message: it has others drain first, and removes them in a later call. Workers
    /// that are draining are not part of [`Capacity::requested`].
    async fn resize(&mut self, wanted: u32) -> Result<(), FleetError>;

    /// Continues from the size that an earlier scaler has decided, without changing anything.
    fn resume(&mut self, _wanted: u32) {}

    /// Looks after the workers of this process while the size must not change.
    async fn tend(&mut self) {}

    /// Releases or ends the workers that only this scaler can look after, because it stops or another one leads.
    async fn leave(&mut self) {}
}

/// The workers of a fleet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Capacity {
    /// Workers that are asked for: the booting and the ready ones.
    pub requested: u32,
    /// Workers that are asked for and do not score yet.
    pub booting: u32,
    /// Workers that score.
    pub ready: u32,
    /// Workers that take no further messages and end when they have finished those in hand.
    pub draining: u32,
}

/// An error of a fleet.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// The fleet cannot be reached, or answers with an error of its own.
    #[error("cannot {action}: {fleet}: {why}")]
    Away {
        /// What was tried, such as `resize`.
        action: &'static str,
        /// The fleet, such as the scale set's name.
        fleet: String,
        /// What happened.
        why: String,
    },
    /// The fleet asks to be left alone for a while.
    #[error("cannot {action}: {fleet}: it asks to wait for {after:?}")]
    Throttled {
        /// What was tried.
        action: &'static str,
        /// The fleet.
        fleet: String,
        /// How long to wait.
        after: Duration,
    },
    /// The fleet refuses; a person has to change something.
    #[error("cannot {action}: {fleet}: {why}")]
    Refused {
        /// What was tried.
        action: &'static str,
        /// The fleet.
        fleet: String,
        /// Why, and what to change.
        why: String,
    },
}

impl HasRemedy for FleetError {
    fn remedy(&self) -> Remedy {
        match self {
            Self::Away { .. } | Self::Throttled { .. } => Remedy::Wait,
            Self::Refused { .. } => Remedy::FixConfig,
        }
    }
}
