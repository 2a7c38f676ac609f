//! `windrow audit`: dispatched = predicted + dead-lettered, window by window.

mod reconcile;
mod tally;

use std::collections::BTreeMap;

use clap::Args;
use serde::Serialize;
use windrow_common::EventTime;
use windrow_queue::{DeadLetter, StoredDeadLetters};
use windrow_store::{Hour, Store, StoreArg};

use crate::broker::BrokerArgs;
use crate::error::CliError;
use crate::output::{OutputArg, OutputFormat};
use crate::show;

use reconcile::{DeadWindows, Findings, reconcile};
use tally::Tally;

#[derive(Args, Debug)]
#[command(after_help = "\
Exit code 3 means that the audit failed: windows are lost, differing or never dispatched. While a run is in progress,
windows in flight count as lost.
With --amqp-url or --amqp-url-file, the audit also counts the dead letters in RabbitMQ.
Example:
  windrow audit --store ./store")]
pub(crate) struct AuditArgs {
    #[command(flatten)]
    store: StoreArg,
    /// Only windows that start at or after this time, such as 2026-01-05T00:00:00Z
    #[arg(long, value_name = "TIME", env = "WINDROW_FROM")]
    from: Option<EventTime>,
    /// Only windows that start before this time, such as 2026-01-06T00:00:00Z
    #[arg(long, value_name = "TIME", env = "WINDROW_TO")]
    to: Option<EventTime>,
    #[command(flatten)]
    broker: BrokerArgs,
    #[command(flatten)]
    output: OutputArg,
}

/// The result of an audit.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Audit {
    /// The totals.
    pub(crate) all: Tally,
    /// The counts of each hour, by `date=…/hour=…`.
    pub(crate) hours: BTreeMap<String, Tally>,
    /// The first windows of each kind of finding.
    #[serde(flatten)]
    pub(crate) findings: Findings,
    /// For each kind of contradiction, its likely cause and what to do.
    pub(crate) explanations: Vec<String>,
}

impl AuditArgs {
    pub(crate) async fn run(self) -> Result<(), CliError> {
        let store = self.store.open()?;
        let mut dead = StoredDeadLetters::of(&store).list().await?;
        if let Some(broker) = self.broker.broker("windrow audit")? {
            dead.extend(broker.list().await?);
        }
        let audit = audit(&store, &dead, self.from, self.to).await?;
        if self.output.output == OutputFormat::Json {
            let value = serde_json::to_value(&audit).unwrap_or_default();
            show::json(&value)?;
        } else {
            show_table(&audit)?;
        }
        match audit.all.is_clean() {
            true => Ok(()),
            false => Err(CliError::Lost(audit.failure())),
        }
    }
}

impl Audit {
    /// Returns why the audit failed, and what to do.
    pub(crate) fn failure(&self) -> String {
        let mut text = format!("the audit failed: {}", self.all.verdict());
        for explanation in &self.explanations {
            text += &format!("; {explanation}");
        }
        text
    }
}

fn show_table(audit: &Audit) -> Result<(), CliError> {
    let row = |name: &str, tally: &Tally| {
        let counts = [
            tally.dispatched,
            tally.predicted,
            tally.dead_lettered,
            tally.lost,
            tally.unexpected,
            tally.differing(),
            tally.superseded,
            tally.repeats,
        ];
        std::iter::once(name.to_owned())
            .chain(counts.map(show::count))
            .collect::<Vec<_>>()
    };
    let mut rows: Vec<_> = audit.hours.iter().map(|(hour, tally)| row(hour, tally)).collect();
    rows.push(row("all", &audit.all));
    let headings = [
        "hour",
        "dispatched",
        "predicted",
        "dead letters",
        "lost",
        "never dispatched",
        "differing",
        "superseded",
        "duplicates",
    ];
    show::table(&headings, rows)?;
    for (kind, windows) in [
        ("lost", &audit.findings.lost),
        ("differing", &audit.findings.differing),
    ] {
        for window in windows {
            show::line(&format!("{kind}: {window}"))?;
        }
    }
    show::line(&audit.all.verdict())
}

/// Reconciles the dispatched windows in `store` with its predictions and with the dead letters.
pub(crate) async fn audit(
    store: &Store,
    dead: &[DeadLetter],
    from: Option<EventTime>,
    to: Option<EventTime>,
) -> Result<Audit, CliError> {
    let dead = DeadWindows::of(dead);
    let mut hours: BTreeMap<String, (Option<Hour>, Option<Hour>)> = BTreeMap::new();
    // Predictions are listed before dispatched windows. In the other order, an audit during a run could see a
    // prediction without its dispatched window.
    for hour in store.hours("predictions", from, to).await? {
        let name = hour.name.clone();
        hours.entry(name).or_default().1 = Some(hour);
    }
    for hour in store.hours("dispatched", from, to).await? {
        let name = hour.name.clone();
        hours.entry(name).or_default().0 = Some(hour);
    }
    let within = |start: EventTime| from.is_none_or(|from| start >= from) && to.is_none_or(|to| start < to);
    let mut audit = Audit::default();
    for (name, (dispatched, predicted)) in hours {
        let mut tally = Tally::default();
        let mut left = Vec::new();
        if let Some(hour) = dispatched {
            let read = store.dispatched(&hour).await?;
            left = read.rows;
            left.retain(|window| within(window.window_start));
        }
        let mut right = Vec::new();
        if let Some(hour) = predicted {
            let read = store.predictions(&hour).await?;
            (tally.conflicting, tally.superseded, tally.repeats) =
                (read.conflicts, read.superseded, read.repeats);
            right = read.rows;
            right.retain(|prediction| within(prediction.aggregate.window_start));
        }
        reconcile(&left, &right, &dead, &mut tally, &mut audit.findings);
        audit.all.add(&tally);
        audit.hours.insert(name, tally);
    }
    audit.explanations = audit.all.explanations();
    Ok(audit)
}
