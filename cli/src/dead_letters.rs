//! `windrow dead-letters`: what could not be scored, and what to do with it.

use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::json;
use windrow_common::queue::{Memory, MemoryLimits, Queue, QueueError};
use windrow_common::store::{DeadLetter, Store};
use windrow_common::{EventTime, ScoringMessage, SensorId, Shutdown};

use crate::args::{Output, OutputArg, StoreArg};
use crate::error::CliError;
use crate::pipeline::{drive, spawn_workers};
use crate::show;

#[derive(Subcommand, Debug)]
pub(crate) enum DeadLettersCommand {
    /// List dead letters with their reasons
    List(ListArgs),
    /// Show one dead letter: its reason in full, and what it holds
    Show(ShowArgs),
    /// Score dead letters again, after what was wrong is mended
    Replay(ReplayArgs),
    /// Delete dead letters for good; their windows count as lost from then on
    Purge(PurgeArgs),
}

/// Which letters are meant.
#[derive(Args, Debug)]
struct Filter {
    /// Only letters with this reason, such as no-model
    #[arg(long, value_name = "REASON", env = "WINDROW_REASON")]
    reason: Option<String>,
    /// Only letters of this sensor: DEVICE/TAG
    #[arg(long, value_name = "DEVICE/TAG", env = "WINDROW_SENSOR")]
    sensor: Option<SensorId>,
}

#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    store: StoreArg,
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    output: OutputArg,
}

#[derive(Args, Debug)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    store: StoreArg,
    /// The message id, as `list` shows it
    id: String,
    #[command(flatten)]
    output: OutputArg,
}

#[derive(Args, Debug)]
pub(crate) struct ReplayArgs {
    #[command(flatten)]
    store: StoreArg,
    #[command(flatten)]
    filter: Filter,
}

#[derive(Args, Debug)]
pub(crate) struct PurgeArgs {
    #[command(flatten)]
    store: StoreArg,
    #[command(flatten)]
    filter: Filter,
    /// Really delete; without it, only says what would be deleted
    #[arg(long, env = "WINDROW_YES")]
    yes: bool,
}

impl Filter {
    async fn letters(&self, store: &Store) -> Result<Vec<DeadLetter>, CliError> {
        let mut letters = store.dead_letters().await?;
        letters.retain(|letter| self.wants(letter));
        Ok(letters)
    }

    fn wants(&self, letter: &DeadLetter) -> bool {
        let of_sensor = |sensor: &SensorId| {
            ScoringMessage::decode(&letter.message.body).is_ok_and(|message| message.sensor == *sensor)
        };
        self.reason
            .as_ref()
            .is_none_or(|reason| *reason == letter.reason.code)
            && self.sensor.as_ref().is_none_or(of_sensor)
    }
}

impl DeadLettersCommand {
    pub(crate) async fn run(self) -> Result<(), CliError> {
        match self {
            Self::List(args) => args.run().await,
            Self::Show(args) => args.run().await,
            Self::Replay(args) => args.run().await,
            Self::Purge(args) => args.run().await,
        }
    }
}

impl ListArgs {
    async fn run(self) -> Result<(), CliError> {
        let letters = self.filter.letters(&self.store.open()?).await?;
        if self.output.output == Output::Json {
            return show::json(&letters.iter().map(summary).collect());
        }
        if letters.is_empty() {
            return show::line("no dead letters");
        }
        let rows = letters.iter().map(|letter| {
            vec![
                letter.message.id.clone(),
                letter.reason.code.clone(),
                letter.dead_at.to_string(),
                letter.reason.worker.clone(),
                letter.reason.detail.clone(),
            ]
        });
        show::table(
            &["message", "reason", "since", "worker", "detail"],
            rows.collect(),
        )
    }
}

fn summary(letter: &DeadLetter) -> serde_json::Value {
    json!({
        "id": letter.message.id,
        "reason": letter.reason.code,
        "detail": letter.reason.detail,
        "worker": letter.reason.worker,
        "dead_at": letter.dead_at.to_string(),
        "enqueued_at": letter.message.enqueued_at.to_string(),
        "deliveries": letter.deliveries,
        "bytes": letter.message.body.len(),
    })
}

impl ShowArgs {
    async fn run(self) -> Result<(), CliError> {
        let store = self.store.open()?;
        let letters = store.dead_letters().await?;
        let letter = letters.iter().find(|letter| letter.message.id == self.id);
        let Some(letter) = letter else {
            return Err(CliError::Usage(format!(
                "there is no dead letter of message {}; `windrow dead-letters list` shows those there are",
                self.id
            )));
        };
        let mut shown = summary(letter);
        match ScoringMessage::decode(&letter.message.body) {
            Ok(message) => {
                shown["sensor"] = message.sensor.to_string().into();
                shown["aggregates"] = message.aggregates.iter().map(aggregate).collect();
            }
            Err(error) => shown["undecodable"] = error.to_string().into(),
        }
        if self.output.output == Output::Json {
            return show::json(&shown);
        }
        let serde_json::Value::Object(fields) = shown else {
            return Ok(());
        };
        let facts: Vec<_> = fields
            .iter()
            .map(|(name, value)| {
                let text = match value {
                    serde_json::Value::String(text) => text.clone(),
                    serde_json::Value::Array(items) => {
                        format!("{} windows (--output json shows them)", items.len())
                    }
                    other => other.to_string(),
                };
                (name.as_str(), text)
            })
            .collect();
        show::facts(&facts)
    }
}

fn aggregate(aggregate: &windrow_common::Aggregate) -> serde_json::Value {
    json!({
        "window_start": aggregate.window_start.to_string(),
        "count": aggregate.count, "mean": aggregate.mean, "std": aggregate.std,
        "min": aggregate.min, "max": aggregate.max, "first": aggregate.first, "last": aggregate.last,
    })
}

impl ReplayArgs {
    /// Each letter goes through a worker once more. It is deleted only when its predictions are durable, so a replay
    /// that dies loses nothing; a letter that fails again is kept, with the new reason.
    async fn run(self) -> Result<(), CliError> {
        let store = self.store.create()?;
        let letters = self.filter.letters(&store).await?;
        let queue = Memory::new(MemoryLimits::default(), store.clone());
        let stats = Arc::new(windrow_worker::Stats::default());
        let (_trigger, shutdown) = Shutdown::new();
        let workers = spawn_workers(1, &queue, &store, &stats, &shutdown);
        let started = EventTime::now();
        let publish = async {
            let mut confirmations = Vec::with_capacity(letters.len());
            for letter in &letters {
                confirmations.push(queue.publish(letter.message.clone()).await?);
            }
            for confirmation in confirmations {
                confirmation.wait().await?;
            }
            Ok::<_, QueueError>(())
        };
        let publish = async { publish.await.map_err(windrow_worker::WorkerError::from) };
        drive(publish, workers, &queue, || ()).await?;
        let failed = forget_scored(&store, &letters, started).await?;
        let scored = letters.len() - failed;
        show::line(&format!(
            "replayed {}: {scored} scored, {failed} dead again",
            letters.len()
        ))?;
        if failed > 0 {
            return Err(CliError::Partial(format!(
                "{failed} messages could not be scored again"
            )));
        }
        Ok(())
    }
}

/// Deletes the letters that were not written again since `started`; gives the number of those that were.
async fn forget_scored(
    store: &Store,
    replayed: &[DeadLetter],
    started: EventTime,
) -> Result<usize, CliError> {
    let now: std::collections::HashMap<_, _> = store
        .dead_letters()
        .await?
        .into_iter()
        .map(|letter| (letter.message.id.clone(), letter))
        .collect();
    let mut failed = 0;
    for letter in replayed {
        let again = now
            .get(&letter.message.id)
            .is_some_and(|now| now.dead_at >= started && now != letter);
        if again {
            failed += 1;
        } else {
            store.delete_dead_letter(&letter.message.id).await?;
        }
    }
    Ok(failed)
}

impl PurgeArgs {
    async fn run(self) -> Result<(), CliError> {
        let store = self.store.open()?;
        let letters = self.filter.letters(&store).await?;
        if !self.yes {
            return show::line(&format!(
                "would delete {} dead letters; --yes deletes them for good",
                letters.len()
            ));
        }
        for letter in &letters {
            store.delete_dead_letter(&letter.message.id).await?;
        }
        show::line(&format!("deleted {} dead letters", letters.len()))
    }
}
