//! Each program works as a user with the rights that the Kubernetes manifests give it.

use std::fs;
use std::time::Duration;

use windrow_tests::{Broker, Service, Stage, eventually, models_for, windrow};

const SOON: Duration = Duration::from_secs(60);
const VHOST: &str = "users";
const TRAINED: &str = "sim:devices=3,tags=1,period=10s,seed=1,start=2026-01-01T00:00:00Z,duration=3h";
/// With a device more, so that there are dead letters, and with anomalies to announce.
const READ: &str =
    "sim:devices=4,tags=1,period=10s,seed=1,start=2026-01-01T03:00:00Z,duration=1h,anomalies=1";

/// The script that creates the users on a local cluster; `make lint` compares its table with the operator's manifests.
const SCRIPT: &str = include_str!("../../../k8s/overlays/local/up");

/// Returns the rows of the script's table: user, tags, and what it may configure, write and read.
fn users() -> Vec<Vec<&'static str>> {
    let table = SCRIPT
        .split_once("\nusers='\n")
        .unwrap()
        .1
        .split_once("\n'\n")
        .unwrap()
        .0;
    table
        .lines()
        .map(|row| {
            row.split(' ')
                .map(|field| field.trim_start_matches('-'))
                .collect()
        })
        .collect()
}

/// Creates a user of the broker, and the two files with its name and password.
fn create(stage: &Stage, row: &[&str]) {
    let [name, tags, configure, write, read] = *row else {
        panic!("{row:?} is no user");
    };
    let password = format!("{name}-s3cret/?");
    stage.broker.control(&["add_user", name, &password]);
    if !tags.is_empty() {
        stage.broker.control(&["set_user_tags", name, tags]);
    }
    stage
        .broker
        .control(&["set_permissions", "--vhost", VHOST, name, configure, write, read]);
    fs::create_dir(stage.path(name)).unwrap();
    fs::write(stage.path(name).join("username"), name).unwrap();
    fs::write(stage.path(name).join("password"), password).unwrap();
}

/// Returns the options of a user.
fn login(stage: &Stage, user: &str) -> Vec<String> {
    [
        "--amqp-url",
        &format!("amqp://127.0.0.1:{}/{VHOST}", stage.broker.port()),
        "--amqp-user-file",
        &stage.text(&format!("{user}/username")),
        "--amqp-password-file",
        &stage.text(&format!("{user}/password")),
    ]
    .map(str::to_owned)
    .to_vec()
}

fn start(stage: &Stage, user: &str, more: &[&str]) -> Service {
    let (store, login) = (stage.store(), login(stage, user));
    let words: Vec<&str> = login
        .iter()
        .map(String::as_str)
        .chain(["--store", &store])
        .collect();
    let log = stage.text(&format!("{user}.log"));
    Service::start(&format!("windrow-{user}"), &[&words, more].concat(), &log)
}

fn command(stage: &Stage, user: &str, words: &[&str]) -> (i32, String, String) {
    let login = login(stage, user);
    windrow(&[words, &login.iter().map(String::as_str).collect::<Vec<_>>()].concat()).end()
}

#[test]
fn no_program_needs_more_rights_than_the_manifests_give_it() {
    let stage = Stage::new(Broker::shared(), "windrow");
    stage.broker.control(&["add_vhost", VHOST]);
    let users = users();
    assert_eq!(users.len(), 4, "{users:?}");
    users.iter().for_each(|row| create(&stage, row));
    models_for(TRAINED, &stage.store());

    // The producer is first, and so the one that creates the queues.
    let read = [
        "--source",
        READ,
        "--window",
        "1m",
        "--until-caught-up",
        "--at-end",
        "dispatch",
    ];
    let mut producer = start(&stage, "producer", &read);
    assert_eq!(producer.wait(SOON), 0, "{}", producer.log());
    let mut worker = start(&stage, "worker", &[]);
    eventually(
        SOON,
        "240 windows are scored or set aside, some of them anomalous",
        || {
            assert_eq!(worker.ended(), None, "{}", worker.log());
            let metric = |name: &str| worker.metric(&format!("windrow_worker_{name}")).unwrap_or(0.0);
            let done = metric("predictions_total") + metric("dead_letters_total");
            (done >= 240.0 && metric("anomalies_total") > 0.0).then_some(())
        },
    );

    let management = stage.broker.management_url();
    for words in [
        &["queue", "--management-url", &management][..],
        &["dead-letters", "list"],
        &["dead-letters", "replay", "--reason", "no-model"],
    ] {
        let (code, output, error) = command(&stage, "cli", words);
        assert_eq!(code, 0, "{words:?}: {error}{output}");
    }
    let (code, output, error) = command(&stage, "monitoring", &["queue", "--management-url", &management]);
    assert_eq!(code, 0, "{error}{output}");
    let (code, _, error) = command(&stage, "monitoring", &["dead-letters", "list"]);
    assert_eq!(code, 6, "{error}");
    assert!(error.contains("refuses user `monitoring`"), "{error}");

    worker.signal("TERM");
    assert_eq!(worker.wait(SOON), 0, "{}", worker.log());
}
