//! The vocabulary of Windrow: the types that producer, queue, worker and store share.
//!
//! This crate does no I/O and knows nothing about models, sources, queues or stores.

mod aggregate;
mod backoff;
mod codec;
mod duration;
mod error_text;
mod group_message;
mod in_flight;
mod incident;
mod length;
mod message;
mod panics;
mod prediction;
mod random;
mod remedy;
mod reminder;
mod scoring_task;
mod sensor;
mod sensor_pattern;
mod shell;
mod time;
mod wildcard;

pub use aggregate::Aggregate;
pub use backoff::Backoff;
pub use codec::{CodecError, decode, encode};
pub use duration::{format_duration, parse_duration};
pub use error_text::{one_line, sentence};
pub use group_message::{GroupMessage, TagSeries};
pub use in_flight::InFlight;
pub use incident::{Breach, Course, Incident, IncidentKind, Peak, Severity};
pub use length::{Interval, Length};
pub use message::{MAX_AGGREGATES, MAX_BODY_BYTES, MessageError, ScoringMessage};
pub use panics::{Panicked, caught};
pub use prediction::{Cause, Prediction, Shadow};
pub use random::{random, seed_random};
pub use remedy::{HasRemedy, Remedy};
pub use reminder::Reminder;
pub use scoring_task::ScoringTask;
pub use sensor::{
    GROUP_TAG, MAX_NAME_BYTES, SensorId, SensorIdError, encode_file_name, encode_name, encode_segment,
    is_shortened,
};
pub use sensor_pattern::{SensorPattern, SensorPatternError};
pub use shell::shell_word;
pub use time::{EpochUnit, EventTime, LocalTime, TimeError, WrittenTime};
pub use wildcard::matches_wildcard;
