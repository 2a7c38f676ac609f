use std::time::Duration;

use proptest::prelude::*;
use windrow_common::{IncidentKind, Severity};

use super::super::Limits;
use super::*;

const MINUTE: i64 = 60_000;

fn minute(number: i64) -> EventTime {
    EventTime::from_millis(number * MINUTE)
}

fn window(number: i64, score: f64) -> Window {
    Window {
        start: minute(number),
        end: minute(number + 1),
        score,
        threshold: None,
        value: None,
        count: 60,
        breach: None,
        cause: None,
    }
}

/// Returns the incidents of windows, one a minute from the minute 0 on, closed ones first.
fn courses(scores: &[f64], rules: &Rules) -> Vec<Course> {
    let windows = scores
        .iter()
        .zip(0..)
        .map(|(score, number)| window(number, *score));
    of_windows(windows, minute(scores.len() as i64), rules)
}

fn of_windows(windows: impl IntoIterator<Item = Window>, now: EventTime, rules: &Rules) -> Vec<Course> {
    let (mut track, mut ended) = (Track::default(), Vec::new());
    for window in windows {
        track.take(&window, rules, &mut ended);
    }
    ended.extend(track.open(now, rules));
    ended
}

fn rules() -> Rules {
    Rules {
        threshold: 0.3,
        quiet: 3,
        ..Rules::default()
    }
}

#[test]
fn anomalous_windows_are_one_incident_until_it_was_quiet_for_long_enough() {
    let scores = [-1.0, 0.3, 0.5, -1.0, -1.0, 0.4, -1.0, -1.0, -1.0, -1.0, 0.31];
    let found = courses(&scores, &rules());
    assert_eq!(found.len(), 2, "{found:?}");
    let first = &found[0];
    assert_eq!((first.opened, first.noticed), (minute(2), minute(3)));
    assert_eq!((first.until, first.closed), (minute(6), Some(minute(9))));
    assert_eq!(first.windows, 2);
    let peak = first.peak.as_ref().unwrap();
    assert_eq!((peak.score, peak.at), (0.5, minute(2)));
    assert_eq!(first.severity(), Severity::Warning);
    let second = &found[1];
    assert_eq!((second.opened, second.closed), (minute(10), None));
}

#[test]
fn a_high_score_escalates_once() {
    let found = courses(&[0.5, 3.0, 3.5, 9.0], &rules());
    assert_eq!(found[0].escalated, Some(minute(2)));
    assert_eq!(found[0].severity(), Severity::Critical);
    assert_eq!(found[0].peak.as_ref().unwrap().at, minute(3));
}

#[test]
fn an_incident_opens_when_enough_of_the_last_windows_are_anomalous() {
    let rules = Rules {
        open_after: 2,
        of: 3,
        ..rules()
    };
    assert_eq!(courses(&[0.5, -1.0, -1.0, 0.5, -1.0, -1.0, 0.5], &rules), []);
    let found = courses(&[0.9, -1.0, -1.0, 0.5, -1.0, 0.6, -1.0], &rules);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].opened, found[0].noticed), (minute(3), minute(6)));
    assert_eq!(
        (found[0].windows, found[0].peak.as_ref().unwrap().score),
        (2, 0.6)
    );
}

#[test]
fn a_sensor_is_silent_after_three_times_its_longest_pause_and_at_once() {
    let rules = Rules {
        silent_after: Duration::from_secs(5 * 60),
        ..rules()
    };
    let windows = |numbers: &[i64]| {
        numbers
            .iter()
            .map(|number| window(*number, -1.0))
            .collect::<Vec<_>>()
    };
    // Each minute: five minutes after the last window.
    let each = windows(&[0, 1, 2, 3, 4]);
    assert_eq!(of_windows(each.clone(), minute(10), &rules), []);
    let found = of_windows(each.clone(), minute(11), &rules);
    assert_eq!(found.len(), 1);
    assert_eq!(
        (found[0].kind, found[0].opened, found[0].noticed),
        (IncidentKind::Silent, minute(5), minute(10))
    );
    // It ends with the next window, and was one incident.
    let again = each.into_iter().chain(windows(&[60, 61]));
    let found = of_windows(again, minute(62), &rules);
    assert_eq!((found[0].until, found[0].closed), (minute(60), Some(minute(60))));
    // Every quarter of an hour: 45 minutes after the start of the last window.
    let quarters = windows(&[0, 15, 30, 45, 60]);
    assert_eq!(of_windows(quarters.clone(), minute(105), &rules), []);
    assert_eq!(of_windows(quarters, minute(106), &rules)[0].noticed, minute(105));
    // A sensor of which hardly anything is known cannot be missed.
    assert_eq!(of_windows(windows(&[0, 1, 2]), minute(500), &rules), []);
}

#[test]
fn a_sensor_with_a_threshold_of_its_own_is_anomalous_and_critical_above_that() {
    let own = |number, score, threshold| Window {
        threshold,
        ..window(number, score)
    };
    let rules = Rules {
        open_after: 2,
        of: 3,
        ..rules()
    };
    let found = |first, second, threshold| {
        let windows = [own(0, first, threshold), own(1, second, threshold)];
        let found = of_windows(windows, minute(2), &rules);
        found.first().map(Course::severity)
    };
    let (warning, critical) = (Some(Severity::Warning), Some(Severity::Critical));
    // The rules have 0.3 and 3.
    for (first, second, threshold, right) in [
        (0.5, 0.5, None, warning),
        (0.5, 3.1, None, critical),
        (2.5, 2.6, Some(2.6), None),
        (2.7, 5.2, Some(2.6), warning),
        (5.4, 2.7, Some(2.6), critical),
        (0.1, 0.2, Some(0.0), warning),
        (2.8, 0.2, Some(0.0), critical),
    ] {
        assert_eq!(
            found(first, second, threshold),
            right,
            "{first} {second} {threshold:?}"
        );
    }
    // It is the window's: an incident that opened with one model goes on with the next.
    let windows = [
        (0.5, None),
        (2.0, Some(2.6)),
        (2.7, Some(2.6)),
        (0.5, Some(2.6)),
        (0.5, None),
    ];
    let windows = (0..).zip(windows);
    let found = of_windows(
        windows.map(|(number, (score, threshold))| own(number, score, threshold)),
        minute(5),
        &rules,
    );
    assert_eq!((found[0].windows, found[0].until), (3, minute(5)));
}

#[test]
fn a_sensor_that_reports_less_often_is_missed_a_few_times_and_not_for_ever() {
    let dense = (0..50).map(|number| window(number, -1.0));
    let sparse = (1..30).map(|day| window(50 + day * 1_440, -1.0));
    let found = of_windows(dense.chain(sparse), minute(50 + 29 * 1_440), &Rules::default());
    assert!((1..=10).contains(&found.len()), "{}", found.len());
}

#[test]
fn only_a_sensor_that_used_to_vary_is_stuck() {
    let flat = |number: i64, value: f64| Window {
        value: Some(value),
        ..window(number, -1.0)
    };
    let rules = Rules {
        stuck_after: 10,
        ..rules()
    };
    // Now and then it repeats a value once.
    let varied = (0..100).map(|number| flat(number, (number - i64::from(number % 10 == 1)) as f64));
    let stuck = (100..130).map(|number| flat(number, 7.0));
    let found = of_windows(varied.clone().chain(stuck.clone()), minute(130), &rules);
    assert_eq!(found.len(), 1);
    assert_eq!(
        (found[0].kind, found[0].opened, found[0].noticed),
        (IncidentKind::Stuck, minute(100), minute(110))
    );
    assert_eq!((found[0].windows, found[0].closed), (30, None));
    let over = varied.chain(stuck).chain([flat(130, 7.5)]);
    assert_eq!(of_windows(over, minute(131), &rules)[0].closed, Some(minute(131)));
    // A set point, and a status bit that changes now and then.
    let set_point = (0..500).map(|number| flat(number, 7.0));
    assert_eq!(of_windows(set_point, minute(500), &rules), []);
    let bit = (0..2_000).map(|number| flat(number, ((number / 90) % 2) as f64));
    assert_eq!(of_windows(bit, minute(2_000), &rules), []);
}

#[test]
fn a_sensor_that_repeats_nothing_is_stuck_after_a_few_windows() {
    let flat = |number: i64| Window {
        value: Some(7.0),
        ..window(number, -1.0)
    };
    let noticed = |varied: i64, repeats: Option<i64>| {
        let before = (0..varied).map(|number| match repeats {
            Some(at) if number == at || number == at + 1 => flat(number),
            _ => window(number, -1.0),
        });
        let stuck = (varied..varied + 100).map(flat);
        let found = of_windows(before.chain(stuck), minute(varied + 100), &Rules::default());
        assert!(found.len() < 2, "{found:?}");
        let found = found.first().filter(|course| course.opened == minute(varied));
        found.map(|course| course.noticed.as_millis() / MINUTE - varied)
    };
    // It has to be seen for four hours first, the first stuck window included.
    assert_eq!(noticed(238, None), None);
    assert_eq!(noticed(239, None), Some(10));
    // A repetition is remembered for about 700 windows.
    assert_eq!(noticed(600, Some(290)), Some(60));
    assert_eq!(noticed(1_200, Some(290)), Some(10));
}

#[test]
fn a_value_at_which_a_sensor_has_rested_before_is_no_fault() {
    let day = 1_440;
    // A pump that stands for two hours every other day, where its flow is exactly 0.
    let pump = |days: i64| {
        let stands = |number: i64| number % (2 * day) >= 2 * day - 120;
        (0..days * day).map(move |number| Window {
            value: stands(number).then_some(0.0),
            ..window(number, -1.0)
        })
    };
    let stuck_at = |number: i64, value: f64| Window {
        value: Some(value),
        ..window(number, -1.0)
    };
    let (days, begun) = (30, 30 * day);
    let found = of_windows(pump(days), minute(begun), &Rules::default());
    let opened: Vec<i64> = found
        .iter()
        .map(|course| course.opened.as_millis() / MINUTE)
        .collect();
    // That it comes back is known after two of them.
    assert_eq!(opened, [2 * day - 120, 4 * day - 120]);
    // That it is stuck at a value of its own is seen as soon as before.
    let found = |value, windows| {
        let after = (begun..begun + windows).map(move |number| stuck_at(number, value));
        let running = (begun..begun + 1).map(|number| window(number, -1.0));
        let all = pump(days).chain(running).chain(after.skip(1));
        let found = of_windows(all, minute(begun + windows), &Rules::default());
        found
            .get(2)
            .map(|course| course.noticed.as_millis() / MINUTE - begun - 1)
    };
    assert_eq!(found(7.0, 100), Some(10));
    // At 0 it is after three times its usual rest.
    assert_eq!((found(0.0, 361), found(0.0, 362)), (None, Some(361)));
}

#[test]
fn a_sensor_that_mostly_rests_is_stuck_at_other_values_and_a_rare_rest_is_told_each_time() {
    let day = 1_440;
    let cycle = |runs: i64, stands: i64, times: i64, last: f64| {
        let length = runs + stands;
        let windows = (0..times * length).map(move |number| Window {
            value: (number % length >= runs).then_some(match number / length + 1 == times {
                true => last,
                false => 0.0,
            }),
            ..window(number, -1.0)
        });
        let found = of_windows(windows, minute(times * length), &Rules::default());
        let opened = found
            .iter()
            .map(|course| course.opened.as_millis() / MINUTE / length);
        opened.collect::<Vec<_>>()
    };
    // It stands for five days in seven.
    assert_eq!(cycle(2 * day, 5 * day, 10, 0.0), [0, 1]);
    assert_eq!(cycle(2 * day, 5 * day, 10, 7.0), [0, 1, 9]);
    // A wire that breaks for a day every three weeks.
    assert_eq!(cycle(20 * day, day, 6, 0.0), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn a_sensor_that_rests_anywhere_is_stuck_once_at_most() {
    // A valve that moves for an hour and then rests for another, at one of five places.
    let valve = (0..30 * 1_440).map(|number| Window {
        value: (number % 120 >= 60).then_some((number / 120 % 5) as f64),
        ..window(number, -1.0)
    });
    let found = of_windows(valve, minute(30 * 1_440), &Rules::default());
    assert!(found.len() <= 1, "{}", found.len());
}

/// Returns windows of a minute with these numbers of readings, from the minute `from` on.
fn counted(from: i64, counts: impl IntoIterator<Item = u32>) -> Vec<Window> {
    let of = |(number, count)| Window {
        count,
        ..window(number, -1.0)
    };
    (from..).zip(counts).map(of).collect()
}

fn rates(windows: Vec<Window>) -> Vec<Course> {
    let end = windows.last().map_or(minute(0), |last| last.end);
    let mut found = of_windows(windows, end, &Rules::default());
    found.retain(|course| course.kind == IncidentKind::Rate);
    found
}

#[test]
fn a_value_outside_of_the_range_is_an_incident_at_once_and_over_once_it_was_inside_for_long_enough() {
    let limits = Limits {
        low: -40.0,
        high: 125.0,
    };
    let of = |number: i64, min: f64, max: f64| Window {
        breach: limits.breach(min, max, minute(number)),
        ..window(number, -1.0)
    };
    let windows = [
        of(0, -40.0, 125.0),
        of(1, 20.0, 126.0),
        of(2, -45.0, 125.5),
        of(3, 20.0, 21.0),
        of(4, 20.0, 125.25),
        of(5, 20.0, 21.0),
        of(6, 20.0, 21.0),
        of(7, 20.0, 21.0),
    ];
    let found = of_windows(windows[..3].to_vec(), minute(3), &rules());
    assert_eq!(found.len(), 1);
    let open = &found[0];
    assert_eq!((open.kind, open.closed), (IncidentKind::Range, None));
    assert_eq!((open.opened, open.noticed), (minute(1), minute(2)));
    let breach = open.breach.unwrap();
    assert_eq!((breach.value, breach.limit, breach.at), (-45.0, -40.0, minute(2)));
    let found = of_windows(windows, minute(8), &rules());
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].until, found[0].closed), (minute(5), Some(minute(8))));
    assert_eq!((found[0].windows, found[0].breach), (3, Some(breach)));
}

#[test]
fn a_sensor_of_a_steady_rate_that_sends_far_less_has_lost_it() {
    let day = 1_440;
    let steady = || (0..3 * day).map(|number| 60 + (number % 5) as u32);
    // A third of 62 is more than 20.
    let slow = |count: u32, windows: usize| std::iter::repeat_n(count, windows);
    assert_eq!(rates(counted(0, steady().chain(slow(21, 200)))), []);
    assert_eq!(rates(counted(0, steady().chain(slow(20, 14)))), []);
    let found = rates(counted(0, steady().chain(slow(20, 14)).chain([3])));
    assert_eq!(found.len(), 1);
    let begun = 3 * day;
    assert_eq!(
        (found[0].opened, found[0].noticed),
        (minute(begun), minute(begun + 15))
    );
    assert_eq!((found[0].windows, found[0].closed), (15, None));
    let breach = found[0].breach.unwrap();
    assert_eq!(
        (breach.value, breach.limit, breach.at),
        (3.0, 21.0, minute(begun + 14))
    );
    // It is over with half of the usual readings.
    let over = steady().chain(slow(3, 20)).chain([30, 31]);
    let found = rates(counted(0, over));
    assert_eq!(
        (found[0].windows, found[0].closed),
        (21, Some(minute(begun + 22)))
    );
    // A sensor that is hardly known has no rate to lose.
    let known = (0..2 * day - 1).map(|_| 60);
    assert_eq!(rates(counted(0, known.chain(slow(3, 200)))), []);
}

#[test]
fn a_sensor_that_sends_when_something_happens_loses_no_rate() {
    let days = 5 * 1_440;
    // Bursts: most windows have few readings, some have many.
    let bursts = (0..days).map(|number| {
        if number % 7 < 2 {
            90
        } else {
            1 + (number % 3) as u32
        }
    });
    assert_eq!(rates(counted(0, bursts)), []);
    // Any number, then few for hours.
    let any = (0..days).map(|number| 1 + ((number * 7_919) % 101) as u32);
    assert_eq!(rates(counted(0, any.chain(std::iter::repeat_n(1, 600)))), []);
    // Little at night, from the first night on, and whenever it begins.
    for begins in [0, 240, 480, 960] {
        let nights = (begins..begins + days).map(|number| if number % 1_440 < 480 { 5 } else { 100 });
        assert_eq!(rates(counted(begins, nights)), []);
    }
    // One or two readings a window say nothing about a rate.
    let few = (0..days).map(|number| 1 + (number % 2) as u32);
    assert_eq!(rates(counted(0, few)), []);
}

#[test]
fn a_rate_that_stays_is_usual_after_a_week() {
    let day = 1_440;
    let slower = (0..20 * day).map(|number| if number < 3 * day { 60 } else { 6 });
    let found = rates(counted(0, slower));
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].closed, Some(minute(10 * day + 1)));
    let again = (0..22 * day).map(|number| match number / day {
        0..3 => 60,
        3..21 => 6,
        _ => 1,
    });
    assert_eq!(rates(counted(0, again)).len(), 2);
}

/// Windows in stretches, each of which may be an incident of one of the kinds.
fn any_stretches() -> impl Strategy<Value = Vec<Window>> {
    let stretch = (0..6_u8, 1..40_i64);
    proptest::collection::vec(stretch, 1..14).prop_map(|stretches| {
        // Long enough before that a sensor varies and has a rate.
        let known = 3_000;
        let mut windows: Vec<Window> = (0..known).map(|number| window(number, -1.0)).collect();
        let mut next = known;
        for (kind, length) in stretches {
            for number in next..next + length {
                let usual = window(number, -1.0);
                windows.push(match kind {
                    0 => usual,
                    1 => Window { score: 0.9, ..usual },
                    2 => Window {
                        value: Some(7.0),
                        ..usual
                    },
                    3 => Window { count: 1, ..usual },
                    4 => Window {
                        breach: Limits { low: 0.0, high: 1.0 }.breach(2.0, 2.0, usual.start),
                        ..usual
                    },
                    // Nothing comes.
                    _ => continue,
                });
            }
            next += length;
        }
        windows
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn what_later_windows_may_change_is_among_the_openings_and_what_is_final_is_not(windows in any_stretches()) {
        let rules = Rules { open_after: 2, of: 3, silent_after: Duration::from_secs(600), ..rules() };
        let all = of_windows(windows.clone(), windows[windows.len() - 1].end, &rules);
        let (mut track, mut ended) = (Track::default(), Vec::new());
        for window in windows {
            track.take(&window, &rules, &mut ended);
            let openings: Vec<_> = track.openings().collect();
            for course in &all {
                let is_final = ended.iter().any(|over| (over.kind, over.opened) == (course.kind, course.opened));
                let is_opening = openings.contains(&(course.kind, course.opened));
                if course.opened <= window.start || course.kind == IncidentKind::Silent && course.opened <= window.end {
                    prop_assert_eq!(is_opening, !is_final, "{:?} at {}", course, window.start);
                }
            }
        }
    }
}
