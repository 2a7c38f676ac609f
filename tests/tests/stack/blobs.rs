//! Tests stores in clouds, with Azurite and moto as their stand-ins.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::{Attribute, Attributes, ObjectStore};
use windrow_store::{Store, StoreError, testing};
use windrow_tests::{
    Azurite, Broker, Encryption, S3Server, Service, Stage, eventually, fleet, windrow, write_csv,
};

const STORE: &str = "az://windrow/of/this/test";
const SOON: Duration = Duration::from_secs(60);
const MINUTES: Duration = Duration::from_secs(180);
/// The fleet's size; `WINDOWS` counts its windows of five seconds.
const SENSORS: u32 = 40;
const SECONDS: u32 = 300;
const WINDOWS: u32 = SENSORS * SECONDS / 5;

/// Trains a model, which also creates the container.
pub(super) const TRAIN: [&str; 6] = [
    "models",
    "train",
    "--source",
    "sim:devices=1,tags=1,duration=1h",
    "--store",
    STORE,
];

pub(super) type Variables = Vec<(&'static str, String)>;

pub(super) fn service(program: &str, words: &[&str], log: &str, variables: &Variables) -> Service {
    let variables: Vec<(&str, &str)> = (variables.iter())
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    Service::start_with(program, words, log, &variables)
}

#[test]
fn an_outage_of_the_store_is_waited_for_and_nothing_is_lost_or_delivered_again() {
    let azurite = Azurite::start();
    let variables = azurite.variables().to_vec();
    let stage = Stage::new(Broker::shared(), "blobs");
    let source = stage.text("readings.csv");
    write_csv(&stage.path("readings.csv"), &fleet(SENSORS, SECONDS, 3));
    let train = [
        "models", "train", "--source", &source, "--store", STORE, "--window", "5s", "--nu", "0.1",
    ];
    // Training also creates the container.
    windrow(&train).envs(variables.clone()).output();

    let broker = stage.broker_words();
    let with_stage = |words: &[&'static str]| -> Vec<String> {
        let words = words.iter().map(|word| (*word).to_owned());
        broker.iter().cloned().chain(words).collect()
    };
    let start = |program: &str, words: &[&'static str]| {
        let words = with_stage(&[&["--store", STORE], words].concat());
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let more = match program {
            "windrow-producer" => vec!["--source", &source],
            _ => Vec::new(),
        };
        service(program, &[words, more].concat(), &stage.text(program), &variables)
    };
    let mut producer = start("windrow-producer", &["--window", "5s", "--until-caught-up"]);
    assert_eq!(producer.wait(MINUTES), 0, "{}", producer.log());
    let mut worker = start("windrow-worker", &["--prefetch", "100", "--flush-age", "100ms"]);
    eventually(SOON, "something is persisted", || {
        let count = worker.metric("windrow_worker_predictions_total")?;
        (count > 0.0).then_some(())
    });
    azurite.stop();
    let (_, outage) = eventually(SOON, "the worker is not ready", || {
        worker.get("/readyz").filter(|(code, _)| *code == 503)
    });
    assert!(outage.contains("store: ") && outage.contains(STORE), "{outage}");
    let before = worker.metric("windrow_worker_predictions_total").unwrap();
    assert!(before < f64::from(WINDOWS), "it was done before the outage");
    // A worker started during the outage waits as well.
    let mut late = start("windrow-worker", &["--flush-age", "100ms"]);
    // One that is stopped during the outage does not wait for its end.
    let mut stopped = start("windrow-worker", &["--drain-timeout", "5s"]);
    eventually(SOON, "it waits for the store", || {
        stopped
            .get("/readyz")
            .filter(|(code, said)| *code == 503 && said.contains("store: "))
    });
    stopped.signal("TERM");
    assert_eq!(stopped.wait(Duration::from_secs(15)), 0, "{}", stopped.log());
    // Neither took what it could not finish; the longer this waits, the surer it is.
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(late.metric("windrow_worker_messages_total"), Some(0.0));

    azurite.restart();
    worker.ready();
    late.ready();
    stage.drained(MINUTES);
    for worker in [&mut worker, &mut late] {
        assert_eq!(worker.metric("windrow_worker_redelivered_total"), Some(0.0));
        // The outage and its end, each time for reading and for writing: no attempt and no client has a line of its own.
        let log = worker.log();
        for said in ["failed; retrying", "works again"] {
            let lines: Vec<&str> = log.lines().filter(|line| line.contains(said)).collect();
            assert!(lines.len() <= 3, "{said}: {lines:?}");
        }
        assert!(!log.contains("object_store"), "{log}");
        worker.signal("TERM");
        assert_eq!(worker.wait(SOON), 0, "{}", worker.log());
    }
    assert_eq!(stage.dead_letters().len(), 0);
    let audit = windrow(&["audit", "--store", STORE]).envs(variables).json();
    assert_eq!(
        (&audit["all"]["predicted"], &audit["all"]["lost"]),
        (&WINDOWS.into(), &0.into()),
        "{audit}"
    );
}

#[test]
fn a_store_that_cannot_be_used_ends_a_service_at_once_with_a_sentence() {
    let azurite = Azurite::start();
    let folder = tempfile::tempdir().unwrap();
    let changed = |name: &str, wrong_key: Option<&str>| -> Variables {
        let mut variables = azurite.variables().to_vec();
        variables.retain(|(other, _)| *other != name);
        variables.extend(wrong_key.map(|key| ("AZURE_STORAGE_ACCOUNT_KEY", key.to_owned())));
        variables
    };
    let cases = [
        ("az://nowhere", changed("", None), 1, "has no such container"),
        ("az:///prefix", changed("", None), 2, "names no container"),
        (
            STORE,
            changed("AZURE_STORAGE_ACCOUNT_KEY", Some("d3Jvbmc=")),
            6,
            "refuses this identity",
        ),
        (
            STORE,
            changed("AZURE_ALLOW_HTTP", None),
            2,
            "AZURE_ALLOW_HTTP=true",
        ),
        (
            STORE,
            changed("AZURE_STORAGE_ACCOUNT_NAME", None),
            2,
            "Account must be specified",
        ),
    ];
    for (number, (store, variables, code, sentence)) in cases.into_iter().enumerate() {
        let log = folder.path().join(number.to_string());
        let words = ["--store", store, "--amqp-url", "amqp://127.0.0.1:1"];
        let mut worker = service("windrow-worker", &words, log.to_str().unwrap(), &variables);
        assert_eq!(worker.wait(SOON), code, "{store}: {}", worker.log());
        let log = worker.log();
        let said: Vec<&str> = log.lines().filter(|line| !line.starts_with('{')).collect();
        assert!(said.len() == 1 && said[0].contains(sentence), "{store}: {log}");
        assert!(!log.contains("d3Jvbmc="), "the key is in the log: {log}");
    }
}

#[test]
fn a_key_in_a_file_is_read_again_when_it_is_rotated() {
    let (azurite, broker) = (Azurite::start(), Broker::shared());
    let folder = tempfile::tempdir().unwrap();
    let text = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let mut variables = azurite.variables().to_vec();
    let (_, key) = variables.remove(1);
    std::fs::write(text("key"), &key).unwrap();
    variables.push(("AZURE_STORAGE_ACCOUNT_KEY_FILE", text("key")));
    windrow(&TRAIN).envs(variables.clone()).output();
    let words = [
        "--store",
        STORE,
        "--amqp-url",
        &broker.url(),
        "--queue-prefix",
        "keyfile",
    ];
    let mut worker = service("windrow-worker", &words, &text("log"), &variables);
    worker.ready();
    for (key, why) in [
        ("d3Jvbmc=", "refuses this identity"),
        ("", "AZURE_STORAGE_ACCOUNT_KEY_FILE: cannot read"),
    ] {
        std::fs::write(text("key"), key).unwrap();
        eventually(SOON, why, || {
            assert_eq!(worker.ended(), None, "{}", worker.log());
            let (code, body) = worker.get("/readyz")?;
            (code == 503 && body.contains(why)).then_some(())
        });
    }
    std::fs::write(text("key"), format!("{key}\n")).unwrap();
    worker.ready();
    worker.signal("TERM");
    assert_eq!(worker.wait(SOON), 0, "{}", worker.log());
    assert!(!worker.log().contains(&key), "the key is in the log");

    // At the start, what is wrong ends a program; so do two keys.
    std::fs::write(text("key"), "no base64!").unwrap();
    let list = ["models", "list", "--store", STORE];
    let (code, _, said) = windrow(&list).envs(variables.clone()).end();
    assert!(code == 2 && said.contains("no key in base64"), "{code} {said}");
    variables.push(("AZURE_STORAGE_ACCOUNT_KEY", key));
    let (code, _, said) = windrow(&list).envs(variables).end();
    assert!(code == 2 && said.contains("not both"), "{code} {said}");
}

#[test]
fn the_keys_of_s3_may_be_in_files() {
    let server = S3Server::start();
    server.create_bucket("windrow");
    let folder = tempfile::tempdir().unwrap();
    let text = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(text("id"), "key\n").unwrap();
    std::fs::write(text("secret"), "secret\n").unwrap();
    let mut variables = vec![
        ("AWS_REGION", "eu-central-1".to_owned()),
        ("AWS_ENDPOINT", server.url()),
        ("AWS_ALLOW_HTTP", "true".to_owned()),
        ("AWS_SECRET_ACCESS_KEY_FILE", text("secret")),
    ];
    let list = ["models", "list", "--store", "s3://windrow"];
    let (code, _, said) = windrow(&list).envs(variables.clone()).end();
    assert!(
        code == 2 && said.contains("needs one of AWS_ACCESS_KEY_ID and"),
        "{code} {said}"
    );
    variables.push(("AWS_ACCESS_KEY_ID_FILE", text("id")));
    windrow(&list).envs(variables).output();
}

#[test]
fn blobs_are_kept_and_stale_writers_refused_as_in_a_folder() {
    let azurite = Azurite::start();
    windrow(&TRAIN).envs(azurite.variables()).output();
    let variables = azurite.variables();
    let [(_, account), (_, key), (_, endpoint), _] = &variables;
    let objects = MicrosoftAzureBuilder::new()
        .with_container_name("windrow")
        .with_account(account)
        .with_access_key(key)
        .with_endpoint(endpoint.clone())
        .with_allow_http(true)
        .build()
        .unwrap();
    let store = Store::from_objects(Arc::new(objects), "azurite");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(keeps_the_promises_of_a_store(&store));
}

#[test]
fn an_s3_bucket_keeps_the_promises_of_a_store() {
    let server = S3Server::start();
    let objects = AmazonS3Builder::new()
        .with_bucket_name(server.create_bucket("windrow"))
        .with_endpoint(server.url())
        .with_allow_http(true)
        .with_region("eu-central-1")
        .with_access_key_id("key")
        .with_secret_access_key("secret")
        .build()
        .unwrap();
    let objects = Arc::new(objects);
    let store = Store::from_objects(Arc::clone(&objects) as _, "s3");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(keeps_the_promises_of_a_store(&store));

    // 403 has two meanings in S3: the identity is refused, or the object is archived.
    let archived = Attributes::from_iter([(Attribute::StorageClass, "GLACIER")]);
    let path = "models/d/t/current";
    let location = path.into();
    let put = objects.put_opts(&location, "x".into(), archived.into());
    runtime.block_on(put).unwrap();
    let error = runtime.block_on(store.get(path)).unwrap_err();
    assert!(matches!(error, StoreError::Archived { .. }), "{error}");
}

async fn keeps_the_promises_of_a_store(store: &Store) {
    testing::conditional_writes_refuse_the_second_writer(store).await;
    testing::encoded_names_are_one_blob_each(store).await;
}

#[test]
fn a_store_is_reached_by_tls_whose_authority_is_known() {
    let encryption = Encryption::new();
    let azurite = Azurite::encrypted(&encryption);
    let list = ["models", "list", "--store", STORE];
    let (code, _, said) = windrow(&list).envs(azurite.variables()).end();
    assert_ne!(code, 0);
    assert!(said.to_lowercase().contains("certificate"), "{said}");
    for words in [&TRAIN[..], &list] {
        windrow(words)
            .envs(azurite.variables())
            .envs([("SSL_CERT_FILE", encryption.path("ca.pem"))])
            .output();
    }
}

#[test]
fn a_service_says_how_it_is_when_its_own_program_asks() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().to_str().unwrap();
    let log = folder.path().join("log");
    let words = ["--store", store, "--amqp-url", "amqp://127.0.0.1:1"];
    let worker = service("windrow-worker", &words, log.to_str().unwrap(), &Vec::new());
    eventually(SOON, "it lives", || worker.get("/healthz"));
    let (code, said) = worker.check_health();
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("rabbitmq: "), "{said}");
    let port = worker.port();
    drop(worker);
    let (code, said) = Service::check_health_at("windrow-worker", port);
    assert_eq!(code, 1, "{said}");
}
