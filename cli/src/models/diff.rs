//! `windrow models diff`: two versions of a sensor's model side by side.

use clap::Args;
use serde_json::json;
use windrow_common::{Aggregate, EventTime, SensorId};
use windrow_model::{Scratch, is_anomaly};
use windrow_models::ModelRepository;
use windrow_store::{Store, StoreArg};

use super::show_one::{Named, Read, models_of};
use crate::error::CliError;
use crate::output::{OutputArg, OutputFormat};
use crate::show;

/// How many hours of predictions are read unless the caller says which.
const HOURS: usize = 24;

#[derive(Args, Debug)]
#[command(after_help = "\
Example: what would the candidate have flagged on a day?
  windrow models diff --store ./store pump-7/temp current candidate --from 2026-01-05T00:00:00Z --to 2026-01-06T00:00:00Z")]
pub(crate) struct DiffArgs {
    #[command(flatten)]
    store: StoreArg,
    /// Only windows that start at or after this time, such as 2026-01-05T00:00:00Z [default: the last 24 hours that have
    /// predictions]
    #[arg(long, value_name = "TIME", env = "WINDROW_FROM")]
    from: Option<EventTime>,
    /// Only windows that start before this time, such as 2026-01-06T00:00:00Z
    #[arg(long, value_name = "TIME", env = "WINDROW_TO")]
    to: Option<EventTime>,
    #[command(flatten)]
    output: OutputArg,
    /// Sensor, as DEVICE/TAG; write a slash inside a name as %2F
    sensor: SensorId,
    /// One version: current, candidate, shadow, previous, or the version itself
    #[arg(value_name = "A", default_value_t = Named::Current)]
    first: Named,
    /// The other version [default: the shadow, or else the candidate]
    #[arg(value_name = "B")]
    second: Option<Named>,
}

/// How two versions judge the same windows.
#[derive(Default)]
struct Judged {
    windows: u64,
    both: u64,
    first_only: u64,
    second_only: u64,
    /// The first windows that they judge differently, each with both decisions.
    differing: Vec<(EventTime, f64, f64)>,
}

impl DiffArgs {
    pub(super) async fn run(self) -> Result<(), CliError> {
        let store = self.store.open()?;
        let repository = ModelRepository::new(store.clone());
        let models = models_of(&repository, &self.sensor).await?;
        let shadows = repository.shadows().await?;
        let second = self
            .second
            .clone()
            .unwrap_or_else(|| match shadows.contains_key(&self.sensor) {
                true => Named::Shadow,
                false => Named::Candidate,
            });
        let read = |named: &Named| named.of(&models, &shadows);
        let (a, b) = (read(&self.first)?, read(&second)?);
        let first = Read::new(&repository, &self.sensor, a).await?;
        let other = Read::new(&repository, &self.sensor, b).await?;
        let judged = judge(&self.aggregates(&store).await?, &first, &other)?;
        if self.output.output == OutputFormat::Json {
            return show::json(&json!({
                "sensor": self.sensor.to_string(), "a": first.json(), "b": other.json(),
                "windows": judged.windows, "flagged_by_both": judged.both,
                "flagged_by_a_only": judged.first_only, "flagged_by_b_only": judged.second_only,
            }));
        }
        self.show(&second, &first, &other, &judged)
    }

    fn show(&self, second: &Named, first: &Read, other: &Read, judged: &Judged) -> Result<(), CliError> {
        let (facts, others) = (first.facts(), other.facts());
        let mut labels: Vec<&str> = Vec::new();
        for (label, _) in facts.iter().chain(&others) {
            if !labels.contains(label) {
                labels.push(label);
            }
        }
        let of = |facts: &[(&'static str, String)], label: &str| {
            let fact = facts.iter().find(|(other, _)| *other == label);
            fact.map(|(_, fact)| fact.clone()).unwrap_or_default()
        };
        let mut rows: Vec<Vec<String>> = labels
            .into_iter()
            .map(|label| vec![label.to_owned(), of(&facts, label), of(&others, label)])
            .collect();
        rows.push(vec![
            "flagged windows".to_owned(),
            show::share(judged.both + judged.first_only, judged.windows),
            show::share(judged.both + judged.second_only, judged.windows),
        ]);
        show::table(&["", &self.first.to_string(), &second.to_string()], rows)?;
        show::line(&format!(
            "of {} scored windows, both flag {}, only {} flags {}, and only {second} flags {}",
            show::count(judged.windows),
            show::count(judged.both),
            self.first,
            show::count(judged.first_only),
            show::count(judged.second_only)
        ))?;
        for (start, a, b) in &judged.differing {
            show::line(&format!("  {start}  {}: {a:+.6}  {second}: {b:+.6}", self.first))?;
        }
        let differing = judged.first_only + judged.second_only;
        if let Some(more @ 1..) = differing.checked_sub(judged.differing.len() as u64) {
            show::line(&format!("  and {} more", show::count(more)))?;
        }
        Ok(())
    }

    /// Returns the sensor's aggregates among the stored predictions.
    async fn aggregates(&self, store: &Store) -> Result<Vec<Aggregate>, CliError> {
        let mut hours = store.hours("predictions", self.from, self.to).await?;
        if self.from.is_none() && self.to.is_none() {
            let extra = hours.len().saturating_sub(HOURS);
            hours.drain(..extra);
        }
        let mut aggregates = Vec::new();
        for hour in hours {
            let rows = store.predictions(&hour).await?.rows.into_iter();
            let rows = rows.filter(|row| row.sensor == self.sensor);
            aggregates.extend(rows.map(|row| row.aggregate).filter(|aggregate| {
                let start = aggregate.window_start;
                self.from.is_none_or(|from| start >= from) && self.to.is_none_or(|to| start < to)
            }));
        }
        Ok(aggregates)
    }
}

/// Most windows to name that two versions judge differently.
const MOST_NAMED: usize = 10;

/// Scores the windows with both versions, as a worker does: the result depends on the aggregate alone.
fn judge(aggregates: &[Aggregate], first: &Read, second: &Read) -> Result<Judged, CliError> {
    let decide = |read: &Read| {
        let mut decisions = Vec::new();
        let decided = read
            .model
            .decide(aggregates, &mut Scratch::default(), &mut decisions);
        decided.map_err(|error| {
            CliError::Partial(format!(
                "version {} cannot score the stored windows: {error}",
                read.version
            ))
        })?;
        Ok::<_, CliError>(decisions)
    };
    let (of_first, of_second) = (decide(first)?, decide(second)?);
    let mut judged = Judged::default();
    for ((aggregate, a), b) in aggregates.iter().zip(of_first).zip(of_second) {
        judged.windows += 1;
        match (is_anomaly(a), is_anomaly(b)) {
            (true, true) => judged.both += 1,
            (true, false) => judged.first_only += 1,
            (false, true) => judged.second_only += 1,
            (false, false) => {}
        }
        if is_anomaly(a) != is_anomaly(b) && judged.differing.len() < MOST_NAMED {
            judged.differing.push((aggregate.window_start, a, b));
        }
    }
    Ok(judged)
}
