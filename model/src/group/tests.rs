use proptest::prelude::*;

use super::*;

const MINUTE: i64 = 60_000;

fn minute(at: i64) -> EventTime {
    EventTime::from_millis(at * MINUTE)
}

fn length() -> Length {
    Length::from_millis(MINUTE)
}

fn window(at: i64, mean: f64) -> Aggregate {
    Aggregate {
        window_start: minute(at),
        count: 2,
        mean,
        std: 0.5,
        min: mean,
        max: mean,
        first: mean,
        last: mean,
    }
}

fn group(tags: usize, smoothing: usize) -> Group {
    let tags = (0..tags).map(|tag| format!("t{tag:02}").into()).collect();
    Group::new(tags, smoothing, length()).unwrap()
}

fn rows(group: &Group, series: &[Vec<Aggregate>], interval: Range<i64>) -> GroupRows {
    let series: Vec<&[Aggregate]> = series.iter().map(Vec::as_slice).collect();
    let features = "mean".parse().unwrap();
    group.rows(&features, &series, minute(interval.start)..minute(interval.end))
}

#[test]
fn a_column_is_the_mean_of_the_last_windows_of_its_tag() {
    let series = [
        (0..6).map(|at| window(at, f64::from(at as i32))).collect(),
        (0..6).map(|at| window(at, 100.0)).collect(),
    ];
    let three = rows(&group(2, 3), &series, 2..5);
    assert_eq!(three.starts, [minute(2), minute(3), minute(4)]);
    assert_eq!(three.values, [1.0, 100.0, 2.0, 100.0, 3.0, 100.0]);
    assert_eq!((three.counts, three.unscored), (vec![12, 12, 12], 0));
    // The first window has one of three, which is less than half.
    let first = rows(&group(2, 3), &series, 0..2);
    assert_eq!((first.starts, first.unscored), (vec![minute(1)], 1));
    assert_eq!(first.values, [0.5, 100.0]);
}

#[test]
fn a_quarter_of_the_tags_may_lack_a_window_and_each_has_at_least_half_of_its_context() {
    let without = |missing: &[(usize, i64)]| {
        let series: Vec<Vec<Aggregate>> = (0..8)
            .map(|tag| {
                let there = (0..20).filter(|at| !missing.contains(&(tag, *at)));
                there.map(|at| window(at, 1.0 + f64::from(at as i32))).collect()
            })
            .collect();
        rows(&group(8, 4), &series, 10..11)
    };
    assert_eq!(without(&[]).values, [9.5; 8]);
    let two = without(&[(0, 10), (7, 10)]);
    assert_eq!(two.values, [9.0, 9.5, 9.5, 9.5, 9.5, 9.5, 9.5, 9.0]);
    assert_eq!(two.counts, [60]);
    assert_eq!(without(&[(0, 10), (3, 10), (7, 10)]).unscored, 1);
    assert_eq!(without(&[(0, 9), (0, 10)]).values[0], 8.5);
    assert_eq!(without(&[(0, 8), (0, 9), (0, 10)]).unscored, 1);
    // What lacks in earlier windows is another matter than what lacks in this one.
    let earlier: Vec<(usize, i64)> = (0..8).map(|tag| (tag, 9)).collect();
    assert_eq!(without(&earlier).unscored, 0);
}

#[test]
fn rows_that_are_not_wanted_are_dropped() {
    let series = [0, 100].map(|more| (0..6).map(|at| window(at, (at + more) as f64)).collect());
    let mut kept = rows(&group(2, 1), &series, 0..6);
    kept.retain(|start| start.as_millis() / MINUTE % 3 == 1);
    assert_eq!(kept.starts, [minute(1), minute(4)]);
    assert_eq!(
        (kept.values, kept.counts),
        (vec![1.0, 101.0, 4.0, 104.0], vec![4, 4])
    );
    let mut none = GroupRows::default();
    none.retain(|_| true);
    assert_eq!(none, GroupRows::default());
}

#[test]
fn groups_that_make_no_sense_are_refused() {
    let of = |tags: &[&str], smoothing| {
        Group::new(
            tags.iter().map(|tag| (*tag).into()).collect(),
            smoothing,
            length(),
        )
    };
    assert!(of(&["a", "b"], 500).is_ok());
    for (tags, smoothing) in [
        (&["a"][..], 1),
        (&["b", "a"], 1),
        (&["a", "a"], 1),
        (&["", "a"], 1),
        (&["a", "b"], 0),
        (&["a", "b"], 501),
    ] {
        assert!(of(tags, smoothing).is_err(), "{tags:?} {smoothing}");
    }
}

proptest! {
    #[test]
    fn rows_do_not_depend_on_how_their_windows_are_cut_into_intervals(
        there in proptest::collection::vec(proptest::collection::vec(prop::bool::weighted(0.9), 40), 5),
        values in proptest::collection::vec(-1e6..1e6_f64, 200),
        smoothing in 1..12_usize,
        cuts in proptest::collection::btree_set(0..40_i64, 0..6),
    ) {
        let series: Vec<Vec<Aggregate>> = there
            .iter()
            .enumerate()
            .map(|(tag, there)| {
                let there = there.iter().enumerate().filter(|(_, there)| **there);
                there.map(|(at, _)| window(at as i64, values[tag * 40 + at])).collect()
            })
            .collect();
        let group = group(5, smoothing);
        let whole = rows(&group, &series, 0..40);
        let mut parts = GroupRows::default();
        let mut from = 0;
        for to in cuts.into_iter().chain([40]) {
            // Of what is before, only the context is needed.
            let cut: Vec<Vec<Aggregate>> = series
                .iter()
                .map(|series| {
                    let needed = minute(from).saturating_sub(group.context())..minute(to);
                    between(series, &needed).to_vec()
                })
                .collect();
            let part = rows(&group, &cut, from..to);
            parts.starts.extend(part.starts);
            parts.counts.extend(part.counts);
            parts.values.extend(part.values);
            parts.unscored += part.unscored;
            from = to;
        }
        prop_assert_eq!(parts, whole);
    }
}
