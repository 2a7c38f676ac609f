//! An Azure VM scale set as a fleet, through Azure Resource Manager.
//!
//! Every call reads the present state, decides (`plan`) and asks ARM for one step towards the goal. Nothing waits for
//! the platform:
//! operations that take minutes go on between the calls (`operations`). A capacity is always written as a number, under
//! the ETag it was computed from, so that a lost answer cannot add twice what was wanted once.
//!
//! Each instance runs an agent that says what its workers hold: `GET /instance` returns
//! `{"workers":4,"in_hand":120,"draining":false}`, and `POST /drain` makes them take no further messages.

mod act;
mod agents;
mod args;
mod arm;
mod ledger;
mod observe;
mod operations;
mod plan;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use azure_core::credentials::TokenCredential;
use tokio::time::Instant;

use self::agents::Agents;
use self::arm::Arm;
use self::ledger::Ledger;
use self::observe::Seen;
use self::operations::Operations;
use self::plan::Count;
use super::{Capacity, Fleet, FleetError};

pub use args::VmssArgs;

/// A scale set, and the workers on its instances.
pub struct Vmss {
    options: VmssOptions,
    arm: Arm,
    agents: Agents,
    ledger: Ledger,
    operations: Operations,
    /// The result of the last look, until a resize uses it.
    seen: Option<Seen>,
    warned_of_overprovision: bool,
}

/// Which scale set it is, and what runs on it.
#[derive(Clone, Debug)]
pub struct VmssOptions {
    /// Subscription, by id.
    pub subscription: String,
    /// Resource group.
    pub resource_group: String,
    /// Name of the scale set.
    pub scale_set: String,
    /// Workers that each instance runs.
    pub workers_per_instance: u32,
    /// Most workers that may take messages at once.
    pub max_workers: u32,
    /// Port of the agent on each instance.
    pub agent_port: u16,
    /// Azure Resource Manager: `https://management.azure.com`.
    pub endpoint: String,
    /// How long to wait for what.
    pub patience: Patience,
}

/// How long to wait for what.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For the agent of a new instance to answer.
    pub boot: Duration,
    /// For the agent of a stopped instance to answer again.
    pub silence: Duration,
    /// For an operation to end.
    pub operation: Duration,
    /// For one answer of ARM.
    pub arm: Duration,
    /// For one answer of an agent.
    pub agent: Duration,
    /// For all of a call.
    pub step: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            boot: Duration::from_secs(600),
            silence: Duration::from_secs(600),
            operation: Duration::from_secs(1800),
            arm: Duration::from_secs(5),
            agent: Duration::from_secs(1),
            step: Duration::from_secs(10),
        }
    }
}

impl Vmss {
    /// Creates the fleet. Nothing is asked before the first look.
    pub fn new(options: VmssOptions, credential: Arc<dyn TokenCredential>) -> Result<Self, FleetError> {
        let fleet = options.scale_set.clone();
        let refused = |why: String| FleetError::Refused {
            action: "use the scale set",
            fleet: fleet.clone(),
            why,
        };
        for part in [&options.subscription, &options.resource_group, &options.scale_set] {
            let fits = |letter: char| letter.is_alphanumeric() || "-_.()".contains(letter);
            if part.is_empty() || !part.chars().all(fits) {
                return Err(refused(format!("`{part}` is not a name that Azure gives")));
            }
        }
        if options.workers_per_instance == 0 {
            return Err(refused("an instance has to run a worker at least".to_owned()));
        }
        if options.max_workers < options.workers_per_instance {
            let (most, each) = (options.max_workers, options.workers_per_instance);
            return Err(refused(format!(
                "an instance runs {each} workers, and at most {most} are allowed"
            )));
        }
        let arm = Arm::new(&options.endpoint, credential, fleet.clone(), options.patience.arm)?;
        let agents = Agents::new(options.agent_port, options.patience.agent).map_err(refused)?;
        Ok(Self {
            options,
            arm,
            agents,
            ledger: Ledger::default(),
            operations: Operations::default(),
            seen: None,
            warned_of_overprovision: false,
        })
    }

    /// Returns how many instances run `workers` workers, rounded up, and down where the rest would exceed the maximum.
    fn instances_for(&self, workers: u32) -> u32 {
        let each = self.options.workers_per_instance;
        workers.div_ceil(each).min(self.options.max_workers / each)
    }

    fn capacity(&self, seen: &Seen) -> Capacity {
        let count = Count::of(&seen.scene());
        let to_come = if seen.mismatch_lasts { 0 } else { count.to_come };
        let at_work = count.silent_at_work();
        let booting = count.booting + count.silent - at_work + to_come;
        let ready = count.ready + at_work;
        let each = self.options.workers_per_instance;
        Capacity {
            requested: (booting + ready) * each,
            booting: booting * each,
            ready: ready * each,
            draining: count.draining * each,
        }
    }
}

#[async_trait]
impl Fleet for Vmss {
    /// The agents say which workers score, so the broker's number is not needed.
    async fn look(&mut self, _consumers: Option<u32>) -> Result<Capacity, FleetError> {
        self.seen = None;
        let (fleet, patience) = (self.options.scale_set.clone(), self.options.patience.step);
        let seen = Arm::bounded(&fleet, "look", patience, self.observe()).await?;
        let capacity = self.capacity(&seen);
        self.seen = Some(seen);
        Ok(capacity)
    }

    async fn resize(&mut self, wanted: u32) -> Result<(), FleetError> {
        let wanted = self.instances_for(wanted);
        let (fleet, patience) = (self.options.scale_set.clone(), self.options.patience.step);
        let seen = self.seen.take();
        let seen = seen.filter(|seen| Instant::now() - seen.at < patience);
        let step = async {
            let seen = match seen {
                Some(seen) => seen,
                None => self.observe().await?,
            };
            self.act(wanted, seen).await
        };
        Arm::bounded(&fleet, "resize", patience, step).await
    }
}
