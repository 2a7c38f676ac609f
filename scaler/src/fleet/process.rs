//! Worker processes on this machine as a fleet: how one large VM, or a laptop, uses all its cores.

use async_trait::async_trait;

use super::{Capacity, Fleet, FleetError};
use crate::workers::Workers;

/// The worker processes that this program has started.
#[derive(Debug)]
pub struct Processes {
    workers: Workers,
    wanted: u32,
}

impl Processes {
    /// Creates a fleet of these workers.
    pub fn new(workers: Workers) -> Self {
        Self { workers, wanted: 0 }
    }
}

#[async_trait]
impl Fleet for Processes {
    async fn look(&mut self, _consumers: Option<u32>) -> Result<Capacity, FleetError> {
        let census = self.workers.look().await;
        // One that has ended is still asked for: another takes its place.
        let requested = self.wanted.max(census.booting + census.ready);
        Ok(Capacity {
            requested,
            booting: requested - census.ready,
            ready: census.ready,
            draining: census.draining,
        })
    }

    async fn resize(&mut self, wanted: u32) -> Result<(), FleetError> {
        self.wanted = wanted;
        self.workers.resize(wanted).map_err(|why| FleetError::Away {
            action: "start workers",
            fleet: "this machine".to_owned(),
            why,
        })
    }

    async fn tend(&mut self) {
        self.workers.look().await;
        if let Err(why) = self.workers.resize(self.wanted) {
            tracing::warn!(why, "fewer workers than there should be");
        }
    }

    /// Ends all workers, since nobody else watches them.
    async fn leave(&mut self) {
        self.wanted = 0;
        self.workers.end().await;
    }
}
