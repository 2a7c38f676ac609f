//! The bill of a month: what is used, times what it costs.

use serde::Serialize;

use super::CostError;
use super::measured::{
    DISPATCHED_BYTES, MODEL_BYTES, OPEN_WINDOW_BYTES, PREDICTION_BYTES, UnitCost, message_core_seconds,
};
use super::prices::{Basis, Price, Prices};
use super::workload::{Fleet, HOURS, MOST_UNITS, Running, Workload};
use crate::show;

/// Sizes of the control VM, on which producer and scaler run, with the memory that a producer may use of each.
const CONTROL: [(&str, f64); 3] = [
    ("Standard_D2as_v5", 6e9),
    ("Standard_D4as_v5", 14e9),
    ("Standard_D8as_v5", 28e9),
];

/// The machines that are paid for.
#[derive(Clone, Debug)]
pub(super) struct Machines {
    pub(super) region: String,
    pub(super) worker_size: String,
    pub(super) is_spot: bool,
    pub(super) broker_size: String,
    pub(super) brokers: u32,
}

/// A line of the bill.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Line {
    pub(super) part: String,
    /// How many units are used in a month.
    pub(super) quantity: f64,
    pub(super) unit: String,
    /// US dollars a month.
    pub(super) usd: f64,
    pub(super) price: Price,
}

/// What a fleet of sensors costs in a month.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Bill {
    pub(super) lines: Vec<Line>,
    /// US dollars a month.
    pub(super) total_usd: f64,
    pub(super) fleet: Fleet,
    /// Figures that the quantities rest on.
    pub(super) unit_costs: Vec<UnitCost>,
    /// What a reader should know.
    pub(super) notes: Vec<String>,
}

impl Bill {
    /// Returns the bill with the cheapest way to run the workers.
    pub(super) fn new(workload: &Workload, machines: &Machines, prices: &Prices) -> Result<Self, CostError> {
        let region = machines.region.as_str();
        let mut lines = Lines {
            prices,
            region,
            lines: Vec::new(),
        };
        let mut ways = Vec::new();
        for fleet in workload.fleets() {
            let mut own = Lines {
                prices,
                region,
                lines: Vec::new(),
            };
            own.of_workers(machines, &fleet)?;
            ways.push((own.sum(), fleet, own.lines));
        }
        ways.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut ways = ways.into_iter();
        let Some((cost, fleet, of_workers)) = ways.next() else {
            return Err(CostError::Workload(
                "no way to run the workers is known".to_owned(),
            ));
        };
        let other = ways.next().map(|(other, ..)| other);
        lines.lines.extend(of_workers);
        lines.of_hub(workload)?;
        lines.of_control_and_broker(workload, machines)?;
        lines.of_store(workload)?;
        let mut notes = vec![batching(workload, prices, region)?];
        notes.push(running(workload, &fleet, cost, other));
        notes.extend(limits(workload));
        notes.push(
            "Not included: disks, the IP addresses and the load balancer of the network, Key Vault, Log Analytics, \
             traffic, a surcharge for zones, taxes."
                .to_owned(),
        );
        Ok(Self {
            total_usd: lines.sum(),
            lines: lines.lines,
            fleet,
            unit_costs: unit_costs(workload),
            notes,
        })
    }

    /// Returns whether a price of the bill is a guess.
    pub(super) fn has_guesses(&self) -> bool {
        self.lines.iter().any(|line| line.price.basis == Basis::Assumed)
    }
}

struct Lines<'a> {
    prices: &'a Prices,
    region: &'a str,
    lines: Vec<Line>,
}

impl Lines<'_> {
    fn sum(&self) -> f64 {
        self.lines.iter().map(|line| line.usd).sum()
    }

    /// Adds `quantity` units of an item, of which the price is for `per`.
    fn add(&mut self, part: &str, item: &str, quantity: f64, unit: &str, per: f64) -> Result<(), CostError> {
        let price = self.prices.of(item, self.region)?;
        self.lines.push(Line {
            part: part.to_owned(),
            quantity,
            unit: unit.to_owned(),
            usd: quantity / per * price.price_usd,
            price: price.clone(),
        });
        Ok(())
    }

    fn of_workers(&mut self, machines: &Machines, fleet: &Fleet) -> Result<(), CostError> {
        let kind = if machines.is_spot { "vm-spot" } else { "vm" };
        let item = format!("{kind}/{}", machines.worker_size);
        self.add("workers", &item, fleet.machine_hours, "VM-hours", 1.0)?;
        self.add("store: models", "blob/reads", fleet.blob_reads, "reads", 1e4)
    }

    fn of_hub(&mut self, workload: &Workload) -> Result<(), CostError> {
        let usage = workload.usage();
        let units = usage.throughput_units;
        self.add(
            &format!("hub: {}", plural(units, "unit")),
            "event-hubs/throughput-unit",
            units * HOURS,
            "unit-hours",
            1.0,
        )?;
        self.add("hub: events", "event-hubs/events", usage.events, "events", 1e6)
    }

    fn of_control_and_broker(&mut self, workload: &Workload, machines: &Machines) -> Result<(), CostError> {
        let bytes = workload.usage().producer_bytes;
        let largest = CONTROL[CONTROL.len() - 1];
        let (size, room) = CONTROL
            .into_iter()
            .find(|(_, room)| bytes <= *room)
            .unwrap_or(largest);
        let count = (bytes / room).ceil().max(1.0);
        self.add(
            &format!("control: {count:.0} x {size}"),
            &format!("vm/{size}"),
            count * HOURS,
            "VM-hours",
            1.0,
        )?;
        let Machines {
            brokers, broker_size, ..
        } = machines;
        match brokers {
            0 => Ok(()),
            brokers => self.add(
                &format!("broker: {brokers} x {broker_size}"),
                &format!("vm/{broker_size}"),
                f64::from(*brokers) * HOURS,
                "VM-hours",
                1.0,
            ),
        }
    }

    fn of_store(&mut self, workload: &Workload) -> Result<(), CostError> {
        let usage = workload.usage();
        self.add("store: writes", "blob/writes", usage.blob_writes, "writes", 1e4)?;
        self.add(
            "store: capacity",
            "blob/capacity",
            usage.stored_gb,
            "GB-months",
            1.0,
        )
    }
}

/// Says what it would cost to send each reading as an event, or what batching would save.
fn batching(workload: &Workload, prices: &Prices, region: &str) -> Result<String, CostError> {
    let hub = |readings_per_event: u64| {
        let workload = Workload {
            readings_per_event,
            ..workload.clone()
        };
        let mut lines = Lines {
            prices,
            region,
            lines: Vec::new(),
        };
        lines.of_hub(&workload)?;
        Ok::<_, CostError>((lines.lines[0].usd, lines.lines[1].usd))
    };
    /// What the other readings are compared with.
    const BATCH: u64 = 300;
    let (few, many) = match workload.readings_per_event {
        1 => (1, BATCH.min(1_000_000 / workload.reading_bytes)),
        many => (1, many),
    };
    let ((few_units, few_events), (units, events)) = (hub(few)?, hub(many)?);
    Ok(format!(
        "Batch the readings: an event for each costs {} in events and {} in throughput units a month; {many} readings an \
         event cost {} and {}.",
        usd(few_events),
        usd(few_units),
        usd(events),
        usd(units)
    ))
}

/// Says how the workers run, and what the other way to run them costs.
fn running(workload: &Workload, fleet: &Fleet, cost: f64, other: Option<f64>) -> String {
    let vms = plural(fleet.machines, "VM");
    let cores = workload.worker_cores;
    let seconds = workload.batch_core_seconds() / f64::from(cores) / fleet.machines;
    let (way, other_way) = match fleet.running {
        Running::BetweenBatches => (
            format!("for each batch, {vms} of {cores} cores started, at work for {seconds:.0} s, and ended"),
            "Kept all the time",
        ),
        Running::AllTheTime => (
            format!(
                "{vms} of {cores} cores, kept all the time (--min-workers {:.0})",
                fleet.machines * f64::from(cores)
            ),
            "Ended after each batch",
        ),
    };
    match other {
        Some(other) => format!(
            "Workers: {way}. {other_way}, they would cost {} instead of {}, reads of models included.",
            usd(other),
            usd(cost)
        ),
        None => format!(
            "Workers: {way}. They boot for longer than the drain target, so they cannot start from zero."
        ),
    }
}

fn limits(workload: &Workload) -> Vec<String> {
    let usage = workload.usage();
    let mut notes = Vec::new();
    if usage.throughput_units > MOST_UNITS {
        notes.push(format!(
            "{:.0} throughput units are more than the {MOST_UNITS:.0} of a Standard namespace: send more readings an \
             event, compress them, or take Premium, whose price is not in the table.",
            usage.throughput_units
        ));
    }
    if !usage.within_one_broker {
        notes.push(
            "So many messages within the drain target are more than one queue was measured to carry: the bill has no \
             second broker."
                .to_owned(),
        );
    }
    notes
}

fn unit_costs(workload: &Workload) -> Vec<UnitCost> {
    let windows = workload.usage().windows / workload.usage().messages;
    let message = message_core_seconds(windows);
    let cost = |what, value, from| UnitCost { what, value, from };
    const PERFORMANCE: &str = "measured, docs/performance.md";
    vec![
        cost(
            "message, per core",
            format!(
                "{} messages/s of {windows:.0} windows",
                show::short(1.0 / message)
            ),
            PERFORMANCE,
        ),
        cost(
            "model, per core",
            format!("{} ms to load", workload.model_load.as_secs_f64() * 1e3),
            "--model-load; its default is assumed: 32 loads in flight, two reads of 16 ms each",
        ),
        cost(
            "reading",
            format!("{} bytes in an event", workload.reading_bytes),
            "--reading-bytes; its default is a JSON line as windrow send writes it",
        ),
        cost(
            "prediction",
            format!(
                "{PREDICTION_BYTES:.0} bytes in the store, and {DISPATCHED_BYTES:.0} for its dispatched window"
            ),
            PERFORMANCE,
        ),
        cost(
            "model",
            format!("{:.1} kB in the store", MODEL_BYTES / 1e3),
            PERFORMANCE,
        ),
        cost(
            "model, at each load",
            "2 blob reads: `current`, then the version that it names".to_owned(),
            "worker/src/cache.rs",
        ),
        cost(
            "part of predictions",
            "1 blob write for 100,000, or a second of a core".to_owned(),
            "--flush-rows and --flush-age of the worker",
        ),
        cost(
            "checkpoint",
            "1 blob write a second".to_owned(),
            "producer/src/journal.rs",
        ),
        cost(
            "open window",
            format!("{OPEN_WINDOW_BYTES:.0} bytes of the producer's memory"),
            "docs/operations.md, and a quarter more",
        ),
    ]
}

/// Formats dollars: to the cent below a hundred.
pub(super) fn usd(dollars: f64) -> String {
    match dollars {
        few if few < 100.0 => format!("{few:.2} $"),
        many => format!("{} $", show::count(many.round() as u64)),
    }
}

fn plural(number: f64, noun: &str) -> String {
    let s = if number == 1.0 { "" } else { "s" };
    format!("{} {noun}{s}", show::count(number as u64))
}
