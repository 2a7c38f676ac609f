//! How a worker is started.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{ArgMatches, Command};
use windrow_store::host_name;

/// How much longer than its drain timeout a worker may take to end, before it is killed.
const GRACE: Duration = Duration::from_secs(5);
/// Options that are not passed on to workers. Each worker gets its own address, only one program on a machine answers
/// Azure, and workers do not need the management API's password.
const OWN: [&str; 4] = [
    "WINDROW_LISTEN",
    "WINDROW_SCHEDULED_EVENTS",
    "WINDROW_WORKER_NAME",
    "WINDROW_MANAGEMENT_URL",
];

/// How a worker is started.
#[derive(Clone, Debug)]
pub struct WorkerCommand {
    /// The program: a path, or a name that is looked up in PATH.
    pub program: PathBuf,
    /// Beginning of the workers' names.
    pub name: String,
    /// Environment variables, beside those of this program.
    pub environment: Vec<(OsString, OsString)>,
    /// How long a worker may take to drain.
    pub drain_timeout: Duration,
}

impl WorkerCommand {
    /// Returns the command of a worker, which by default is `windrow-worker` from the folder of this program.
    pub fn new(
        program: Option<&Path>,
        environment: Vec<(OsString, OsString)>,
        drain_timeout: Duration,
    ) -> Self {
        let beside = || {
            let beside = std::env::current_exe().ok()?.with_file_name("windrow-worker");
            beside.exists().then_some(beside)
        };
        let program = program.map(Path::to_owned).or_else(beside);
        Self {
            program: program.unwrap_or_else(|| "windrow-worker".into()),
            name: host_name().unwrap_or_else(|| "worker".to_owned()),
            environment,
            drain_timeout,
        }
    }

    /// Returns how long a worker may take to end.
    pub(super) fn drain_deadline(&self) -> Duration {
        self.drain_timeout + GRACE
    }

    /// Returns the command of the `number`-th worker, which serves its health at `listen`.
    pub(super) fn command(&self, number: u64, listen: &str) -> std::process::Command {
        let mut command = std::process::Command::new(&self.program);
        for variable in OWN {
            command.env_remove(variable);
        }
        command
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env("WINDROW_LISTEN", listen)
            .env("WINDROW_WORKER_NAME", format!("{}-{number}", self.name))
            .env("WINDROW_STOP_ON_EOF", "true");
        command
    }
}

/// Returns the options given on the command line as environment variables, so that a program that is started from this
/// one has the same. Options that only the environment gives are inherited anyway.
pub fn environment_of(matches: &ArgMatches, command: &Command) -> Vec<(OsString, OsString)> {
    let given = command.get_arguments().filter_map(|argument| {
        let id = argument.get_id().as_str();
        let variable = argument.get_env()?;
        // The parser's own options, such as --help, have no value to look up.
        let source = matches
            .try_contains_id(id)
            .ok()
            .and_then(|_| matches.value_source(id));
        if source != Some(ValueSource::CommandLine) || OWN.iter().any(|own| variable == *own) {
            return None;
        }
        let value = matches.get_raw(id)?.next_back()?;
        Some((variable.to_owned(), value.to_owned()))
    });
    given.collect()
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Parser)]
    struct Options {
        #[arg(long, env = "WINDROW_STORE", default_value = "here")]
        _store: String,
        #[arg(long, env = "WINDROW_LISTEN")]
        _listen: Option<String>,
        #[arg(long, env = "WINDROW_MANAGEMENT_URL")]
        _management_url: Option<String>,
        #[arg(long, env = "WINDROW_PREFETCH", default_value = "7")]
        _prefetch: u32,
        #[arg(long, env = "WINDROW_NO_ANNOUNCE")]
        _no_announce: bool,
        #[arg(long)]
        _dry_run: bool,
    }

    #[test]
    fn options_of_the_command_line_are_passed_on_and_others_are_not() {
        let command = Options::command();
        let line = [
            "scaler",
            "--store",
            "az://models",
            "--listen",
            "0.0.0.0:1",
            "--management-url",
            "http://monitor:secret@broker:15672",
            "--no-announce",
            "--dry-run",
        ];
        let matches = command.clone().get_matches_from(line);
        let given = environment_of(&matches, &command);
        let pair = |name: &str, value: &str| (OsString::from(name), OsString::from(value));
        assert_eq!(
            given,
            [
                pair("WINDROW_STORE", "az://models"),
                pair("WINDROW_NO_ANNOUNCE", "true")
            ]
        );
    }

    #[test]
    fn a_worker_does_not_get_what_belongs_to_this_program() {
        let pair = |name: &str, value: &str| (OsString::from(name), OsString::from(value));
        let options = vec![pair("WINDROW_PREFETCH", "9")];
        let command = WorkerCommand::new(Some(Path::new("worker")), options, Duration::ZERO);
        let command = command.command(3, "127.0.0.1:7");
        let set: Vec<_> = command.get_envs().collect();
        for own in ["WINDROW_MANAGEMENT_URL", "WINDROW_SCHEDULED_EVENTS"] {
            assert!(set.contains(&(own.as_ref(), None)), "{own}: {set:?}");
        }
        assert!(set.contains(&("WINDROW_LISTEN".as_ref(), Some("127.0.0.1:7".as_ref()))));
        assert!(set.contains(&("WINDROW_PREFETCH".as_ref(), Some("9".as_ref()))));
    }
}
