//! Random numbers for uses that need no quality: names, jitter, turns.

use std::hash::{BuildHasher, RandomState};

/// Returns a random number from a generator that the system seeds in each process.
pub fn random() -> u64 {
    RandomState::new().hash_one(())
}
