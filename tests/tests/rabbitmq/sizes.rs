//! Messages that are too large for the broker, and messages of others; then a broker that takes messages and confirms none.
//! A fleet beside them is scored all the while.

use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use lapin::options::BasicPublishOptions;
use lapin::{BasicProperties, Connection, ConnectionProperties};
use tokio::time::timeout;
use windrow_common::SensorId;
use windrow_model::{Kernel, Model, OneClassSvm};
use windrow_models::ModelRepository;
use windrow_queue::{Consumer, Message, Queue, Reason};
use windrow_store::Store;
use windrow_tests::{Broker, Bystanders, Row, Stage, eventually, fleet, write_csv};

use super::{message, queue};

const SOON: Duration = Duration::from_secs(60);
/// The broker's `max_message_size`. An hour of one-minute windows has 3,895 bytes.
const LIMIT: usize = 2_000;
const DEVICES: u32 = 4;

/// Stores the same model for the sensors of a [`fleet`].
async fn models(stage: &Stage) {
    let repository = ModelRepository::new(Store::create(&stage.store()).unwrap());
    let svm = OneClassSvm::new(1, vec![1.0], vec![1.0], 1.0, Kernel::Linear).unwrap();
    let model = Model::new("mean".parse().unwrap(), None, svm, "test").unwrap();
    for device in 0..DEVICES {
        let sensor = SensorId::new(&format!("d{device}"), "temp").unwrap();
        repository.put(&sensor, &model).await.unwrap();
    }
}

/// Publishes a message as another program would.
async fn publish_foreign(stage: &Stage, body: &[u8]) {
    let connection = Connection::connect(&stage.broker.url(), ConnectionProperties::default()).await;
    let channel = connection.unwrap().create_channel().await.unwrap();
    let properties = BasicProperties::default().with_content_type("text/plain".into());
    let options = BasicPublishOptions::default();
    let published = channel.basic_publish("".into(), "sizes.score".into(), options, body, properties);
    published.await.unwrap().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_too_large_for_the_broker_and_one_of_others_hold_up_nobody() {
    let stage = Stage::new(Arc::new(Broker::start()), "sizes");
    models(&stage).await;
    stage.queue_of_its_own().connect().await.unwrap();
    publish_foreign(&stage, &[b'x'; 2 * LIMIT]).await;
    publish_foreign(&stage, b"hello").await;
    tokio::task::spawn_blocking(move || {
        sizes(&stage);
        silence(&stage);
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_that_waits_is_held_once_however_often_its_channel_is_lost() {
    let stage = Stage::new(Arc::new(Broker::start()), "sizes");
    models(&stage).await;
    stage.queue_of_its_own().connect().await.unwrap();
    publish_foreign(&stage, &[b'x'; 2 * LIMIT]).await;
    tokio::task::spawn_blocking(move || {
        stage.broker.set_max_message_size(LIMIT);
        let words = ["--flush-age", "100ms", "--prefetch", "3", "--drain-timeout", "3s"];
        let mut worker = stage.worker("lossy", &words);
        let bystanders = Bystanders::start(&stage, "d0/temp", 60_000);
        for losses in 1..=5 {
            eventually(SOON, "the large dead letter is delivered again, and held", || {
                let again = worker.metric("windrow_worker_dead_letters_total")?;
                let held = worker.metric("windrow_worker_unconfirmed_dead_letters")?;
                (again >= f64::from(losses) && held == 1.0).then_some(())
            });
            bystanders.are_scored_by(&worker, "a dead letter waits");
            let reason = "this is a test";
            stage.broker.control(&["close_all_connections", reason]);
        }
        bystanders.are_scored_by(&worker, "a dead letter waits after five losses");
        bystanders.end();
        eventually(SOON, "only the large dead letter is held", || {
            let held = ["held_messages", "unconfirmed_dead_letters"]
                .map(|name| worker.metric(&format!("windrow_worker_{name}")));
            (held == [Some(1.0); 2]).then_some(())
        });
        worker.signal("TERM");
        assert_eq!(worker.wait(Duration::from_secs(15)), 4, "{}", worker.log());
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_is_full_of_dead_letters_notices_that_its_channel_is_lost() {
    let broker = Broker::start();
    let large = Message {
        body: vec![b'x'; 2 * LIMIT].into(),
        ..message("large")
    };
    let before = queue(&broker, "full");
    before.publish(large).await.unwrap().wait().await.unwrap();
    broker.set_max_message_size(LIMIT);
    let queue = queue(&broker, "full");
    let mut consumer = queue.consume(NonZeroU16::MIN).await.unwrap();
    for failures in 0..3 {
        let mut deliveries = Vec::new();
        let received = timeout(SOON, consumer.receive(&mut deliveries, 1)).await;
        received.expect("the message comes again").unwrap();
        assert_eq!(deliveries[0].failures, failures);
        let reason = Reason {
            code: "no-model".to_owned(),
            detail: String::new(),
            worker: String::new(),
        };
        let waiting = tokio::spawn(consumer.dead_letter(deliveries.remove(0).receipt, reason));
        broker.control(&["close_all_connections", "this is a test"]);
        let ended = timeout(SOON, waiting).await.expect("it does not wait any longer");
        assert_eq!(ended.unwrap().unwrap(), None);
    }
}

fn sizes(stage: &Stage) {
    stage.broker.set_max_message_size(LIMIT);
    let mut worker = stage.worker("sizes", &["--flush-age", "100ms", "--drain-timeout", "3s"]);
    // Only the first device measures for an hour; the messages of the others are small.
    let is_measured = |row: &Row| row.device == 0 || row.time_ms % 3_600_000 < 300_000;
    let rows: Vec<Row> = fleet(DEVICES, 3_600, 5).into_iter().filter(is_measured).collect();
    let csv = stage.text("readings.csv");
    write_csv(&stage.path("readings.csv"), &rows);
    let mut producer = stage.producer(&csv, &["--interval", "1h", "--at-end", "dispatch"]);
    assert_eq!(producer.wait(SOON), 0, "{}", producer.log());
    let refusals = producer
        .log()
        .matches("it is larger than max_message_size")
        .count();
    assert_eq!(refusals, 1, "the broker is asked once: {}", producer.log());
    let windows = f64::from(60 + (DEVICES - 1) * 5);
    eventually(SOON, "everything is scored", || {
        worker
            .metric("windrow_worker_predictions_total")
            .filter(|scored| *scored == windows)
    });
    // Two halves of the large message, those of the others, and two foreign ones.
    let messages = f64::from(2 + (DEVICES - 1) + 2);
    assert_eq!(worker.metric("windrow_worker_messages_total"), Some(messages));

    let held = eventually(SOON, "only the large dead letter is held", || {
        let held = worker.metric("windrow_worker_held_messages");
        held.filter(|held| *held == 1.0)
    });
    assert_eq!(
        worker.metric("windrow_worker_unconfirmed_dead_letters"),
        Some(held)
    );
    let endpoint = format!("127.0.0.1:{}", stage.broker.port());
    let why = format!(
        "RabbitMQ at {endpoint} takes messages of at most {LIMIT} bytes, and message  has {}: raise",
        2 * LIMIT
    );
    assert!(
        worker.log().contains("cannot set the message aside; holding it") && worker.log().contains(&why),
        "{}",
        worker.log()
    );
    let dead = stage.dead_letters();
    assert_eq!(dead.len(), 1, "{dead:?}");
    let detail = dead[0]["detail"].as_str().unwrap();
    let foreign = "not a Windrow message: its type is `` and its content type `text/plain`";
    assert!(
        dead[0]["reason"] == "undecodable" && detail.starts_with(foreign),
        "{detail}"
    );
    worker.signal("TERM");
    assert_eq!(worker.wait(Duration::from_secs(15)), 4, "{}", worker.log());

    stage.broker.set_max_message_size(16 << 20);
    let mut after = stage.worker("after", &["--flush-age", "100ms"]);
    eventually(SOON, "the large one is a dead letter", || {
        (stage.dead_letters().len() == 2).then_some(())
    });
    let audit = stage.audited();
    assert_eq!(
        (&audit["dispatched"], &audit["predicted"], &audit["lost"]),
        (&75.into(), &75.into(), &0.into())
    );
    after.signal("TERM");
    assert_eq!(after.wait(SOON), 0, "{}", after.log());
}

fn silence(stage: &Stage) {
    let log = stage.text("endless.log");
    let words = [
        "--source",
        "sim:devices=50,tags=2,duration=30d",
        "--speed",
        "600",
        "--drain-timeout",
        "3s",
    ];
    let mut producer = stage.service("windrow-producer", &words, &log);
    let mut worker = stage.worker("silent", &["--flush-age", "100ms", "--drain-timeout", "3s"]);
    eventually(SOON, "the broker confirms", || {
        let confirmed = producer.metric("windrow_producer_messages_confirmed_total");
        confirmed.filter(|confirmed| *confirmed > 0.0)
    });
    worker.ready();
    stage.broker.freeze();
    let endpoint = format!("127.0.0.1:{}", stage.broker.port());
    let silent = format!("rabbitmq: RabbitMQ at {endpoint} has confirmed nothing for 1");
    eventually(SOON, "the producer says that nothing is confirmed", || {
        producer
            .get("/readyz")
            .filter(|(code, body)| *code == 503 && body.contains(&silent))
    });
    eventually(SOON, "the log says it, once", || {
        let told = producer.log().matches("takes messages and confirms none").count();
        assert!(told <= 1, "{}", producer.log());
        (told == 1).then_some(())
    });
    for service in [&mut producer, &mut worker] {
        service.signal("TERM");
        let ended = service.wait(Duration::from_secs(20));
        assert!(ended == 4 || ended == 0, "{ended}: {}", service.log());
    }
    stage.broker.thaw();
}
