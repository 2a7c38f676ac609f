//! `windrow-worker`: receives scoring messages from RabbitMQ, scores them and persists the predictions.

use std::num::{NonZeroU16, NonZeroU64, NonZeroUsize};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use prometheus_client::registry::Registry;
use tokio::task::JoinSet;
use windrow_common::parse_duration;
use windrow_queue::{Amqp, AmqpArgs, Prefetch, Reconnect};
use windrow_service::{
    Endpoints, Failure, Readiness, ServiceArgs, Shutdown, check_health, parse_options, run_service,
};
use windrow_store::{Store, StoreArg, host_name};
use windrow_worker::{CacheOptions, FLUSH_ROWS, ModelCache, PREFETCH, Stats, WorkerError, WorkerOptions};

const MIB: NonZeroUsize = NonZeroUsize::new(1 << 20).expect("1 MiB is not zero");

/// A worker that holds messages settles one within this time after `--flush-age`; otherwise it is not ready.
const SETTLES_WITHIN: Duration = Duration::from_secs(20);

/// Receives scoring messages from the queue, scores each with its sensor's model and persists the predictions.
#[derive(Parser, Debug)]
#[command(
    version,
    max_term_width = 110,
    after_help = "\
Exit codes: 0 drained, 1 failed, 2 the configuration is wrong, 4 the drain timed out,
6 a login or a right is refused.
Every option can also be set with the environment variable that its text names in brackets.
Example:
  windrow-worker --store /var/lib/windrow --amqp-url amqp://windrow:…@broker"
)]
struct Cli {
    #[command(flatten)]
    store: StoreArg,
    #[command(flatten)]
    worker: WorkerArgs,
    #[command(flatten)]
    amqp: AmqpArgs,
    #[command(flatten)]
    service: ServiceArgs,
}

#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Worker")]
struct WorkerArgs {
    /// Name in dead letters, error reports and the broker's list of connections [default: the host name]
    #[arg(long, value_name = "NAME", env = "WINDROW_WORKER_NAME")]
    name: Option<String>,
    /// Consumers in this process
    #[arg(long, value_name = "N", default_value = "1", env = "WINDROW_CONSUMERS")]
    consumers: NonZeroUsize,
    /// Messages a consumer may hold unsettled; they are delivered again if it is killed
    #[arg(long, value_name = "N", default_value_t = PREFETCH, env = "WINDROW_PREFETCH")]
    prefetch: NonZeroU16,
    /// Memory for the bodies of the messages that a consumer holds, in MiB. It is sent fewer messages than --prefetch if
    /// they are so large that they would not fit
    #[arg(long, value_name = "MIB", default_value = "128", env = "WINDROW_PREFETCH_MIB")]
    prefetch_mib: NonZeroU16,
    /// Predictions a consumer gathers before it writes a part
    #[arg(long, value_name = "N", default_value_t = FLUSH_ROWS, env = "WINDROW_FLUSH_ROWS")]
    flush_rows: NonZeroUsize,
    /// Longest time a prediction waits before it is written
    #[arg(long, value_name = "DURATION", default_value = "1s", env = "WINDROW_FLUSH_AGE", value_parser = parse_duration)]
    flush_age: Duration,
    /// Memory for models, in MiB
    #[arg(
        long,
        value_name = "MIB",
        default_value = "512",
        env = "WINDROW_MODEL_CACHE_MIB"
    )]
    model_cache_mib: NonZeroU64,
    /// How often the current version of a model is looked up again
    #[arg(long, value_name = "DURATION", default_value = "1m", env = "WINDROW_MODEL_REFRESH", value_parser = parse_duration)]
    model_refresh: Duration,
    /// Do not publish anomalies to the exchange
    #[arg(long, env = "WINDROW_NO_ANNOUNCE")]
    no_announce: bool,
}

impl WorkerArgs {
    fn name(&self) -> String {
        let given = self
            .name
            .as_deref()
            .map(str::trim)
            .filter(|name| !name.is_empty());
        let name = given.map(str::to_owned).or_else(host_name);
        name.unwrap_or_else(|| "worker".to_owned())
    }

    fn prefetch(&self) -> Prefetch {
        Prefetch {
            messages: self.prefetch,
            bytes: NonZeroUsize::from(self.prefetch_mib).saturating_mul(MIB),
        }
    }

    fn cache(&self) -> CacheOptions {
        CacheOptions {
            bytes: self.model_cache_mib.get().saturating_mul(1 << 20),
            refresh_after: self.model_refresh,
        }
    }
}

fn main() -> ExitCode {
    if let Some(checked) = check_health() {
        return checked;
    }
    let cli: Cli = parse_options();
    let (store, amqp) = match prepare(&cli) {
        Ok(prepared) => prepared,
        Err(failure) => return failure.end("windrow-worker"),
    };
    let stats = Arc::new(Stats::default());
    let mut registry = Registry::default();
    stats.register(&mut registry);
    let (broker, blobs, progress) = (amqp.clone(), store.clone(), Arc::clone(&stats));
    let patience = cli.worker.flush_age.saturating_add(SETTLES_WITHIN);
    let readiness = Readiness::default()
        .depend_on("rabbitmq", move || broker.outage())
        .depend_on("store", move || blobs.outage())
        .depend_on("worker", move || progress.outage(patience));
    let endpoints = Endpoints {
        registry,
        readiness,
        ..Endpoints::default()
    };
    run_service("windrow-worker", &cli.service, endpoints, |shutdown| {
        work(&cli.worker, store, amqp, stats, shutdown)
    })
}

fn prepare(cli: &Cli) -> Result<(Store, Amqp), Failure> {
    let store = cli.store.open().map_err(Failure::of)?;
    let client = format!("windrow-worker {}", cli.worker.name());
    let amqp = cli.amqp.queue(&client, Reconnect::Forever).map_err(Failure::of)?;
    Ok((store, amqp))
}

/// Connects to the store and the queue before work begins. Waits out an outage; fails only if a person must act.
async fn reach(amqp: &Amqp, store: &Store) -> Result<(), Failure> {
    // A failure is not certainly a wrong configuration: a role assignment takes minutes to apply, and someone may be
    // about to create the container.
    store.watch().await.map_err(Failure::of)?;
    amqp.connect().await.map_err(Failure::of)
}

async fn work(
    args: &WorkerArgs,
    store: Store,
    amqp: Amqp,
    stats: Arc<Stats>,
    mut shutdown: Shutdown,
) -> Result<(), Failure> {
    tokio::select! {
        reached = reach(&amqp, &store) => reached?,
        () = shutdown.stopping() => return Ok(()),
    }
    let models = ModelCache::new(store.clone(), args.cache(), Arc::clone(&stats));
    let mut consumers = JoinSet::new();
    for number in 0..args.consumers.get() {
        let options = WorkerOptions {
            prefetch: args.prefetch(),
            flush_rows: args.flush_rows.get(),
            flush_age: args.flush_age,
            announce: !args.no_announce,
            ..WorkerOptions::new(&format!("{}-{}-{number}", args.name(), std::process::id()))
        };
        consumers.spawn(windrow_worker::run(
            amqp.clone(),
            store.clone(),
            models.clone(),
            options,
            Arc::clone(&stats),
            shutdown.clone(),
        ));
    }
    while let Some(ended) = consumers.join_next().await {
        let ended = ended.unwrap_or_else(|error| Err(WorkerError::Panicked(error.to_string())));
        ended.map_err(Failure::of)?;
    }
    amqp.close().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        worker: WorkerArgs,
    }

    #[test]
    fn the_options_have_the_defaults_of_the_library() {
        let worker = windrow_service::defaults::<Program>().worker;
        let library = WorkerOptions::new("");
        assert_eq!(
            format!("{:?}", worker.prefetch()),
            format!("{:?}", library.prefetch)
        );
        assert_eq!(worker.flush_age, library.flush_age);
        assert_eq!(
            format!("{:?}", worker.cache()),
            format!("{:?}", CacheOptions::default())
        );
    }
}
