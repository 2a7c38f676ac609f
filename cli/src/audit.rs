//! `windrow audit`: dispatched = predicted + dead-lettered, window by window.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashSet};

use clap::Args;
use serde::Serialize;
use windrow_common::{EventTime, Length, Prediction, ScoringMessage, SensorId};
use windrow_queue::{DeadLetter, StoredDeadLetters};
use windrow_store::{Dispatched, Hour, Store, StoreArg};

use crate::broker::BrokerArgs;
use crate::error::CliError;
use crate::output::{OutputArg, OutputFormat};
use crate::quarantine::Reasons;
use crate::show;

/// Maximum number of lost windows that are listed.
const LOST_SHOWN: usize = 20;

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

/// The counts of an audit, for one hour or in total.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Tally {
    /// Windows that were put into a message.
    pub(crate) dispatched: u64,
    /// Of these, windows with a prediction.
    pub(crate) predicted: u64,
    /// Of these, windows without a prediction whose message is among the dead letters.
    pub(crate) dead_lettered: u64,
    /// Of these, windows with neither.
    pub(crate) lost: u64,
    /// Windows with a prediction that were never dispatched.
    pub(crate) unexpected: u64,
    /// Windows whose prediction has a different number of readings than the dispatched window, or that were predicted
    /// or dispatched twice with different content.
    pub(crate) differing: u64,
    /// Duplicate rows of predictions, which readers drop.
    pub(crate) repeats: u64,
}

/// The result of an audit.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Audit {
    /// The totals.
    pub(crate) all: Tally,
    /// The counts of each hour, by `date=…/hour=…`.
    pub(crate) hours: BTreeMap<String, Tally>,
    /// The first lost windows, each as its sensor and window start.
    pub(crate) lost: Vec<String>,
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.dispatched += other.dispatched;
        self.predicted += other.predicted;
        self.dead_lettered += other.dead_lettered;
        self.lost += other.lost;
        self.unexpected += other.unexpected;
        self.differing += other.differing;
        self.repeats += other.repeats;
    }

    /// Returns whether every dispatched window is accounted for with the content it was dispatched with, and no other
    /// window is predicted.
    pub(crate) fn is_clean(&self) -> bool {
        self.lost == 0 && self.unexpected == 0 && self.differing == 0
    }

    /// Returns the verdict as one line.
    pub(crate) fn verdict(&self) -> String {
        let mut line = format!(
            "{} dispatched = {} predicted + {} dead-lettered; {} lost",
            show::count(self.dispatched),
            show::count(self.predicted),
            show::count(self.dead_lettered),
            show::count(self.lost),
        );
        for (count, what) in [
            (self.unexpected, "never dispatched"),
            (self.differing, "differing"),
            (self.repeats, "duplicates dropped"),
        ] {
            if count > 0 {
                line += &format!(", {} {what}", show::count(count));
            }
        }
        line
    }
}

impl AuditArgs {
    pub(crate) async fn run(self) -> Result<(), CliError> {
        let store = self.store.open()?;
        let mut dead = StoredDeadLetters::of(&store).list().await?;
        if let Some(broker) = self.broker.broker("windrow audit")? {
            dead.extend(broker.list().await?);
        }
        let audit = audit(&store, &dead, self.from, self.to).await?;
        let quarantined = Reasons::of(&store).await?;
        if self.output.output == OutputFormat::Json {
            let mut value = serde_json::to_value(&audit).unwrap_or_default();
            value["quarantined"] = quarantined.json();
            show::json(&value)?;
        } else {
            show_table(&audit)?;
            show::line(&quarantined.line())?;
        }
        if !audit.all.is_clean() {
            return Err(CliError::Lost(format!(
                "the audit failed: {}",
                audit.all.verdict()
            )));
        }
        Ok(())
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
            tally.differing,
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
        "duplicates",
    ];
    show::table(&headings, rows)?;
    for lost in &audit.lost {
        show::line(&format!("lost: {lost}"))?;
    }
    show::line(&audit.all.verdict())
}

type Key = (SensorId, EventTime, Length);

/// Reconciles the dispatched windows in `store` with its predictions and with the dead letters.
pub(crate) async fn audit(
    store: &Store,
    dead: &[DeadLetter],
    from: Option<EventTime>,
    to: Option<EventTime>,
) -> Result<Audit, CliError> {
    let dead = dead_windows(dead);
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
            tally.differing += read.conflicts;
            left = read.rows;
            left.retain(|window| within(window.window_start));
        }
        let mut right = Vec::new();
        if let Some(hour) = predicted {
            let read = store.predictions(&hour).await?;
            tally.differing += read.conflicts;
            tally.repeats += read.repeats;
            right = read.rows;
            right.retain(|prediction| within(prediction.aggregate.window_start));
        }
        reconcile(&left, &right, &dead, &mut tally, &mut audit.lost);
        audit.all.add(&tally);
        audit.hours.insert(name, tally);
    }
    Ok(audit)
}

/// Compares both sides, each sorted by (sensor, window start, window length).
fn reconcile(
    dispatched: &[Dispatched],
    predictions: &[Prediction],
    dead: &HashSet<Key>,
    tally: &mut Tally,
    lost: &mut Vec<String>,
) {
    let mut predictions = predictions.iter().peekable();
    let order = |window: &Dispatched, prediction: &Prediction| {
        (&window.sensor, window.window_start, window.window_length).cmp(&(
            &prediction.sensor,
            prediction.aggregate.window_start,
            prediction.window_length,
        ))
    };
    for window in dispatched {
        tally.dispatched += 1;
        while predictions
            .next_if(|prediction| order(window, prediction) == Ordering::Greater)
            .is_some()
        {
            tally.unexpected += 1;
        }
        let (mut found, mut differs) = (false, false);
        // The window has one prediction for each model version that scored it.
        while let Some(prediction) =
            predictions.next_if(|prediction| order(window, prediction) == Ordering::Equal)
        {
            found = true;
            differs |= prediction.aggregate.count != window.count;
        }
        tally.differing += u64::from(differs);
        if found {
            tally.predicted += 1;
        } else if dead.contains(&(window.sensor.clone(), window.window_start, window.window_length)) {
            tally.dead_lettered += 1;
        } else {
            tally.lost += 1;
            if lost.len() < LOST_SHOWN {
                lost.push(format!("{} {}", window.sensor, window.window_start));
            }
        }
    }
    tally.unexpected += predictions.count() as u64;
}

/// Returns the windows of the dead letters. A dead letter that cannot be decoded adds none, so its windows
/// count as lost.
fn dead_windows(dead: &[DeadLetter]) -> HashSet<Key> {
    let mut windows = HashSet::new();
    for dead_letter in dead {
        match ScoringMessage::decode(&dead_letter.message.body) {
            Ok(message) => windows.extend(message.aggregates.iter().map(|aggregate| {
                (
                    message.sensor.clone(),
                    aggregate.window_start,
                    message.window_length,
                )
            })),
            Err(error) => {
                tracing::warn!(message = dead_letter.message.id, %error, "cannot decode a dead letter");
            }
        }
    }
    windows
}

#[cfg(test)]
mod tests {
    use super::*;
    use windrow_common::Aggregate;

    fn window(tag: &str, minute: i64) -> Dispatched {
        Dispatched {
            sensor: SensorId::new("d", tag).unwrap(),
            window_start: EventTime::from_millis(minute * 60_000),
            window_length: Length::from_millis(60_000),
            count: 3,
        }
    }

    fn prediction(tag: &str, minute: i64, count: u64, version: &str) -> Prediction {
        Prediction {
            sensor: SensorId::new("d", tag).unwrap(),
            window_length: Length::from_millis(60_000),
            aggregate: Aggregate {
                window_start: EventTime::from_millis(minute * 60_000),
                count,
                mean: 0.0,
                std: 0.0,
                min: 0.0,
                max: 0.0,
                first: 0.0,
                last: 0.0,
            },
            decision: 1.0,
            anomaly: false,
            model_version: version.into(),
        }
    }

    #[test]
    fn every_window_is_accounted_for_by_name() {
        let dispatched = [window("a", 0), window("a", 1), window("b", 0), window("c", 0)];
        let predictions = [
            prediction("a", 0, 3, "v1"),
            prediction("a", 0, 3, "v2"),
            prediction("aa", 0, 3, "v1"),
            prediction("b", 0, 2, "v1"),
            prediction("d", 0, 3, "v1"),
        ];
        let dead = HashSet::from([(
            SensorId::new("d", "c").unwrap(),
            EventTime::from_millis(0),
            Length::from_millis(60_000),
        )]);
        let (mut tally, mut lost) = (Tally::default(), Vec::new());
        reconcile(&dispatched, &predictions, &dead, &mut tally, &mut lost);
        assert_eq!(
            tally,
            Tally {
                dispatched: 4,
                predicted: 2,
                dead_lettered: 1,
                lost: 1,
                unexpected: 2,
                differing: 1,
                repeats: 0
            }
        );
        assert_eq!(lost, ["d/a 1970-01-01T00:01:00Z"]);
        assert!(!tally.is_clean());
    }
}
