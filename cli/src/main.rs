//! The `windrow` program: scores fleets of sensors, in one process or beside a fleet of workers.

mod args;
mod audit;
mod dead_letters;
mod demo;
mod error;
mod models;
mod pipeline;
mod predictions;
mod progress;
mod queue;
mod report;
mod run;
#[cfg(feature = "eventhubs")]
mod send;
mod show;
mod train;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use windrow_common::service::{LogFormat, init_logs, sentence};

use error::CliError;

/// Scores a fleet of sensors against one anomaly model per sensor.
#[derive(Parser, Debug)]
#[command(
    version,
    max_term_width = 110,
    after_help = "\
Exit codes: 0 done, 1 failed, 2 the command line or what it names is wrong, 3 the audit found windows lost.
Every option can also be given as an environment variable, named after it in brackets."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// What is logged to the standard error: error, warn, info, debug, or a filter such as warn,windrow_worker=debug
    #[arg(
        long,
        global = true,
        value_name = "FILTER",
        default_value = "warn,azure_messaging_eventhubs=off,azure_core_amqp=off,fe2o3_amqp=off",
        env = "WINDROW_LOG"
    )]
    log: String,
    /// How it is logged
    #[arg(
        long,
        global = true,
        value_enum,
        default_value = "text",
        env = "WINDROW_LOG_FORMAT"
    )]
    log_format: LogFormat,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Simulate a fleet, train its models, score a day of it and write a report: all of Windrow in one go
    Demo(demo::DemoArgs),
    /// Read a source, cut windows, score them and persist predictions, all in this process
    Run(run::RunArgs),
    /// Send readings to an Event Hub
    #[cfg(feature = "eventhubs")]
    Send(send::SendArgs),
    /// Train, import, list and show models
    #[command(subcommand)]
    Models(models::ModelsCommand),
    /// Export predictions
    #[command(subcommand)]
    Predictions(predictions::PredictionsCommand),
    /// Check that every dispatched window was predicted or is a dead letter
    Audit(audit::AuditArgs),
    /// Show how full RabbitMQ's queue is and how fast it moves
    Queue(queue::QueueArgs),
    /// List, show, replay and purge what could not be scored
    #[command(subcommand)]
    DeadLetters(dead_letters::DeadLettersCommand),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match start(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is_closed_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("windrow: {}", sentence(&error));
            ExitCode::from(error.exit_code())
        }
    }
}

fn start(cli: Cli) -> Result<(), CliError> {
    init_logs(&cli.log, cli.log_format)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::Panicked(format!("no async runtime can be started: {error}")))?;
    runtime.block_on(async {
        match cli.command {
            Command::Demo(args) => args.run().await,
            Command::Run(args) => args.run().await,
            #[cfg(feature = "eventhubs")]
            Command::Send(args) => args.run().await,
            Command::Models(command) => command.run().await,
            Command::Predictions(command) => command.run().await,
            Command::Audit(args) => args.run().await,
            Command::Queue(args) => args.run().await,
            Command::DeadLetters(command) => command.run().await,
        }
    })
}
