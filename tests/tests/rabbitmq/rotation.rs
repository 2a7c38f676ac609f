//! Passwords and certificates are changed while services run: they wait, say why, and read their files again.

use std::fs;
use std::time::Duration;

use windrow_queue::{Access, AccessSources, Management, UrlSource};
use windrow_store::SecretFile;
use windrow_tests::{Broker, Bystanders, Encryption, Service, Stage, eventually, fleet, windrow, write_csv};

const SOON: Duration = Duration::from_secs(60);
const SENSORS: u32 = 4;

/// Waits until a service is not ready for a reason that contains `why`.
fn unready(service: &mut Service, why: &str) {
    eventually(SOON, why, || {
        assert_eq!(service.ended(), None, "{}", service.log());
        let (code, body) = service.get("/readyz")?;
        (code == 503 && body.contains(why)).then_some(())
    });
}

#[test]
fn a_rotated_password_is_waited_for_while_others_work_on() {
    let broker = Broker::shared();
    let stage = Stage::new(broker.clone(), "rotation");
    broker.control(&["add_user", "rota", "first"]);
    broker.control(&["set_user_tags", "rota", "monitoring"]);
    broker.control(&["set_permissions", "rota", ".*", ".*", ".*"]);
    let url = |password: &str| format!("amqp://rota:{password}@127.0.0.1:{}\n", broker.port());
    let file = stage.path("url");
    fs::write(&file, url("first")).unwrap();

    let source = stage.text("readings.csv");
    write_csv(&stage.path("readings.csv"), &fleet(SENSORS, 60, 7));
    let store = stage.store();
    let train = [
        "models", "train", "--source", &source, "--store", &store, "--window", "5s", "--nu", "0.1",
    ];
    windrow(&train).output();
    let words = ["--store", &store, "--queue-prefix", "rotation"];
    let variables = [("WINDROW_AMQP_URL_FILE", file.to_str().unwrap())];
    let start = |log: &str| Service::start_with("windrow-worker", &words, &stage.text(log), &variables);
    let (mut rotated, mut stopped) = (start("rotated.log"), start("stopped.log"));
    rotated.ready();
    stopped.ready();
    let access = Access::new(AccessSources {
        url: UrlSource::File(SecretFile::new("--amqp-url-file", &file)),
        user: None,
        authority: None,
        identity: None,
    });
    let management = Management::new(access.unwrap(), Some(&broker.management_url())).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let look = || runtime.block_on(management.queue("rotation.score"));
    look().unwrap();

    // The broker's password is changed first. The file follows, and is missing for a moment.
    broker.control(&["change_password", "rota", "second"]);
    broker.control(&["close_all_user_connections", "rota", "rotated"]);
    unready(&mut rotated, "refuses user `rota`");
    assert!(look().is_err());
    fs::remove_file(&file).unwrap();
    unready(&mut rotated, "cannot read");

    let mut other = stage.worker("other", &["--flush-age", "100ms"]);
    other.ready();
    let bystanders = Bystanders::start(&stage, "d0/temp", 5_000);
    bystanders.are_scored_by(&other, "a password is refused");
    stopped.signal("TERM");
    assert_eq!(stopped.wait(Duration::from_secs(20)), 0, "{}", stopped.log());
    bystanders.are_scored_by(&other, "a worker that is refused was stopped");
    bystanders.end();
    assert_eq!(stage.producer(&source, &["--window", "5s"]).wait(SOON), 0);
    stage.drained(SOON);

    fs::write(&file, url("second")).unwrap();
    rotated.ready();
    look().unwrap();
    let log = rotated.log();
    assert!(
        !log.contains("second") && !log.contains("first"),
        "a password is in {log}"
    );
    assert!(
        log.contains("refuses user `rota`") && log.contains("trying again until it works"),
        "{log}"
    );

    // From here on, only the one with the new password works.
    other.signal("TERM");
    assert_eq!(other.wait(SOON), 0, "{}", other.log());
    // The bystanders' windows were never dispatched, so the audit is not clean.
    let (_, said, error) = stage.windrow(&["audit", "--store", &store, "--output", "json"]);
    let audit: serde_json::Value = serde_json::from_str(&said).expect(&error);
    let all = (&audit["all"]["predicted"], &audit["all"]["lost"]);
    assert_eq!(all, (&(SENSORS * 60 / 5).into(), &0.into()), "{said}");
    let again = ["--window", "5s", "--source-name", "again"];
    assert_eq!(stage.producer(&source, &again).wait(SOON), 0);
    eventually(SOON, "the rotated worker scores", || {
        (rotated.metric("windrow_worker_predictions_total")? > 0.0).then_some(())
    });
    rotated.signal("TERM");
    assert_eq!(rotated.wait(SOON), 0, "{}", rotated.log());
}

#[test]
fn a_service_that_was_never_let_in_ends_and_says_that_a_retry_may_help() {
    let broker = Broker::shared();
    let stage = Stage::new(broker.clone(), "letin");
    fs::create_dir(stage.path("store")).unwrap();
    let url = format!("amqp://guest:wrong@127.0.0.1:{}", broker.port());
    let words = ["--store", &stage.store(), "--amqp-url", &url];
    let mut worker = Service::start("windrow-worker", &words, &stage.text("worker.log"));
    assert_eq!(worker.wait(SOON), 6, "{}", worker.log());
    let missing = ["--store", &stage.store(), "--amqp-url-file", "/no/such/file"];
    let mut worker = Service::start("windrow-worker", &missing, &stage.text("missing.log"));
    assert_eq!(worker.wait(SOON), 2, "{}", worker.log());
}

#[test]
fn a_certificate_is_read_again_for_each_connection() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (right, wrong) = (Encryption::new(), Encryption::new());
    let broker = Broker::encrypted(&right);
    let issue = |by: &Encryption| {
        for file in ["ca.pem", "client.pem", "client.key"] {
            fs::copy(by.path(file), path(file)).unwrap();
        }
    };
    issue(&right);
    fs::create_dir(path("store")).unwrap();
    let (store, ca, cert, key) = (
        path("store"),
        path("ca.pem"),
        path("client.pem"),
        path("client.key"),
    );
    let url = broker.tls_url();
    let words = [
        "--store",
        &store,
        "--amqp-url",
        &url,
        "--amqp-ca",
        &ca,
        "--amqp-cert",
        &cert,
        "--amqp-key",
        &key,
    ];
    let mut worker = Service::start("windrow-worker", &words, &path("worker.log"));
    let mut stopped = Service::start("windrow-worker", &words, &path("stopped.log"));
    worker.ready();
    stopped.ready();
    issue(&wrong);
    broker.control(&["close_all_connections", "rotated"]);
    unready(&mut worker, "cannot open an encrypted connection");
    // A service that is stopped meanwhile does not wait for the broker.
    unready(&mut stopped, "cannot open an encrypted connection");
    stopped.signal("TERM");
    assert_eq!(stopped.wait(SOON), 0, "{}", stopped.log());
    issue(&right);
    worker.ready();
    worker.signal("TERM");
    assert_eq!(worker.wait(SOON), 0, "{}", worker.log());
}
