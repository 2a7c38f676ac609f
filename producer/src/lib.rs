//! From readings to scoring messages: sources, windows, dispatch, checkpoints.

pub mod quarantine;
pub mod sensors;
pub mod source;
pub mod window;
