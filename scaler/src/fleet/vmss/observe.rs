//! Reads the scale set, its instances, their addresses, and the reports of their agents.

use std::collections::HashMap;

use serde_json::Value;
use tokio::time::Instant;

use super::Vmss;
use super::plan::{Count, Deadlines, Instance, Platform, Scene, State, judge};
use super::wire::{COMPUTE, Interface, Machine, NETWORK, ScaleSet, UNIFORM_INTERFACES};
use crate::fleet::FleetError;

const READ: &str = "read the scale set";
const READ_INSTANCES: &str = "list the instances";
const READ_ADDRESSES: &str = "list the network interfaces";

/// The result of a look.
pub(super) struct Seen {
    pub(super) at: Instant,
    /// The SKU's name, which a change of capacity repeats.
    pub(super) sku: String,
    pub(super) capacity: u32,
    pub(super) etag: Option<String>,
    pub(super) is_flexible: bool,
    pub(super) instances: Vec<Instance>,
    pub(super) mismatch_lasts: bool,
    /// Instances whose protection from the platform's own scale-in is not set.
    pub(super) unprotected: Vec<String>,
}

impl Seen {
    pub(super) fn scene(&self) -> Scene<'_> {
        Scene {
            instances: &self.instances,
            capacity: self.capacity,
            mismatch_lasts: self.mismatch_lasts,
        }
    }
}

impl Vmss {
    /// Looks at everything once.
    pub(super) async fn observe(&mut self) -> Result<Seen, FleetError> {
        let patience = self.options.patience;
        // The capacity is read before the instances: an instance that is created or deleted in between then makes the
        // fleet look larger than it is, and not smaller.
        let url = self.arm.url(&self.path(), &[("api-version", COMPUTE)]);
        let (set, header): (ScaleSet, _) = self.arm.get(READ, url).await?;
        let is_flexible = set.is_flexible();
        let Some(sku) = set.sku else {
            let why = "it has no VM profile, so its capacity cannot be changed".to_owned();
            return Err(self.arm.refused(READ, why));
        };
        if set.properties.overprovision == Some(true) && !is_flexible && !self.warned_of_overprovision {
            self.warned_of_overprovision = true;
            tracing::warn!(
                scale_set = self.options.scale_set,
                "overprovision is on: Azure creates more instances than asked for, and deletes some that may be busy; \
                 set it to false"
            );
        }
        let machines = self.machines(is_flexible).await?;
        let ids = machines.iter().map(Machine::key);
        self.ledger.list(Instant::now(), ids, patience.operation);
        self.find_addresses(&machines, is_flexible).await?;
        let instances = self.judge_all(&machines).await;

        let now = Instant::now();
        let mut seen = Seen {
            at: now,
            sku: sku.name,
            capacity: sku.capacity,
            etag: set.etag.or(header),
            is_flexible,
            instances,
            mismatch_lasts: false,
            unprotected: Vec::new(),
        };
        let count = Count::of(&seen.scene());
        let does_not_fit = count.does_not_fit(seen.capacity);
        let lasts = self.ledger.mismatch(now, seen.capacity, does_not_fit);
        seen.mismatch_lasts = lasts >= patience.boot && does_not_fit;
        if seen.mismatch_lasts && self.ledger.logs_mismatch() {
            let state = set.properties.provisioning_state.unwrap_or_default();
            tracing::warn!(
                scale_set = self.options.scale_set,
                capacity = seen.capacity,
                missing = count.to_come,
                state,
                ?lasts,
                "the capacity does not fit the instances, and nothing changes"
            );
        }
        let protected: HashMap<&str, bool> = machines
            .iter()
            .map(|one| (one.key(), one.is_protected()))
            .collect();
        let busy = seen
            .instances
            .iter()
            .filter(|one| matches!(one.state, State::Ready { .. }));
        seen.unprotected = busy
            .filter(|one| protected.get(one.id.as_str()) == Some(&false))
            .map(|one| one.id.clone())
            .collect();
        self.operations
            .follow(&mut self.arm, &mut self.ledger, patience.operation)
            .await;
        Ok(seen)
    }

    /// Returns the path of the scale set.
    pub(super) fn path(&self) -> String {
        format!(
            "{}/providers/Microsoft.Compute/virtualMachineScaleSets/{}",
            self.group(),
            self.options.scale_set
        )
    }

    fn group(&self) -> String {
        format!(
            "/subscriptions/{}/resourceGroups/{}",
            self.options.subscription, self.options.resource_group
        )
    }

    async fn machines(&mut self, is_flexible: bool) -> Result<Vec<Machine>, FleetError> {
        let set = self.path();
        let url = match is_flexible {
            true => {
                let path = format!("{}/providers/Microsoft.Compute/virtualMachines", self.group());
                let filter = format!("'virtualMachineScaleSet/id' eq '{set}'");
                let query = [
                    ("api-version", COMPUTE),
                    ("$filter", &filter),
                    ("$expand", "instanceView"),
                ];
                self.arm.url(&path, &query)
            }
            false => {
                let query = [("api-version", COMPUTE), ("$expand", "instanceView")];
                self.arm.url(&format!("{set}/virtualMachines"), &query)
            }
        };
        self.arm.list(READ_INSTANCES, url).await
    }

    /// Learns the private addresses of the instances that have none yet. An address lasts as long as its instance.
    async fn find_addresses(&mut self, machines: &[Machine], is_flexible: bool) -> Result<(), FleetError> {
        let known =
            |one: &Machine| self.ledger.address(one.key()).is_some() || one.platform() == Platform::Deleting;
        if machines.iter().all(known) {
            return Ok(());
        }
        let url = match is_flexible {
            true => {
                let path = format!("{}/providers/Microsoft.Network/networkInterfaces", self.group());
                self.arm.url(&path, &[("api-version", NETWORK)])
            }
            false => {
                let path = format!("{}/networkInterfaces", self.path());
                self.arm.url(&path, &[("api-version", UNIFORM_INTERFACES)])
            }
        };
        let interfaces: Vec<Interface> = self.arm.list(READ_ADDRESSES, url).await?;
        let mut addresses: HashMap<String, String> =
            interfaces.iter().filter_map(Interface::address).collect();
        for machine in machines {
            if let Some(address) = addresses.remove(&machine.id.to_lowercase()) {
                self.ledger.set_address(machine.key(), address);
            }
        }
        Ok(())
    }

    /// Asks the agents, and judges every instance.
    async fn judge_all(&mut self, machines: &[Machine]) -> Vec<Instance> {
        let patience = self.options.patience;
        let mut addresses: Vec<(String, String)> = machines
            .iter()
            .filter(|one| one.platform() != Platform::Deleting)
            .filter_map(|one| Some((one.key().to_owned(), self.ledger.address(one.key())?.to_owned())))
            .collect();
        // If there is no time for all, those that have waited longest are asked.
        addresses.sort_by_key(|(id, _)| self.ledger.last_asked(id));
        let answers = self
            .agents
            .ask(addresses, Instant::now() + patience.step / 3)
            .await;
        let now = Instant::now();
        for (id, answer) in &answers {
            self.ledger.asked(id, now, *answer);
        }
        let deadlines = Deadlines {
            boot: patience.boot,
            silence: patience.silence,
        };
        let mut instances = Vec::with_capacity(machines.len());
        for machine in machines {
            let answer = answers.get(machine.key()).copied().flatten();
            if let Some(answer) = answer
                && answer.workers != self.options.workers_per_instance
            {
                let (workers, expected) = (answer.workers, self.options.workers_per_instance);
                tracing::debug!(
                    instance = machine.key(),
                    workers,
                    expected,
                    "an instance runs another number of workers"
                );
            }
            let Some(facts) = self.ledger.facts(machine.key(), now, machine.platform(), answer) else {
                continue;
            };
            let state = judge(&facts, deadlines);
            let (instance, silent_for) = (machine.key(), facts.silent_for);
            match &state {
                State::Dead(why) => {
                    tracing::warn!(instance, ?silent_for, %why, "an instance is given up");
                }
                State::Silent { .. }
                    if silent_for >= patience.silence && self.ledger.logs_silence(instance) =>
                {
                    tracing::warn!(
                        instance,
                        ?silent_for,
                        "an agent does not answer; its instance counts as busy and is not deleted as long as it runs"
                    );
                }
                _ => {}
            }
            instances.push(Instance {
                id: machine.key().to_owned(),
                created: machine.properties.time_created.clone().unwrap_or_default(),
                state,
                may_be_deleted: self.ledger.may_be_deleted(machine.key()),
            });
        }
        instances
    }

    /// Returns the body that names instances for the delete action. It is never empty: without ids, the same action
    /// would be about every instance.
    pub(super) fn named(ids: &[String]) -> Option<Value> {
        (!ids.is_empty()).then(|| serde_json::json!({ "instanceIds": ids }))
    }
}
