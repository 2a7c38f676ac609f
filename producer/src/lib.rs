//! From readings to scoring messages: sources, windows, dispatch, checkpoints.

pub mod sensors;
pub mod source;
