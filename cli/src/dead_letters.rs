//! `windrow dead-letters`: lists, shows, replays and purges dead letters.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;
use windrow_common::{EventTime, ScoringTask, SensorId, parse_duration};
use windrow_queue::{DeadLetter, Memory, MemoryLimits, Queue, QueueError, StoredDeadLetters};
use windrow_service::Shutdown;
use windrow_store::Store;

use crate::broker::{Broker, BrokerArgs};
use crate::error::CliError;
use crate::output::{OutputArg, OutputFormat};
use crate::pipeline::{drive, spawn_workers};
use crate::show;

#[derive(Subcommand, Debug)]
pub(crate) enum DeadLettersCommand {
    /// List dead letters with their reasons
    List(ListArgs),
    /// Show one dead letter with its full reason and its contents
    Show(ShowArgs),
    /// Score dead letters again, after their cause is fixed
    Replay(ReplayArgs),
    /// Delete dead letters permanently; the audit then counts their windows as lost
    Purge(PurgeArgs),
}

/// The location of the dead letters: RabbitMQ if a broker is named, otherwise the store that `windrow run` wrote to. A
/// producer with RabbitMQ keeps messages that are too large for the broker in the store, so commands on a broker also
/// report how many dead letters the store holds.
#[derive(Args, Debug)]
struct Location {
    /// The store: a folder, az://container/prefix, s3://bucket/prefix or gs://bucket/prefix
    #[arg(long, value_name = "URL", env = "WINDROW_STORE")]
    store: Option<String>,
    #[command(flatten)]
    broker: BrokerArgs,
}

impl Location {
    /// Returns the broker if one is named.
    fn broker(&self) -> Result<Option<Broker>, CliError> {
        Ok(self.broker.broker("windrow dead-letters")?)
    }

    fn store(&self) -> Result<Store, CliError> {
        let url = self.store.as_deref().ok_or_else(|| {
            CliError::Usage("which dead letters? Give --store or WINDROW_STORE, or name a broker".to_owned())
        })?;
        Ok(Store::open(url)?)
    }

    /// Says how many dead letters are in the store, if a command looks only at the broker's.
    async fn tell_of_stored(&self, filter: &Filter) -> Result<(), CliError> {
        if self.store.is_none() || self.broker()?.is_none() {
            return Ok(());
        }
        let stored = match self.store() {
            Ok(store) => StoredDeadLetters::of(&store).list().await.map_err(CliError::from),
            Err(error) => Err(error),
        };
        match stored {
            Ok(stored) => {
                let count = stored
                    .iter()
                    .filter(|dead_letter| filter.wants(dead_letter))
                    .count();
                if count > 0 {
                    eprintln!(
                        "windrow: {count} more in the store, which this leaves alone: give --store without naming a broker"
                    );
                }
            }
            Err(error) => eprintln!("windrow: the store's own dead letters are not counted: {error}"),
        }
        Ok(())
    }

    async fn dead_letters(&self) -> Result<Vec<DeadLetter>, CliError> {
        match self.broker()? {
            Some(broker) => Ok(broker.list().await?),
            None => Ok(StoredDeadLetters::of(&self.store()?).list().await?),
        }
    }
}

/// The options that select dead letters.
#[derive(Args, Debug, Default)]
struct Filter {
    /// Only dead letters with this reason, such as no-model
    #[arg(long, value_name = "REASON", env = "WINDROW_REASON")]
    reason: Option<String>,
    /// Only dead letters of this sensor, as DEVICE/TAG; write a slash inside a name as %2F
    #[arg(long, value_name = "DEVICE/TAG", env = "WINDROW_SENSOR")]
    sensor: Option<SensorId>,
    /// Only messages that became dead letters at least this long ago, such as 30m or 1d
    #[arg(long, value_name = "DURATION", env = "WINDROW_OLDER_THAN", value_parser = parse_duration)]
    older_than: Option<Duration>,
}

#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    location: Location,
    #[command(flatten)]
    filter: Filter,
    /// Show only the number of dead letters for each reason
    #[arg(long, env = "WINDROW_BY_REASON")]
    by_reason: bool,
    #[command(flatten)]
    output: OutputArg,
}

#[derive(Args, Debug)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    location: Location,
    /// Message id, as shown by `windrow dead-letters list`
    id: String,
    #[command(flatten)]
    output: OutputArg,
}

#[derive(Args, Debug)]
pub(crate) struct ReplayArgs {
    #[command(flatten)]
    location: Location,
    #[command(flatten)]
    filter: Filter,
}

#[derive(Args, Debug)]
pub(crate) struct PurgeArgs {
    #[command(flatten)]
    location: Location,
    #[command(flatten)]
    filter: Filter,
    /// Delete the dead letters; without this option, only their number is shown
    #[arg(long, env = "WINDROW_YES")]
    yes: bool,
}

impl Filter {
    async fn dead_letters(&self, location: &Location) -> Result<Vec<DeadLetter>, CliError> {
        let mut dead_letters = location.dead_letters().await?;
        dead_letters.retain(|dead_letter| self.wants(dead_letter));
        Ok(dead_letters)
    }

    fn wants(&self, dead_letter: &DeadLetter) -> bool {
        let of_sensor = |sensor: &SensorId| {
            ScoringTask::decode(&dead_letter.message.body).is_ok_and(|task| task.sensor() == sensor)
        };
        let older_than = |age: Duration| dead_letter.dead_at <= EventTime::now().saturating_sub(age);
        self.reason
            .as_ref()
            .is_none_or(|reason| *reason == dead_letter.reason.code)
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
        let dead_letters = self.filter.dead_letters(&self.location).await?;
        self.location.tell_of_stored(&self.filter).await?;
        if self.by_reason {
            return count_by_reason(&dead_letters, self.output.output);
        }
        if self.output.output == OutputFormat::Json {
            return show::json(&dead_letters.iter().map(summary).collect());
        }
        if dead_letters.is_empty() {
            return show::line("no dead letters");
        }
        let rows = dead_letters.iter().map(|dead_letter| {
            vec![
                dead_letter.message.id.clone(),
                dead_letter.reason.code.clone(),
                dead_letter.message.enqueued_at.to_string(),
                dead_letter.dead_at.to_string(),
                dead_letter.reason.worker.clone(),
                dead_letter.reason.detail.clone(),
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

fn count_by_reason(dead_letters: &[DeadLetter], output: OutputFormat) -> Result<(), CliError> {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for dead_letter in dead_letters {
        *counts.entry(&dead_letter.reason.code).or_default() += 1;
    }
    if output == OutputFormat::Json {
        return show::json(&json!(counts));
    }
    let rows = counts
        .into_iter()
        .map(|(reason, count)| vec![reason.to_owned(), show::count(count)]);
    show::table(&["reason", "dead letters"], rows.collect())
}

fn summary(dead_letter: &DeadLetter) -> serde_json::Value {
    json!({
        "id": dead_letter.message.id,
        "reason": dead_letter.reason.code,
        "detail": dead_letter.reason.detail,
        "worker": dead_letter.reason.worker,
        "dead_at": dead_letter.dead_at.to_string(),
        "enqueued_at": dead_letter.message.enqueued_at.to_string(),
        "deliveries": dead_letter.deliveries,
        "bytes": dead_letter.message.body.len(),
    })
}

impl ShowArgs {
    async fn run(self) -> Result<(), CliError> {
        let dead_letters = self.location.dead_letters().await?;
        let dead_letter = dead_letters
            .iter()
            .find(|dead_letter| dead_letter.message.id == self.id);
        let Some(dead_letter) = dead_letter else {
            self.location.tell_of_stored(&Filter::default()).await?;
            return Err(CliError::Usage(format!(
                "no dead letter has the message id {}; `windrow dead-letters list` shows the ids",
                self.id
            )));
        };
        let mut shown = summary(dead_letter);
        match ScoringTask::decode(&dead_letter.message.body) {
            Ok(ScoringTask::Sensor(message)) => {
                shown["sensor"] = message.sensor.to_string().into();
                shown["aggregates"] = message.aggregates.iter().map(aggregate).collect();
            }
            Ok(ScoringTask::Group(message)) => {
                shown["sensor"] = message.sensor.to_string().into();
                for series in &message.series {
                    let windows = series.aggregates.iter().map(aggregate).collect();
                    shown[format!("aggregates of {}", series.tag)] = windows;
                }
            }
            Err(error) => shown["undecodable"] = error.to_string().into(),
        }
        if self.output.output == OutputFormat::Json {
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
        let Some(broker) = self.location.broker()? else {
            return self.score_again().await;
        };
        let replayed = broker
            .replay(|dead_letter| self.filter.wants(dead_letter))
            .await?;
        self.location.tell_of_stored(&self.filter).await?;
        show::line(&format!(
            "replayed {replayed}: they are in the scoring queue again"
        ))
    }

    /// Scores each dead letter of the store once more. A dead letter is deleted only when its predictions are durable,
    /// so a replay that is killed loses nothing. One that fails again is kept, with the new reason.
    async fn score_again(self) -> Result<(), CliError> {
        let store = self.location.store()?;
        let dead_letters = self.filter.dead_letters(&self.location).await?;
        let queue = Memory::new(MemoryLimits::default(), &store);
        let stats = Arc::new(windrow_worker::Stats::default());
        let (_trigger, shutdown) = Shutdown::new();
        let workers = spawn_workers(1, &queue, &store, &stats, &shutdown);
        let publish = async {
            let mut confirmations = Vec::with_capacity(dead_letters.len());
            for dead_letter in &dead_letters {
                confirmations.push(queue.publish(dead_letter.message.clone()).await?);
            }
            for confirmation in confirmations {
                confirmation.wait().await?;
            }
            Ok::<_, QueueError>(())
        };
        let publish = async { publish.await.map_err(windrow_worker::WorkerError::from) };
        drive(publish, workers, &queue, || ()).await?;
        let failed = delete_scored(&StoredDeadLetters::of(&store), &dead_letters).await?;
        let scored = dead_letters.len() - failed;
        show::line(&format!(
            "replayed {}: {scored} scored, {failed} dead again",
            dead_letters.len()
        ))?;
        if failed > 0 {
            return Err(CliError::Partial(format!(
                "{failed} messages could not be scored again"
            )));
        }
        Ok(())
    }
}

/// Deletes the replayed dead letters, except those that failed again. Returns the number of those: the worker has
/// stored them again, with a new reason.
async fn delete_scored(stored: &StoredDeadLetters, replayed: &[DeadLetter]) -> Result<usize, CliError> {
    let now: HashMap<_, _> = stored
        .list()
        .await?
        .into_iter()
        .map(|dead_letter| (dead_letter.message.id.clone(), dead_letter))
        .collect();
    let mut failed = 0;
    for dead_letter in replayed {
        let id = &dead_letter.message.id;
        if now.get(id).is_some_and(|now| now != dead_letter) {
            failed += 1;
        } else {
            stored.delete(id).await?;
        }
    }
    Ok(failed)
}

impl PurgeArgs {
    async fn run(self) -> Result<(), CliError> {
        self.location.tell_of_stored(&self.filter).await?;
        if !self.yes {
            let dead_letters = self.filter.dead_letters(&self.location).await?;
            return show::line(&format!(
                "would delete {} dead letters; --yes deletes them for good",
                dead_letters.len()
            ));
        }
        let deleted = match self.location.broker()? {
            Some(broker) => broker.purge(|dead_letter| self.filter.wants(dead_letter)).await?,
            None => {
                let stored = StoredDeadLetters::of(&self.location.store()?);
                let dead_letters = self.filter.dead_letters(&self.location).await?;
                for dead_letter in &dead_letters {
                    stored.delete(&dead_letter.message.id).await?;
                }
                dead_letters.len() as u64
            }
        };
        show::line(&format!("deleted {deleted} dead letters"))
    }
}
