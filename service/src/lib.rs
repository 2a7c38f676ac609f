//! The shell around a long-running program: logs, signals, health and metrics, draining.
//!
//! A stop has two steps. A signal or a scale-set notice ends intake; work in flight then has the drain timeout to
//! finish. Only after that, or on a second signal, the process exits without finishing it, and it is delivered again.

mod abandon;
mod command_line;
mod failure;
mod log;
#[cfg(feature = "server")]
mod server;
mod shutdown;
mod signals;

pub use abandon::abandon;
pub use command_line::{command_line, defaults, parse_options};
pub use failure::Failure;
pub use log::{LogFormat, init_logs};
#[cfg(feature = "server")]
pub use server::{Endpoints, Readiness, ServiceArgs, check_health, run_service};
pub use shutdown::{Shutdown, ShutdownTrigger};
pub use signals::stop_on_signals;
