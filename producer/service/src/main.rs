//! `windrow-producer`: reads a source, cuts windows and publishes scoring messages to RabbitMQ.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use prometheus_client::registry::Registry;
use windrow_common::encode_segment;
use windrow_eventhubs::InputArgs;
use windrow_producer::args::{ReadArgs, WindowArgs};
use windrow_producer::source::Until;
use windrow_producer::{Pipeline, Stats};
use windrow_queue::{Amqp, AmqpArgs, Reconnect};
use windrow_service::{
    Endpoints, Failure, Readiness, ServiceArgs, Shutdown, check_health, parse_options, run_service,
};
use windrow_store::{Store, StoreArg};

/// Reads a source of readings, cuts them into windows and publishes one scoring message per sensor and interval.
#[derive(Parser, Debug)]
#[command(
    name = "windrow-producer",
    version,
    max_term_width = 110,
    after_help = "\
Exit codes: 0 done or drained, 1 failed, 2 the configuration is wrong, 4 the drain timed out,
5 stopped before it was caught up (--until-caught-up), 6 a login or a right is refused.
Every option can also be set with the environment variable that its text names in brackets.
Example: follow a folder of NDJSON files
  windrow-producer --source readings/ --store /var/lib/windrow --amqp-url amqp://windrow:…@broker"
)]
struct Cli {
    #[command(flatten)]
    input: InputArgs,
    #[command(flatten)]
    read: ReadArgs,
    #[command(flatten)]
    store: StoreArg,
    #[command(flatten)]
    windows: WindowArgs,
    #[command(flatten)]
    amqp: AmqpArgs,
    #[command(flatten)]
    service: ServiceArgs,
}

fn main() -> ExitCode {
    if let Some(checked) = check_health() {
        return checked;
    }
    let cli: Cli = parse_options();
    let (store, amqp) = match prepare(&cli) {
        Ok(prepared) => prepared,
        Err(failure) => return failure.end("windrow-producer"),
    };
    let stats = Arc::new(Stats::default());
    let mut registry = Registry::default();
    stats.register(&mut registry);
    let (broker, blobs, source) = (amqp.clone(), store.clone(), Arc::clone(&stats));
    let readiness = Readiness::default()
        .depend_on("rabbitmq", move || broker.outage())
        .depend_on("store", move || blobs.outage())
        .depend_on("source", move || source.source_outage());
    let endpoints = Endpoints {
        registry,
        readiness,
        ..Endpoints::default()
    };
    run_service("windrow-producer", &cli.service.clone(), endpoints, |shutdown| {
        work(cli, store, amqp, stats, shutdown)
    })
}

fn prepare(cli: &Cli) -> Result<(Store, Amqp), Failure> {
    let store = cli.store.open().map_err(Failure::of)?;
    let name = cli.read.options(&cli.input.source).opening.source_name;
    let client = format!("windrow-producer {}", encode_segment(&name));
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
    cli: Cli,
    store: Store,
    amqp: Amqp,
    stats: Arc<Stats>,
    mut shutdown: Shutdown,
) -> Result<(), Failure> {
    let windowing = cli.windows.windowing().map_err(Failure::usage)?;
    let source = cli.input.open(cli.read.until()).map_err(Failure::of)?;
    tokio::select! {
        reached = reach(&amqp, &store) => reached?,
        () = shutdown.stopping() => return stopped(&cli),
    }
    let pipeline = Pipeline {
        windowing,
        queue: amqp.clone(),
        store,
        options: cli.read.options(&cli.input.source),
        stats: Arc::clone(&stats),
    };
    let produced = source.run(pipeline, shutdown.clone()).await;
    amqp.close().await;
    stats.log_set_aside();
    produced.map_err(Failure::of)?;
    match shutdown.is_stopping() {
        true => stopped(&cli),
        false => stats.check_usable().map_err(Failure::of),
    }
}

/// Returns the result of a requested stop: success, unless the producer was to read until caught up.
fn stopped(cli: &Cli) -> Result<(), Failure> {
    match cli.read.until() {
        Until::CaughtUp => Err(Failure::Interrupted),
        Until::Stopped => Ok(()),
    }
}
