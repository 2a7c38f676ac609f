use proptest::prelude::*;

use super::*;

const START_MS: i64 = 1_767_571_200_000;

fn at(seconds: f64) -> Timestamp {
    Timestamp::from_millisecond(START_MS + (seconds * 1e3) as i64).unwrap()
}

pub(super) fn fleet(requested: u32, ready: u32) -> Capacity {
    Capacity {
        requested,
        booting: requested - ready,
        ready,
        draining: 0,
    }
}

pub(super) fn load(ready: u64, unacked: u64, published: u64) -> Load {
    Load {
        ready,
        unacked: Some(unacked),
        published: Some(published),
        acked: None,
    }
}

fn seen(seconds: f64, load: Load, capacity: Capacity) -> Observation {
    Observation {
        at: at(seconds),
        load: Some(load),
        capacity: Some(capacity),
    }
}

fn policy(options: PolicyOptions) -> Policy {
    Policy::new(options, Learned::default()).unwrap()
}

/// A fleet whose workers are ready at once and score 500 messages a second.
fn run(
    policy: &mut Policy,
    seconds: u32,
    arrivals: u64,
    from: f64,
    left: &mut u64,
    fleet_now: &mut u32,
) -> Vec<Decision> {
    let mut published = 0;
    let mut decisions = Vec::new();
    for step in 0..seconds / 5 {
        published += arrivals * 5;
        let can = u64::from(*fleet_now) * 500 * 5;
        *left = (*left + arrivals * 5).saturating_sub(can).max(arrivals);
        let load = load(left.saturating_sub(arrivals), (*left).min(arrivals), published);
        let decision = policy.decide(&seen(
            from + f64::from(step) * 5.0,
            load,
            fleet(*fleet_now, *fleet_now),
        ));
        *fleet_now = decision.wanted;
        decisions.push(decision);
    }
    decisions
}

#[test]
fn a_message_starts_a_worker_and_an_empty_queue_ends_it() {
    let mut policy = policy(PolicyOptions::default());
    let first = policy.decide(&seen(0.0, load(1, 0, 1), fleet(0, 0)));
    assert_eq!(first.wanted, 1);
    assert_eq!(
        first.to_string(),
        "1 worker: 1 message in the queue; the most urgent are due in 300 s, and a worker scores 500 a second"
    );
    assert_eq!(policy.decide(&seen(5.0, load(1, 0, 1), fleet(1, 0))).wanted, 1);
    // It boots in 60 s, scores the message, and is kept for as long as a start is worth.
    assert_eq!(policy.decide(&seen(60.0, load(0, 1, 1), fleet(1, 1))).wanted, 1);
    assert!((policy.learned().boot_seconds().unwrap() - 60.0).abs() < 1e-9);
    for second in [65.0, 100.0, 124.0] {
        let decision = policy.decide(&seen(second, load(0, 0, 1), fleet(1, 1)));
        assert!(
            decision.wanted == 1 && matches!(decision.reason, DecisionReason::Linger { .. }),
            "{decision}"
        );
    }
    let last = policy.decide(&seen(126.0, load(0, 0, 1), fleet(1, 1)));
    assert_eq!((last.wanted, last.reason), (0, DecisionReason::Idle));
}

#[test]
fn what_cannot_be_seen_changes_nothing() {
    let mut policy = policy(PolicyOptions::default());
    let here = seen(0.0, load(900_000, 0, 900_000), fleet(0, 0));
    let wanted = policy.decide(&here).wanted;
    assert!(wanted > 1);
    let hidden = [
        Observation {
            at: at(5.0),
            load: None,
            ..here
        },
        Observation {
            at: at(10.0),
            capacity: None,
            ..here
        },
        Observation {
            at: at(15.0),
            load: None,
            capacity: None,
        },
        // Absurd: no queue holds that many, and no clock runs backwards.
        seen(20.0, load(u64::MAX, u64::MAX, 0), fleet(wanted, 0)),
        seen(-500.0, load(0, 0, 0), fleet(wanted, 0)),
        seen(100_000.0, load(0, 0, 0), fleet(wanted, 0)),
    ];
    for observation in hidden {
        let decision = policy.decide(&observation);
        assert!(
            matches!(decision.reason, DecisionReason::Hold { .. }),
            "{decision}"
        );
        assert_eq!(decision.wanted, wanted, "{decision}");
    }
    // A scaler that has just started and sees nothing does not end what may run.
    let mut new = self::policy(PolicyOptions::default());
    assert_eq!(
        new.decide(&Observation {
            at: at(0.0),
            load: None,
            capacity: Some(fleet(7, 7))
        })
        .wanted,
        7
    );
}

#[test]
fn a_queue_that_does_not_tell_what_is_in_flight_never_means_zero() {
    let mut policy = policy(PolicyOptions::default());
    for step in 0..400 {
        let blind = Load {
            ready: 0,
            unacked: None,
            published: None,
            acked: None,
        };
        let decision = policy.decide(&seen(f64::from(step) * 5.0, blind, fleet(1, 1)));
        assert_eq!(decision.wanted, 1, "{decision}");
    }
}

#[test]
fn a_known_batch_finds_its_workers_ready() {
    let options = PolicyOptions {
        schedule: Some("1h".parse().unwrap()),
        ..PolicyOptions::default()
    };
    let learned = Learned {
        batch_messages: Some(400_000.0),
        boot_seconds: Some(60.0),
        ..Learned::default()
    };
    let mut policy = Policy::new(options, learned).unwrap();
    let decide = |policy: &mut Policy, second: f64| policy.decide(&seen(second, load(0, 0, 0), fleet(0, 0)));
    assert_eq!(decide(&mut policy, 3_500.0).wanted, 0);
    let decision = decide(&mut policy, 3_530.0);
    assert_eq!(decision.wanted, 3, "{decision}");
    assert_eq!(
        decision.to_string(),
        "3 workers: a batch of about 400000 messages is due in 70 s"
    );
    assert_eq!(decide(&mut policy, 3_650.0).wanted, 3, "it is late");
    assert_eq!(decide(&mut policy, 3_665.0).wanted, 0, "it does not come");
}

#[test]
fn options_that_contradict_each_other_are_refused() {
    let default = PolicyOptions::default;
    let refused = [
        PolicyOptions {
            min: 5,
            max: 4,
            ..default()
        },
        PolicyOptions { max: 0, ..default() },
        PolicyOptions {
            drain_target: std::time::Duration::from_secs(1),
            ..default()
        },
        PolicyOptions {
            first_rate: f64::NAN,
            ..default()
        },
    ];
    for options in refused {
        assert!(
            Policy::new(options.clone(), Learned::default()).is_err(),
            "{options:?}"
        );
    }
}

/// Something that may be observed, however absurd.
fn anything() -> impl Strategy<Value = Observation> {
    let messages = prop_oneof![Just(0), 0..1_000_000_u64, Just(u64::MAX)];
    let maybe = |messages| prop_oneof![1 => Just(None), 4 => Just(Some(messages))];
    let loads = (messages.clone(), messages.clone(), messages)
        .prop_flat_map(move |(ready, unacked, published)| (Just(ready), maybe(unacked), maybe(published)))
        .prop_map(|(ready, unacked, published)| Load {
            ready,
            unacked,
            published,
            acked: None,
        });
    let fleets = (0..2_000_u32, 0..2_000_u32, 0..10_u32).prop_map(|(ready, booting, draining)| Capacity {
        requested: ready + booting,
        booting,
        ready,
        draining,
    });
    let times = prop_oneof![4 => 0.0..10_000.0, 1 => Just(-1e6), 1 => Just(1e8)];
    (
        times,
        prop::option::weighted(0.9, loads),
        prop::option::weighted(0.9, fleets),
    )
        .prop_map(|(seconds, load, capacity)| Observation {
            at: at(seconds),
            load,
            capacity,
        })
}

proptest! {
    #[test]
    fn the_bounds_are_kept_whatever_is_observed(min in 0..5_u32, more in 1..50_u32, seen in prop::collection::vec(anything(), 1..40)) {
        let mut policy = policy(PolicyOptions { min, max: min + more, ..PolicyOptions::default() });
        for observation in seen {
            let wanted = policy.decide(&observation).wanted;
            prop_assert!((min..=min + more).contains(&wanted));
        }
        prop_assert!(policy.learned().is_plausible(), "{:?}", policy.learned());
    }

    #[test]
    fn more_backlog_never_means_fewer_workers(
        seen_before in prop::collection::vec((0..200_000_u64, 0..20_u32), 0..30),
        now in 0..200_000_u64,
        more in 0..1_000_000_u64,
        workers in 0..20_u32,
    ) {
        let mut policy = policy(PolicyOptions { max: 1_000, ..PolicyOptions::default() });
        for (step, (ready, workers)) in seen_before.iter().enumerate() {
            policy.decide(&seen(step as f64 * 5.0, load(*ready, 0, 1_000_000), fleet(*workers, *workers)));
        }
        let second = seen_before.len() as f64 * 5.0;
        // The same number of messages was scored.
        let with = |messages| {
            let seen = seen(second, load(messages, 0, 1_000_000 + messages - now), fleet(workers, workers));
            policy.clone().decide(&seen).wanted
        };
        prop_assert!(with(now + more) >= with(now));
    }

    #[test]
    fn a_steady_load_does_not_make_the_fleet_flap(arrivals in 1..20_000_u64) {
        let mut policy = policy(PolicyOptions { max: 1_000, ..PolicyOptions::default() });
        let (mut left, mut workers) = (0, 0);
        let sizes: Vec<u32> = run(&mut policy, 10_800, arrivals, 0.0, &mut left, &mut workers)
            .iter()
            .map(|decision| decision.wanted)
            .skip(720)
            .collect();
        let exact = arrivals as f64 / 500.0;
        let changes: Vec<usize> = (1..sizes.len()).filter(|step| sizes[*step] != sizes[step - 1]).collect();
        for size in &sizes {
            prop_assert!(f64::from(*size) >= (0.8 * exact).floor().max(1.0) && f64::from(*size) <= 2.0 * exact + 2.0, "{exact}: {size}");
        }
        // A worker is kept for at least as long as a start is worth.
        prop_assert!(changes.len() <= 7_200 / 45, "{exact}: {changes:?}");
    }

    #[test]
    fn without_messages_every_fleet_ends(workers in 0..50_u32, arrivals in 0..5_000_u64) {
        let mut policy = policy(PolicyOptions::default());
        let (mut left, mut workers) = (0, workers);
        run(&mut policy, 600, arrivals, 0.0, &mut left, &mut workers);
        left = 0;
        run(&mut policy, 300, 0, 600.0, &mut left, &mut workers);
        prop_assert_eq!(workers, 0);
    }
}
