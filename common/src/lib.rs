//! The vocabulary of Windrow: what producer, queue, worker and store say to each other.
//!
//! Everything here is shared by at least two of the crates above; nothing here knows about models or sources.

mod aggregate;
pub mod args;
mod backoff;
mod codec;
mod message;
mod prediction;
pub mod queue;
mod random;
mod sensor;
pub mod service;
mod shutdown;
pub mod store;
mod time;
mod tls;
mod trace;

pub use aggregate::Aggregate;
pub use backoff::{Backoff, retry_while_transient};
pub use codec::{CodecError, decode, encode};
pub use message::{MAX_AGGREGATES, MAX_BODY_BYTES, MessageError, ScoringMessage};
pub use prediction::Prediction;
pub use random::random;
pub use sensor::{MAX_NAME_BYTES, SensorId, SensorIdError, encode_segment};
pub use shutdown::{Shutdown, ShutdownTrigger};
pub use time::{EventTime, Interval, TimeError, format_duration, parse_duration};
pub use tls::choose_tls;
pub use trace::Trace;
