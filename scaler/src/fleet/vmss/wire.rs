//! The parts of ARM's resources that the scale set needs.
//!
//! Shapes and paths are those of api-version 2026-03-01:
//! [scale sets](https://learn.microsoft.com/rest/api/compute/virtual-machine-scale-sets),
//! [Uniform instances](https://learn.microsoft.com/rest/api/compute/virtual-machine-scale-set-vms/list) and
//! [virtual machines](https://learn.microsoft.com/rest/api/compute/virtual-machines/list), which Flexible instances are:
//! [which API serves which orchestration mode](https://learn.microsoft.com/azure/virtual-machine-scale-sets/orchestration-modes-api-comparison).

use serde::Deserialize;

use super::plan::Platform;

/// The version of Microsoft.Compute's API.
pub(super) const COMPUTE: &str = "2026-03-01";
/// The only version of the list of a Uniform scale set's network interfaces
/// (<https://learn.microsoft.com/rest/api/virtualnetwork/network-interfaces/list-virtual-machine-scale-set-network-interfaces>).
pub(super) const UNIFORM_INTERFACES: &str = "2018-10-01";
/// The version of Microsoft.Network's API.
pub(super) const NETWORK: &str = "2024-05-01";

/// A scale set.
#[derive(Debug, Deserialize)]
pub(super) struct ScaleSet {
    pub(super) sku: Option<Sku>,
    pub(super) etag: Option<String>,
    #[serde(default)]
    pub(super) properties: ScaleSetProperties,
}

#[derive(Debug, Deserialize)]
pub(super) struct Sku {
    pub(super) name: String,
    pub(super) capacity: u32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ScaleSetProperties {
    pub(super) orchestration_mode: Option<String>,
    pub(super) provisioning_state: Option<String>,
    pub(super) overprovision: Option<bool>,
}

/// An instance: of a Uniform scale set, or a virtual machine that belongs to a Flexible one.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Machine {
    pub(super) id: String,
    pub(super) name: String,
    /// Absent in a Flexible scale set, whose delete action takes names.
    pub(super) instance_id: Option<String>,
    #[serde(default)]
    pub(super) properties: MachineProperties,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct MachineProperties {
    provisioning_state: Option<String>,
    pub(super) time_created: Option<String>,
    instance_view: Option<InstanceView>,
    protection_policy: Option<ProtectionPolicy>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct InstanceView {
    #[serde(default)]
    statuses: Vec<Status>,
    vm_health: Option<Health>,
}

#[derive(Debug, Deserialize)]
struct Health {
    status: Option<Status>,
}

#[derive(Debug, Deserialize)]
struct Status {
    code: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProtectionPolicy {
    #[serde(default)]
    protect_from_scale_in: bool,
}

/// A network interface.
#[derive(Debug, Deserialize)]
pub(super) struct Interface {
    #[serde(default)]
    properties: InterfaceProperties,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct InterfaceProperties {
    primary: Option<bool>,
    virtual_machine: Option<Reference>,
    #[serde(default)]
    ip_configurations: Vec<IpConfiguration>,
}

#[derive(Debug, Deserialize)]
struct Reference {
    id: String,
}

#[derive(Debug, Deserialize)]
struct IpConfiguration {
    #[serde(default)]
    properties: IpProperties,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct IpProperties {
    primary: Option<bool>,
    #[serde(rename = "privateIPAddress")]
    private_ip_address: Option<String>,
}

impl ScaleSet {
    /// Returns whether the instances are virtual machines of their own.
    pub(super) fn is_flexible(&self) -> bool {
        let mode = self.properties.orchestration_mode.as_deref();
        mode.is_some_and(|mode| mode.eq_ignore_ascii_case("Flexible"))
    }
}

impl Machine {
    /// Returns the id that the delete action knows the instance by.
    pub(super) fn key(&self) -> &str {
        self.instance_id.as_deref().unwrap_or(&self.name)
    }

    /// Returns what the platform says of the instance
    /// (<https://learn.microsoft.com/azure/virtual-machines/states-billing>).
    pub(super) fn platform(&self) -> Platform {
        let provisioning = self.properties.provisioning_state.as_deref().unwrap_or("");
        if provisioning.eq_ignore_ascii_case("Deleting") {
            return Platform::Deleting;
        }
        let view = self.properties.instance_view.as_ref();
        let codes = || {
            let health = view.and_then(|view| view.vm_health.as_ref()?.status.as_ref());
            let statuses = view.map(|view| view.statuses.iter()).into_iter().flatten();
            statuses.chain(health).filter_map(|status| status.code.as_deref())
        };
        let down = codes().find(|code| {
            let code = code.to_ascii_lowercase();
            let powered_down = code.strip_prefix("powerstate/").is_some_and(|state| {
                matches!(state, "stopping" | "stopped" | "deallocating" | "deallocated")
            });
            powered_down || code == "healthstate/unhealthy"
        });
        if let Some(down) = down {
            return Platform::Down(down.to_owned());
        }
        if provisioning.eq_ignore_ascii_case("Failed") {
            return Platform::Failed;
        }
        match codes().any(|code| code.eq_ignore_ascii_case("PowerState/running")) {
            true => Platform::Running,
            false => Platform::Creating,
        }
    }

    pub(super) fn is_protected(&self) -> bool {
        let policy = self.properties.protection_policy.as_ref();
        policy.is_some_and(|policy| policy.protect_from_scale_in)
    }
}

impl Interface {
    /// Returns the machine's id in lower case, and its address: the primary one of its primary interface.
    pub(super) fn address(&self) -> Option<(String, String)> {
        if self.properties.primary == Some(false) {
            return None;
        }
        let machine = self.properties.virtual_machine.as_ref()?;
        let configurations = || {
            self.properties
                .ip_configurations
                .iter()
                .map(|one| &one.properties)
        };
        let primary = configurations().find(|one| one.primary == Some(true));
        let address = primary.or_else(|| configurations().next())?;
        // ARM does not keep the case of ids.
        Some((machine.id.to_lowercase(), address.private_ip_address.clone()?))
    }
}
