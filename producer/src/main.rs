//! `windrow-producer`: reads a source, cuts windows, publishes scoring messages to RabbitMQ.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use prometheus_client::registry::Registry;
use windrow_common::args::{AmqpArgs, StoreArg};
use windrow_common::queue::{Amqp, Reconnect};
use windrow_common::service::{Failure, Readiness, ServiceArgs, check_health, reach, run_service};
use windrow_common::store::Store;
use windrow_common::{Shutdown, encode_segment};
use windrow_producer::Stats;
use windrow_producer::args::{InputArgs, ReadArgs, WindowArgs};
use windrow_producer::source::Until;

/// Reads a source of readings, cuts windows and publishes one scoring message per sensor and interval.
#[derive(Parser, Debug)]
#[command(
    version,
    max_term_width = 110,
    after_help = "\
Exit codes: 0 done or drained, 1 failed, 2 the configuration is wrong, 4 the drain timed out,
5 stopped before it was caught up (--until-caught-up).
Every option can also be given as an environment variable, named after it in brackets.
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
    let cli = Cli::parse();
    let (store, amqp) = match prepare(&cli) {
        Ok(prepared) => prepared,
        Err(failure) => return failure.end("windrow-producer"),
    };
    let stats = Arc::new(Stats::default());
    let mut registry = Registry::default();
    stats.register(&mut registry);
    let source = Arc::clone(&stats);
    let readiness =
        Readiness::of_queue_and_store(&amqp, &store).depend_on("source", move || source.source_trouble());
    run_service(
        "windrow-producer",
        &cli.service.clone(),
        registry,
        readiness,
        |shutdown| work(cli, store, amqp, stats, shutdown),
    )
}

fn prepare(cli: &Cli) -> Result<(Store, Amqp), Failure> {
    let store = cli.store.open().map_err(Failure::usage)?;
    let name = cli.read.options(&cli.input.source).source_name;
    let client = format!("windrow-producer {}", encode_segment(&name));
    let amqp = cli
        .amqp
        .queue(&client, Reconnect::Forever)
        .map_err(Failure::usage)?;
    Ok((store, amqp))
}

async fn work(
    cli: Cli,
    store: Store,
    amqp: Amqp,
    stats: Arc<Stats>,
    mut shutdown: Shutdown,
) -> Result<(), Failure> {
    let windowing = cli.windows.windowing().map_err(Failure::usage)?;
    let source = cli.input.open(cli.read.until()).map_err(Failure::usage)?;
    tokio::select! {
        reached = reach(&amqp, &store) => reached?,
        () = shutdown.stopping() => return stopped(&cli),
    }
    let options = cli.read.options(&cli.input.source);
    let produced = windrow_producer::run(
        source,
        windowing,
        amqp.clone(),
        store,
        options,
        stats,
        shutdown.clone(),
    )
    .await;
    amqp.close().await;
    match produced {
        Ok(()) if shutdown.is_stopping() => stopped(&cli),
        Ok(()) => Ok(()),
        Err(error) if error.is_usage() => Err(Failure::usage(error)),
        Err(error) => Err(Failure::failed(error)),
    }
}

/// How a producer ends that was told to: well, unless it was to read to an end.
fn stopped(cli: &Cli) -> Result<(), Failure> {
    match cli.read.until() {
        Until::CaughtUp => Err(Failure::Interrupted),
        Until::Stopped => Ok(()),
    }
}
