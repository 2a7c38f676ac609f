//! `windrow cost`: estimates the monthly bill of a fleet of sensors.

mod bill;
mod measured;
mod prices;
#[cfg(test)]
mod tests;
mod workload;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::json;
use windrow_common::{HasRemedy, Remedy, parse_duration};

use crate::error::CliError;
use crate::output::{OutputArg, OutputFormat};
use crate::show;
use bill::{Bill, Machines, usd};
pub(crate) use prices::{Basis, Price, Prices};
use workload::Workload;

/// Why a bill cannot be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CostError {
    /// A price table cannot be used.
    #[error("cannot use {table} as a price table: {why}")]
    Table {
        /// The table.
        table: String,
        /// Why not.
        why: String,
    },
    /// The table lacks a price.
    #[error("the price table has no {item} in {region}: it has it in {known}; add a row with --prices FILE")]
    NoPrice {
        /// What has no price.
        item: String,
        /// Where.
        region: String,
        /// Where it has one.
        known: String,
    },
    /// The options make no sense.
    #[error("{0}")]
    Workload(String),
}

impl HasRemedy for CostError {
    fn remedy(&self) -> Remedy {
        Remedy::FixConfig
    }
}

/// What a worker VM is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Priority {
    /// May be evicted; the messages that it held are delivered again.
    Spot,
    /// Is not evicted.
    Regular,
}

/// Options about prices.
#[derive(Args, Clone, Debug)]
pub(crate) struct PriceArgs {
    /// Region whose prices are used
    #[arg(long, value_name = "REGION", default_value = "eastus", env = "WINDROW_REGION")]
    pub(crate) region: String,
    /// CSV file of prices with the columns item, region, unit, price_usd, date, basis (listed or assumed), source and
    /// note; its rows replace those of the built-in table
    #[arg(long, value_name = "FILE", env = "WINDROW_PRICES")]
    pub(crate) prices: Option<PathBuf>,
}

impl PriceArgs {
    /// Returns the price table.
    pub(crate) fn table(&self) -> Result<Prices, CostError> {
        Prices::with_file(self.prices.as_deref())
    }
}

#[derive(Args, Debug)]
#[command(after_help = "\
The bill names each price with its date and source, and each unit cost with where it was measured.
Example: a million sensors in West Europe, on regular VMs
  windrow cost --sensors 1000000 --region westeurope --worker-priority regular")]
pub(crate) struct CostArgs {
    /// Number of sensors
    #[arg(long, value_name = "N", default_value_t = 100_000, env = "WINDROW_SENSORS")]
    sensors: u64,
    /// Time between two readings of a sensor
    #[arg(long, value_name = "DURATION", default_value = "10s", env = "WINDROW_PERIOD", value_parser = parse_duration)]
    period: Duration,
    /// Length of a window
    #[arg(long, value_name = "DURATION", default_value = "1m", env = "WINDROW_WINDOW", value_parser = parse_duration)]
    window: Duration,
    /// Length of an interval, a whole number of windows; each sensor has a message an interval
    #[arg(long, value_name = "DURATION", default_value = "1h", env = "WINDROW_INTERVAL", value_parser = parse_duration)]
    interval: Duration,
    /// Readings that devices send in one event
    #[arg(
        long,
        value_name = "N",
        default_value_t = 300,
        env = "WINDROW_READINGS_PER_EVENT"
    )]
    readings_per_event: u64,
    /// Bytes of a reading in an event
    #[arg(
        long,
        value_name = "BYTES",
        default_value_t = 67,
        env = "WINDROW_READING_BYTES"
    )]
    reading_bytes: u64,
    /// Kind of the worker VMs
    #[arg(long, value_enum, default_value = "spot", env = "WINDROW_WORKER_PRIORITY")]
    worker_priority: Priority,
    /// Size of the worker VMs; a worker process runs on each core
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "Standard_D4ads_v5",
        env = "WINDROW_WORKER_SIZE"
    )]
    worker_size: String,
    /// Time from the arrival of a batch until all of it is scored
    #[arg(long, value_name = "DURATION", default_value = "5m", env = "WINDROW_DRAIN_TARGET", value_parser = parse_duration)]
    drain_target: Duration,
    /// Time from asking for a VM to its first message; it is paid
    #[arg(long, value_name = "DURATION", default_value = "2m", env = "WINDROW_VM_BOOT", value_parser = parse_duration)]
    boot: Duration,
    /// Time that a VM stays after its last message; it is paid
    #[arg(long, value_name = "DURATION", default_value = "3m", env = "WINDROW_LINGER", value_parser = parse_duration)]
    linger: Duration,
    /// Time that a core needs to load a model from the store
    #[arg(long, value_name = "DURATION", default_value = "1ms", env = "WINDROW_MODEL_LOAD", value_parser = parse_duration)]
    model_load: Duration,
    /// Number of VMs for RabbitMQ; 0 if it is not paid here
    #[arg(long, value_name = "N", default_value_t = 3, env = "WINDROW_BROKERS", value_parser = clap::value_parser!(u32).range(..=1_000))]
    brokers: u32,
    /// Size of the VMs for RabbitMQ
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "Standard_D2as_v5",
        env = "WINDROW_BROKER_SIZE"
    )]
    broker_size: String,
    /// How long predictions are kept
    #[arg(long, value_name = "DURATION", default_value = "30d", env = "WINDROW_RETENTION", value_parser = parse_duration)]
    retention: Duration,
    #[command(flatten)]
    prices: PriceArgs,
    #[command(flatten)]
    output: OutputArg,
}

impl CostArgs {
    pub(crate) fn run(&self) -> Result<(), CliError> {
        let workload = self.workload()?;
        let bill = Bill::new(&workload, &self.machines(), &self.prices.table()?)?;
        match self.output.output {
            OutputFormat::Json => show::json(&json!({
                "sensors": self.sensors,
                "region": self.prices.region,
                "usage": workload.usage(),
                "bill": bill,
            })),
            OutputFormat::Table => self.show(&bill),
        }
    }

    fn workload(&self) -> Result<Workload, CostError> {
        let workload = Workload {
            sensors: self.sensors,
            period: self.period,
            window: self.window,
            interval: self.interval,
            readings_per_event: self.readings_per_event,
            reading_bytes: self.reading_bytes,
            worker_cores: cores(&self.worker_size)?,
            drain_target: self.drain_target,
            boot: self.boot,
            linger: self.linger,
            model_load: self.model_load,
            retention: self.retention,
        };
        workload.check()?;
        Ok(workload)
    }

    fn machines(&self) -> Machines {
        Machines {
            region: self.prices.region.clone(),
            worker_size: self.worker_size.clone(),
            is_spot: self.worker_priority == Priority::Spot,
            broker_size: self.broker_size.clone(),
            brokers: self.brokers,
        }
    }

    fn show(&self, bill: &Bill) -> Result<(), CliError> {
        let mut rows: Vec<Vec<String>> = bill
            .lines
            .iter()
            .map(|line| {
                let price = &line.price;
                vec![
                    line.part.clone(),
                    format!("{} {}", amount(line.quantity), line.unit),
                    format!("{} $ per {}{}", price.price_usd, unit(&price.unit), mark(price)),
                    price.date.clone(),
                    usd(line.usd),
                ]
            })
            .collect();
        rows.push(vec![
            "sum".to_owned(),
            String::new(),
            String::new(),
            String::new(),
            usd(bill.total_usd),
        ]);
        show::line(&format!(
            "{} sensors in {}, a month of 730 hours, US dollars:",
            show::count(self.sensors),
            self.prices.region
        ))?;
        show::table(&["part", "used", "price", "of", "a month"], rows)?;
        if bill.has_guesses() {
            show::line("* assumed: the table's note says what it follows from")?;
        }
        show::line("")?;
        for note in &bill.notes {
            show::line(note)?;
        }
        show::line("\nUnit costs:")?;
        let costs: Vec<_> = bill
            .unit_costs
            .iter()
            .map(|cost| (cost.what, format!("{} ({})", cost.value, cost.from)))
            .collect();
        show::facts(&costs)?;
        show::line("\nPrices:")?;
        let mut seen: Vec<&str> = Vec::new();
        for line in &bill.lines {
            let Price {
                item,
                date,
                source,
                note,
                ..
            } = &line.price;
            if !seen.contains(&item.as_str()) {
                seen.push(item);
                show::line(&format!(
                    "  {item}, {date}{}: {note}\n    {source}",
                    mark(&line.price)
                ))?;
            }
        }
        Ok(())
    }
}

/// Marks a guess.
fn mark(price: &Price) -> &'static str {
    match price.basis {
        Basis::Listed => "",
        Basis::Assumed => " *",
    }
}

fn unit(unit: &str) -> String {
    unit.parse().map_or_else(|_| unit.to_owned(), show::count)
}

fn amount(quantity: f64) -> String {
    match quantity {
        few if few < 1_000.0 => format!("{few:.1}"),
        millions if millions >= 1e9 => format!("{} M", show::count((millions / 1e6).round() as u64)),
        many => show::short(many),
    }
}

/// Returns the cores of a VM size, which its name has: `Standard_D4ads_v5` has four.
pub(crate) fn cores(size: &str) -> Result<u32, CostError> {
    let family = size.strip_prefix("Standard_").unwrap_or(size);
    let digits = family.trim_start_matches(|c: char| c.is_ascii_alphabetic());
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    match digits[..end].parse() {
        Ok(cores) if (1..=1_000).contains(&cores) => Ok(cores),
        _ => Err(CostError::Workload(format!(
            "cannot tell how many cores a VM of size {size} has: its name has to be like Standard_D4ads_v5"
        ))),
    }
}
