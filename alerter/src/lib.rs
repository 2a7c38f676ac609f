//! Incidents: the few things that people are told of, from the many windows that are scored.

mod event;
mod fleet;
mod follow;
pub mod incident;
mod state;
mod table;
mod watch;

pub use event::{Event, Stage};
pub use watch::{Watch, WatchCounts, WatchOptions};
