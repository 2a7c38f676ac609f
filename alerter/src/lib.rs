//! Turns many scored windows into few incidents, and reports these to people.

mod alerter;
pub mod args;
pub mod deliver;
mod event;
mod fleet;
mod habits;
pub mod mutes;
mod outbox;
mod ranges;
mod row;
mod state;
mod stats;
mod table;
mod watch;

pub use alerter::{Alerter, AlerterError, Outages};
pub use event::{Event, Stage};
pub use habits::Habits;
pub use ranges::{Ranges, RangesError};
pub use stats::Stats;
pub use watch::{Watch, WatchCounts, WatchOptions};
