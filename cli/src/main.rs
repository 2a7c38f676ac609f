//! The `windrow` program: scores a fleet of sensors in one process, and inspects the store and the queue of a
//! worker fleet.

mod audit;
mod backtest;
mod broker;
mod budget;
mod cost;
mod dead_letters;
mod demo;
mod error;
mod fits;
mod fleet;
mod incidents;
mod input;
mod inspect;
mod label;
mod models;
mod mute;
mod output;
mod pipeline;
mod predictions;
mod progress;
mod quarantine;
#[cfg(feature = "cluster")]
mod queue;
mod replay;
mod report;
mod retrain;
mod run;
mod scale;
#[cfg(feature = "cluster")]
mod send;
mod sensor_lookup;
mod show;
mod train;
mod tune;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use windrow_common::sentence;
use windrow_service::{LogFormat, abandon, init_logs, parse_options};

use error::CliError;

/// Scores a fleet of sensors against one anomaly model per sensor.
#[derive(Parser, Debug)]
#[command(
    version,
    max_term_width = 110,
    after_help = "\
Exit codes: 0 success, 1 failure, 2 an option or something that it names is wrong, 3 the audit failed,
4 work in flight did not finish in time after a stop (run and replay), 5 the audit is not finished:
messages still wait, or the grouper is not done, 6 a login or a right is refused.
Every option can also be set with the environment variable that its text names in brackets."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Log level on standard error: error, warn, info, debug or trace; or a filter such as warn,windrow_worker=debug
    #[arg(
        long,
        global = true,
        value_name = "FILTER",
        default_value = "warn,source=info,azure_messaging_eventhubs=off,azure_core_amqp=off,fe2o3_amqp=off",
        env = "WINDROW_LOG"
    )]
    log: String,
    /// Format of the log lines
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
    /// Simulate a fleet, train its models, score one day and write an HTML report
    Demo(demo::DemoArgs),
    /// Show how files are understood, what is in them, and the options that read them
    Inspect(inspect::InspectArgs),
    /// Read a source, cut it into windows, score them and store the predictions, all in this process
    Run(run::RunArgs),
    /// Read part of a source again and score its windows: recovers lost windows and late readings
    Replay(replay::ReplayArgs),
    /// Send readings to an Event Hub
    #[cfg(feature = "cluster")]
    Send(send::SendArgs),
    /// Train, import, promote, compare and delete models
    #[command(subcommand)]
    Models(models::ModelsCommand),
    /// Train models again on the last windows, from the predictions in the store
    Retrain(Box<retrain::RetrainArgs>),
    /// Compare the incidents that two versions of the models would have raised on the stored windows
    Backtest(Box<backtest::BacktestArgs>),
    /// Export predictions
    #[command(subcommand)]
    Predictions(predictions::PredictionsCommand),
    /// Find and list incidents: the problems that people are alerted to
    #[command(subcommand)]
    Incidents(incidents::IncidentsCommand),
    /// Label incidents as true, false or maintenance, for training and for reports
    #[command(subcommand)]
    Label(label::LabelCommand),
    /// Mute sensors during maintenance, or when they are taken out of service
    #[command(subcommand)]
    Mute(mute::MuteCommand),
    /// Report on the whole fleet: expected and missing windows, incidents, sensors that need attention
    #[command(subcommand)]
    Fleet(fleet::FleetCommand),
    /// Check that every reading is in a window or in quarantine, and that every window has a prediction or a dead letter
    Audit(audit::AuditArgs),
    /// Show the depth and the message rates of the scoring queue in RabbitMQ
    #[cfg(feature = "cluster")]
    Queue(queue::QueueArgs),
    /// List, show, replay and purge dead letters: messages that could not be scored
    #[command(subcommand)]
    DeadLetters(dead_letters::DeadLettersCommand),
    /// List, show and purge what was set aside: readings that could not be used
    #[command(subcommand)]
    Quarantine(quarantine::QuarantineCommand),
    /// Simulate how a fleet of workers is scaled
    #[command(subcommand)]
    Scale(scale::ScaleCommand),
    /// Estimate what a fleet of sensors costs in a month
    Cost(cost::CostArgs),
}

fn main() -> ExitCode {
    let cli: Cli = parse_options();
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
        .map_err(|error| CliError::Panicked(format!("cannot start the async runtime: {error}")))?;
    let ended = runtime.block_on(async {
        match cli.command {
            Command::Demo(args) => args.run().await,
            Command::Inspect(args) => args.run(),
            Command::Run(args) => args.run().await,
            Command::Replay(args) => args.run().await,
            #[cfg(feature = "cluster")]
            Command::Send(args) => args.run().await,
            Command::Models(command) => command.run().await,
            Command::Retrain(args) => args.run().await,
            Command::Backtest(args) => args.run().await,
            Command::Predictions(command) => command.run().await,
            Command::Incidents(command) => command.run().await,
            Command::Label(command) => command.run().await,
            Command::Mute(command) => command.run().await,
            Command::Fleet(command) => command.run().await,
            Command::Audit(args) => args.run().await,
            #[cfg(feature = "cluster")]
            Command::Queue(args) => args.run().await,
            Command::DeadLetters(command) => command.run().await,
            Command::Quarantine(command) => command.run().await,
            Command::Scale(command) => command.run(),
            Command::Cost(args) => args.run(),
        }
    });
    abandon(runtime);
    ended
}
