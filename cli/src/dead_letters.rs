//! `windrow dead-letters`: what could not be scored, and what to do with it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;
use windrow_common::args::AmqpArgs;
use windrow_common::queue::{Amqp, Memory, MemoryLimits, Queue, QueueError, Reconnect};
use windrow_common::store::{DeadLetter, Store};
use windrow_common::{EventTime, ScoringMessage, SensorId, Shutdown, parse_duration};

use crate::args::{Output, OutputArg};
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

/// Where the dead letters are: on RabbitMQ when one is named, else in the store, where `windrow run` keeps them.
#[derive(Args, Debug)]
struct Place {
    /// The store: a folder, az://container/prefix, s3://bucket/prefix or gs://bucket/prefix
    #[arg(long, value_name = "URL", env = "WINDROW_STORE", required_unless_present_any = ["amqp_url", "amqp_url_file"])]
    store: Option<String>,
    #[command(flatten)]
    amqp: AmqpArgs,
}

impl Place {
    /// The broker's dead letters, when a broker is named.
    fn queue(&self) -> Result<Option<Amqp>, CliError> {
        if !self.amqp.is_given() {
            return Ok(None);
        }
        Ok(Some(self.amqp.queue("windrow dead-letters", Reconnect::Never)?))
    }

    fn store(&self) -> Result<Store, CliError> {
        Ok(Store::open(self.store.as_deref().unwrap_or_default())?)
    }

    async fn letters(&self) -> Result<Vec<DeadLetter>, CliError> {
        match self.queue()? {
            Some(queue) => {
                let letters = queue.dead_letters().list(usize::MAX).await?;
                queue.close().await;
                Ok(letters)
            }
            None => Ok(self.store()?.dead_letters().await?),
        }
    }
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
    /// Only letters that have been dead for at least this long
    #[arg(long, value_name = "DURATION", env = "WINDROW_OLDER_THAN", value_parser = parse_duration)]
    older_than: Option<Duration>,
}

#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    filter: Filter,
    /// Only the number of letters for each reason
    #[arg(long, env = "WINDROW_BY_REASON")]
    by_reason: bool,
    #[command(flatten)]
    output: OutputArg,
}

#[derive(Args, Debug)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    place: Place,
    /// The message id, as `list` shows it
    id: String,
    #[command(flatten)]
    output: OutputArg,
}

#[derive(Args, Debug)]
pub(crate) struct ReplayArgs {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    filter: Filter,
}

#[derive(Args, Debug)]
pub(crate) struct PurgeArgs {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    filter: Filter,
    /// Really delete; without it, only says what would be deleted
    #[arg(long, env = "WINDROW_YES")]
    yes: bool,
}

impl Filter {
    async fn letters(&self, place: &Place) -> Result<Vec<DeadLetter>, CliError> {
        let mut letters = place.letters().await?;
        letters.retain(|letter| self.wants(letter));
        Ok(letters)
    }

    fn wants(&self, letter: &DeadLetter) -> bool {
        let of_sensor = |sensor: &SensorId| {
            ScoringMessage::decode(&letter.message.body).is_ok_and(|message| message.sensor == *sensor)
        };
        let older_than = |age: Duration| letter.dead_at <= EventTime::now().saturating_sub(age);
        self.reason
            .as_ref()
            .is_none_or(|reason| *reason == letter.reason.code)
            && self.sensor.as_ref().is_none_or(of_sensor)
            && self.older_than.is_none_or(older_than)
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
        let letters = self.filter.letters(&self.place).await?;
        if self.by_reason {
            return count_by_reason(&letters, self.output.output);
        }
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
                letter.message.enqueued_at.to_string(),
                letter.dead_at.to_string(),
                letter.reason.worker.clone(),
                letter.reason.detail.clone(),
            ]
        });
        show::table(
            &[
                "message",
                "reason",
                "first seen",
                "dead since",
                "worker",
                "detail",
            ],
            rows.collect(),
        )
    }
}

fn count_by_reason(letters: &[DeadLetter], output: Output) -> Result<(), CliError> {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for letter in letters {
        *counts.entry(&letter.reason.code).or_default() += 1;
    }
    if output == Output::Json {
        return show::json(&json!(counts));
    }
    let rows = counts
        .into_iter()
        .map(|(reason, count)| vec![reason.to_owned(), show::count(count)]);
    show::table(&["reason", "dead letters"], rows.collect())
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
        let letters = self.place.letters().await?;
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
    async fn run(self) -> Result<(), CliError> {
        let Some(queue) = self.place.queue()? else {
            return self.score_again().await;
        };
        let replayed = queue
            .dead_letters()
            .replay(|letter| self.filter.wants(letter))
            .await?;
        queue.close().await;
        show::line(&format!(
            "replayed {replayed}: they are in the scoring queue again"
        ))
    }

    /// Each letter of the store goes through a worker once more. It is deleted only when its predictions are durable, so
    /// a replay that dies loses nothing; a letter that fails again is kept, with the new reason.
    async fn score_again(self) -> Result<(), CliError> {
        let store = self.place.store()?;
        let letters = self.filter.letters(&self.place).await?;
        let queue = Memory::new(MemoryLimits::default(), store.clone());
        let stats = Arc::new(windrow_worker::Stats::default());
        let (_trigger, shutdown) = Shutdown::new();
        let workers = spawn_workers(1, &queue, &store, &stats, &shutdown);
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
        let failed = forget_scored(&store, &letters).await?;
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

/// Deletes the letters that were not written again since they were read; gives the number of those that were.
async fn forget_scored(store: &Store, replayed: &[DeadLetter]) -> Result<usize, CliError> {
    let now: std::collections::HashMap<_, _> = store
        .dead_letters()
        .await?
        .into_iter()
        .map(|letter| (letter.message.id.clone(), letter))
        .collect();
    let mut failed = 0;
    for letter in replayed {
        let again = now.get(&letter.message.id).is_some_and(|now| now != letter);
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
        if !self.yes {
            let letters = self.filter.letters(&self.place).await?;
            return show::line(&format!(
                "would delete {} dead letters; --yes deletes them for good",
                letters.len()
            ));
        }
        let deleted = match self.place.queue()? {
            Some(queue) => {
                let purged = queue
                    .dead_letters()
                    .purge(|letter| self.filter.wants(letter))
                    .await?;
                queue.close().await;
                purged
            }
            None => {
                let store = self.place.store()?;
                let letters = self.filter.letters(&self.place).await?;
                for letter in &letters {
                    store.delete_dead_letter(&letter.message.id).await?;
                }
                letters.len() as u64
            }
        };
        show::line(&format!("deleted {deleted} dead letters"))
    }
}
