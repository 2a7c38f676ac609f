//! `windrow-grouper`: brings the windows of a device's tags together, and has them scored.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use prometheus_client::registry::Registry;
use windrow_common::parse_duration;
use windrow_grouper::{Grouper, GrouperOptions, Outage, Stats};
use windrow_queue::{Amqp, AmqpArgs, Reconnect};
use windrow_service::{
    Endpoints, Failure, Readiness, ServiceArgs, Shutdown, check_health, parse_options, run_service,
};
use windrow_store::{Store, StoreArg};

/// Follows the predictions in a store. For each device with a model of all its tags (`windrow models train --group
/// device`), joins the windows of these tags and publishes them as messages for the workers. If several groupers use
/// one store, one works and the others wait.
#[derive(Parser, Debug)]
#[command(
    version,
    max_term_width = 110,
    after_help = "\
Exit codes: 0 stopped, 1 failed, 2 the configuration is wrong, 4 the drain timed out,
6 a login or a right is refused.
Every option can also be set with the environment variable that its text names in brackets.
Example:
  windrow-grouper --store /var/lib/windrow --amqp-url amqp://windrow:…@broker"
)]
struct Cli {
    #[command(flatten)]
    store: StoreArg,
    #[command(flatten)]
    following: FollowArgs,
    #[command(flatten)]
    amqp: AmqpArgs,
    #[command(flatten)]
    service: ServiceArgs,
}

#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Following")]
struct FollowArgs {
    /// How often new predictions are looked for
    #[arg(long, value_name = "DURATION", default_value = "2s", env = "WINDROW_GROUPER_LOOK_EVERY", value_parser = parse_duration)]
    look_every: Duration,
    /// How long a window waits for the tags that it lacks, once a later window has come
    #[arg(long, value_name = "DURATION", default_value = "1m", env = "WINDROW_GRACE", value_parser = parse_duration)]
    grace: Duration,
    /// Event time for which windows are held in memory, so that later windows can be joined with them
    #[arg(long, value_name = "DURATION", default_value = "1h", env = "WINDROW_GROUPER_HOLD", value_parser = parse_duration)]
    hold: Duration,
    /// How far back, in event time, to look for predictions that arrive even later, every ten minutes. The first
    /// grouper of a store begins this long before the newest day of predictions
    #[arg(long, value_name = "DURATION", default_value = "1d", env = "WINDROW_GROUPER_LOOK_BACK", value_parser = parse_duration)]
    look_back: Duration,
    /// How often the models are listed again
    #[arg(long, value_name = "DURATION", default_value = "5m", env = "WINDROW_GROUPER_MODEL_REFRESH", value_parser = parse_duration)]
    model_refresh: Duration,
    /// How long the lease lasts: another grouper takes over from one that has been silent for this long
    #[arg(long, value_name = "DURATION", default_value = "30s", env = "WINDROW_GROUPER_LEASE", value_parser = parse_duration)]
    lease: Duration,
}

impl FollowArgs {
    fn options(&self) -> GrouperOptions {
        GrouperOptions {
            look_every: self.look_every,
            grace: self.grace,
            hold: self.hold,
            look_back: self.look_back,
            model_refresh: self.model_refresh,
            ..GrouperOptions::default()
        }
    }
}

fn main() -> ExitCode {
    if let Some(checked) = check_health() {
        return checked;
    }
    run(&parse_options()).unwrap_or_else(|failure| failure.end("windrow-grouper"))
}

fn run(cli: &Cli) -> Result<ExitCode, Failure> {
    let store = cli.store.open().map_err(Failure::of)?;
    let amqp = cli.amqp.queue("windrow-grouper", Reconnect::Forever);
    let amqp = amqp.map_err(Failure::of)?;
    let stats = Arc::new(Stats::default());
    let mut registry = Registry::default();
    stats.register(&mut registry);
    let outage = Outage::default();
    let (broker, blobs, predictions) = (amqp.clone(), store.clone(), outage.clone());
    let readiness = Readiness::default()
        .depend_on("rabbitmq", move || broker.outage())
        .depend_on("store", move || blobs.outage())
        .depend_on("predictions", move || predictions.get());
    let endpoints = Endpoints {
        registry,
        readiness,
        ..Endpoints::default()
    };
    Ok(run_service(
        "windrow-grouper",
        &cli.service,
        endpoints,
        async |mut shutdown| {
            tokio::select! {
                reached = reach(&amqp, &store) => reached?,
                () = shutdown.stopping() => return Ok(()),
            }
            let grouper = Grouper::new(amqp.clone(), store.clone(), cli.following.options(), stats);
            let ended = grouper
                .run(cli.following.lease, outage, Shutdown::clone(&shutdown))
                .await;
            amqp.close().await;
            ended.map_err(Failure::of)
        },
    ))
}

/// Connects to the store and the queue. A role takes minutes to apply, so a restart may help.
async fn reach(amqp: &Amqp, store: &Store) -> Result<(), Failure> {
    store.watch().await.map_err(Failure::of)?;
    amqp.connect().await.map_err(Failure::of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        following: FollowArgs,
    }

    #[test]
    fn the_options_have_the_defaults_of_the_library() {
        let options = windrow_service::defaults::<Program>().following.options();
        assert_eq!(format!("{options:?}"), format!("{:?}", GrouperOptions::default()));
    }
}
