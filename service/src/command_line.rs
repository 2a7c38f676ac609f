//! Reads a program's options.

use std::ffi::OsStr;

use clap::builder::Resettable;
use clap::{Arg, Command, CommandFactory, Parser};

/// Reads the options of this process. Where they are wrong, says so and ends it, as [`Parser::parse`] does.
pub fn parse_options<Options: Parser>() -> Options {
    let matches = command_line::<Options>().get_matches();
    Options::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

/// Returns the command line that a program understands.
///
/// An empty environment variable counts as unset: Compose files, manifests and unit files pass on optional settings as
/// empty text, which is not a valid path, URL or number.
pub fn command_line<Options: CommandFactory>() -> Command {
    without_variables(Options::command(), &|name| {
        std::env::var_os(name).is_some_and(|value| value.is_empty())
    })
}

/// Returns the options of a program that is given none and reads no variable.
///
/// # Panics
///
/// Panics if an option is required.
pub fn defaults<Options: Parser>() -> Options {
    let matches = without_variables(Options::command(), &|_| true).get_matches_from(["program"]);
    Options::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

/// Makes the options of `command` and its subcommands ignore the environment variables whose name `is_ignored`.
fn without_variables(command: Command, is_ignored: &impl Fn(&OsStr) -> bool) -> Command {
    let reads_variable = |arg: Arg| match arg.get_env() {
        Some(name) if is_ignored(name) => arg.env(Resettable::Reset),
        _ => arg,
    };
    command
        .mut_args(reads_variable)
        .mut_subcommands(|command| without_variables(command, is_ignored))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{FromArgMatches, Subcommand};
    use std::path::PathBuf;

    #[derive(Parser)]
    struct Options {
        #[arg(long, env = "PATH")]
        file: Option<PathBuf>,
        #[command(subcommand)]
        command: Nested,
    }

    #[derive(Subcommand)]
    enum Nested {
        Run {
            #[arg(long, env = "PATH", default_value = "usual")]
            name: String,
        },
    }

    fn parse(is_ignored: bool) -> (Option<PathBuf>, String) {
        let command = without_variables(Options::command(), &|name| is_ignored && name == "PATH");
        let matches = command.get_matches_from(["program", "run"]);
        let options = Options::from_arg_matches(&matches).unwrap();
        let Nested::Run { name } = options.command;
        (options.file, name)
    }

    #[test]
    fn an_ignored_variable_leaves_an_option_and_one_of_a_subcommand_at_their_defaults() {
        let path = std::env::var("PATH").unwrap();
        assert_eq!(parse(false), (Some(PathBuf::from(&path)), path));
        assert_eq!(parse(true), (None, "usual".to_owned()));
    }
}
