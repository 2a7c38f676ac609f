//! Converts the options of `run` into a policy, a fleet, a broker and a lease.

use std::time::Duration;

use clap::{Args, ValueEnum};
use windrow_common::{encode_file_name, parse_duration};
use windrow_queue::{AmqpArgs, Reconnect};
use windrow_scaler::control::{Broker, Lease};
use windrow_scaler::fleet::Fleet;
use windrow_scaler::fleet::process::Processes;
use windrow_scaler::fleet::serve::Served;
use windrow_scaler::fleet::vmss::VmssArgs;
use windrow_scaler::policy::PolicyOptions;
use windrow_scaler::workers::Workers;
use windrow_service::Failure;
use windrow_store::Store;

/// The shortest lease: in its last fifteen seconds, a leader no longer resizes the fleet.
const SHORTEST_LEASE: Duration = Duration::from_secs(20);

/// What runs the workers.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum FleetKind {
    /// A VM scale set
    Vmss,
    /// Processes on this machine
    Process,
    /// Someone else, who asks for the number
    Serve,
}

/// Bounds and aims of the fleet.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Size of the fleet")]
pub(crate) struct PolicyArgs {
    /// Fewest workers; 0 ends all of them when there is nothing to score
    #[arg(long, value_name = "N", default_value_t = 0, env = "WINDROW_MIN_WORKERS")]
    min_workers: u32,
    /// Most workers
    #[arg(long, value_name = "N", default_value_t = 10, env = "WINDROW_MAX_WORKERS")]
    max_workers: u32,
    /// How long a message may take from its arrival to its predictions
    #[arg(long, value_name = "DURATION", default_value = "5m", env = "WINDROW_DRAIN_TARGET", value_parser = parse_duration)]
    drain_target: Duration,
    /// When batches arrive, so that workers are started in time: an interval such as 1h, for whole hours, or a cron
    /// expression such as "5 * * * *", in UTC unless it names a time zone
    #[arg(long, value_name = "SCHEDULE", env = "WINDROW_NEXT_BATCH")]
    next_batch: Option<String>,
    /// The shortest time that is billed for a worker; workers without work are kept for at least that long
    #[arg(long, value_name = "DURATION", default_value = "0s", env = "WINDROW_MINIMUM_BILLED", value_parser = parse_duration)]
    minimum_billed: Duration,
    /// Price of a worker for an hour, to add what was spent to records and metrics, in any currency [default: not added]
    #[arg(long, value_name = "PRICE", env = "WINDROW_PRICE_HOUR", value_parser = price)]
    pub(crate) price_hour: Option<f64>,
    /// Messages per second that a worker scores, until this is measured
    #[arg(
        long,
        value_name = "RATE",
        default_value_t = 500.0,
        env = "WINDROW_FIRST_RATE"
    )]
    first_rate: f64,
    /// Time from requesting a worker to its first message, until this is measured
    #[arg(long, value_name = "DURATION", default_value = "90s", env = "WINDROW_FIRST_BOOT", value_parser = parse_duration)]
    first_boot: Duration,
    /// How often to look at the queue, whose figures RabbitMQ updates every five seconds
    #[arg(long, value_name = "DURATION", default_value = "5s", env = "WINDROW_SCALER_LOOK_EVERY", value_parser = parse_duration)]
    pub(crate) look_every: Duration,
    /// How long the lease of a scaler lasts. Another takes over when the one that leads has been silent for that long
    #[arg(long, value_name = "DURATION", default_value = "1m", env = "WINDROW_LEASE", value_parser = parse_duration)]
    lease: Duration,
    /// Consumers of each worker. With --fleet serve, the number of workers is computed from the consumers on the queue
    #[arg(long, value_name = "N", default_value_t = 1, env = "WINDROW_CONSUMERS", value_parser = clap::value_parser!(u32).range(1..))]
    consumers: u32,
}

impl PolicyArgs {
    /// Returns the options of the policy.
    pub(crate) fn options(&self) -> Result<PolicyOptions, Failure> {
        if self.look_every < Duration::from_secs(1) || self.look_every > Duration::from_secs(120) {
            return Err(Failure::usage(format!(
                "--look-every {:?} is not between 1s and 2m",
                self.look_every
            )));
        }
        if self.lease < SHORTEST_LEASE.max(self.look_every * 3) {
            return Err(Failure::usage(format!(
                "--lease {:?} is too short: it lasts {SHORTEST_LEASE:?} at least, and three times --look-every",
                self.lease
            )));
        }
        // A template without a schedule passes on an empty text.
        let next_batch = self.next_batch.as_deref().filter(|text| !text.trim().is_empty());
        let schedule = next_batch
            .map(|text| {
                text.parse()
                    .map_err(|error| Failure::usage(format!("--next-batch: {error}")))
            })
            .transpose()?;
        let options = PolicyOptions {
            min: self.min_workers,
            max: self.max_workers,
            drain_target: self.drain_target,
            schedule,
            minimum_billed: self.minimum_billed,
            first_rate: self.first_rate,
            first_boot: self.first_boot,
        };
        options.validate().map_err(Failure::usage)?;
        Ok(options)
    }
}

/// Returns the fleet of this kind.
pub(crate) fn fleet(
    kind: FleetKind,
    vmss: &VmssArgs,
    policy: &PolicyArgs,
    workers: Workers,
) -> Result<Box<dyn Fleet>, Failure> {
    Ok(match kind {
        FleetKind::Vmss => Box::new(vmss.fleet(policy.max_workers).map_err(Failure::of)?),
        FleetKind::Process => Box::new(Processes::new(workers)),
        FleetKind::Serve => Box::new(Served::new(policy.consumers)),
    })
}

/// Returns the queue to look at: through the management API if its address is given.
pub(crate) fn broker(amqp: &AmqpArgs) -> Result<Broker, Failure> {
    match amqp.management_url() {
        Some(_) => Ok(Broker::Management {
            api: Box::new(amqp.management().map_err(Failure::of)?),
            queue: queue(amqp)?,
        }),
        None => {
            let amqp = amqp
                .queue("windrow-scaler", Reconnect::Never)
                .map_err(Failure::of)?;
            Ok(Broker::Amqp { amqp: Box::new(amqp) })
        }
    }
}

/// Returns the name of the scoring queue.
pub(crate) fn queue(amqp: &AmqpArgs) -> Result<String, Failure> {
    let queue = amqp
        .queue("windrow-scaler", Reconnect::Never)
        .map_err(Failure::of)?;
    Ok(queue.names().score.clone())
}

/// Returns the lease of those that scale the workers of this queue.
pub(crate) fn lease(store: &Store, queue: &str, policy: &PolicyArgs) -> Lease {
    let path = format!("scaling/{}", encode_file_name(queue, ".json"));
    Lease::named(store.clone(), path, policy.lease)
}

/// Parses a price.
fn price(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(price) if price.is_finite() && price >= 0.0 => Ok(price),
        _ => Err("a price is a number such as 0.0515".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        policy: PolicyArgs,
    }

    #[test]
    fn the_options_have_the_defaults_of_the_policy() {
        let options = windrow_service::defaults::<Program>().policy.options().unwrap();
        assert_eq!(format!("{options:?}"), format!("{:?}", PolicyOptions::default()));
    }
}
