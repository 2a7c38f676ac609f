//! A fleet that someone else resizes, such as KEDA. KEDA asks for the wanted number (`control::Status`), and this fleet
//! assumes that KEDA acts on it.

use async_trait::async_trait;

use super::{Capacity, Fleet, FleetError};

/// A fleet whose size is only published, not enforced.
#[derive(Debug)]
pub struct Served {
    consumers_per_worker: u32,
    wanted: Option<u32>,
}

impl Served {
    /// Creates a fleet whose workers have this many consumers each.
    pub fn new(consumers_per_worker: u32) -> Self {
        Self {
            consumers_per_worker: consumers_per_worker.max(1),
            wanted: None,
        }
    }
}

#[async_trait]
impl Fleet for Served {
    async fn look(&mut self, consumers: Option<u32>) -> Result<Capacity, FleetError> {
        let Some(consumers) = consumers else {
            return Err(FleetError::Away {
                action: "count the workers",
                fleet: "the served fleet".to_owned(),
                why: "the broker does not say how many consumers there are".to_owned(),
            });
        };
        let there = consumers.div_ceil(self.consumers_per_worker);
        let requested = self.wanted.unwrap_or(there);
        let ready = there.min(requested);
        Ok(Capacity {
            requested,
            booting: requested - ready,
            ready,
            draining: there - ready,
        })
    }

    async fn resize(&mut self, wanted: u32) -> Result<(), FleetError> {
        self.wanted = Some(wanted);
        Ok(())
    }

    fn resume(&mut self, wanted: u32) {
        self.wanted = Some(wanted);
    }

    /// Another scaler may want another number in the meantime.
    async fn leave(&mut self) {
        self.wanted = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn workers_that_are_wanted_and_have_no_consumer_are_booting_and_others_too_many_are_draining() {
        let mut fleet = Served::new(2);
        let of = |requested, booting, ready, draining| Capacity {
            requested,
            booting,
            ready,
            draining,
        };
        assert_eq!(fleet.look(Some(7)).await.unwrap(), of(4, 0, 4, 0));
        fleet.resize(6).await.unwrap();
        assert_eq!(fleet.look(Some(7)).await.unwrap(), of(6, 2, 4, 0));
        fleet.resize(1).await.unwrap();
        assert_eq!(fleet.look(Some(7)).await.unwrap(), of(1, 0, 1, 3));
        assert!(fleet.look(None).await.is_err());
    }
}
