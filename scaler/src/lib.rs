//! Capacity follows the queue: decides how many workers a fleet needs, and brings it there.

pub mod fleet;
pub mod policy;
pub mod simulate;
