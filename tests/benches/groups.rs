//! Measures what scoring the tags of a device together is worth, beside a model for each tag.
//!
//! ```text
//! cargo bench -p windrow-tests --bench groups -- --seeds 101..110
//! ```
//!
//! A pump has eight tags that follow its load, each with a gain, a lag and noise of its own. The models are trained on 400
//! windows and never see an anomaly; what counts as one is decided by training windows alone. docs/detection.md explains the
//! table.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use clap::Parser;
use windrow_common::{Aggregate, EventTime, Length};
use windrow_model::{
    CodePath, Features, Group, GroupRows, Model, ProfileChoice, Scores, Scratch, TrainOptions, train,
    train_group,
};
use windrow_tests::Draws;

const TAGS: usize = 8;
const TRAINED: i64 = 400;
const SCORED: i64 = 2_000;
const SMOOTHING: usize = 20;
/// An anomaly begins every so many windows, and lasts for a fifth of them.
const BETWEEN: i64 = 250;
const LASTS: i64 = 50;
/// Blocks of the training that are left out, one after the other.
const BLOCKS: usize = 4;

#[derive(Parser, Debug)]
struct Args {
    /// The seeds: one, or the first and the last as in 101..110.
    #[arg(long, default_value = "1..5", value_parser = seeds)]
    seeds: (u64, u64),
    /// Cargo passes it.
    #[arg(long, hide = true)]
    bench: bool,
}

fn seeds(text: &str) -> Result<(u64, u64), String> {
    let (first, last) = text.split_once("..").unwrap_or((text, text));
    let number = |text: &str| text.parse().map_err(|_| format!("`{text}` is no seed"));
    Ok((number(first)?, number(last)?))
}

/// What is wrong with a tag.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// It mirrors the load: its range is as usual.
    Mirrors,
    /// It no longer follows the load, and keeps its noise.
    Holds,
    /// It is off by a little less than the load moves it.
    Drifts,
    /// It follows far too late.
    Lags,
}

const FAULTS: [Fault; 4] = [Fault::Mirrors, Fault::Holds, Fault::Drifts, Fault::Lags];

/// Returns a number that is roughly normal, with the standard deviation 1.
fn normal(draws: &mut Draws) -> f64 {
    let even =
        |draws: &mut Draws| f64::from(u32::try_from(draws.below(1 << 30)).unwrap()) / f64::from(1 << 30);
    (0..12).map(|_| even(draws)).sum::<f64>() - 6.0
}

/// A stretch of windows of all tags, and which of them are anomalous.
struct Stretch {
    series: Vec<Vec<Aggregate>>,
    wrong: Vec<bool>,
}

/// Simulates a pump. Its gains and lags follow from the seed alone; the history has no anomalies.
fn pump(seed: u64) -> (Stretch, Stretch) {
    let mut draws = Draws(seed);
    let mut even = |low: f64, high: f64| {
        low + (high - low) * f64::from(u32::try_from(draws.below(1_000)).unwrap()) / 999.0
    };
    let gains: Vec<f64> = (0..TAGS).map(|_| even(0.5, 1.5)).collect();
    let lags: Vec<usize> = (0..TAGS).map(|_| even(0.0, 3.9).floor().abs() as usize).collect();
    let noises: Vec<f64> = (0..TAGS).map(|_| even(0.3, 0.9)).collect();
    let mut draws = Draws(seed ^ 0x5eed);
    let (mut slow, mut fast) = (0.0, 0.0);
    let all = TRAINED + SCORED;
    let loads: Vec<f64> = (0..all + 64)
        .map(|_| {
            slow = 0.995 * slow + 0.1 * normal(&mut draws);
            fast = 0.9 * fast + 0.2 * normal(&mut draws);
            slow + fast
        })
        .collect();
    let mut series = vec![Vec::new(); TAGS];
    let mut wrong = Vec::new();
    for at in 0..all {
        let scored = at - TRAINED;
        let episode = scored / BETWEEN;
        let is_wrong = scored >= 0 && scored % BETWEEN >= BETWEEN - LASTS;
        wrong.push(is_wrong);
        let fault = FAULTS[usize::try_from(episode.max(0)).unwrap() % FAULTS.len()];
        let faulty =
            (usize::try_from(episode.max(0)).unwrap() * 3 + usize::try_from(seed % 8).unwrap()) % TAGS;
        for tag in 0..TAGS {
            let now = usize::try_from(at).unwrap() + 64 - lags[tag];
            let load = loads[now];
            let follows = match fault {
                _ if !is_wrong || tag != faulty => load,
                Fault::Mirrors => -load,
                Fault::Holds => loads[now - usize::try_from(scored % BETWEEN - (BETWEEN - LASTS)).unwrap()],
                Fault::Drifts => load + 1.2,
                Fault::Lags => loads[now - 30],
            };
            let mean = 50.0 + 10.0 * (gains[tag] * follows + noises[tag] * normal(&mut draws));
            series[tag].push(Aggregate {
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
    let cut = usize::try_from(TRAINED).unwrap();
    let later = series.iter_mut().map(|series| series.split_off(cut)).collect();
    let wrong_later = wrong.split_off(cut);
    (
        Stretch { series, wrong },
        Stretch {
            series: later,
            wrong: wrong_later,
        },
    )
}

fn mean() -> Features {
    "mean".parse().unwrap()
}

fn rows(stretch: &Stretch, smoothing: usize) -> (Group, GroupRows) {
    let tags = (0..TAGS).map(|tag| Arc::from(format!("t{tag}"))).collect();
    let group = Group::new(tags, smoothing, Length::from_millis(60_000)).unwrap();
    let series: Vec<&[Aggregate]> = stretch.series.iter().map(Vec::as_slice).collect();
    let rows = group.rows(&mean(), &series, EventTime::MIN..EventTime::MAX);
    (group, rows)
}

fn scores(model: &Model, rows: &[f64]) -> Vec<f64> {
    let mut scores = Scores::default();
    model
        .score_rows_on(CodePath::best(), rows, &mut Scratch::default(), &mut scores)
        .unwrap();
    scores.scores
}

/// Returns the largest score of training rows that were left out, as for groups.
fn left_out(column: &[f64], options: &TrainOptions) -> f64 {
    let cut = |block: usize| column.len() * block / BLOCKS;
    (0..BLOCKS).fold(0.0, |largest: f64, block| {
        let others = [&column[..cut(block)], &column[cut(block + 1)..]].concat();
        let model = train(&others, mean(), options).unwrap();
        scores(&model, &column[cut(block)..cut(block + 1)])
            .into_iter()
            .fold(largest, f64::max)
    })
}

/// Windows by what was said of them, and what was right.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    hits: u64,
    false_alarms: u64,
    misses: u64,
    quiet: u64,
}

impl Tally {
    fn take(&mut self, rows: &GroupRows, stretch: &Stretch, flagged: impl Fn(usize) -> bool) {
        let first = stretch.series[0][0].window_start.as_millis();
        for (row, start) in rows.starts.iter().enumerate() {
            let at = usize::try_from((start.as_millis() - first) / 60_000).unwrap();
            let count = match (flagged(row), stretch.wrong[at]) {
                (true, true) => &mut self.hits,
                (true, false) => &mut self.false_alarms,
                (false, true) => &mut self.misses,
                (false, false) => &mut self.quiet,
            };
            *count += 1;
        }
    }

    #[allow(clippy::cast_precision_loss)]
    fn line(&self, name: &str) -> String {
        let share = |part: u64, of: u64| 100.0 * part as f64 / of.max(1) as f64;
        let flagged = self.hits + self.false_alarms;
        let f1 = 2.0 * self.hits as f64 / (flagged + self.hits + self.misses).max(1) as f64;
        format!(
            "| {name} | {f1:.2} | {:.0} % | {:.0} % | {:.1} % |",
            share(self.hits, flagged),
            share(self.hits, self.hits + self.misses),
            share(self.false_alarms, self.false_alarms + self.quiet),
        )
    }
}

fn main() {
    let Args {
        seeds: (first, last), ..
    } = Args::parse();
    let alone = TrainOptions {
        profile: ProfileChoice::Never,
        ..TrainOptions::default()
    };
    let together = TrainOptions::for_groups();
    let mut tallies = [Tally::default(); 4];
    for seed in first..=last {
        let (history, later) = pump(seed);
        for (at, smoothing) in [1, SMOOTHING].into_iter().enumerate() {
            let (group, trained) = rows(&history, smoothing);
            let (_, scored) = rows(&later, smoothing);
            let column = |rows: &GroupRows, tag: usize| -> Vec<f64> {
                rows.values.iter().skip(tag).step_by(TAGS).copied().collect()
            };
            let flags: Vec<Vec<bool>> = (0..TAGS)
                .map(|tag| {
                    let own = column(&trained, tag);
                    let threshold = left_out(&own, &alone);
                    let model = train(&own, mean(), &alone).unwrap();
                    let scores = scores(&model, &column(&scored, tag));
                    scores.into_iter().map(|score| score > threshold).collect()
                })
                .collect();
            tallies[at].take(&scored, &later, |row| flags.iter().any(|flags| flags[row]));
            let model = train_group(&trained, group, mean(), &together).unwrap();
            let threshold = model.threshold().unwrap();
            let scores = scores(&model, &scored.values);
            tallies[2 + at].take(&scored, &later, |row| scores[row] > threshold);
        }
    }
    println!(
        "| windows of seeds {first} to {last} | F1 | precision | recall | false alarms, of normal windows |"
    );
    println!("|---|---|---|---|---|");
    for (name, tally) in [
        "a model for each tag, any of them",
        "the same, smoothed over 20 windows",
        "all tags together",
        "all tags together, smoothed over 20 windows",
    ]
    .into_iter()
    .zip(tallies)
    {
        println!("{}", tally.line(name));
    }
}
