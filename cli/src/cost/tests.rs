use std::time::Duration;

use super::bill::{Bill, Machines};
use super::cores;
use super::prices::{Basis, Prices};
use super::workload::{Running, Workload};

fn workload(sensors: u64) -> Workload {
    Workload {
        sensors,
        period: Duration::from_secs(10),
        window: Duration::from_secs(60),
        interval: Duration::from_secs(3_600),
        readings_per_event: 300,
        reading_bytes: 67,
        worker_cores: 4,
        drain_target: Duration::from_secs(300),
        boot: Duration::from_secs(120),
        linger: Duration::from_secs(180),
        model_load: Duration::from_millis(1),
        retention: Duration::from_secs(30 * 86_400),
    }
}

fn machines() -> Machines {
    Machines {
        region: "eastus".to_owned(),
        worker_size: "Standard_D4ads_v5".to_owned(),
        is_spot: false,
        broker_size: "Standard_D2as_v5".to_owned(),
        brokers: 3,
    }
}

fn bill(workload: &Workload) -> Bill {
    Bill::new(workload, &machines(), &Prices::built_in().unwrap()).unwrap()
}

fn dollars(bill: &Bill, part: &str) -> f64 {
    let line = bill.lines.iter().find(|line| line.part.starts_with(part));
    line.unwrap_or_else(|| panic!("{part}: {:?}", bill.lines)).usd
}

fn is_about(found: f64, expected: f64) {
    assert!(
        (found / expected - 1.0).abs() < 1e-3,
        "{found}, expected {expected}"
    );
}

#[test]
fn a_million_sensors_cost_what_a_calculation_by_hand_says() {
    let workload = workload(1_000_000);
    workload.check().unwrap();
    let bill = bill(&workload);
    // 100,000 readings/s of 67 bytes are 6.7 MB/s: seven units.
    is_about(dollars(&bill, "hub: 7 units"), 7.0 * 730.0 * 0.03);
    // 262.8 billion readings a month, 300 an event.
    is_about(dollars(&bill, "hub: events"), 876.0 * 0.028);
    // A million messages an hour, of which each loads a model: `current` and the version.
    is_about(dollars(&bill, "store: models"), 2.0 * 730e6 / 1e4 * 0.004);
    // 160 µs to score a message and 1 ms to load its model: 1,160 s of a core, 290 s of a VM. Within the 180 s that are
    // left of the drain target, that takes two VMs, which also boot and linger for 300 s each.
    assert_eq!(
        (bill.fleet.running, bill.fleet.machines),
        (Running::BetweenBatches, 2.0)
    );
    is_about(
        dollars(&bill, "workers"),
        730.0 * (2.0 * 300.0 + 290.0) / 3_600.0 * 0.206,
    );
    // 60 million open windows are 11.25 GB: more than the smallest control VM has.
    is_about(dollars(&bill, "control: 1 x Standard_D4as_v5"), 730.0 * 0.172);
    is_about(dollars(&bill, "broker: 3 x"), 3.0 * 730.0 * 0.086);
    // An hour's 60 million windows are 300 parts of dispatched/; 1,160 s of a core are 1,160 parts of predictions; and a
    // checkpoint a second.
    is_about(
        dollars(&bill, "store: writes"),
        (730.0 * (1_160.0 + 300.0) + 2_628_000.0) / 1e4 * 0.05,
    );
    // 720 hours of 60 million predictions of 37 bytes, and a million models of 5.3 kB.
    is_about(
        dollars(&bill, "store: capacity"),
        (720.0 * 60e6 * 37.0 + 5.3e9) / 1e9 * 0.0208,
    );
    let sum: f64 = bill.lines.iter().map(|line| line.usd).sum();
    is_about(bill.total_usd, sum);
}

#[test]
fn an_event_for_each_reading_costs_three_hundred_times_as_much_and_the_bill_says_so() {
    let batched = workload(1_000_000);
    let single = Workload {
        readings_per_event: 1,
        ..workload(1_000_000)
    };
    let (few, many) = (bill(&batched), bill(&single));
    is_about(dollars(&many, "hub: events"), 262_800.0 * 0.028);
    is_about(
        dollars(&many, "hub: events") / dollars(&few, "hub: events"),
        300.0,
    );
    // 100,000 events/s take 100 units, and a Standard namespace has 40.
    is_about(dollars(&many, "hub: 100 units"), 100.0 * 730.0 * 0.03);
    for bill in [&few, &many] {
        let said = &bill.notes[0];
        assert!(
            said.contains("7,358 $") && said.contains("300 readings an event cost 24.53 $"),
            "{said}"
        );
    }
    assert!(!few.notes.iter().any(|note| note.contains("Premium")));
    assert!(many.notes.iter().any(|note| note.contains("Premium")));
}

#[test]
fn more_sensors_never_cost_less() {
    for interval in [60, 330, 600, 3_600, 86_400] {
        for boot in [0, 120, 299, 300] {
            let mut before = (0, 0.0);
            for exponent in 0..=180 {
                let sensors = 10_f64.powf(f64::from(exponent) / 20.0) as u64;
                let workload = Workload {
                    interval: Duration::from_secs(interval),
                    window: Duration::from_secs(30),
                    boot: Duration::from_secs(boot),
                    ..workload(sensors)
                };
                workload.check().unwrap();
                let total = bill(&workload).total_usd;
                assert!(
                    total.is_finite() && total >= before.1,
                    "{sensors} sensors for {total} after {before:?}"
                );
                before = (sensors, total);
            }
        }
    }
}

#[test]
fn workers_run_all_the_time_where_that_costs_less_or_where_they_boot_too_slowly() {
    // A VM that boots and lingers for five minutes cannot end between batches that are a minute apart.
    let often = Workload {
        interval: Duration::from_secs(60),
        ..workload(1_000)
    };
    let bill_often = bill(&often);
    assert_eq!(bill_often.fleet.running, Running::AllTheTime);
    is_about(dollars(&bill_often, "workers"), 730.0 * 0.206);
    assert!(
        bill_often
            .notes
            .iter()
            .any(|note| note.contains("--min-workers 4"))
    );
    let slow = Workload {
        boot: Duration::from_secs(300),
        ..workload(1_000)
    };
    let bill_slow = bill(&slow);
    assert_eq!(bill_slow.fleet.running, Running::AllTheTime);
    assert!(
        bill_slow
            .notes
            .iter()
            .any(|note| note.contains("cannot start from zero"))
    );
}

#[test]
fn sensors_that_seldom_report_have_fewer_messages_and_windows() {
    let seldom = Workload {
        period: Duration::from_secs(7_200),
        ..workload(1_000)
    };
    let usage = seldom.usage();
    // A reading every two hours: 365 a month, each a message of one window.
    assert_eq!(
        (usage.readings, usage.messages, usage.windows),
        (365_000.0, 365_000.0, 365_000.0)
    );
}

#[test]
fn what_makes_no_sense_is_refused_with_the_option() {
    let seconds = Duration::from_secs;
    let base = workload(1_000);
    let wrong = [
        (workload(0), "--sensors 0"),
        (workload(u64::MAX), "--sensors 18446744073709551615"),
        (
            Workload {
                window: seconds(7),
                ..base.clone()
            },
            "--interval 1h is not a whole number of windows of 7s",
        ),
        (
            Workload {
                window: seconds(7_200),
                ..base.clone()
            },
            "not a whole number",
        ),
        (
            Workload {
                window: Duration::ZERO,
                ..base.clone()
            },
            "--window 0s",
        ),
        (
            Workload {
                period: Duration::ZERO,
                ..base.clone()
            },
            "--period 0s",
        ),
        (
            Workload {
                retention: Duration::MAX,
                ..base.clone()
            },
            "--retention",
        ),
        (
            Workload {
                readings_per_event: 0,
                ..base.clone()
            },
            "--readings-per-event 0",
        ),
        (
            Workload {
                readings_per_event: 20_000,
                ..base.clone()
            },
            "more than the megabyte",
        ),
        (
            Workload {
                reading_bytes: u64::MAX,
                ..base
            },
            "more than the megabyte",
        ),
    ];
    for (workload, said) in wrong {
        let error = workload.check().unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    for size in ["", "Standard_Dads_v5", "Standard_D0_v5", "D99999"] {
        assert!(cores(size).is_err(), "{size}");
    }
    assert_eq!(cores("Standard_D4ads_v5").unwrap(), 4);
    assert_eq!(cores("Standard_D16as_v5").unwrap(), 16);
}

#[test]
fn every_region_of_the_table_has_a_whole_bill_and_guesses_are_marked() {
    let prices = Prices::built_in().unwrap();
    for region in ["eastus", "westeurope"] {
        for is_spot in [false, true] {
            let machines = Machines {
                region: region.to_owned(),
                is_spot,
                ..machines()
            };
            let bill = Bill::new(&workload(100_000), &machines, &prices).unwrap();
            let guesses = bill
                .lines
                .iter()
                .filter(|line| line.price.basis == Basis::Assumed);
            assert_eq!(bill.has_guesses(), guesses.count() > 0);
        }
    }
    let error = Bill::new(
        &workload(1),
        &Machines {
            region: "mars".to_owned(),
            ..machines()
        },
        &prices,
    )
    .unwrap_err()
    .to_string();
    assert!(error.contains("in mars") && error.contains("eastus"), "{error}");
}
