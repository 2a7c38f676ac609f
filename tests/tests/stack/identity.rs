//! Logs in to Azure with an identity instead of a key: a pod's on AKS, or a machine's in a scale set.

use std::time::Duration;

use windrow_test_hub::{Hub, HubConfig};
use windrow_tests::{Azurite, Broker, Encryption, EntraId, Service, Stage, windrow};

const STORE: &str = "az://windrow";
const WITHIN: Duration = Duration::from_secs(120);
const FLEET: &str = "sim:devices=4,tags=1,duration=10m";
const HUB: &str = "eventhubs://fleet.servicebus.windows.net/readings";

#[test]
fn a_pod_with_workload_identity_needs_no_key() {
    scores_a_fleet("workload", EntraId::workload_identity);
}

#[test]
fn a_machine_with_a_managed_identity_needs_no_key() {
    scores_a_fleet("machine", EntraId::managed_identity);
}

#[test]
fn an_identity_that_is_refused_is_said_in_a_sentence() {
    let encryption = Encryption::new();
    let entra = EntraId::start(&encryption);
    let hub = Hub::start(&HubConfig::default()).unwrap();
    for mut variables in [entra.workload_identity(), entra.managed_identity()] {
        variables.extend([("AZURE_CLIENT_ID", "somebody-else".to_owned())]);
        let endpoint = hub.endpoint();
        let send = ["send", HUB, "--source", FLEET, "--eventhubs-endpoint", &endpoint];
        let (code, _, said) = windrow(&send).envs(variables).end();
        let last = said.lines().last().unwrap();
        assert_eq!(code, 6, "{said}");
        assert!(
            last.contains("refuses this login: ") && last.contains("who is that?"),
            "{said}"
        );
    }
}

/// Trains, sends, dispatches and scores, with an identity as the only login to the store and the hub.
fn scores_a_fleet(prefix: &str, identity: fn(&EntraId) -> Vec<(&'static str, String)>) {
    let encryption = Encryption::new();
    let (entra, azurite) = (EntraId::start(&encryption), Azurite::encrypted(&encryption));
    let hub = Hub::start(&HubConfig::default()).unwrap();
    let stage = Stage::new(Broker::shared(), prefix);
    let mut variables = identity(&entra);
    variables.extend(azurite.variables());
    variables.retain(|(name, _)| *name != "AZURE_STORAGE_ACCOUNT_KEY");

    let train = ["models", "train", "--source", FLEET, "--store", STORE];
    windrow(&train).envs(variables.clone()).output();
    let send = [
        "send",
        HUB,
        "--source",
        FLEET,
        "--eventhubs-endpoint",
        &hub.endpoint(),
    ];
    let sent = windrow(&send).envs(variables.clone()).json();
    assert!(sent["readings"].as_u64().unwrap() > 0, "{sent}");
    let shown = hub.last_token().unwrap();
    assert_eq!(shown.kind, "jwt");
    assert_eq!(entra.issued("https://eventhubs.azure.net"), Some(shown.text));
    assert!(entra.issued("https://storage.azure.com").is_some());

    let broker = stage.broker_words();
    let endpoint = hub.endpoint();
    let start = |program: &str, more: &[&str]| {
        let mut words: Vec<&str> = broker.iter().map(String::as_str).collect();
        words.extend(["--store", STORE]);
        words.extend(more);
        let variables: Vec<(&str, &str)> = (variables.iter())
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        Service::start_with(program, &words, &stage.text(program), &variables)
    };
    let mut producer = start(
        "windrow-producer",
        &[
            "--source",
            HUB,
            "--eventhubs-endpoint",
            &endpoint,
            "--until-caught-up",
        ],
    );
    assert_eq!(producer.wait(WITHIN), 0, "{}", producer.log());
    let mut worker = start("windrow-worker", &["--flush-age", "100ms"]);
    stage.drained(WITHIN);
    worker.signal("TERM");
    assert_eq!(worker.wait(WITHIN), 0, "{}", worker.log());
    let audit = windrow(&["audit", "--store", STORE])
        .envs(variables.clone())
        .json();
    assert!(audit["all"]["predicted"].as_u64().unwrap() > 0, "{audit}");
    assert_eq!(audit["all"]["lost"], 0, "{audit}");
    for service in [&producer, &worker] {
        let log = service.log();
        assert!(
            !log.contains("c2lnbmVk") && !log.contains("federated"),
            "a token is in the log: {log}"
        );
    }
}
