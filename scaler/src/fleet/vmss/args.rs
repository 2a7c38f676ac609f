//! Command-line options for a scale set: which one it is, and what runs on it.

use std::time::Duration;

use clap::Args;
use windrow_common::parse_duration;
use windrow_identity::{EntraLogin, IdentityKind};

use super::{Patience, Vmss, VmssOptions};
use crate::fleet::FleetError;

/// Options that say which scale set runs the workers.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "VM scale set")]
pub struct VmssArgs {
    /// Subscription of the scale set, by id
    #[arg(long, value_name = "ID", env = "WINDROW_SUBSCRIPTION")]
    subscription: Option<String>,
    /// Resource group of the scale set
    #[arg(long, value_name = "NAME", env = "WINDROW_RESOURCE_GROUP")]
    resource_group: Option<String>,
    /// Scale set that runs the workers
    #[arg(long, value_name = "NAME", env = "WINDROW_SCALE_SET")]
    scale_set: Option<String>,
    /// Workers that each instance runs
    #[arg(long, value_name = "N", default_value = "1", env = "WINDROW_WORKERS_PER_INSTANCE", value_parser = clap::value_parser!(u32).range(1..=1024))]
    workers_per_instance: u32,
    /// Port of the agent on each instance
    #[arg(long, value_name = "PORT", default_value = "8090", env = "WINDROW_AGENT_PORT", value_parser = clap::value_parser!(u16).range(1..))]
    agent_port: u16,
    /// How long an instance may take until its agent answers; it is deleted and replaced after that
    #[arg(long, value_name = "DURATION", default_value = "10m", env = "WINDROW_BOOT_DEADLINE", value_parser = parse_duration)]
    boot_deadline: Duration,
    /// How long the agent of a stopped or unhealthy instance may be silent; it is deleted and replaced after that
    #[arg(long, value_name = "DURATION", default_value = "10m", env = "WINDROW_SILENCE_DEADLINE", value_parser = parse_duration)]
    silence_deadline: Duration,
    /// Entra ID identity to use [default: workload-identity if AZURE_FEDERATED_TOKEN_FILE is set, as on AKS, otherwise
    /// managed-identity]
    #[arg(long, value_enum, value_name = "KIND", env = "WINDROW_ARM_IDENTITY")]
    arm_identity: Option<IdentityKind>,
    /// Azure Resource Manager; clouds of their own, such as the one in China, have their own
    #[arg(
        long,
        value_name = "URL",
        default_value = "https://management.azure.com",
        env = "WINDROW_ARM_ENDPOINT"
    )]
    arm_endpoint: String,
}

impl VmssArgs {
    /// Returns the fleet, which never has more than `max_workers` workers that take messages.
    pub fn fleet(&self, max_workers: u32) -> Result<Vmss, FleetError> {
        let login = EntraLogin::of(self.arm_identity);
        let credential = login.credential().map_err(|error| FleetError::Refused {
            action: "log in to Azure",
            fleet: self.name(),
            why: windrow_common::sentence(&error),
        })?;
        Vmss::new(self.options(max_workers)?, credential)
    }

    fn name(&self) -> String {
        let named = self.scale_set.clone().filter(|name| !name.is_empty());
        named.unwrap_or_else(|| "none is named".to_owned())
    }

    fn options(&self, max_workers: u32) -> Result<VmssOptions, FleetError> {
        let given = |option: &str, value: &Option<String>| {
            // Compose files set unused variables to the empty string.
            let value = value.clone().filter(|value| !value.is_empty());
            value.ok_or_else(|| FleetError::Refused {
                action: "use a scale set",
                fleet: self.name(),
                why: format!("{option} is missing"),
            })
        };
        Ok(VmssOptions {
            subscription: given("--subscription", &self.subscription)?,
            resource_group: given("--resource-group", &self.resource_group)?,
            scale_set: given("--scale-set", &self.scale_set)?,
            workers_per_instance: self.workers_per_instance,
            max_workers,
            agent_port: self.agent_port,
            endpoint: self.arm_endpoint.clone(),
            patience: Patience {
                boot: self.boot_deadline,
                silence: self.silence_deadline,
                ..Patience::default()
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        vmss: VmssArgs,
    }

    #[test]
    fn what_is_missing_is_named() {
        let parsed = Command::parse_from(["scaler", "--subscription", "s", "--scale-set", "fleet"]);
        let error = parsed.vmss.options(10).unwrap_err().to_string();
        assert_eq!(
            error,
            "cannot use a scale set: fleet: --resource-group is missing"
        );
    }
}
