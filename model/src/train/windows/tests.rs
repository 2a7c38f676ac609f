use windrow_common::Aggregate;

use super::*;
use crate::{Scores, Scratch, Season};

const MINUTE: i64 = 60_000;
const MONDAY: i64 = 1_767_571_200_000;

fn aggregate(start: i64, mean: f64) -> Aggregate {
    Aggregate {
        window_start: EventTime::from_millis(start),
        count: 6,
        mean,
        std: 0.2,
        min: mean - 0.3,
        max: mean + 0.3,
        first: mean,
        last: mean,
    }
}

/// A number between -1 and 1 that looks like chance.
fn noise(at: i64) -> f64 {
    let mixed = (at.wrapping_add(77)).wrapping_mul(0x5851_F42D_4C95_7F2D);
    let mixed = (mixed ^ (mixed >> 31)).wrapping_mul(0x14C8_9B5F_0D3C_2A4B);
    (mixed >> 40) as f64 / f64::from(1 << 23)
}

/// A sensor that is 30 higher from 06:00 to 18:00, in UTC.
fn shift_work(start: i64) -> Aggregate {
    let hour = start.div_euclid(60 * MINUTE).rem_euclid(24);
    let level = if (6..18).contains(&hour) { 50.0 } else { 20.0 };
    aggregate(start, level + noise(start / MINUTE))
}

fn trained(aggregates: &[Aggregate], list: &str, options: &TrainOptions) -> (Model, Option<Replaced>) {
    let features: Features = list.parse().unwrap();
    let mut rows = Vec::new();
    features.extract(aggregates, &mut rows);
    let starts: Vec<EventTime> = aggregates
        .iter()
        .map(|aggregate| aggregate.window_start)
        .collect();
    let windows = TrainingWindows {
        starts: &starts,
        rows: &rows,
    };
    train_windows(windows, features, options).unwrap()
}

fn scores(model: &Model, aggregates: &[Aggregate]) -> Vec<f64> {
    let mut scores = Scores::default();
    model
        .score(aggregates, &mut Scratch::default(), &mut scores)
        .unwrap();
    scores.scores
}

/// Two weeks, a window every ten minutes.
fn two_weeks() -> Vec<Aggregate> {
    (0..14 * 144)
        .map(|at| shift_work(MONDAY + at * 10 * MINUTE))
        .collect()
}

#[test]
fn a_profile_shows_the_level_of_the_night_by_day() {
    let history = two_weeks();
    let without = TrainOptions {
        profile: ProfileChoice::Never,
        ..TrainOptions::default()
    };
    let (seasonal, replaced) = trained(&history, "mean,std,min,max", &TrainOptions::default());
    let (plain, _) = trained(&history, "mean,std,min,max", &without);
    assert_eq!(replaced, None);
    assert_eq!(seasonal.profile().map(Profile::season), Some(Season::Day));
    assert_eq!(plain.profile(), None);
    let next_monday = MONDAY + 14 * 1_440 * MINUTE;
    let noon = next_monday + 12 * 60 * MINUTE;
    // The level of the night, in a window at noon: a value that is usual, at another time.
    assert!(scores(&seasonal, &[aggregate(noon, 20.0)])[0] > 3.0);
    assert!(scores(&plain, &[aggregate(noon, 20.0)])[0] < 0.0);
    // The next day has none above the threshold.
    let day: Vec<Aggregate> = (0..144)
        .map(|at| shift_work(next_monday + at * 10 * MINUTE))
        .collect();
    assert!(scores(&seasonal, &day).into_iter().all(|score| score < 0.3));
    // Beyond a thousand deviations nothing changes any more.
    let far = |level| scores(&seasonal, &[aggregate(noon, level)])[0];
    assert!(far(1e6).is_finite() && far(1e6) > far(1e2));
    assert_eq!(far(1e300), far(1e6));
    // Windows score as their aggregates do.
    let mut rows = Vec::new();
    seasonal.features().extract(&day, &mut rows);
    let starts: Vec<EventTime> = day.iter().map(|aggregate| aggregate.window_start).collect();
    let windows = TrainingWindows {
        starts: &starts,
        rows: &rows,
    };
    let mut by_windows = Scores::default();
    seasonal
        .score_windows(windows, &mut Scratch::default(), &mut by_windows)
        .unwrap();
    assert_eq!(by_windows.scores, scores(&seasonal, &day));
    // It reads back.
    let bytes = seasonal.to_bytes().unwrap();
    assert_eq!(Model::from_bytes(&bytes).unwrap(), seasonal);
}

#[test]
fn bands_hold_all_but_one_in_a_hundred_rows_on_either_side() {
    let history: Vec<Aggregate> = (0..1_000)
        .map(|at| aggregate(MONDAY + at * MINUTE, at as f64))
        .collect();
    let (model, _) = trained(&history, "mean,std", &TrainOptions::default());
    let right = [(10.0, 989.0), (0.2, 0.2)];
    assert_eq!(
        model
            .bands()
            .iter()
            .map(|band| (band.low, band.high))
            .collect::<Vec<_>>(),
        right
    );
    let few: Vec<Aggregate> = (0..5)
        .map(|at| aggregate(MONDAY + at * MINUTE, at as f64))
        .collect();
    let (model, _) = trained(&few, "mean", &TrainOptions::default());
    assert_eq!(model.bands(), [Band { low: 0.0, high: 4.0 }]);
}

#[test]
fn a_sensor_that_follows_its_profile_exactly_flags_what_does_not() {
    let exact = |at: i64| {
        let start = MONDAY + at * 10 * MINUTE;
        let hour = start.div_euclid(60 * MINUTE).rem_euclid(24);
        Aggregate {
            std: 0.0,
            ..aggregate(start, if (6..18).contains(&hour) { 20.5 } else { 16.0 })
        }
    };
    let history: Vec<Aggregate> = (0..14 * 144).map(exact).collect();
    let (model, replaced) = trained(&history, "mean,std", &TrainOptions::default());
    assert!(model.profile().is_some());
    assert_eq!(replaced, Some(Replaced::NeverVaried { tolerance: 2.05e-5 }));
    assert!(scores(&model, &history).into_iter().all(|score| score < 0.0));
    let off = |by: f64| Aggregate {
        mean: 20.5 + by,
        ..exact(14 * 144 + 60)
    };
    assert!(scores(&model, &[off(1e-5)])[0] < 0.0);
    assert!(scores(&model, &[off(1e-3)])[0] > 0.3);
}

#[test]
fn a_model_without_a_level_feature_has_no_profile() {
    let (model, _) = trained(&two_weeks(), "count,std", &TrainOptions::default());
    assert_eq!(model.profile(), None);
    // Without the mean, the first feature that moves with the level tells it.
    let (model, _) = trained(&two_weeks(), "std,max", &TrainOptions::default());
    assert!(
        model
            .profile()
            .unwrap()
            .levels()
            .iter()
            .any(|level| *level > 50.0)
    );
}

#[test]
fn starts_that_do_not_fit_the_rows_are_refused() {
    let windows = TrainingWindows {
        starts: &[EventTime::from_millis(0)],
        rows: &[1.0, 2.0],
    };
    let refused = train_windows(windows, "mean".parse().unwrap(), &TrainOptions::default()).unwrap_err();
    assert_eq!(refused.to_string(), "there are 1 starts of windows for 2 rows");
}
