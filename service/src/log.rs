//! Logs on standard error, for people or for machines.

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

use super::Failure;

/// The format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people
    Text,
    /// One JSON object per line
    Json,
}

/// Levels of libraries that log each of their retries. This program logs only the first and the last one itself. A
/// filter that names a library overrides its level here.
const LIBRARIES: &str =
    "lapin=off,azure_messaging_eventhubs=error,azure_core_amqp=error,fe2o3_amqp=error,object_store=warn";

/// Starts logging; call it once per process. Client libraries log less than `filter` asks for, unless it
/// names them.
pub fn init_logs(filter: &str, format: LogFormat) -> Result<(), Failure> {
    let parsed = EnvFilter::try_new(format!("{LIBRARIES},{filter}"))
        .map_err(|error| Failure::usage(format!("--log {filter}: {error}")))?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(parsed)
        .with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Text => subscriber.try_init(),
        LogFormat::Json => subscriber.json().flatten_event(true).try_init(),
    };
    started.map_err(Failure::failed)
}
