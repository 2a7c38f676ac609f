//! TLS to the broker with a private authority: a client that presents its certificate, and one that does not.

use std::time::Duration;

use windrow_tests::{Broker, Encryption, Service, eventually, windrow};

const SOON: Duration = Duration::from_secs(60);

#[test]
fn the_broker_is_reached_by_tls_with_certificates_of_a_private_authority() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let encryption = Encryption::new();
    let broker = Broker::encrypted(&encryption);
    let store = path("store");
    std::fs::create_dir(&store).unwrap();
    let (ca, cert, key) = (
        encryption.path("ca.pem"),
        encryption.path("client.pem"),
        encryption.path("client.key"),
    );
    let url = broker.tls_url();
    let full = [
        "--amqp-url",
        &url,
        "--amqp-ca",
        &ca,
        "--amqp-cert",
        &cert,
        "--amqp-key",
        &key,
    ];
    let mut worker = Service::start(
        "windrow-worker",
        &[&["--store", &store], &full[..]].concat(),
        &path("worker.log"),
    );
    worker.ready();
    let (code, output, error) = windrow(&[&["dead-letters", "list"], &full[..]].concat()).end();
    assert_eq!((code, output.as_str()), (0, "no dead letters\n"), "{error}");
    worker.signal("TERM");
    assert_eq!(worker.wait(SOON), 0);

    // A client that does not trust the authority, or has no certificate to present, cannot connect.
    let (code, _, error) = windrow(&["dead-letters", "list", "--amqp-url", &url]).end();
    assert!(code != 0 && error.contains("localhost"), "{code} {error}");
    let (code, _, error) = windrow(&["dead-letters", "list", "--amqp-url", &url, "--amqp-ca", &ca]).end();
    assert!(code != 0 && error.contains("localhost"), "{code} {error}");

    // A service reports the certificate error and ends, because waiting does not fix it.
    let words = ["--store", &store, "--amqp-url", &url];
    let mut distrustful = Service::start("windrow-worker", &words, &path("distrustful.log"));
    let code = eventually(SOON, "it has ended", || distrustful.ended());
    assert!(
        code == 2 && distrustful.log().contains("ertificate"),
        "{code} {}",
        distrustful.log()
    );
}
