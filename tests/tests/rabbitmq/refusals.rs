//! Each broker error is one line that names the broker and never reveals the password.

use std::time::Duration;

use windrow_tests::{Broker, Service, Stage, eventually, free_port, windrow};

use super::{impatient, message};
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use windrow_queue::Queue;

const SOON: Duration = Duration::from_secs(60);
const PASSWORD: &str = "hunter2-s3cret";

/// What a worker (which may wait for the broker) and a command (which may not) say about a broker URL.
struct Said {
    worker: Option<i32>,
    log: String,
    command: i32,
    error: String,
}

/// A log filter that shows everything, the client library's log included.
const EVERYTHING: &str = "debug,lapin=debug,object_store=debug";

fn say(stage: &Stage, name: &str, url: &str, prefix: &str) -> Said {
    let store = stage.store();
    std::fs::create_dir_all(&store).unwrap();
    let log = stage.text(&format!("{name}.log"));
    // The URL comes from a file, the way that keeps the password out of the process list.
    let file = stage.text(&format!("{name}.url"));
    std::fs::write(&file, format!("{url}\n")).unwrap();
    let words = ["--store", &store, "--log", EVERYTHING, "--queue-prefix", prefix];
    let mut worker = Service::start_with(
        "windrow-worker",
        &words,
        &log,
        &[("WINDROW_AMQP_URL_FILE", &file)],
    );
    let ended = eventually(SOON, "it has ended or is waiting", || {
        if let Some(code) = worker.ended() {
            return Some(Some(code));
        }
        let (_, body) = worker.get("/readyz")?;
        let waiting = body.contains("rabbitmq: connecting to RabbitMQ at")
            && worker.log().contains("trying again until it works");
        waiting.then_some(None)
    });
    let list = [
        "dead-letters",
        "list",
        "--log",
        EVERYTHING,
        "--amqp-url-file",
        &file,
        "--queue-prefix",
        prefix,
    ];
    let (command, output, error) = windrow(&list).end();
    for text in [&worker.log(), &output, &error] {
        assert!(!text.contains(PASSWORD), "{name} tells the password: {text}");
    }
    Said {
        worker: ended,
        log: worker.log(),
        command,
        error,
    }
}

#[test]
fn a_broker_that_refuses_is_named_and_one_that_is_away_is_waited_for() {
    let broker = Broker::shared();
    let stage = Stage::new(broker.clone(), "refusals");
    let port = broker.port();
    let closed = free_port();
    broker.control(&["add_user", "ada", PASSWORD]);

    let said = say(
        &stage,
        "password",
        &format!("amqp://guest:{PASSWORD}@127.0.0.1:{port}"),
        "refusals",
    );
    let expected = format!("RabbitMQ at 127.0.0.1:{port} refuses user `guest`");
    assert_eq!((said.worker, said.command), (Some(6), 6), "{}", said.log);
    assert!(
        said.log.contains(&expected) && said.error.contains(&expected),
        "{}",
        said.error
    );

    let said = say(
        &stage,
        "vhost",
        &format!("amqp://ada:{PASSWORD}@127.0.0.1:{port}/nowhere"),
        "refusals",
    );
    assert_eq!((said.worker, said.command), (Some(6), 6), "{}", said.log);
    assert!(
        said.error.contains("nowhere") && said.error.contains("`ada`"),
        "{}",
        said.error
    );

    // The user exists but may not use the virtual host.
    let said = say(
        &stage,
        "rights",
        &format!("amqp://ada:{PASSWORD}@127.0.0.1:{port}"),
        "refusals",
    );
    assert_eq!((said.worker, said.command), (Some(6), 6), "{}", said.log);
    assert!(said.error.contains("`ada`"), "{}", said.error);

    for (name, host, port) in [
        ("closed", "127.0.0.1", closed),
        ("host", "no-such-host.invalid", 5672),
    ] {
        let said = say(
            &stage,
            name,
            &format!("amqp://ada:{PASSWORD}@{host}:{port}"),
            "refusals",
        );
        assert_eq!((said.worker, said.command), (None, 1), "{}", said.log);
        let expected = format!("RabbitMQ at {host}:{port} is away");
        assert!(
            said.log.contains(&expected) && said.error.contains(&expected),
            "{}",
            said.error
        );
        let warnings = said
            .log
            .lines()
            .filter(|line| line.contains("trying again until it works"));
        assert_eq!(warnings.count(), 1, "an outage is told once: {}", said.log);
        assert_eq!(
            said.error
                .lines()
                .filter(|line| line.starts_with("windrow:"))
                .count(),
            1,
            "{}",
            said.error
        );
    }

    let said = say(
        &stage,
        "shape",
        &format!("http://ada:{PASSWORD}@127.0.0.1"),
        "refusals",
    );
    assert_eq!((said.worker, said.command), (Some(2), 2), "{}", said.log);
    assert!(said.error.contains("amqp://user:password@host"), "{}", said.error);
}

#[tokio::test]
async fn a_foreign_queue_under_our_name_is_an_error_that_says_so() {
    let broker = Broker::shared();
    let connection = Connection::connect(&broker.url(), ConnectionProperties::default())
        .await
        .unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel
        .queue_declare(
            "foreign.score".into(),
            QueueDeclareOptions::durable(),
            FieldTable::default(),
        )
        .await
        .unwrap();
    let stage = Stage::new(broker.clone(), "foreign");
    let url = broker.url();
    let said = tokio::task::spawn_blocking(move || say(&stage, "foreign", &url, "foreign"))
        .await
        .unwrap();
    // The worker has created nothing, and the command, which looks at the dead letters alone, says so.
    assert_eq!((said.worker, said.command), (Some(2), 1), "{}", said.log);
    assert!(
        said.log.contains("foreign.score") && said.log.contains("--queue-prefix"),
        "{}",
        said.log
    );
    assert!(
        said.error.contains("has no queue `foreign.dead`"),
        "{}",
        said.error
    );
}

#[tokio::test]
async fn a_message_that_no_queue_takes_is_an_error_and_not_silence() {
    let broker = Broker::shared();
    let queue = impatient(&broker, "unroutable").await;
    queue.connect().await.unwrap();
    let connection = Connection::connect(&broker.url(), ConnectionProperties::default())
        .await
        .unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel
        .queue_delete("unroutable.score".into(), Default::default())
        .await
        .unwrap();
    let confirmation = queue.publish(message("m1")).await.unwrap();
    let error = confirmation.wait().await.unwrap_err().to_string();
    assert!(
        error.contains("unroutable.score") && error.contains("m1"),
        "{error}"
    );
}
