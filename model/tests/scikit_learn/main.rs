//! Beside scikit-learn: models it pickled decide as it did, whatever else a pickle holds is refused, and models trained
//! here say what those say that it trained on the same data.
//!
//! What scikit-learn made lies in `tests/fixtures` of the workspace, and `make_models.py` there makes it anew.

#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation)]

mod fixtures;
mod hostile;
mod import;
mod train;
