//! The `--output` option that many commands share.

use clap::{Args, ValueEnum};

/// A format in which a command shows its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// A table, for people.
    Table,
    /// JSON, for scripts.
    Json,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct OutputArg {
    /// Format of the result on standard output
    #[arg(long, value_enum, default_value = "table", env = "WINDROW_OUTPUT")]
    pub(crate) output: OutputFormat,
}
