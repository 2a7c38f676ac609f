//! Simulates the windower, the dispatcher, checkpoints and workers with everything that can go wrong around them: on one
//! thread, with a simulated clock, store and broker, and in an order that a seed decides. Readings come from simulated files
//! or a simulated hub, or from real files that are renamed, rotated and rewritten while they are read.
//!
//! `WINDROW_SEEDS=7 cargo test --test simulation` repeats one seed and says what happened in it; `7..100` runs several.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod broker;
mod clock;
mod disk;
mod faults;
mod life;
mod objects;
mod odd_sensors;
mod oracle;
mod plan;
mod source;

use std::ops::Range;
use std::thread;

/// The seeds of an ordinary test run.
const SEEDS: Range<u64> = 0..200;

#[test]
fn no_reading_vanishes_and_none_counts_twice_whatever_happens() {
    let seeds = seeds();
    let threads = thread::available_parallelism().map_or(1, usize::from) as u64;
    let failures: Vec<(u64, String)> = thread::scope(|scope| {
        let share = |first| seeds.clone().skip(first as usize).step_by(threads as usize);
        let running: Vec<_> = (0..threads)
            .map(|first| scope.spawn(move || share(first).find_map(failure)))
            .collect();
        running
            .into_iter()
            .filter_map(|running| running.join().unwrap())
            .collect()
    });
    if let Some((seed, why)) = failures.into_iter().min() {
        panic!("seed {seed}: {why}\nrun it again with WINDROW_SEEDS={seed}");
    }
}

fn failure(seed: u64) -> Option<(u64, String)> {
    life::simulate(seed).err().map(|why| (seed, why))
}

fn seeds() -> Range<u64> {
    let Ok(text) = std::env::var("WINDROW_SEEDS") else {
        return SEEDS;
    };
    let number = |text: &str| {
        text.parse()
            .expect("WINDROW_SEEDS is a number, or a range such as 0..1000")
    };
    match text.split_once("..") {
        Some((first, end)) => number(first)..number(end),
        None => number(&text)..number(&text) + 1,
    }
}
