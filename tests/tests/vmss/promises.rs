//! What the scaler promises of a scale set, one by one.

use std::time::{Duration, Instant};

use windrow_scaler::fleet::vmss::{Vmss, VmssOptions};
use windrow_scaler::fleet::{Fleet, FleetError};
use windrow_tests::arm::{Arm, InstanceView, Mode, SCALE_SET, ScaleSet, Settings};

use super::{Imds, PATIENCE, Scaling};

/// An instance drains only when the test empties it.
fn held() -> Settings {
    Settings {
        drains_in: None,
        ..Settings::default()
    }
}

fn ids(set: &ScaleSet) -> Vec<String> {
    set.instances().into_iter().map(|one| one.id).collect()
}

fn draining(set: &ScaleSet) -> Vec<InstanceView> {
    let all = set.instances().into_iter();
    all.filter(|one| one.is_draining).collect()
}

#[test]
fn the_capacity_follows_what_is_wanted_from_zero_and_back() {
    for mode in [Mode::Uniform, Mode::Flexible] {
        for capacity_falls_late in [false, true] {
            let mut scaling = Scaling::new(Settings {
                mode,
                capacity_falls_late,
                ..Settings::default()
            });
            for wanted in [7, 2, 9, 0] {
                scaling.converges(wanted);
                assert_eq!(scaling.arm.set(|set| set.capacity()), wanted, "{mode:?}");
            }
            let log = scaling.arm.set(|set| set.log().clone());
            assert_eq!(
                log.created,
                7 + 7,
                "{mode:?}: instances were created that nobody asked for"
            );
            assert_eq!(log.capacity_writes, 2, "{mode:?}");
        }
    }
}

#[test]
fn workers_are_rounded_up_to_instances_and_never_beyond_the_maximum() {
    let settings = Settings {
        workers: 4,
        ..Settings::default()
    };
    let mut scaling = Scaling::with(settings, |options| options.max_workers = 10);
    scaling.until("two instances", 5, |set| {
        set.instances().iter().filter(|one| one.is_at_work).count() == 2
    });
    scaling.during(Duration::from_millis(100), 9);
    let seen = scaling.look().unwrap();
    assert_eq!(
        (seen.requested, seen.ready),
        (8, 8),
        "three instances run 12 workers, and 10 are allowed"
    );
    assert_eq!(scaling.arm.set(|set| set.capacity()), 2);
}

#[test]
fn a_lost_answer_does_not_double_a_scale_out() {
    let mut scaling = Scaling::new(Settings::default());
    scaling.look().unwrap();
    scaling.arm.set(|set| set.faults.lost_answers = 1.0);
    let lost = scaling.resize(5);
    assert!(matches!(lost, Err(FleetError::Away { .. })), "{lost:?}");
    scaling.arm.set(|set| set.faults.lost_answers = 0.0);
    let seen = scaling.step(5).unwrap();
    // On a busy machine, some may have booted already.
    assert_eq!((seen.requested, seen.booting + seen.ready), (5, 5));
    scaling.converges(5);
    let log = scaling.arm.set(|set| set.log().clone());
    assert_eq!((log.capacity_writes, log.created), (1, 5));
}

#[test]
fn a_lost_answer_to_a_deletion_neither_deletes_nor_adds_another() {
    for capacity_falls_late in [false, true] {
        let mut scaling = Scaling::new(Settings {
            capacity_falls_late,
            ..held()
        });
        scaling.converges(4);
        scaling.until("one drains", 3, |set| draining(set).len() == 1);
        scaling.look().unwrap();
        scaling.arm.set(|set| set.faults.lost_answers = 1.0);
        let lost = scaling.resize(4);
        assert!(matches!(lost, Err(FleetError::Away { .. })), "{lost:?}");
        scaling.arm.set(|set| set.faults.lost_answers = 0.0);
        scaling.converges(4);
        assert_eq!(scaling.arm.set(|set| set.log().created), 5);
    }
}

#[test]
fn a_busy_instance_is_never_deleted_and_the_least_busy_drains_first() {
    let mut scaling = Scaling::new(held());
    scaling.converges(4);
    let names = scaling.arm.set(|set| {
        let names = ids(set);
        for (id, in_hand) in names.iter().zip([9, 1, 5, 7]) {
            set.set_in_hand(id, in_hand);
        }
        names
    });
    scaling.until("one drains", 3, |set| draining(set).len() == 1);
    assert_eq!(scaling.arm.set(|set| draining(set)[0].in_hand), 1);
    scaling.until("three drain", 1, |set| draining(set).len() == 3);
    scaling.during(2 * PATIENCE.boot, 1);
    assert_eq!(scaling.arm.set(|set| ids(set)), names, "all are busy");
    let seen = scaling.look().unwrap();
    assert_eq!((seen.requested, seen.ready, seen.draining), (1, 1, 3));
    scaling.arm.set(|set| set.set_in_hand(&names[2], 0));
    scaling.until("the one that is done is deleted", 1, |set| {
        !ids(set).contains(&names[2])
    });
    assert_eq!(scaling.arm.set(|set| set.instances().len()), 3);
    scaling.arm.set(|set| {
        set.set_in_hand(&names[1], 0);
        set.set_in_hand(&names[3], 0);
    });
    scaling.converges(1);
    assert_eq!(scaling.arm.set(|set| ids(set)), names[..1]);
}

#[test]
fn idle_instances_drain_before_busy_ones_and_booting_ones_before_both() {
    let mut scaling = Scaling::new(held());
    scaling.converges(2);
    let old = scaling.arm.set(|set| {
        let old = ids(set);
        set.set_in_hand(&old[0], 3);
        // However busy this machine is, the next one is still booting below.
        set.faults.never_boot = 1.0;
        old
    });
    scaling.until("a third one exists", 3, |set| set.instances().len() == 3);
    scaling.during(Duration::from_millis(50), 2);
    assert_eq!(
        scaling.arm.set(|set| draining(set).len()),
        0,
        "the booting one is the third"
    );
    scaling.converges(2);
    assert_eq!(scaling.arm.set(|set| ids(set)), old);
    scaling.converges(1);
    assert_eq!(
        scaling.arm.set(|set| ids(set)),
        old[..1],
        "the idle one was deleted"
    );
}

#[test]
fn a_scale_out_while_some_drain_adds_new_ones() {
    let mut scaling = Scaling::new(held());
    scaling.converges(3);
    scaling.arm.set(|set| {
        for id in ids(set) {
            set.set_in_hand(&id, 4);
        }
    });
    scaling.until("two drain", 1, |set| draining(set).len() == 2);
    scaling.until("three others work", 3, |set| {
        set.instances().iter().filter(|one| one.is_at_work).count() == 3
    });
    assert_eq!(
        scaling.arm.set(|set| draining(set).len()),
        2,
        "drained instances do not come back"
    );
}

#[test]
fn evicted_instances_are_replaced() {
    let mut scaling = Scaling::new(Settings::default());
    scaling.converges(4);
    scaling.arm.set(|set| {
        let first = ids(set)[0].clone();
        set.evict(&first);
    });
    scaling.converges(4);
    let stopped = scaling.arm.set(|set| {
        let second = ids(set)[1].clone();
        set.deallocate(&second);
        second
    });
    scaling.converges(4);
    assert!(!scaling.arm.set(|set| ids(set)).contains(&stopped));
    assert_eq!(scaling.arm.set(|set| set.log().created), 6);
}

#[test]
fn a_silent_instance_counts_as_busy_as_long_as_its_machine_runs() {
    let mut scaling = Scaling::new(held());
    scaling.converges(2);
    let silent = scaling.arm.set(|set| {
        let silent = ids(set)[0].clone();
        set.set_in_hand(&silent, 8);
        set.set_mute(&silent, true);
        silent
    });
    scaling.during(2 * PATIENCE.boot, 0);
    let instances = scaling.arm.set(|set| set.instances());
    assert_eq!(instances.len(), 1, "{instances:?}");
    assert_eq!(
        (instances[0].id.as_str(), instances[0].in_hand),
        (silent.as_str(), 8)
    );
    assert_eq!(scaling.look().unwrap().ready, 1);
    scaling.arm.set(|set| {
        set.set_mute(&silent, false);
        set.set_in_hand(&silent, 0);
    });
    scaling.converges(0);
}

#[test]
fn a_restarted_scaler_that_reaches_no_agent_deletes_nothing() {
    let mut scaling = Scaling::new(held());
    scaling.converges(3);
    scaling.arm.set(|set| {
        for id in ids(set) {
            set.set_in_hand(&id, 2);
            set.set_mute(&id, true);
        }
    });
    scaling.restart();
    scaling.during(2 * PATIENCE.boot, 3);
    assert_eq!(scaling.arm.set(|set| set.instances().len()), 3);
    assert_eq!(scaling.arm.set(|set| set.capacity()), 3);
}

#[test]
fn what_never_came_counts_as_asked_for_until_the_boot_deadline() {
    let mut scaling = Scaling::new(Settings::default());
    scaling.arm.set(|set| set.faults.room = Some(7));
    let begun = Instant::now();
    scaling.until("seven came", 10, |set| {
        set.instances().iter().filter(|one| one.is_at_work).count() == 7
    });
    let seen = scaling.look().unwrap();
    if begun.elapsed() < PATIENCE.boot {
        assert_eq!((seen.requested, seen.booting, seen.ready), (10, 3, 7));
    }
    let deadline = Instant::now() + super::WITHIN;
    while scaling.look().map(|seen| seen.requested).unwrap_or(10) != 7 {
        assert!(Instant::now() < deadline, "the missing ones still count");
        std::thread::sleep(Duration::from_millis(2));
    }
    scaling.arm.set(|set| set.faults.room = None);
    scaling.converges(10);
    assert_eq!(scaling.arm.set(|set| set.log().created), 10);
}

#[test]
fn an_instance_that_never_boots_is_deleted_and_replaced() {
    let mut scaling = Scaling::new(Settings::default());
    scaling.arm.set(|set| set.faults.never_boot = 1.0);
    scaling.until("two that never boot", 2, |set| set.instances().len() == 2);
    scaling.arm.set(|set| set.faults.never_boot = 0.0);
    scaling.converges(2);
    assert_eq!(scaling.arm.set(|set| ids(set)), ["2", "3"]);
}

#[test]
fn instances_at_work_are_protected_once_where_there_is_protection() {
    for (mode, expected) in [(Mode::Uniform, 5), (Mode::Flexible, 0)] {
        let mut scaling = Scaling::new(Settings {
            mode,
            ..Settings::default()
        });
        scaling.converges(5);
        scaling.during(Duration::from_millis(100), 5);
        assert_eq!(scaling.arm.set(|set| set.log().protections), expected, "{mode:?}");
        let protected = |set: &mut ScaleSet| set.instances().iter().filter(|one| one.is_protected).count();
        assert_eq!(scaling.arm.set(protected), expected as usize);
        scaling.converges(0);
    }
}

#[test]
fn a_throttled_scaler_waits_as_long_as_it_is_asked_to() {
    let mut scaling = Scaling::new(Settings::default());
    scaling.look().unwrap();
    scaling.arm.set(|set| set.faults.throttle = 2);
    let asked_to_wait = scaling.resize(3).unwrap_err();
    assert_eq!(
        asked_to_wait.to_string(),
        format!("cannot change the capacity: {SCALE_SET}: it asks to wait for 1s")
    );
    let requests = scaling.arm.set(|set| set.log().requests);
    let refused = scaling.step(3);
    assert!(
        matches!(refused, Err(FleetError::Throttled { .. })),
        "{refused:?}"
    );
    assert_eq!(
        scaling.arm.set(|set| set.log().requests),
        requests,
        "ARM was asked meanwhile"
    );
    scaling.converges(3);
}

#[test]
fn a_scale_set_that_changed_meanwhile_is_read_again() {
    let mut scaling = Scaling::new(Settings::default());
    scaling.look().unwrap();
    scaling.arm.set(ScaleSet::touch);
    scaling.resize(3).unwrap();
    let (stale, writes) = scaling
        .arm
        .set(|set| (set.log().stale_etags, set.log().capacity_writes));
    assert_eq!((stale, writes), (1, 0));
    scaling.converges(3);
}

#[test]
fn a_step_ends_in_time_though_nobody_answers() {
    let mut scaling = Scaling::with(Settings::default(), |options| {
        options.patience.arm = Duration::from_secs(30);
        options.patience.step = Duration::from_millis(300);
    });
    scaling
        .arm
        .set(|set| set.faults.latency = Duration::from_secs(3600));
    let begun = Instant::now();
    let error = scaling.step(3).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot resize: {SCALE_SET}: no answer for 300ms")
    );
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[test]
fn the_token_goes_to_no_other_host() {
    let mut scaling = Scaling::new(Settings {
        capacity: 5,
        ..Settings::default()
    });
    scaling.converges(5);
    scaling.arm.set(|set| set.faults.foreign_pages = true);
    let before = scaling.arm.set(|set| set.log().requests);
    let error = scaling.look().unwrap_err();
    assert!(matches!(error, FleetError::Away { .. }), "{error}");
    assert!(error.to_string().contains("which is not ARM"), "{error}");
    assert_eq!(
        scaling.arm.set(|set| set.log().requests),
        before + 2,
        "the next page was asked for"
    );
}

#[test]
fn options_that_cannot_work_are_refused() {
    let scaling = Scaling::new(Settings::default());
    let refused = |change: fn(&mut VmssOptions)| {
        let mut options = scaling.options.clone();
        change(&mut options);
        let error = Vmss::new(options, Imds::of(&scaling.arm)).err().unwrap();
        assert!(matches!(error, FleetError::Refused { .. }), "{error}");
        error.to_string()
    };
    let said = refused(|options| options.endpoint = "http://management.azure.com".to_owned());
    assert!(said.contains("is not encrypted"), "{said}");
    let said = refused(|options| options.resource_group = "plant/../other".to_owned());
    assert!(said.contains("is not a name that Azure gives"), "{said}");
    let said = refused(|options| options.workers_per_instance = 13);
    assert!(said.contains("at most 12 are allowed"), "{said}");
}

#[test]
fn a_refusal_says_what_to_change() {
    let mut scaling = Scaling::with(Settings::default(), |options| {
        options.scale_set = "fleeet".to_owned();
    });
    let refused = scaling.look().unwrap_err();
    assert!(matches!(refused, FleetError::Refused { .. }), "{refused}");
    let said = refused.to_string();
    assert!(said.contains("fleeet: ResourceNotFound"), "{said}");
    assert!(said.contains("check the subscription, group and name"), "{said}");

    let (ours, another) = (Scaling::new(Settings::default()), Arm::start(Settings::default()));
    let mut vmss = Vmss::new(ours.options.clone(), Imds::of(&another)).unwrap();
    let refused = ours.runtime.block_on(vmss.look(None)).unwrap_err();
    assert!(matches!(refused, FleetError::Refused { .. }), "{refused}");
    assert!(
        refused.to_string().contains("needs a token of this tenant"),
        "{refused}"
    );
}
