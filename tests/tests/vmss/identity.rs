//! Logs in to Azure Resource Manager with an identity, as a pod on AKS or a machine in Azure does.

use std::process::Command;

use clap::Parser;
use windrow_scaler::fleet::Fleet;
use windrow_scaler::fleet::vmss::VmssArgs;
use windrow_tests::arm::{Arm, RESOURCE_GROUP, SCALE_SET, SUBSCRIPTION, Settings};
use windrow_tests::{Encryption, EntraId};

#[derive(Parser)]
struct Options {
    #[command(flatten)]
    vmss: VmssArgs,
}

/// Looks at the scale set that the environment names, in a process with an environment of its own.
#[test]
#[ignore = "runs in a process that another test starts"]
fn look_with_the_options_in_the_environment() {
    let mut vmss = Options::parse_from(["scaler"]).vmss.fleet(10).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    match runtime.block_on(vmss.look(None)) {
        Ok(capacity) => println!("requested={}", capacity.requested),
        Err(error) => println!("error={error}"),
    }
}

fn looks(arm: &Arm, variables: Vec<(&str, String)>) -> String {
    let test = "identity::look_with_the_options_in_the_environment";
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env("WINDROW_SUBSCRIPTION", SUBSCRIPTION)
        .env("WINDROW_RESOURCE_GROUP", RESOURCE_GROUP)
        .env("WINDROW_SCALE_SET", SCALE_SET)
        .env("WINDROW_ARM_ENDPOINT", arm.url())
        .env("WINDROW_AGENT_PORT", arm.agent_port().to_string())
        .envs(variables)
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_pod_and_a_machine_log_in_with_their_identity() {
    let encryption = Encryption::new();
    let entra = EntraId::start(&encryption);
    let arm = Arm::start(Settings {
        capacity: 3,
        ..Settings::default()
    });
    arm.trust(&entra);
    for variables in [entra.workload_identity(), entra.managed_identity()] {
        let said = looks(&arm, variables);
        assert!(said.contains("requested=3"), "{said}");
    }
}

#[test]
fn an_identity_that_is_refused_is_said_in_a_sentence() {
    let encryption = Encryption::new();
    let entra = EntraId::start(&encryption);
    let arm = Arm::start(Settings::default());
    let mut variables = entra.workload_identity();
    variables.push(("AZURE_CLIENT_ID", "somebody-else".to_owned()));
    let said = looks(&arm, variables);
    assert!(
        said.contains("error=cannot read the scale set: fleet: no token: "),
        "{said}"
    );
    assert!(said.contains("who is that?"), "{said}");
}
