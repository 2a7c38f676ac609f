//! Carries out a plan, with requests to ARM and to the agents.

use reqwest::Method;
use serde_json::json;
use tokio::time::Instant;

use super::Vmss;
use super::arm::ArmError;
use super::observe::Seen;
use super::plan::{Plan, State, plan};
use super::wire::COMPUTE;
use crate::fleet::FleetError;

const GROW: &str = "change the capacity";
const DELETE: &str = "delete instances";
/// Number of instances deleted by one request.
const DELETED_AT_ONCE: usize = 100;
/// Number of instances protected in one call: each is a request of its own.
const PROTECTED_AT_ONCE: usize = 4;

impl Vmss {
    /// Takes one step towards `wanted` instances.
    pub(super) async fn act(&mut self, wanted: u32, seen: Seen) -> Result<(), FleetError> {
        let Plan {
            drain,
            delete,
            capacity,
        } = plan(wanted, &seen.scene());
        // Write the capacity first, because a deletion changes the ETag. Even if ARM refuses the capacity, such as for
        // lack of quota, drained instances are deleted.
        let grown = match capacity {
            Some(capacity) => self.write_capacity(capacity, &seen).await,
            None => Ok(()),
        };
        self.drain(drain).await;
        let deleted = self.delete(delete, &seen).await;
        self.protect(&seen).await;
        grown.and(deleted)
    }

    async fn write_capacity(&mut self, capacity: u32, seen: &Seen) -> Result<(), FleetError> {
        let url = self.arm.url(&self.path(), &[("api-version", COMPUTE)]);
        let body = json!({ "sku": { "name": seen.sku, "capacity": capacity } });
        // ARM may carry out the request even if the answer is an error, so missing instances count as requested just
        // now.
        self.ledger.asked_for_capacity();
        let etag = seen.etag.as_deref();
        let answer = self.arm.send(GROW, Method::PATCH, url, etag, Some(&body)).await;
        match answer {
            Ok(answer) => {
                tracing::info!(
                    scale_set = self.options.scale_set,
                    from = seen.capacity,
                    to = capacity,
                    "capacity asked for"
                );
                self.operations
                    .begin("scale-out", &answer, Vec::new(), Instant::now());
                Ok(())
            }
            // The next call rereads the scale set and decides again.
            Err(ArmError::Changed) => {
                tracing::debug!(
                    scale_set = self.options.scale_set,
                    "the scale set changed meanwhile; reading it again"
                );
                Ok(())
            }
            Err(error) => Err(self.arm.fleet_error(GROW, error)),
        }
    }

    async fn drain(&mut self, ids: Vec<String>) {
        let mut addresses = Vec::new();
        for id in ids {
            if let Some(address) = self.ledger.address(&id).map(str::to_owned) {
                self.ledger.drain_asked(&id);
                addresses.push((id, address));
            }
        }
        let deadline = Instant::now() + self.options.patience.step / 4;
        self.agents.drain(addresses, deadline).await;
    }

    /// Deletes drained and dead instances. This lowers the capacity by their number.
    async fn delete(&mut self, mut ids: Vec<String>, seen: &Seen) -> Result<(), FleetError> {
        ids.truncate(DELETED_AT_ONCE);
        let ids = self.still_idle(ids, seen).await;
        let Some(body) = Self::named(&ids) else {
            return Ok(());
        };
        let path = format!("{}/delete", self.path());
        let url = self.arm.url(&path, &[("api-version", COMPUTE)]);
        self.ledger.delete_asked(&ids);
        let answer = self.arm.send(DELETE, Method::POST, url, None, Some(&body)).await;
        match answer {
            Ok(answer) => {
                let now = Instant::now();
                tracing::info!(scale_set = self.options.scale_set, ids = ids.join(","), "deleted");
                self.ledger.delete_accepted(&ids, now);
                self.operations.begin("delete", &answer, ids, now);
                Ok(())
            }
            // ARM may have deleted the instances. If it has not, the next call requests the deletion again.
            Err(ArmError::Fleet(error @ FleetError::Away { .. })) => Err(error),
            Err(error) => {
                self.ledger.delete_failed(&ids);
                Err(self.arm.fleet_error(DELETE, error))
            }
        }
    }

    /// Removes ids of instances that were given up but whose agents now answer and are not drained: a slow instance may
    /// have become ready since.
    async fn still_idle(&mut self, ids: Vec<String>, seen: &Seen) -> Vec<String> {
        let given_up: Vec<(String, String)> = seen
            .instances
            .iter()
            .filter(|one| matches!(one.state, State::Dead(_)) && ids.contains(&one.id))
            .filter_map(|one| Some((one.id.clone(), self.ledger.address(&one.id)?.to_owned())))
            .collect();
        if given_up.is_empty() {
            return ids;
        }
        let now = Instant::now();
        let answers = self
            .agents
            .ask(given_up, now + self.options.patience.step / 4)
            .await;
        for (id, answer) in &answers {
            self.ledger.asked(id, now, *answer);
        }
        let alive = |id: &String| {
            let answer = answers.get(id).copied().flatten();
            answer.is_some_and(|report| !report.draining || report.in_hand > 0)
        };
        ids.into_iter().filter(|id| !alive(id)).collect()
    }

    /// Protects instances at work from the platform's own scale-in
    /// (<https://learn.microsoft.com/azure/virtual-machine-scale-sets/virtual-machine-scale-sets-instance-protection>).
    /// The protection stays: it does not keep an instance from being deleted by its id. Flexible scale sets have none.
    async fn protect(&mut self, seen: &Seen) {
        if seen.is_flexible {
            return;
        }
        let body = json!({ "properties": { "protectionPolicy": { "protectFromScaleIn": true } } });
        let mut asked = 0;
        for id in &seen.unprotected {
            if asked == PROTECTED_AT_ONCE {
                break;
            }
            if !self.ledger.asks_for_protection(id) {
                continue;
            }
            asked += 1;
            let path = format!("{}/virtualMachines/{id}", self.path());
            let url = self.arm.url(&path, &[("api-version", COMPUTE)]);
            let answer = self
                .arm
                .send("protect an instance", Method::PUT, url, None, Some(&body))
                .await;
            if let Err(ArmError::Fleet(error)) = answer {
                tracing::warn!(instance = id, %error, "an instance is not protected from Azure's own scale-in");
                return;
            }
        }
    }
}
