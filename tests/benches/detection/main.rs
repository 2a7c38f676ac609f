//! Measures how good detection is: from a model whose every flag is an alarm, step by step, to incidents worth acting on.
//!
//! ```text
//! cargo bench -p windrow-tests --bench detection -- --seeds 101..110
//! cargo bench -p windrow-tests --bench detection -- --seeds 101..110 --folder target/gutentag
//! ```
//!
//! The first command simulates a fleet for each seed, with everything that the simulator can do. The second reads the
//! series that `tests/fixtures/make_gutentag.py` wrote. docs/detection.md explains the table.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod fitted;
mod fleet;
mod forest;
mod judge;
mod step;

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use windrow_common::{format_duration, parse_duration};
use windrow_incidents::Rules;

use crate::fleet::Sensor;
use crate::judge::Tally;
use crate::step::Step;

#[derive(Parser, Debug)]
pub(crate) struct Args {
    /// The seeds: one, or the first and the last as in 101..110.
    #[arg(long, default_value = "1..5", value_parser = seeds)]
    seeds: (u64, u64),
    /// Folder with a folder of series for each seed; by default, fleets are simulated.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Devices in a simulated fleet; each has five sensors.
    #[arg(long, default_value_t = 3)]
    devices: u32,
    /// Time between two readings of a simulated sensor.
    #[arg(long, default_value = "5m", value_parser = parse_duration)]
    period: Duration,
    /// Length of a window.
    #[arg(long, default_value = "10m", value_parser = parse_duration)]
    window: Duration,
    /// Length of the history before the time that is scored.
    #[arg(long, default_value = "35d", value_parser = parse_duration)]
    history: Duration,
    /// Length of the time that is scored.
    #[arg(long, default_value = "28d", value_parser = parse_duration)]
    scored: Duration,
    /// The share of a simulated sensor's hours with an anomaly.
    #[arg(long, default_value_t = 0.005)]
    anomalies: f64,
    /// Only the steps whose names contain this.
    #[arg(long, default_value = "")]
    only: String,
    /// How many normal windows close an incident.
    #[arg(long, default_value_t = 60)]
    quiet: u32,
    /// The quantile of its training scores above which the isolation forest flags.
    #[arg(long, default_value_t = 0.999)]
    quantile: f64,
    /// The number of deviations beyond which robust z and the seasonal-naive detector flag.
    #[arg(long, default_value_t = 5.0)]
    limit: f64,
    /// The score above which the detectors of `windrow models train` other than the SVM flag, and those that tuning chooses.
    #[arg(long, default_value_t = Rules::default().threshold)]
    threshold: f64,
    /// Compare rules for incidents instead of detectors, on each step that --only names.
    #[arg(long)]
    sweep: bool,
    /// Print every false incident, and the anomalies that were missed.
    #[arg(long)]
    explain: bool,
    /// Passed by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

fn seeds(text: &str) -> Result<(u64, u64), String> {
    let parse = |word: &str| {
        word.parse()
            .map_err(|_| format!("`{text}` is neither a seed nor first..last"))
    };
    match text.split_once("..") {
        Some((first, last)) => Ok((parse(first)?, parse(last)?)),
        None => parse(text).map(|seed| (seed, seed)),
    }
}

fn main() {
    let args = Args::parse();
    let mut steps: Vec<Step> = step::all(&args)
        .into_iter()
        .filter(|step| step.name.contains(&args.only))
        .collect();
    if args.sweep {
        steps = steps.iter().flat_map(step::sweep).collect();
    }
    let mut tallies: Vec<Tally> = steps.iter().map(|_| Tally::default()).collect();
    let began = Instant::now();
    for seed in args.seeds.0..=args.seeds.1 {
        let sensors = match &args.folder {
            Some(folder) => fleet::read(&folder.join(seed.to_string()), &args),
            None => fleet::simulate(seed, &args),
        };
        for (sum, of_seed) in tallies.iter_mut().zip(judge_fleet(&sensors, &steps, &args)) {
            sum.add(of_seed);
        }
    }
    println!(
        "{} seeds, {} sensors, {} scored after {} of history, windows of {}, an incident closes after {} windows; {:.0} s",
        args.seeds.1 - args.seeds.0 + 1,
        tallies.first().map_or(0, |tally| tally.sensors),
        format_duration(args.scored),
        format_duration(args.history),
        format_duration(args.window),
        args.quiet,
        began.elapsed().as_secs_f64(),
    );
    judge::print(&steps, &tallies, &args);
}

/// Judges every step on every sensor, on all cores.
fn judge_fleet(sensors: &[Sensor], steps: &[Step], args: &Args) -> Vec<Tally> {
    let sums = Mutex::new(steps.iter().map(|_| Tally::default()).collect::<Vec<_>>());
    let next = AtomicUsize::new(0);
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while let Some(sensor) = sensors.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let mut scores = Vec::new();
                    for (at, step) in steps.iter().enumerate() {
                        let began = Instant::now();
                        if at == 0 || !step.scores_like(&steps[at - 1]) {
                            scores = step.scores(sensor);
                        }
                        let courses = step.courses(sensor, &scores);
                        let seconds = began.elapsed().as_secs_f64();
                        let tally = judge::judge(sensor, &courses, seconds, args);
                        sums.lock().unwrap()[at].add(tally);
                    }
                }
            });
        }
    });
    sums.into_inner().unwrap()
}
