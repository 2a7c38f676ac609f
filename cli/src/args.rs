//! How results are shown, an option of many commands.

use clap::{Args, ValueEnum};

/// How a result is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Table,
    /// For scripts.
    Json,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct OutputArg {
    /// How to show the result
    #[arg(long, value_enum, default_value = "table", env = "WINDROW_OUTPUT")]
    pub(crate) output: Output,
}
