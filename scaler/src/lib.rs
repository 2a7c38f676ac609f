//! Capacity follows the queue: decides how many workers a fleet needs, and brings it there.

#[cfg(feature = "service")]
pub mod agent;
#[cfg(feature = "service")]
pub mod control;
pub mod fleet;
pub mod policy;
pub mod simulate;
#[cfg(feature = "service")]
pub mod workers;
