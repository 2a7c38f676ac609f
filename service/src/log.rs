//! Logs on standard error, for people or for machines.

use std::io::IsTerminal;

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

/// Returns `filter` with the levels of [`LIBRARIES`] before it, unless the filter is stricter. An empty filter logs
/// errors only.
fn with_libraries(filter: &str) -> String {
    let level = |directive: &&str| !directive.contains('=');
    match filter.split(',').map(str::trim).rfind(level) {
        Some("") | None if filter.trim().is_empty() => "error,lapin=off".to_owned(),
        Some("off" | "error") => format!("lapin=off,{filter}"),
        _ => format!("{LIBRARIES},{filter}"),
    }
}

/// Starts logging; call it once per process. Client libraries log less than `filter` asks for, unless it
/// names them.
pub fn init_logs(filter: &str, format: LogFormat) -> Result<(), Failure> {
    let parsed = EnvFilter::try_new(with_libraries(filter))
        .map_err(|error| Failure::usage(format!("--log {filter}: {error}")))?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(parsed)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Text => subscriber.try_init(),
        LogFormat::Json => subscriber.json().flatten_event(true).try_init(),
    };
    started.map_err(Failure::failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_never_log_more_than_the_filter_asks_for() {
        assert_eq!(with_libraries("off"), "lapin=off,off");
        assert_eq!(
            with_libraries("error,windrow_worker=debug"),
            "lapin=off,error,windrow_worker=debug"
        );
        assert_eq!(with_libraries(" "), "error,lapin=off");
        for filter in ["info", "windrow_worker=debug", "debug,lapin=debug"] {
            let all = with_libraries(filter);
            assert!(all.starts_with(LIBRARIES) && all.ends_with(filter), "{all}");
        }
    }
}
