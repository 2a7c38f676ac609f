//! Scales out, in and out again while one thing goes wrong.

use std::time::Duration;

use windrow_tests::arm::{Ending, Faults, Mode, Settings};

use super::Scaling;

/// Converges while a fault lasts.
fn converges_despite(faults: &Faults) {
    for mode in [Mode::Uniform, Mode::Flexible] {
        let mut scaling = Scaling::new(Settings {
            mode,
            ..Settings::default()
        });
        scaling.arm.set(|set| set.faults = faults.clone());
        for wanted in [6, 2, 12, 0] {
            scaling.converges(wanted);
        }
    }
}

#[test]
fn answers_that_take_their_time() {
    converges_despite(&Faults {
        latency: Duration::from_millis(10),
        ..Faults::default()
    });
}

#[test]
fn errors_of_the_service() {
    converges_despite(&Faults {
        errors: 0.2,
        ..Faults::default()
    });
}

#[test]
fn answers_that_are_lost() {
    converges_despite(&Faults {
        lost_answers: 0.2,
        ..Faults::default()
    });
}

#[test]
fn requests_that_are_lost() {
    converges_despite(&Faults {
        lost_requests: 0.2,
        ..Faults::default()
    });
}

#[test]
fn readings_that_are_behind() {
    converges_despite(&Faults {
        stale_readings: 0.4,
        ..Faults::default()
    });
}

#[test]
fn operations_that_never_end() {
    converges_despite(&Faults {
        operations: Ending::Never,
        ..Faults::default()
    });
}

#[test]
fn instances_that_never_boot() {
    converges_despite(&Faults {
        never_boot: 0.2,
        ..Faults::default()
    });
}

#[test]
fn operations_that_fail_for_a_while() {
    for mode in [Mode::Uniform, Mode::Flexible] {
        let mut scaling = Scaling::new(Settings {
            mode,
            ..Settings::default()
        });
        scaling.converges(2);
        for wanted in [5, 1] {
            scaling.arm.set(|set| set.faults.operations = Ending::Failure);
            scaling.during(Duration::from_millis(200), wanted);
            scaling.arm.set(|set| set.faults.operations = Ending::Success);
            scaling.converges(wanted);
        }
    }
}
