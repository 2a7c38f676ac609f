//! Random numbers for uses that need no quality: names, jitter, turns.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

thread_local! {
    static SEEDED: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Returns a random number: from a generator that the system seeds in each process, or from the sequence that
/// [`seed_random`] has begun on this thread.
pub fn random() -> u64 {
    match SEEDED.get() {
        None => RandomState::new().hash_one(()),
        Some(state) => {
            // SplitMix64 (G. Steele, D. Lea, C. Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014).
            let state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            SEEDED.set(Some(state));
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        }
    }
}

/// Makes the numbers on this thread depend on `seed` alone, for simulations that can be repeated.
pub fn seed_random(seed: u64) {
    SEEDED.set(Some(seed));
}
