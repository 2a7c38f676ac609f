//! The broker's address: several hosts, IPv6, and a connection that is cut without a word.

use std::net::TcpListener;
use std::time::Duration;

use windrow_common::SensorId;
use windrow_queue::{Amqp, AmqpConfig, Queue, QueueNames, Reconnect};
use windrow_tests::{Broker, Proxy, Service, Stage, eventually, free_port, windrow};

use super::scoring_message;

const SOON: Duration = Duration::from_secs(60);
const MESSAGES: i64 = 20;

#[tokio::test(flavor = "multi_thread")]
async fn one_of_several_hosts_is_enough_and_each_is_named_if_none_is_there() {
    let broker = Broker::shared();
    let (dead, other, port) = (free_port(), free_port(), broker.port());
    let client = |hosts: &str, reconnect| {
        Amqp::new(AmqpConfig {
            names: QueueNames::under("addresses"),
            reconnect,
            ..AmqpConfig::new(format!("amqp://guest:guest@{hosts}").parse().unwrap())
        })
    };
    // The order is drawn, so the dead host is first in about half of these.
    let hosts = format!("127.0.0.1:{dead},127.0.0.1:{port}");
    for _ in 0..12 {
        client(&hosts, Reconnect::Forever).connect().await.unwrap();
    }
    let none = client(&format!("127.0.0.1:{dead},localhost:{other}"), Reconnect::Never);
    let error = none.look_at("addresses.score").await.unwrap_err().to_string();
    for host in [format!("127.0.0.1:{dead}"), format!("localhost:{other}")] {
        assert!(
            error.contains(&format!("RabbitMQ at {host} is away: Connection refused")),
            "{error}"
        );
    }
    if TcpListener::bind("[::1]:0").is_err() {
        println!("this machine has no IPv6, so it is not tested");
    } else {
        let proxy = Proxy::start("[::1]", port);
        let host = format!("[::1]:{}", proxy.port());
        let queue = client(&host, Reconnect::Never);
        queue.look_at("addresses.score").await.unwrap();
        let missing = queue.look_at("nowhere").await.unwrap_err().to_string();
        assert!(
            missing.contains(&format!("RabbitMQ at {host} has no queue `nowhere`")),
            "{missing}"
        );
    }
    let url = "amqp://guest:hunter2#x@127.0.0.1:5672";
    let (code, _, error) = windrow(&["dead-letters", "list", "--amqp-url", url]).end();
    assert!(
        code == 2 && error.contains("# as %23") && !error.contains("hunter2"),
        "{code}: {error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_a_nat_has_forgotten_is_found_dead_even_with_heartbeat_0() {
    /// Twice the 15 s that replace the 0, and what a busy machine adds. Without them, the broker's 60 s would count.
    const FOUND_WITHIN: Duration = Duration::from_secs(90);
    let stage = Stage::new(Broker::shared(), "forgotten");
    std::fs::create_dir_all(stage.path("store")).unwrap();
    let proxy = Proxy::start("127.0.0.1", stage.broker.port());
    let url = format!("amqp://guest:guest@127.0.0.1:{}?heartbeat=0", proxy.port());
    let store = stage.store();
    let words = [
        "--store",
        &store,
        "--amqp-url",
        &url,
        "--queue-prefix",
        "forgotten",
    ];
    let words = [&words[..], &["--flush-age", "100ms"]].concat();
    let mut worker = Service::start("windrow-worker", &words, &stage.text("worker.log"));
    let stopped = [&words[..], &["--drain-timeout", "5s"]].concat();
    let mut stopped = Service::start("windrow-worker", &stopped, &stage.text("stopped.log"));
    worker.ready();
    stopped.ready();
    assert_eq!(
        worker
            .log()
            .matches("heartbeat=0 in the AMQP URL is ignored")
            .count(),
        1,
        "{}",
        worker.log()
    );
    let bystander = stage.worker("bystander", &["--flush-age", "100ms"]);
    eventually(SOON, "the bystander consumes", || {
        bystander.get("/readyz").filter(|(code, _)| *code == 200)
    });
    proxy.forget_connections();
    // The half that the broker sends to the worker does not arrive, until both have found out.
    let queue = stage.queue_of_its_own();
    for minute in 0..MESSAGES {
        let message = scoring_message(SensorId::new("d", "t").unwrap(), minute * 60_000, 60_000);
        queue.publish(message).await.unwrap().wait().await.unwrap();
    }
    // Without a model, each becomes a dead letter.
    let handled = |worker: &Service| worker.metric("windrow_worker_dead_letters_total").unwrap_or(0.0);
    eventually(SOON, "the bystander goes on", || {
        (handled(&bystander) > 0.0).then_some(())
    });
    assert!(handled(&bystander) < MESSAGES as f64);
    stopped.signal("TERM");
    let ended = stopped.wait(Duration::from_secs(25));
    assert!(ended == 0 || ended == 4, "{ended}: {}", stopped.log());
    eventually(FOUND_WITHIN, "the rest is delivered again and handled", || {
        assert_eq!(worker.ended(), None, "{}", worker.log());
        (handled(&bystander) + handled(&worker) == MESSAGES as f64).then_some(())
    });
    eventually(SOON, "the worker has connected again", || {
        worker.get("/readyz").filter(|(code, _)| *code == 200)
    });
    worker.signal("TERM");
    assert_eq!(worker.wait(SOON), 0);
}
