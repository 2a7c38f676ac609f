use proptest::prelude::*;

use super::*;

const MINUTE: i64 = 60_000;
const LENGTH: Length = Length::from_millis(MINUTE);

const LIMITS: Limits = Limits {
    low: f64::NEG_INFINITY,
    high: 8.0,
};

/// Returns a window that has one value, or more than one.
fn point(number: i64, score: f64, value: Option<f64>) -> Point {
    Point {
        start: EventTime::from_millis(number * MINUTE),
        score,
        threshold: f64::NAN,
        min: value.unwrap_or(1.0),
        max: value.unwrap_or(2.0),
        version: 1,
        count: 1,
    }
}

/// Returns what makes a point anomalous: something else for each.
fn cause(point: &Point) -> Option<Arc<Cause>> {
    (point.score > 0.0).then(|| {
        Arc::new(Cause {
            feature: "mean".into(),
            value: point.start.as_millis() as f64,
            normal: (point.min > 1.0).then_some((0.5, point.score)),
            share: 0.5,
        })
    })
}

fn empty() -> Series {
    Series::new(LENGTH, LIMITS, Track::default())
}

fn rules() -> Rules {
    Rules {
        quiet: 2,
        open_after: 2,
        of: 3,
        silent_after: std::time::Duration::from_secs(300),
        stuck_after: 3,
        rate_after: 2,
        ..Rules::default()
    }
}

/// Returns the incidents of points that came in order.
fn in_order(points: &[Point], now: EventTime) -> Vec<Course> {
    let mut points = points.to_vec();
    points.sort_by_key(|point| point.start);
    let (mut track, mut all) = (Track::default(), Vec::new());
    for point in points {
        track.take(
            &point.window(LENGTH, LIMITS, cause(&point).as_ref()),
            &rules(),
            &mut all,
        );
    }
    all.extend(track.open(now, &rules()));
    all
}

fn any_points() -> impl Strategy<Value = Vec<Point>> {
    let gap = prop_oneof![8 => 1..3_i64, 1 => 3..40_i64];
    let score = prop_oneof![3 => Just(-1.0), 1 => 0.4..5.0];
    let value = prop_oneof![4 => Just(None), 2 => Just(Some(1.0)), 1 => (8.0..20.0).prop_map(Some)];
    let threshold = prop_oneof![3 => Just(f64::NAN), 1 => 0.1..4.0];
    let steps = proptest::collection::vec((gap, score, value, 0..6_u32, threshold), 1..60);
    (steps, any::<bool>()).prop_map(|(steps, had_a_rate)| {
        let mut number = 0;
        let mut points = Vec::new();
        // Two days of a steady rate, which may be lost later.
        if had_a_rate {
            points.extend((0..80).map(|number| Point {
                count: 12,
                ..point(number * 40, -1.0, None)
            }));
            number = 80 * 40;
        }
        for (gap, score, value, count, threshold) in steps {
            number += gap;
            points.push(Point {
                count: if had_a_rate { 2 * count } else { 1 },
                threshold,
                ..point(number, score, value)
            });
        }
        points
    })
}

proptest! {
    #[test]
    fn the_order_and_the_repeats_of_windows_do_not_show(
        points in any_points(),
        order in proptest::collection::vec(any::<prop::sample::Index>(), 1..120),
        looks in any::<u64>(),
        advance_base in any::<prop::sample::Index>(),
    ) {
        let now = EventTime::from_millis(6_000 * MINUTE);
        let right = in_order(&points, now);
        let mut series = empty();
        // In any order, some of them several times, with looks in between; then all of them.
        let first = order.iter().map(|index| *index.get(&points)).chain(points.iter().copied());
        for (at, point) in first.enumerate() {
            let inserted = series.insert(point, cause(&point));
            prop_assert!(matches!(inserted, Inserted::New | Inserted::Repeat));
            if looks >> (at % 64) & 1 == 1 {
                series.incidents(now, &rules());
            }
        }
        prop_assert_eq!(&series.incidents(now, &rules()), &right);
        // What was settled is not reported again, and changes nothing after it.
        let time = advance_base.get(&points).start;
        if looks & 1 == 1 {
            series = Series { taken: 0, current: series.base.clone(), ended: Vec::new(), ..series };
        }
        series.advance_base(time, &rules());
        let left = series.incidents(now, &rules());
        prop_assert!(right.ends_with(&left), "{right:?} {left:?}");
        let again = Series::new(LENGTH, LIMITS, series.base().clone());
        let held = series.points.clone();
        let mut again = held.into_iter().fold(again, |mut again, point| { again.insert(point, cause(&point)); again });
        prop_assert_eq!(again.incidents(now, &rules()), left);
    }
}

#[test]
fn of_two_rows_of_a_window_the_one_with_more_readings_counts_then_the_later_version() {
    let now = EventTime::from_millis(10 * MINUTE);
    let rules = Rules::default();
    let (calm, loud) = (point(1, -1.0, None), point(1, 1.0, None));
    let with = |point: Point, count, version| Point {
        count,
        version,
        ..point
    };
    let mut series = empty();
    assert_eq!(series.insert(with(calm, 2, 7), None), Inserted::New);
    assert!(series.incidents(now, &rules).is_empty());
    assert_eq!(series.insert(with(loud, 1, 9), None), Inserted::Superseded);
    assert_eq!(series.insert(with(loud, 2, 8), None), Inserted::Replaced);
    assert_eq!(series.incidents(now, &rules).len(), 1);
    assert_eq!(series.insert(with(calm, 3, 1), None), Inserted::Replaced);
    assert!(series.incidents(now, &rules).is_empty());
    assert_eq!(series.insert(with(loud, 3, 1), None), Inserted::Conflict);
    series.overwrite(with(loud, 3, 1), None);
    assert_eq!(series.incidents(now, &rules).len(), 1);
}

#[test]
fn rows_of_a_window_that_differ_in_the_threshold_alone_are_in_conflict() {
    let now = EventTime::from_millis(10 * MINUTE);
    let loud = point(1, 1.0, None);
    let own = |threshold| Point { threshold, ..loud };
    let mut series = empty();
    assert_eq!(series.insert(loud, None), Inserted::New);
    assert_eq!(series.insert(loud, None), Inserted::Repeat);
    assert_eq!(series.insert(own(2.0), None), Inserted::Conflict);
    assert_eq!(series.incidents(now, &Rules::default()).len(), 1);
    series.overwrite(own(2.0), None);
    assert_eq!(series.incidents(now, &Rules::default()), []);
}

#[test]
fn the_cause_of_the_highest_score_is_kept_and_no_other_and_no_longer_than_its_window() {
    let now = EventTime::from_millis(10 * MINUTE);
    let points = [(1, 1.0), (2, 2.0), (3, 2.0), (4, -1.0)].map(|(number, score)| point(number, score, None));
    let mut series = empty();
    for point in points {
        series.insert(point, cause(&point));
    }
    let found = series.incidents(now, &Rules::default());
    assert_eq!(found[0].cause(), cause(&points[1]).as_deref());
    assert_eq!(series.causes.len(), 3);
    // A correction has another cause, or none.
    let more = |point: Point, score| Point {
        score,
        count: 2,
        ..point
    };
    series.insert(more(points[0], 3.0), cause(&points[2]));
    let found = series.incidents(now, &Rules::default());
    assert_eq!(found[0].cause(), cause(&points[2]).as_deref());
    series.insert(more(points[1], -1.0), None);
    assert_eq!(series.causes.len(), 2);
    // One cause in place of another is news.
    let anew = more(points[0], 3.0);
    assert_eq!(series.insert(anew, cause(&points[2])), Inserted::Repeat);
    assert_eq!(series.insert(anew, None), Inserted::Conflict);
    assert_eq!(series.insert(anew, cause(&points[0])), Inserted::Conflict);
    series.overwrite(anew, cause(&points[0]));
    let found = series.incidents(now, &Rules::default());
    assert_eq!(found[0].cause(), cause(&points[0]).as_deref());
    let time = points[1].start;
    series.advance_base(time, &Rules::default());
    assert!(series.causes.keys().all(|start| *start >= time));
    assert_eq!(series.incidents(now, &Rules::default()), found);
}
