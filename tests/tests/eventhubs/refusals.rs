//! What a person can get wrong: one clear line each, and no key in it.

use windrow_test_hub::{Hub, HubConfig};

use super::{HubStage, PARTITIONS, WITHIN};

const KEY: &str = "d2luZHJvdw==";

#[test]
fn a_wrong_hub_a_wrong_namespace_and_a_closed_port_are_told_apart() {
    let hub = HubStage::new("hubrefusals");
    hub.fleet(1, 10);
    let (string, endpoint) = (hub.hub.connection_string(), hub.hub.endpoint());
    let other_hub = string.replace("EntityPath=readings", "EntityPath=elsewhere");
    for (name, url, string, wanted) in [
        ("hub", "eventhubs://localhost/elsewhere", &other_hub, "refuses"),
        (
            "namespace",
            "eventhubs://fleet.example/readings",
            &string,
            "is of localhost",
        ),
        (
            "name",
            "eventhubs://localhost",
            &string,
            "servicebus.windows.net/HUB",
        ),
    ] {
        let words = [
            "--source",
            url,
            "--eventhubs-connection-string",
            string,
            "--eventhubs-endpoint",
            &endpoint,
            "--log",
            "debug",
        ];
        let log = hub.stage.text(&format!("{name}.log"));
        let mut producer = hub.stage.service("windrow-producer", &words, &log);
        assert_eq!(producer.wait(WITHIN), 2, "{name}: {}", producer.log());
        let log = producer.log();
        let last = log.lines().last().unwrap();
        assert!(last.contains(wanted), "{name}: {last}");
        assert!(!log.contains(KEY), "{name}: the key is in the log");
    }
}

#[test]
fn a_hub_that_is_away_is_waited_for_and_readiness_says_so() {
    let hub = HubStage::new("hubaway");
    hub.fleet(1, 10);
    let port = windrow_tests::free_port();
    let endpoint = format!("amqp://127.0.0.1:{port}");
    let words = [
        "--source",
        "eventhubs://localhost/readings",
        "--eventhubs-connection-string",
        &hub.hub.connection_string(),
        "--eventhubs-endpoint",
        &endpoint,
    ];
    let log = hub.stage.text("p.log");
    let mut producer = hub.stage.service("windrow-producer", &words, &log);
    windrow_tests::eventually(WITHIN, "readiness names the hub", || {
        let (code, text) = producer.get("/readyz")?;
        (code == 503 && text.contains("eventhubs://localhost/readings")).then_some(())
    });
    assert_eq!(producer.ended(), None);
    let config = HubConfig {
        listen: ([127, 0, 0, 1], port).into(),
        partitions: PARTITIONS,
        ..HubConfig::default()
    };
    let _hub = Hub::start(&config).unwrap();
    producer.ready();
}
