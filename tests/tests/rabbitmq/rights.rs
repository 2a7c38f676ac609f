//! Users who may not create queues: services work on queues that exist, and commands create none.

use std::time::Duration;

use windrow_queue::{AmqpConfig, Queue};
use windrow_tests::{Broker, Bystanders, Service, Stage, eventually, fleet, models_for, windrow, write_csv};

use super::scoring_message;
use windrow_common::SensorId;

const SOON: Duration = Duration::from_secs(60);

/// A user who may read and write everything and configure nothing.
struct Plain<'a> {
    stage: &'a Stage,
    url: String,
}

impl<'a> Plain<'a> {
    fn new(stage: &'a Stage, name: &str) -> Self {
        let broker = &stage.broker;
        broker.control(&["add_user", name, "pw"]);
        broker.control(&["set_permissions", name, "^$", ".*", ".*"]);
        Self {
            stage,
            url: format!("amqp://{name}:pw@127.0.0.1:{}", broker.port()),
        }
    }

    fn service(&self, program: &str, name: &str, more: &[&str]) -> Service {
        let store = self.stage.store();
        let words = [
            "--store",
            &store,
            "--amqp-url",
            &self.url,
            "--queue-prefix",
            self.stage.prefix(),
        ];
        Service::start(program, &[&words, more].concat(), &self.stage.text(name))
    }

    fn windrow(&self, words: &[&str]) -> (i32, String, String) {
        let broker = ["--amqp-url", &self.url, "--queue-prefix", self.stage.prefix()];
        windrow(&[words, &broker].concat()).end()
    }
}

#[test]
fn a_user_without_the_right_to_configure_is_told_what_is_missing_and_works_with_what_exists() {
    let stage = Stage::new(Broker::shared(), "rights");
    let (csv, store) = (stage.text("readings.csv"), stage.store());
    write_csv(&stage.path("readings.csv"), &fleet(3, 600, 6));
    models_for(&csv, &store);
    let plain = Plain::new(&stage, "plain");

    let mut worker = plain.service("windrow-worker", "refused.log", &[]);
    assert_eq!(worker.wait(SOON), 6, "{}", worker.log());
    let expected = "has no queue `rights.dead`, and user `plain` lacks the right `configure` to create it";
    assert!(worker.log().contains(expected), "{}", worker.log());

    // Not even the administrator's commands create anything.
    let stretch = ["--from", "2026-01-05T00:00:00Z", "--to", "2026-01-05T01:00:00Z"];
    let replay = [&["replay", &csv, "--store", &store], &stretch[..]].concat();
    let commands = [
        (&["dead-letters", "list"][..], "rights.dead"),
        (&["dead-letters", "replay"], "rights.dead"),
        (&["dead-letters", "purge", "--yes"], "rights.dead"),
        (&["audit", "--store", &store], "rights.score"),
        (&replay, "rights.score"),
    ];
    for (words, queue) in commands {
        for (code, _, error) in [stage.windrow(words), plain.windrow(words)] {
            let expected = format!("has no queue `{queue}`: either no producer or worker has connected yet");
            assert!(
                code == 1 && error.contains(&expected),
                "{words:?}: {code}: {error}"
            );
        }
    }
    assert!(
        !stage.path("store/dispatched").exists(),
        "the replay has dispatched windows that nobody scores"
    );

    let runtime = tokio::runtime::Runtime::new().unwrap();
    let admin = stage.queue_of_its_own();
    runtime.block_on(admin.connect()).unwrap();
    // A client that was never allowed to read gets an error instead of waiting forever.
    stage
        .broker
        .control(&["set_permissions", "plain", "^$", ".*", "^rights\\.dead$"]);
    let mut blind = plain.service("windrow-worker", "blind.log", &[]);
    assert_eq!(blind.wait(SOON), 6, "{}", blind.log());
    let log = blind.log();
    assert!(
        log.contains("refuses user `plain`") && log.contains("rights.score"),
        "{log}"
    );
    stage
        .broker
        .control(&["set_permissions", "plain", "^$", ".*", ".*"]);

    let source = ["--source", &csv, "--until-caught-up"];
    assert_eq!(
        plain
            .service("windrow-producer", "producer.log", &source)
            .wait(SOON),
        0
    );
    let (code, _, error) = plain.windrow(&replay);
    assert_eq!(code, 0, "{error}");
    // An argument that the user is not allowed to see is not compared.
    let other = ["--delivery-limit", "30"];
    let mut worker = plain.service(
        "windrow-worker",
        "worker.log",
        &[&other[..], &["--flush-age", "100ms"]].concat(),
    );
    worker.ready();
    let mut refused = stage.worker("compares", &other);
    assert_eq!(refused.wait(SOON), 2, "{}", refused.log());
    assert!(refused.log().contains("x-delivery-limit"), "{}", refused.log());
    let predictions = |worker: &Service| worker.metric("windrow_worker_predictions_total");
    eventually(SOON, "all is scored", || {
        predictions(&worker).filter(|count| *count >= 60.0)
    });
    for words in [&["dead-letters", "list"][..], &["audit", "--store", &store]] {
        let (code, _, error) = plain.windrow(words);
        assert_eq!(code, 0, "{words:?}: {error}");
    }

    // The queue is deleted under running workers, which cannot create it: they wait for somebody who can.
    let mut stopped = plain.service("windrow-worker", "stopped.log", &[]);
    stopped.ready();
    stage.broker.control(&["delete_queue", "rights.score"]);
    for worker in [&mut worker, &mut stopped] {
        eventually(SOON, "the worker waits for the queue", || {
            assert_eq!(worker.ended(), None, "{}", worker.log());
            let (code, ready) = worker.get("/readyz")?;
            (code == 503 && ready.contains("lacks the right `configure`")).then_some(())
        });
        // RabbitMQ 4.3 closes the connection, too.
        let log = worker.log();
        let says = ["waiting until it exists again", "trying again until it works"];
        assert!(says.iter().any(|says| log.contains(says)), "{log}");
    }
    stopped.signal("TERM");
    assert_eq!(stopped.wait(Duration::from_secs(25)), 0, "{}", stopped.log());
    let before = predictions(&worker).unwrap();
    runtime.block_on(async {
        // Another client, because this one does not know that the queue was deleted.
        let admin = stage.queue_of_its_own();
        admin.connect().await.unwrap();
        let message = scoring_message(SensorId::new("d0", "temp").unwrap(), 0, 60_000);
        admin.publish(message).await.unwrap().wait().await.unwrap();
    });
    eventually(SOON, "scoring goes on", || {
        predictions(&worker).filter(|count| *count > before)
    });
    worker.ready();
    worker.signal("TERM");
    assert_eq!(worker.wait(SOON), 0);
}

#[test]
fn a_right_that_is_taken_away_is_told_once_and_waited_for() {
    let stage = Stage::new(Broker::shared(), "rights_taken");
    let (csv, store) = (stage.text("readings.csv"), stage.store());
    write_csv(&stage.path("readings.csv"), &fleet(1, 600, 6));
    models_for(&csv, &store);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(stage.queue_of_its_own().connect()).unwrap();
    let [writer, reader] = ["writer", "reader"].map(|name| Plain::new(&stage, name));
    let endless = [
        "--source",
        "sim:devices=50,tags=2,duration=30d",
        "--speed",
        "600",
        "--drain-timeout",
        "5s",
    ];
    let mut producer = writer.service("windrow-producer", "producer.log", &endless);
    let worker = ["--flush-age", "100ms", "--drain-timeout", "5s"];
    let mut workers = ["waits.log", "stopped.log"].map(|log| reader.service("windrow-worker", log, &worker));
    let bystander = stage.worker("bystander", &worker);
    let bystanders = Bystanders::start(&stage, "d0/temp", 60_000);
    let confirmed = |producer: &Service| producer.metric("windrow_producer_messages_confirmed_total");
    eventually(SOON, "the broker confirms", || {
        confirmed(&producer).filter(|count| *count > 0.0)
    });
    workers.iter_mut().for_each(Service::ready);

    let grant = |user: &str, write: &str, read: &str| {
        stage
            .broker
            .control(&["set_permissions", user, "^$", write, read]);
    };
    grant("writer", "^$", ".*");
    grant("reader", ".*", "^$");
    // What a channel may do is looked up once, so it counts for the next ones.
    for user in ["writer", "reader"] {
        stage
            .broker
            .control(&["close_all_user_connections", user, "this is a test"]);
    }
    eventually(SOON, "the producer is refused again and again", || {
        assert_eq!(producer.ended(), None, "{}", producer.log());
        let (code, ready) = producer.get("/readyz")?;
        (code == 503 && ready.contains("refuses messages again and again")).then_some(())
    });
    for worker in &mut workers {
        eventually(SOON, "the worker waits for the right to read", || {
            assert_eq!(worker.ended(), None, "{}", worker.log());
            let (code, ready) = worker.get("/readyz")?;
            (code == 503 && ready.contains("refuses user `reader`")).then_some(())
        });
    }
    bystanders.are_scored_by(&bystander, "others may neither read nor write");
    let log = producer.log();
    assert_eq!(log.matches("RabbitMQ refuses messages").count(), 1, "{log}");
    let [waits, stopped] = &mut workers;
    stopped.signal("TERM");
    assert_eq!(stopped.wait(Duration::from_secs(20)), 0, "{}", stopped.log());
    bystanders.are_scored_by(&bystander, "a stopped worker has ended");

    for user in ["writer", "reader"] {
        grant(user, ".*", ".*");
    }
    waits.ready();
    producer.ready();
    let before = confirmed(&producer);
    eventually(SOON, "the broker confirms again", || {
        (confirmed(&producer) > before).then_some(())
    });
    for service in [&mut producer, waits] {
        service.signal("TERM");
        let ended = service.wait(Duration::from_secs(20));
        assert!(ended == 0 || ended == 4, "{ended}: {}", service.log());
    }
}

/// A queue of a version that did not know `x-overflow` must not end the services of this one.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_queue_of_an_earlier_version_goes_on_working_and_is_told_of() {
    use lapin::options::QueueDeclareOptions;
    use lapin::types::{AMQPValue, FieldTable};
    use lapin::{Connection, ConnectionProperties};

    let stage = Stage::new(Broker::shared(), "earlier");
    std::fs::create_dir_all(stage.path("store")).unwrap();
    let url = stage.broker.url();
    let connection = Connection::connect(&url, ConnectionProperties::default())
        .await
        .unwrap();
    let channel = connection.create_channel().await.unwrap();
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(1_000_000_000));
    let declared = channel.queue_declare("earlier.dead".into(), QueueDeclareOptions::durable(), arguments);
    declared.await.unwrap();
    let mut worker = stage.worker("upgraded", &["--flush-age", "100ms"]);
    worker.ready();
    let told = || {
        worker
            .log()
            .matches("an earlier version created this queue")
            .count()
    };
    assert_eq!(told(), 1, "{}", worker.log());
    let queue = stage.queue_of_its_own();
    let message = scoring_message(SensorId::new("d", "t").unwrap(), 0, 60_000);
    queue.publish(message).await.unwrap().wait().await.unwrap();
    eventually(SOON, "a message without a model is a dead letter", || {
        (stage.dead_letters().len() == 1).then_some(())
    });
    assert_eq!(told(), 1, "{}", worker.log());
    // Other arguments are refused as ever.
    let mut foreign = AmqpConfig::new(url.parse().unwrap());
    foreign.names.dead = "earlier.score".to_owned();
    let error = windrow_queue::Amqp::new(foreign).connect().await.unwrap_err();
    assert!(error.to_string().contains("earlier.score"), "{error}");
    worker.signal("TERM");
    assert_eq!(worker.wait(SOON), 0);
}
