//! `windrow scale`: simulates scaling policies without a fleet.

mod chart;
mod page;
mod simulate;
mod traces;
mod verdict;

use std::path::PathBuf;

use clap::Subcommand;
use windrow_common::{HasRemedy, Remedy};
use windrow_scaler::simulate::SimulationError;

use crate::error::CliError;

#[derive(Subcommand, Debug)]
pub(crate) enum ScaleCommand {
    /// Replay arrivals against Windrow's policy, KEDA, a fixed fleet and hindsight: drain times and costs
    Simulate(simulate::SimulateArgs),
}

impl ScaleCommand {
    pub(crate) fn run(self) -> Result<(), CliError> {
        match self {
            Self::Simulate(args) => args.run(),
        }
    }
}

/// Why nothing can be simulated.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScaleError {
    /// A trace cannot be read.
    #[error("cannot read the trace {}: {why}", .file.display())]
    Trace {
        /// Its file.
        file: PathBuf,
        /// Why not.
        why: String,
    },
    /// An option makes no sense.
    #[error("{0}")]
    Option(String),
    /// The simulation refuses.
    #[error(transparent)]
    Simulation(#[from] SimulationError),
}

impl HasRemedy for ScaleError {
    fn remedy(&self) -> Remedy {
        Remedy::FixConfig
    }
}
