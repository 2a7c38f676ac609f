//! `windrow scale simulate`: replays arrivals against scaling policies.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use windrow_common::{format_duration, parse_duration};
use windrow_scaler::policy::{PolicyOptions, Schedule};
use windrow_scaler::simulate::{MOST_WORKERS, Machines, Outcome, Setting, Trace, simulate};

use super::traces::traces;
use super::verdict::{against_keda, losses};
use super::{ScaleError, page};
use crate::cost::{PriceArgs, cores};
use crate::error::CliError;
use crate::output::{OutputArg, OutputFormat};
use crate::show;

/// The VM whose price a worker has a share of: the workers' default size in Azure.
const WORKER_SIZE: &str = "Standard_D4ads_v5";
/// Longest time that an option may name.
const LONGEST: Duration = Duration::from_secs(86_400);

#[derive(Args, Debug)]
#[command(after_help = "\
A file has a line for each time at which messages arrive: seconds from the start, a comma, and how many
messages. Lines may be in any order, and the last may be at four weeks. A first line without numbers is a header:
  seconds,messages
  0,1200
  3600,1000000
The generated traces are a day long: hourly-burst (1 M sensors), small-hourly-burst (10 k), diurnal (300 k),
random-spikes (500 k) and outage-backlog (100 k). Each trace begins at 2026-01-05T00:00:00Z.
Example: your own trace, told when batches are due, with a chart
  windrow scale simulate --trace arrivals.csv --next-batch '0 6 * * * Europe/Berlin' --chart scale.html")]
pub(crate) struct SimulateArgs {
    /// Arrivals to replay: CSV files and names of generated traces, separated by commas; all is every generated trace
    #[arg(
        long,
        value_name = "FILE|NAME",
        default_value = "all",
        value_delimiter = ',',
        env = "WINDROW_TRACE"
    )]
    trace: Vec<String>,
    /// Sensors of the generated traces [default: as below]
    #[arg(long, value_name = "N", env = "WINDROW_SENSORS", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    sensors: Option<u64>,
    /// Messages per second that a worker scores
    #[arg(long, value_name = "N", default_value_t = 500.0, env = "WINDROW_RATE")]
    rate: f64,
    /// Time from asking for a worker to its first message; it is paid
    #[arg(long, value_name = "DURATION", default_value = "90s", env = "WINDROW_BOOT", value_parser = parse_duration)]
    boot: Duration,
    /// How long a message may take from its arrival to its predictions
    #[arg(long, value_name = "DURATION", default_value = "5m", env = "WINDROW_DRAIN_TARGET", value_parser = parse_duration)]
    drain_target: Duration,
    /// Fewest workers
    #[arg(long, value_name = "N", default_value_t = 0, env = "WINDROW_MIN_WORKERS")]
    min_workers: u32,
    /// Most workers
    #[arg(long, value_name = "N", default_value_t = 100, env = "WINDROW_MAX_WORKERS")]
    max_workers: u32,
    /// When batches arrive, told to one of the policies: an interval such as 1h, or a cron expression with an optional
    /// time zone [default: 1h for the hourly bursts]
    #[arg(long, value_name = "SCHEDULE", env = "WINDROW_NEXT_BATCH")]
    next_batch: Option<Schedule>,
    /// US dollars for an hour of a worker [default: a core of a regular Standard_D4ads_v5]
    #[arg(long, value_name = "PRICE", env = "WINDROW_PRICE_HOUR")]
    price_hour: Option<f64>,
    /// Shortest time that is billed for a worker
    #[arg(long, value_name = "DURATION", default_value = "0s", env = "WINDROW_MINIMUM_BILLED", value_parser = parse_duration)]
    minimum_billed: Duration,
    /// Seed of the random spikes
    #[arg(long, value_name = "N", default_value_t = 1, env = "WINDROW_SEED")]
    seed: u64,
    /// HTML file to write: backlog and workers over time, and the table
    #[arg(long, value_name = "FILE", env = "WINDROW_CHART")]
    chart: Option<PathBuf>,
    #[command(flatten)]
    prices: PriceArgs,
    #[command(flatten)]
    output: OutputArg,
}

/// A trace, and what became of it under each policy.
pub(super) struct Replayed {
    pub(super) trace: Trace,
    pub(super) outcomes: Vec<Outcome>,
}

/// What was simulated, and how it is described.
pub(super) struct Simulated {
    pub(super) replayed: Vec<Replayed>,
    /// The setting, in a sentence or two.
    pub(super) setting: String,
    /// Windrow against KEDA, trace by trace.
    pub(super) comparisons: Vec<String>,
    /// Where Windrow loses.
    pub(super) losses: Vec<String>,
}

impl SimulateArgs {
    pub(super) fn run(self) -> Result<(), CliError> {
        let (price, price_from) = self.price()?;
        let setting = self.setting(price)?;
        let simulated = self.simulate(&setting, &price_from)?;
        if let Some(file) = &self.chart {
            write(file, &page::render(&simulated))?;
        }
        match self.output.output {
            OutputFormat::Json => show::json(&self.json(&simulated, price, &price_from)),
            OutputFormat::Table => self.show(&simulated),
        }
    }

    /// Returns the price of a worker-hour, and where it comes from.
    fn price(&self) -> Result<(f64, String), CliError> {
        if let Some(price) = self.price_hour {
            return match price.is_finite() && (0.0..=1e6).contains(&price) {
                true => Ok((price, "--price-hour".to_owned())),
                false => {
                    Err(ScaleError::Option(format!("--price-hour {price} is no price in US dollars")).into())
                }
            };
        }
        let region = &self.prices.region;
        let table = self.prices.table()?;
        let price = table.of(&format!("vm/{WORKER_SIZE}"), region)?;
        let cores = cores(WORKER_SIZE)?;
        let from = format!("a core of {WORKER_SIZE} in {region}, {}", price.date);
        Ok((price.price_usd / f64::from(cores), from))
    }

    fn setting(&self, price_per_hour: f64) -> Result<Setting, ScaleError> {
        let refuse = |why: String| Err(ScaleError::Option(why));
        if !(1e-3..=1e6).contains(&self.rate) {
            return refuse(format!(
                "--rate {} is not between 0.001 and a million messages per second",
                self.rate
            ));
        }
        if self.max_workers > MOST_WORKERS {
            return refuse(format!(
                "--max-workers {} is more than the {MOST_WORKERS} that are simulated",
                self.max_workers
            ));
        }
        let times = [
            ("--boot", self.boot),
            ("--drain-target", self.drain_target),
            ("--minimum-billed", self.minimum_billed),
        ];
        if let Some((option, time)) = times.into_iter().find(|(_, time)| *time > LONGEST) {
            return refuse(format!("{option} {} is more than a day", format_duration(time)));
        }
        Ok(Setting {
            machines: Machines {
                rate: self.rate,
                boot_seconds: self.boot.as_secs_f64(),
                ..Machines::default()
            },
            options: PolicyOptions {
                min: self.min_workers,
                max: self.max_workers,
                drain_target: self.drain_target,
                schedule: self.next_batch.clone(),
                minimum_billed: self.minimum_billed,
                first_rate: self.rate,
                first_boot: self.boot,
            },
            price_per_hour,
        })
    }

    fn simulate(&self, setting: &Setting, price_from: &str) -> Result<Simulated, ScaleError> {
        let target = self.drain_target.as_secs_f64();
        let (mut replayed, mut comparisons, mut all_losses) = (Vec::new(), Vec::new(), Vec::new());
        for trace in traces(&self.trace, self.sensors, self.seed)? {
            let outcomes = simulate(&trace, setting)?;
            comparisons.extend(against_keda(&trace.name, &outcomes));
            all_losses.extend(losses(&trace.name, &outcomes, target));
            replayed.push(Replayed { trace, outcomes });
        }
        Ok(Simulated {
            replayed,
            setting: format!(
                "A worker scores {} messages/s, is ready {} after it is asked for, and costs {:.4} $ an hour ({price_from}). \
                 Between {} and {} workers, messages are to be scored within {}.",
                self.rate,
                format_duration(self.boot),
                setting.price_per_hour,
                self.min_workers,
                self.max_workers,
                format_duration(self.drain_target)
            ),
            comparisons,
            losses: all_losses,
        })
    }

    fn json(&self, simulated: &Simulated, price: f64, price_from: &str) -> Value {
        let traces: Vec<_> = simulated
            .replayed
            .iter()
            .map(|Replayed { trace, outcomes }| {
                json!({
                    "trace": trace.name, "sensors": trace.sensors, "messages": trace.messages(),
                    "outcomes": outcomes,
                })
            })
            .collect();
        json!({
            "setting": {
                "rate": self.rate, "boot_seconds": self.boot.as_secs_f64(),
                "drain_target_seconds": self.drain_target.as_secs_f64(),
                "min_workers": self.min_workers, "max_workers": self.max_workers,
                "next_batch": self.next_batch.as_ref().map(ToString::to_string),
                "minimum_billed_seconds": self.minimum_billed.as_secs_f64(),
                "seed": self.seed, "price_hour_usd": price, "price_from": price_from,
            },
            "traces": traces,
            "comparisons": simulated.comparisons,
            "losses": simulated.losses,
        })
    }

    fn show(&self, simulated: &Simulated) -> Result<(), CliError> {
        show::line(&simulated.setting)?;
        for Replayed { trace, outcomes } in &simulated.replayed {
            show::line(&format!(
                "\n{}: {} messages",
                trace.title(),
                show::short(trace.messages())
            ))?;
            show::table(&HEADINGS, outcomes.iter().map(row).collect())?;
        }
        show::line("")?;
        for comparison in &simulated.comparisons {
            show::line(comparison)?;
        }
        show::line("\nWhere Windrow loses:")?;
        if simulated.losses.is_empty() {
            show::line("  nowhere in these traces")?;
        }
        for loss in &simulated.losses {
            show::line(&format!("  {loss}"))?;
        }
        if let Some(file) = &self.chart {
            show::line(&format!("\nchart: {}", file.display()))?;
        }
        Ok(())
    }
}

/// The columns of the table.
pub(super) const HEADINGS: [&str; 9] = [
    "policy",
    "p50",
    "p95",
    "p99",
    "worker-hours",
    "cost",
    "starts",
    "most workers",
    "left",
];

/// Returns a policy's row of the table.
pub(super) fn row(outcome: &Outcome) -> Vec<String> {
    let [p50, p95, p99] = outcome.drain_seconds.map(|seconds| format!("{seconds:.0} s"));
    vec![
        outcome.contender.title().to_owned(),
        p50,
        p95,
        p99,
        format!("{:.1}", outcome.worker_hours),
        format!("{:.2} $", outcome.cost),
        show::count(outcome.starts.into()),
        outcome.most_workers.to_string(),
        format!("{:.0}", outcome.left),
    ]
}

fn write(file: &Path, page: &str) -> Result<(), CliError> {
    std::fs::write(file, page).map_err(|source| CliError::Write {
        path: file.to_owned(),
        source,
    })
}
