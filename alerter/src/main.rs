//! `windrow-alerter`: makes incidents of predictions, and tells people.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use prometheus_client::registry::Registry;
use windrow_alerter::args::{ReceiverArgs, RulesArgs};
use windrow_alerter::{Alerter, Outages, Stats, WatchOptions};
use windrow_common::parse_duration;
use windrow_service::{Endpoints, Failure, Readiness, ServiceArgs, check_health, parse_options, run_service};
use windrow_store::StoreArg;

/// Follows the predictions in a store, makes incidents of anomalous windows and of sensors that are silent, stuck, out of
/// range or slow, and tells Alertmanager and webhooks. Of several on one store, one works and the others wait.
#[derive(Parser, Debug)]
#[command(
    version,
    max_term_width = 110,
    after_help = "\
Exit codes: 0 stopped, 1 failed, 2 the configuration is wrong, 4 the drain timed out,
6 a login or a right is refused.
Every option can also be set with the environment variable that its text names in brackets.
Example:
  windrow-alerter --store /var/lib/windrow --alertmanager http://alertmanager:9093"
)]
struct Cli {
    #[command(flatten)]
    store: StoreArg,
    #[command(flatten)]
    rules: RulesArgs,
    #[command(flatten)]
    receivers: ReceiverArgs,
    #[command(flatten)]
    following: FollowArgs,
    #[command(flatten)]
    service: ServiceArgs,
}

#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Following")]
struct FollowArgs {
    /// How often new predictions are looked for
    #[arg(long, value_name = "DURATION", default_value = "5s", env = "WINDROW_ALERTER_LOOK_EVERY", value_parser = parse_duration)]
    look_every: Duration,
    /// Event time for which windows are held in memory, so that later windows can be sorted in
    #[arg(long, value_name = "DURATION", default_value = "1h", env = "WINDROW_ALERTER_HOLD", value_parser = parse_duration)]
    hold: Duration,
    /// Maximum number of windows to hold, at 56 to 112 bytes each. Windows of the newest hour are always held
    #[arg(
        long,
        value_name = "N",
        default_value_t = WatchOptions::default().most_held,
        env = "WINDROW_MOST_HELD"
    )]
    most_held: usize,
    /// How far back, in event time, to look for predictions that arrive even later, every ten minutes
    #[arg(long, value_name = "DURATION", default_value = "7d", env = "WINDROW_ALERTER_LOOK_BACK", value_parser = parse_duration)]
    look_back: Duration,
    /// How long the lease lasts: another alerter takes over from one that has been silent for this long
    #[arg(long, value_name = "DURATION", default_value = "30s", env = "WINDROW_ALERTER_LEASE", value_parser = parse_duration)]
    lease: Duration,
}

fn main() -> ExitCode {
    if let Some(checked) = check_health() {
        return checked;
    }
    run(&parse_options::<Cli>()).unwrap_or_else(|failure| failure.end("windrow-alerter"))
}

fn run(cli: &Cli) -> Result<ExitCode, Failure> {
    let store = cli.store.open().map_err(Failure::of)?;
    let rules = cli.rules.rules().map_err(Failure::usage)?;
    let ranges = cli.rules.ranges().map_err(Failure::usage)?;
    let receivers = cli.receivers.receivers().map_err(Failure::usage)?;
    let names: Vec<String> = receivers
        .iter()
        .map(|receiver| receiver.name().to_owned())
        .collect();
    let stats = Arc::new(Stats::default());
    let mut registry = Registry::default();
    stats.register(&mut registry, &names);
    let outages = Outages::default();
    let (blobs, predictions, told) = (store.clone(), outages.clone(), outages.clone());
    let readiness = Readiness::default()
        .depend_on("store", move || blobs.outage())
        .depend_on("predictions", move || predictions.of_predictions())
        .depend_on("receivers", move || told.of_receivers());
    let endpoints = Endpoints {
        registry,
        readiness,
        ..Endpoints::default()
    };
    let alerter = Alerter {
        store: store.clone(),
        watch: WatchOptions {
            rules,
            ranges,
            receivers: names,
            tell_within: cli.rules.tell_within,
            hold: cli.following.hold,
            most_held: cli.following.most_held,
            look_back: cli.following.look_back,
            ..WatchOptions::default()
        },
        receivers,
        every: cli.following.look_every,
        lease: cli.following.lease,
        stats,
        outages,
    };
    Ok(run_service(
        "windrow-alerter",
        &cli.service,
        endpoints,
        async |mut shutdown| {
            tokio::select! {
                // A role takes minutes to apply, so a restart may help.
                reached = store.watch() => reached.map_err(Failure::of)?,
                () = shutdown.stopping() => return Ok(()),
            }
            alerter.run(shutdown).await.map_err(Failure::of)
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use windrow_incidents::Rules;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        rules: RulesArgs,
        #[command(flatten)]
        following: FollowArgs,
    }

    #[test]
    fn the_options_have_the_defaults_of_the_library() {
        let Program { rules, following } = windrow_service::defaults();
        assert_eq!(rules.rules().unwrap(), Rules::default());
        let library = WatchOptions::default();
        assert_eq!(rules.tell_within, library.tell_within);
        assert_eq!(
            (following.hold, following.look_back),
            (library.hold, library.look_back)
        );
    }
}
