//! Comparison with scikit-learn: its pickled models decide here as they do there, other pickles are refused, and models
//! trained here label as scikit-learn's do on the same data.
//!
//! scikit-learn's files are in the workspace's `tests/fixtures`; `make_models.py`, `make_detectors.py`, `make_fits.py` and
//! `make_monitors.py` there recreate them.

#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation)]

mod fits;
mod fixtures;
mod hostile;
mod import;
mod kinds;
mod monitors;
mod train;
