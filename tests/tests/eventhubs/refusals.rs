//! Each wrong setting ends a producer with one clear line that does not reveal the key.

use windrow_test_hub::{Hub, HubConfig};
use windrow_tests::{eventually, fleet};

use super::{HubStage, PARTITIONS, SEED, WITHIN, Way};

const KEY: &str = "d2luZHJvdw==";

/// The default of `--drain-timeout`, and what a busy machine adds.
const STOPS_WITHIN: std::time::Duration = std::time::Duration::from_secs(35);

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
            "is for localhost",
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
            "debug,azure_messaging_eventhubs=debug,azure_core_amqp=debug,fe2o3_amqp=debug",
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
fn a_consumer_group_that_is_not_there_ends_a_producer() {
    let config = HubConfig {
        consumer_groups: vec!["$Default".to_owned()],
        ..HubConfig::default()
    };
    let hub = HubStage::of("hubgroup", &config);
    hub.fleet(1, 10);
    let mut producer = hub.producer("p", &["--consumer-group", "scoring"]);
    assert_eq!(producer.wait(WITHIN), 2, "{}", producer.log());
    let log = producer.log();
    let last = log.lines().last().unwrap();
    assert!(last.contains("ConsumerGroups/scoring"), "{last}");
}

#[test]
fn another_hub_of_the_name_and_one_made_anew_do_not_share_a_checkpoint() {
    let hub = HubStage::new("hubanew");
    hub.fleet(1, 10);
    for second in 0..5 {
        let time = 1_767_571_200 + second;
        let body = format!(r#"{{"ts":{time},"device":"d","tag":"t","value":1}}"#);
        hub.hub.append(0, body.into_bytes(), []).unwrap();
    }
    let mut producer = hub.producer("p", &["--until-caught-up"]);
    assert_eq!(producer.wait(WITHIN), 0, "{}", producer.log());

    let anew = HubStage {
        hub: Hub::start(&HubConfig::default()).unwrap(),
        stage: hub.stage,
    };
    anew.hub.append(0, b"{}".to_vec(), []).unwrap();
    let mut producer = anew.producer("anew", &[]);
    assert_eq!(producer.wait(WITHIN), 2, "{}", producer.log());
    let log = producer.log();
    let last = log.lines().last().unwrap();
    assert!(
        last.contains("recreated") && last.contains("--source-name"),
        "{last}"
    );

    let string = anew.hub.connection_string().replace("localhost", "fleet.example");
    let words = [
        "--source",
        "eventhubs://fleet.example/readings",
        "--eventhubs-connection-string",
        &string,
        "--eventhubs-endpoint",
        &anew.hub.endpoint(),
        "--window",
        "5s",
    ];
    let log = anew.stage.text("other.log");
    let mut producer = anew.stage.service("windrow-producer", &words, &log);
    assert_eq!(producer.wait(WITHIN), 2, "{}", producer.log());
    let log = producer.log();
    let last = log.lines().last().unwrap();
    assert!(
        last.contains("eventhubs://localhost/readings; this one reads eventhubs://fleet"),
        "{last}"
    );
}

#[test]
fn a_connection_string_of_an_emulator_needs_no_other_option() {
    let hub = HubStage::new("hubemulated");
    hub.fleet(1, 10);
    for second in 0..11 {
        let body = format!(
            r#"{{"ts":{},"device":"d0","tag":"temp","value":1}}"#,
            1_767_571_200 + second
        );
        hub.hub.append(0, body.into_bytes(), []).unwrap();
    }
    let port = hub.hub.address().port();
    let string = format!(
        "Endpoint=sb://localhost:{port};SharedAccessKeyName=RootManageSharedAccessKey;SharedAccessKey={KEY};\
         UseDevelopmentEmulator=true;"
    );
    let words = [
        "--source",
        "eventhubs://localhost/readings",
        "--eventhubs-connection-string",
        &string,
        "--window",
        "5s",
        "--until-caught-up",
        "--at-end",
        "dispatch",
    ];
    let log = hub.stage.text("p.log");
    let mut producer = hub.stage.service("windrow-producer", &words, &log);
    assert_eq!(producer.wait(WITHIN), 0, "{}", producer.log());
    assert_eq!(hub.dispatched(), 3);
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
    let start = |name: &str| {
        hub.stage
            .service("windrow-producer", &words, &hub.stage.text(name))
    };
    let (mut producer, mut stopped) = (start("p.log"), start("stopped.log"));
    for producer in [&producer, &stopped] {
        windrow_tests::eventually(WITHIN, "readiness names the hub", || {
            let (code, text) = producer.get("/readyz")?;
            let place = format!(
                "eventhubs://localhost/readings is unavailable: 127.0.0.1:{port}: Connection refused"
            );
            (code == 503 && text.contains(&place)).then_some(())
        });
    }
    stopped.signal("TERM");
    assert_eq!(stopped.wait(STOPS_WITHIN), 0, "{}", stopped.log());
    assert_eq!(producer.ended(), None);
    let config = HubConfig {
        listen: ([127, 0, 0, 1], port).into(),
        partitions: PARTITIONS,
        ..HubConfig::default()
    };
    let _hub = Hub::start(&config).unwrap();
    producer.ready();
}

#[test]
fn a_regenerated_key_is_waited_for_and_its_file_read_again() {
    let hub = HubStage::new("hubkeys");
    let windows = hub.fleet(4, 60);
    let file = hub.stage.path("connection-string");
    let string = |name: &str| {
        let string = hub.hub.connection_string();
        string.replace(
            "SharedAccessKeyName=windrow",
            &format!("SharedAccessKeyName={name}"),
        )
    };
    std::fs::write(&file, string("first")).unwrap();
    hub.hub.accept_only_key("first");
    let endpoint = hub.hub.endpoint();
    let start = |name: &str| {
        let words = [
            "--source",
            "eventhubs://localhost/readings",
            "--eventhubs-connection-string-file",
            file.to_str().unwrap(),
            "--eventhubs-endpoint",
            &endpoint,
            "--window",
            "5s",
            "--idle-after",
            "1h",
        ];
        let log = hub.stage.text(&format!("{name}.log"));
        hub.stage.service("windrow-producer", &words, &log)
    };
    let (mut producer, mut stopped) = (start("rotated"), start("stopped"));
    producer.ready();
    stopped.ready();
    hub.hub.accept_only_key("second");
    hub.hub.drop_connections();
    for producer in [&mut producer, &mut stopped] {
        eventually(WITHIN, "the refusal shows", || {
            assert_eq!(producer.ended(), None, "{}", producer.log());
            let (code, body) = producer.get("/readyz")?;
            (code == 503 && body.contains("refuses this login")).then_some(())
        });
    }
    stopped.signal("TERM");
    assert_eq!(stopped.wait(STOPS_WITHIN), 0, "{}", stopped.log());
    // Without an earlier success, the same refusal ends a producer, with the code that says to try again.
    let mut never = start("never");
    assert_eq!(never.wait(WITHIN), 6, "{}", never.log());
    assert!(
        never.log().contains("Azure Event Hubs Data Receiver"),
        "{}",
        never.log()
    );

    std::fs::write(&file, string("second")).unwrap();
    producer.ready();
    for row in &fleet(4, 60, SEED) {
        hub.append(row);
    }
    hub.end_all_windows(4, Way::Appended);
    eventually(WITHIN, "all windows are dispatched", || {
        (hub.dispatched() == windows).then_some(())
    });
    producer.signal("TERM");
    assert_eq!(producer.wait(WITHIN), 0, "{}", producer.log());
    assert!(!producer.log().contains(KEY), "the key is in the log");
}
