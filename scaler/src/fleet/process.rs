//! Worker processes on this machine as a fleet: how one large VM, or a laptop, uses all its cores.

use async_trait::async_trait;

use super::{Capacity, Fleet, FleetError};
use crate::workers::Workers;

/// The worker processes that this program has started.
#[derive(Debug)]
pub struct Processes {
    workers: Workers,
}

impl Processes {
    /// Creates a fleet of these workers.
    pub fn new(workers: Workers) -> Self {
        Self { workers }
    }
}

#[async_trait]
impl Fleet for Processes {
    async fn look(&mut self, _consumers: Option<u32>) -> Result<Capacity, FleetError> {
        let census = self.workers.look().await;
        Ok(Capacity {
            requested: census.booting + census.ready,
            booting: census.booting,
            ready: census.ready,
            draining: census.draining,
        })
    }

    async fn resize(&mut self, wanted: u32) -> Result<(), FleetError> {
        self.workers.resize(wanted).map_err(|why| FleetError::Away {
            action: "start workers",
            fleet: "this machine".to_owned(),
            why,
        })
    }

    /// Ends all workers, since nobody else watches them.
    async fn leave(&mut self) {
        self.workers.end().await;
    }
}
