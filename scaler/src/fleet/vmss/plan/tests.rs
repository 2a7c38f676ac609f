use proptest::prelude::*;

use super::*;

fn state() -> impl Strategy<Value = State> {
    prop_oneof![
        Just(State::Booting),
        (0_u64..4).prop_map(|in_hand| State::Ready { in_hand }),
        (0_u64..3).prop_map(|in_hand| State::Draining { in_hand }),
        any::<(bool, bool)>().prop_map(|(has_worked, drain_asked)| State::Silent {
            has_worked,
            drain_asked
        }),
        Just(State::Dead(Dead::NeverReady)),
        Just(State::Deleting),
    ]
}

fn instances() -> impl Strategy<Value = Vec<Instance>> {
    prop::collection::vec((state(), 0_u32..5), 0..12).prop_map(|all| {
        let instance = |(nth, (state, day)): (usize, (State, u32))| Instance {
            id: nth.to_string(),
            created: format!("2026-01-0{day}"),
            may_be_deleted: day == 0 && matches!(state, State::Draining { in_hand: 0 } | State::Dead(_)),
            state,
        };
        all.into_iter().enumerate().map(instance).collect()
    })
}

/// The capacity may be anything: a person may have written it, or the platform may be behind.
fn scenes() -> impl Strategy<Value = (Vec<Instance>, u32, bool)> {
    (instances(), 0_u32..20, any::<bool>())
}

fn state_of<'a>(instances: &'a [Instance], id: &str) -> &'a State {
    let mut found = instances.iter().filter(|instance| instance.id == id);
    &found.next().unwrap().state
}

/// What the scale set looks like when everything in the plan was carried out and nothing has come yet.
fn carried_out(plan: &Plan, scene: &Scene<'_>) -> (Vec<Instance>, u32) {
    let mut capacity = plan.capacity.unwrap_or(scene.capacity);
    let mut instances = scene.instances.to_vec();
    for instance in &mut instances {
        if plan.delete.contains(&instance.id) {
            instance.state = State::Deleting;
            capacity = capacity.saturating_sub(1);
        } else if plan.drain.contains(&instance.id) {
            instance.state = match instance.state {
                State::Ready { in_hand } => State::Draining { in_hand },
                _ => State::Draining { in_hand: 0 },
            };
        }
    }
    (instances, capacity)
}

proptest! {
    #[test]
    fn only_drained_and_dead_instances_are_deleted((instances, capacity, lost) in scenes(), wanted in 0_u32..20) {
        let scene = Scene { instances: &instances, capacity, mismatch_lasts: lost };
        for id in plan(wanted, &scene).delete {
            let state = state_of(&instances, &id);
            prop_assert!(matches!(state, State::Draining { in_hand: 0 } | State::Dead(_)), "{state:?}");
        }
    }

    #[test]
    fn what_may_work_never_grows_beyond_what_is_wanted((instances, capacity, lost) in scenes(), wanted in 0_u32..20) {
        let scene = Scene { instances: &instances, capacity, mismatch_lasts: lost };
        let before = Count::of(&scene);
        if let Some(written) = plan(wanted, &scene).capacity {
            // Everything that the capacity allows may come.
            let may_work = written.max(before.all()) - before.draining;
            prop_assert!(may_work <= wanted.max(before.at_most() + before.to_come), "{may_work} for {wanted}");
            prop_assert!(written <= capacity || may_work <= wanted.max(before.at_most()), "{may_work} for {wanted}");
        }
    }

    #[test]
    fn a_capacity_below_the_instances_is_never_written((instances, capacity, lost) in scenes(), wanted in 0_u32..20) {
        let scene = Scene { instances: &instances, capacity, mismatch_lasts: lost };
        let exist = Count::of(&scene).all();
        if let Some(written) = plan(wanted, &scene).capacity {
            prop_assert!(written >= exist, "{written} for {exist} instances");
            prop_assert!(written >= capacity || (lost && exist == 0), "{written} after {capacity}");
        }
    }

    #[test]
    fn draining_leaves_what_is_wanted((instances, capacity, lost) in scenes(), wanted in 0_u32..20) {
        let scene = Scene { instances: &instances, capacity, mismatch_lasts: lost };
        let drain = plan(wanted, &scene).drain;
        let stay = instances.iter().filter(|instance| match instance.state {
            State::Booting | State::Ready { .. } => !drain.contains(&instance.id),
            State::Silent { drain_asked, .. } => !drain_asked,
            _ => false,
        });
        prop_assert!(drain.is_empty() || stay.count() >= wanted as usize);
        let most = drain.iter().map(|id| match state_of(&instances, id) {
            State::Booting => None,
            State::Ready { in_hand } => Some(*in_hand),
            other => panic!("{other:?} must not be asked to drain"),
        }).max();
        for instance in &instances {
            let Some(most) = most else { break };
            let less = match instance.state {
                State::Booting => most.is_some(),
                State::Ready { in_hand } => most > Some(in_hand),
                _ => false,
            };
            prop_assert!(!less || drain.contains(&instance.id), "{instance:?} holds less");
        }
    }

    #[test]
    fn the_same_call_again_changes_nothing((instances, capacity, lost) in scenes(), wanted in 0_u32..20) {
        let scene = Scene { instances: &instances, capacity, mismatch_lasts: lost };
        let first = plan(wanted, &scene);
        let (instances, capacity) = carried_out(&first, &scene);
        let again = plan(wanted, &Scene { instances: &instances, capacity, mismatch_lasts: false });
        prop_assert_eq!(&again.drain, &Vec::<String>::new());
        // The second call replaces the dead, whose deletion the first one only asked for.
        let dead = first.delete.iter().filter(|id| matches!(state_of(scene.instances, id), State::Dead(_))).count();
        let grown = again.capacity.map_or(0, |written| written - capacity);
        let waited = scene.capacity < Count::of(&scene).all();
        // Nor does the first call count on a deletion of which no answer came; the second one knows of it.
        let unsure = scene.instances.iter().filter(|one| one.may_be_deleted).count();
        prop_assert!(waited || grown as usize <= dead + unsure, "{grown} more, {dead} dead, {unsure} unsure");
    }

    #[test]
    fn every_scene_that_answers_converges((instances, capacity, _) in scenes(), wanted in 0_u32..12) {
        let mut instances: Vec<Instance> = instances.into_iter().filter(|instance| !matches!(instance.state, State::Silent { .. })).collect();
        let mut capacity = capacity.max(Count::of(&Scene { instances: &instances, capacity, mismatch_lasts: false }).all());
        for step in 0..20_u32 {
            let scene = Scene { instances: &instances, capacity, mismatch_lasts: false };
            let plan = plan(wanted, &scene);
            (instances, capacity) = carried_out(&plan, &scene);
            instances.retain(|instance| instance.state != State::Deleting);
            for instance in &mut instances {
                match &mut instance.state {
                    State::Booting => instance.state = State::Ready { in_hand: 1 },
                    State::Draining { in_hand } => *in_hand = in_hand.saturating_sub(1),
                    _ => {}
                }
            }
            for nth in instances.len()..capacity as usize {
                instances.push(Instance { id: format!("{step}-{nth}"), created: format!("2026-02-{step:02}"), state: State::Booting, may_be_deleted: false });
            }
        }
        let count = Count::of(&Scene { instances: &instances, capacity, mismatch_lasts: false });
        prop_assert_eq!((count.ready, count.all(), capacity), (wanted, wanted, wanted));
    }
}

fn ready(id: &str, in_hand: u64) -> Instance {
    let (id, created) = (id.to_owned(), String::new());
    let state = State::Ready { in_hand };
    Instance {
        id,
        created,
        state,
        may_be_deleted: false,
    }
}

#[test]
fn what_never_came_is_asked_for_again_and_counts_as_coming() {
    let seven: Vec<Instance> = (0..7).map(|nth| ready(&nth.to_string(), 1)).collect();
    let scene = |capacity, mismatch_lasts| Scene {
        instances: &seven,
        capacity,
        mismatch_lasts,
    };
    assert_eq!(plan(10, &scene(10, false)), Plan::default());
    assert_eq!(plan(10, &scene(10, true)).capacity, Some(10));
    assert_eq!(plan(8, &scene(10, true)).capacity, Some(10));
    assert_eq!(plan(12, &scene(10, true)).capacity, Some(12));
    assert_eq!(plan(7, &scene(10, true)), Plan::default());
    let none = Scene {
        instances: &[],
        capacity: 3,
        mismatch_lasts: true,
    };
    assert_eq!(plan(0, &none).capacity, Some(0));
}

#[test]
fn a_scale_out_while_some_drain_adds_new_ones() {
    let mut two = vec![ready("0", 1), ready("1", 5)];
    two[1].state = State::Draining { in_hand: 5 };
    let scene = Scene {
        instances: &two,
        capacity: 2,
        mismatch_lasts: false,
    };
    assert_eq!(plan(2, &scene).capacity, Some(3));
}

#[test]
fn a_lost_drain_request_is_counted_as_heard_when_shrinking_and_as_lost_when_growing() {
    let mut two = vec![ready("0", 1), ready("1", 0)];
    two[1].state = State::Silent {
        has_worked: true,
        drain_asked: true,
    };
    let scene = Scene {
        instances: &two,
        capacity: 2,
        mismatch_lasts: false,
    };
    assert_eq!(plan(1, &scene), Plan::default());
    assert_eq!(plan(2, &scene), Plan::default());
}

#[test]
fn a_deletion_of_which_no_answer_came_makes_no_room_until_it_is_seen() {
    // The capacity may be 3 already without the first, and have another instance on its way.
    let mut three = vec![ready("0", 0), ready("1", 1), ready("2", 1)];
    three[0].state = State::Draining { in_hand: 0 };
    three[0].may_be_deleted = true;
    let scene = Scene {
        instances: &three,
        capacity: 3,
        mismatch_lasts: false,
    };
    let again = plan(3, &scene);
    assert_eq!((again.capacity, again.delete), (None, vec!["0".to_owned()]));
}

#[test]
fn a_capacity_below_the_instances_is_waited_for_and_then_overruled() {
    let three: Vec<Instance> = (0..3).map(|nth| ready(&nth.to_string(), 1)).collect();
    let scene = |mismatch_lasts| Scene {
        instances: &three,
        capacity: 1,
        mismatch_lasts,
    };
    assert_eq!(plan(4, &scene(false)), Plan::default());
    assert_eq!(plan(4, &scene(true)).capacity, Some(4));
}
