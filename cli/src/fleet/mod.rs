//! `windrow fleet`: the whole fleet at a glance.

mod accounting;
mod attention;
mod cadence;
mod cells;
mod incidents;
mod labelled;
mod level;
mod report;
mod sensors;
mod spending;

use clap::Subcommand;

use crate::error::CliError;

#[derive(Subcommand, Debug)]
pub(crate) enum FleetCommand {
    /// Account for the windows that were expected, and show incidents a day and the sensors that need attention
    Report(report::ReportArgs),
}

impl FleetCommand {
    pub(crate) async fn run(self) -> Result<(), CliError> {
        match self {
            Self::Report(args) => args.run().await,
        }
    }
}
