//! Chance that nothing depends on: names, jitter, whose turn it is.

use std::hash::{BuildHasher, RandomState};

/// Any number; seeded anew by the system in each process.
pub fn random() -> u64 {
    RandomState::new().hash_one(())
}
