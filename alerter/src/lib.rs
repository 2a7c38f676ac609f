//! Incidents: the few things that people are told of, from the many windows that are scored.

pub mod incident;
