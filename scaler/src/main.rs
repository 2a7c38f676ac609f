//! `windrow-scaler`: brings a fleet of workers to the size that the queue needs, or runs the workers of one machine.

mod options;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};
use prometheus_client::registry::Registry;
use windrow_queue::AmqpArgs;
use windrow_scaler::agent::Agent;
use windrow_scaler::control::{Outages, Scaler, Stats, Status};
use windrow_scaler::fleet::vmss::VmssArgs;
use windrow_scaler::workers::{WorkerCommand, Workers, environment_of};
use windrow_service::{Endpoints, Failure, ServiceArgs, check_health, command_line, run_service};
use windrow_store::StoreArg;

use options::{FleetKind, PolicyArgs};

/// Extra time that this program waits beyond the drain timeout of its workers: five seconds for them to exit, and five
/// for the last writes to the store.
const GRACE: Duration = Duration::from_secs(11);

/// Brings a fleet of workers to the size that the queue needs, or runs the workers of one machine.
#[derive(Parser, Debug)]
#[command(
    version,
    max_term_width = 110,
    after_help = "\
Exit codes: 0 stopped, 1 failed, 2 the configuration is wrong, 4 the drain timed out,
6 a login or a right is refused.
Every option can also be set with the environment variable that its text names in brackets.
Example:
  windrow-scaler run --fleet process --store /var/lib/windrow --amqp-url amqp://windrow:…@broker"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Look at the queue, decide how many workers there should be, and bring the fleet there
    #[command(after_help = "\
Without --management-url, AMQP is asked, which does not tell how many messages are unacked: one worker is always kept.")]
    Run(Box<RunArgs>),
    /// Keep a number of workers at work on this machine, answer Azure's notices for all of them, and drain them together
    Agent(Box<AgentArgs>),
}

#[derive(clap::Args, Debug)]
struct RunArgs {
    /// What runs the workers: a VM scale set, processes on this machine, or someone who asks for the wanted number at
    /// /scale, such as KEDA
    #[arg(long, value_enum, value_name = "KIND", env = "WINDROW_FLEET")]
    fleet: FleetKind,
    /// Decide and say so, and change nothing: neither the fleet nor the store
    #[arg(long, env = "WINDROW_DRY_RUN")]
    dry_run: bool,
    #[command(flatten)]
    policy: PolicyArgs,
    #[command(flatten)]
    worker: WorkerProgram,
    #[command(flatten)]
    vmss: VmssArgs,
    #[command(flatten)]
    store: StoreArg,
    #[command(flatten)]
    amqp: AmqpArgs,
    #[command(flatten)]
    service: ServiceArgs,
}

#[derive(clap::Args, Debug)]
struct AgentArgs {
    /// Workers to keep at work [default: one for each core]
    #[arg(long, value_name = "N", env = "WINDROW_WORKERS", value_parser = clap::value_parser!(u32).range(1..=1024))]
    workers: Option<u32>,
    #[command(flatten)]
    worker: WorkerProgram,
    #[command(flatten)]
    store: StoreArg,
    #[command(flatten)]
    amqp: AmqpArgs,
    #[command(flatten)]
    service: ServiceArgs,
}

#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Workers on this machine")]
struct WorkerProgram {
    /// The worker. It has the options of this program, and others from the environment [default: windrow-worker beside
    /// this program]
    #[arg(long, value_name = "FILE", env = "WINDROW_WORKER_PROGRAM")]
    worker_program: Option<PathBuf>,
}

impl WorkerProgram {
    fn workers(
        &self,
        options: Vec<(OsString, OsString)>,
        drain_timeout: Duration,
    ) -> Result<Workers, Failure> {
        let command = WorkerCommand::new(self.worker_program.as_deref(), options, drain_timeout);
        Workers::new(command).map_err(Failure::failed)
    }
}

fn main() -> ExitCode {
    if let Some(checked) = check_health() {
        return checked;
    }
    let matches = command_line::<Cli>().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    // Not `command_line`, which ignores empty variables: workers would then inherit an empty variable instead of an
    // option given here.
    let passed_on = passed_on(&matches, Cli::command());
    let ended = match cli.command {
        Command::Run(args) => run(*args, passed_on),
        Command::Agent(args) => agent(*args, passed_on),
    };
    ended.unwrap_or_else(|failure| failure.end("windrow-scaler"))
}

/// Returns the options of the command line that workers are to have as well.
fn passed_on(matches: &ArgMatches, command: clap::Command) -> Vec<(OsString, OsString)> {
    matches.subcommand().map_or_else(Vec::new, |(name, matches)| {
        let subcommand = command.find_subcommand(name).cloned();
        environment_of(matches, &subcommand.unwrap_or(command))
    })
}

fn run(args: RunArgs, passed_on: Vec<(OsString, OsString)>) -> Result<ExitCode, Failure> {
    let store = args.store.open().map_err(Failure::of)?;
    let broker = options::broker(&args.amqp)?;
    let policy = args.policy.options()?;
    let workers = args.worker.workers(passed_on, args.service.drain_timeout)?;
    let fleet = options::fleet(args.fleet, &args.vmss, &args.policy, workers)?;
    let queue = options::queue(&args.amqp)?;
    let (stats, outages, status) = (Arc::new(Stats::default()), Outages::default(), Status::default());
    let mut registry = Registry::default();
    stats.register(&mut registry);
    let endpoints = Endpoints {
        registry,
        readiness: outages.readiness(),
        routes: status.routes(),
    };
    let every = args.policy.look_every;
    let lease = options::lease(&store, &queue, &args.policy);
    let scaler = Scaler {
        policy,
        every,
        price_hour: args.policy.price_hour,
        broker,
        queue,
        fleet,
        leadership: (!args.dry_run).then_some((store.clone(), lease)),
        stats,
        outages,
        status,
    };
    let mut service = args.service;
    service.drain_timeout += GRACE;
    Ok(run_service(
        "windrow-scaler",
        &service,
        endpoints,
        async |mut shutdown| {
            tokio::select! {
                // A role takes minutes to apply, so a restart may help.
                reached = store.watch() => reached.map_err(Failure::of)?,
                () = shutdown.stopping() => return Ok(()),
            }
            scaler.run(shutdown).await.map_err(Failure::usage)
        },
    ))
}

fn agent(args: AgentArgs, passed_on: Vec<(OsString, OsString)>) -> Result<ExitCode, Failure> {
    // A mistake shows here, and not in the logs of each worker.
    args.store.open().map_err(Failure::of)?;
    options::queue(&args.amqp)?;
    let workers = args.worker.workers(passed_on, args.service.drain_timeout)?;
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
    let wanted = args.workers.unwrap_or(cores);
    let agent = Agent::default();
    let mut registry = Registry::default();
    agent.register(&mut registry);
    let endpoints = Endpoints {
        registry,
        readiness: agent.readiness(),
        routes: agent.routes(),
    };
    let mut service = args.service;
    service.drain_timeout += GRACE;
    Ok(run_service(
        "windrow-scaler",
        &service,
        endpoints,
        async |shutdown| {
            agent.run(workers, wanted, shutdown).await;
            Ok(())
        },
    ))
}
