use std::sync::Arc;

use windrow_common::{Aggregate, EventTime, Length};

use super::*;
use crate::{Feature, ScoreError, Scores, Scratch};

const TAGS: usize = 4;

/// Returns a number between −1 and 1.
fn noise(state: &mut u64) -> f64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    (*state >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
}

/// Returns the windows of four tags that follow one load, each with a little noise of its own, and another scale.
fn windows(count: i64, seed: u64) -> Vec<Vec<Aggregate>> {
    let mut state = seed;
    let mut load = 0.0;
    let mut series = vec![Vec::new(); TAGS];
    for at in 0..count {
        load = 0.98 * load + 0.2 * noise(&mut state);
        for (tag, series) in series.iter_mut().enumerate() {
            let mean = 10_f64.powi(tag as i32) * (50.0 + 5.0 * load + 0.5 * noise(&mut state));
            series.push(Aggregate {
                window_start: EventTime::from_millis(at * 60_000),
                count: 1,
                mean,
                std: 0.0,
                min: mean,
                max: mean,
                first: mean,
                last: mean,
            });
        }
    }
    series
}

fn group(smoothing: usize) -> Group {
    let tags: Vec<Arc<str>> = ["flow", "power", "speed", "temp"].map(Arc::from).to_vec();
    Group::new(tags, smoothing, Length::from_millis(60_000)).unwrap()
}

fn rows(group: &Group, series: &[Vec<Aggregate>]) -> GroupRows {
    let series: Vec<&[Aggregate]> = series.iter().map(Vec::as_slice).collect();
    let features = Features::new(&[Feature::Mean]).unwrap();
    let all = EventTime::from_millis(0)..EventTime::MAX;
    group.rows(&features, &series, all)
}

fn trained(series: &[Vec<Aggregate>]) -> Model {
    let features = Features::new(&[Feature::Mean]).unwrap();
    train_group(
        &rows(&group(20), series),
        group(20),
        features,
        &TrainOptions::for_groups(),
    )
    .unwrap()
}

fn scores(model: &Model, rows: &GroupRows) -> Vec<f64> {
    let mut scores = Scores::default();
    model
        .score_rows_on(
            CodePath::best(),
            &rows.values,
            &mut Scratch::default(),
            &mut scores,
        )
        .unwrap();
    scores.scores
}

#[test]
fn a_tag_that_leaves_the_others_is_seen_and_named_although_its_value_is_usual() {
    let history = windows(2_000, 1);
    let model = trained(&history);
    let threshold = model.threshold().unwrap();
    let mut next = windows(400, 2);
    let quiet = scores(&model, &rows(&group(20), &next));
    let above = quiet.iter().filter(|score| **score > threshold).count();
    assert!(above <= quiet.len() / 50, "{above} of {}", quiet.len());
    // From minute 200 on the third tag no longer follows the load: it repeats what it said long before.
    let old: Vec<f64> = next[2][..100].iter().map(|window| window.mean + 300.0).collect();
    for (window, mean) in next[2][250..350].iter_mut().zip(old) {
        window.mean = mean;
    }
    let all = rows(&group(20), &next);
    let found = scores(&model, &all);
    let first = all
        .starts
        .iter()
        .position(|start| start.as_millis() >= 275 * 60_000)
        .unwrap();
    let hits = found[first..first + 70]
        .iter()
        .filter(|score| **score > threshold)
        .count();
    assert!(hits > 60, "{hits}");
    let worst = (first..first + 70)
        .max_by(|a, b| found[*a].total_cmp(&found[*b]))
        .unwrap();
    let reasons = model.explain_row(&all.values[worst * TAGS..][..TAGS]);
    assert_eq!(&*reasons[0].name(), "speed.mean", "{reasons:?}");
    assert!(reasons[0].share > 0.5, "{reasons:?}");
    let shares: f64 = reasons.iter().map(|reason| reason.share).sum();
    assert!((shares - 1.0).abs() < 1e-9, "{reasons:?}");
}

#[test]
fn a_model_of_a_group_reads_back_bit_for_bit_and_scores_no_single_sensor() {
    let history = windows(300, 3);
    let model = trained(&history);
    let bytes = model.to_bytes().unwrap();
    let back = Model::from_bytes(&bytes).unwrap();
    assert_eq!(back, model);
    assert_eq!(back.to_bytes().unwrap(), bytes);
    assert_eq!(bytes[4..6], [4, 0]);
    let refused = model.score(&history[0], &mut Scratch::default(), &mut Scores::default());
    assert_eq!(refused, Err(ScoreError::OfGroup));
    assert_eq!(trained(&history), model);
}

#[test]
fn a_tag_that_never_varied_is_an_anomaly_when_it_moves() {
    let mut history = windows(300, 4);
    for window in &mut history[1] {
        window.mean = 7.0;
    }
    let model = trained(&history);
    let mut next = windows(300, 5);
    for window in &mut next[1] {
        window.mean = 7.0;
    }
    let quiet = scores(&model, &rows(&group(20), &next));
    let threshold = model.threshold().unwrap();
    assert!(quiet.iter().filter(|score| **score > threshold).count() < 30);
    for window in &mut next[1] {
        window.mean = 7.01;
    }
    let moved = scores(&model, &rows(&group(20), &next));
    assert!(moved.iter().all(|score| *score > threshold));
}

#[test]
fn too_few_windows_are_refused() {
    let rows = rows(&group(1), &windows(99, 6));
    let features = Features::new(&[Feature::Mean]).unwrap();
    let refused = train_group(&rows, group(1), features, &TrainOptions::for_groups());
    assert!(matches!(refused, Err(TrainError::FewOfGroup(99))));
}
