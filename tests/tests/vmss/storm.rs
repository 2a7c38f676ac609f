//! Everything goes wrong at once, in an order that a seed decides: `STORM_SEED=7 cargo test --test vmss storm`.

use std::thread::sleep;
use std::time::Duration;

use windrow_common::{random, seed_random};
use windrow_tests::arm::{Ending, Faults, Mode, ScaleSet, Settings};

use super::{MAX, Scaling};

const SEEDS: std::ops::Range<u64> = 0..6;
const STEPS: u32 = 60;

/// Returns a number below `end`.
fn below(end: u64) -> u64 {
    random() % end
}

/// Returns a share up to `most`, or none half of the time.
fn share(most: f64) -> f64 {
    match below(2) {
        0 => 0.0,
        _ => most * below(1000) as f64 / 1000.0,
    }
}

fn weather(seed: u64) -> Faults {
    Faults {
        latency: Duration::from_millis(below(8)),
        // Each costs a second.
        throttle: u32::from(seed.is_multiple_of(2)),
        errors: share(0.3),
        lost_answers: share(0.3),
        lost_requests: share(0.3),
        stale_readings: share(0.5),
        operations: [Ending::Success, Ending::Failure, Ending::Never][below(3) as usize],
        never_boot: share(0.5),
        foreign_pages: below(8) == 0,
        room: (below(2) == 0).then(|| 2 + below(10) as u32),
    }
}

/// Something happens to an instance.
fn event(set: &mut ScaleSet) {
    let instances = set.instances();
    if instances.is_empty() {
        return;
    }
    let one = instances[below(instances.len() as u64) as usize].clone();
    match below(10) {
        0 => set.evict(&one.id),
        1 if !one.is_deleting => set.deallocate(&one.id),
        2 => set.touch(),
        _ if one.is_at_work => set.set_in_hand(&one.id, below(20)),
        _ => {}
    }
}

fn survives(seed: u64) {
    seed_random(seed);
    let mut scaling = Scaling::new(Settings {
        mode: [Mode::Uniform, Mode::Flexible][below(2) as usize],
        capacity_falls_late: below(2) == 0,
        drains_in: Some(Duration::from_millis(below(40))),
        boot: Duration::from_millis(10 + below(60)),
        seed,
        ..Settings::default()
    });
    let mut wanted = 0;
    for step in 0..STEPS {
        if step % 20 == 0 {
            let faults = weather(seed);
            scaling.arm.set(|set| set.faults = faults);
        }
        if below(6) == 0 {
            wanted = below(u64::from(MAX) + 1) as u32;
        }
        scaling.arm.set(event);
        _ = scaling.step(wanted);
        sleep(Duration::from_millis(below(10)));
    }
    scaling.arm.set(|set| set.faults = Faults::default());
    for wanted in [wanted, MAX, 0] {
        scaling.converges(wanted);
    }
}

#[test]
fn everything_goes_wrong_and_the_fleet_comes_out_as_wanted() {
    let seeds = match std::env::var("STORM_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => SEEDS.collect(),
    };
    // Most of the time is spent waiting, so all run at once.
    std::thread::scope(|scope| {
        for seed in seeds {
            let thread = std::thread::Builder::new().name(format!("STORM_SEED={seed}"));
            thread.spawn_scoped(scope, move || survives(seed)).unwrap();
        }
    });
}
