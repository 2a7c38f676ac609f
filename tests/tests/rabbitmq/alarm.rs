//! A broker that is short of memory takes no messages. Workers empty its queue all the same, and everybody else says why
//! they wait.

use std::sync::Arc;
use std::time::{Duration, Instant};

use windrow_common::SensorId;
use windrow_model::{Kernel, Model, OneClassSvm};
use windrow_models::ModelRepository;
use windrow_queue::Queue;
use windrow_store::Store;
use windrow_tests::{Broker, Stage, eventually, fleet, write_csv};

use super::{message, scoring_message};

const SOON: Duration = Duration::from_secs(60);
const SENSORS: i64 = 10;
const MINUTES: i64 = 40;
/// Messages of sensors without a model.
const UNKNOWN: i64 = 5;

/// Stores models that find every window of sensors 0, 1, … anomalous.
pub(super) async fn anomalous_models(stage: &Stage, sensors: i64) {
    let repository = ModelRepository::new(Store::create(&stage.store()).unwrap());
    let svm = OneClassSvm::new(1, vec![1.0], vec![1.0], -5.0, Kernel::Linear).unwrap();
    let model = Model::new("mean".parse().unwrap(), None, svm, "test").unwrap();
    for sensor in 0..sensors {
        repository.put(&sensor_id(sensor), &model).await.unwrap();
    }
}

pub(super) fn sensor_id(sensor: i64) -> SensorId {
    SensorId::new(&sensor.to_string(), "t").unwrap()
}

/// Publishes `minutes` messages of each of `sensors`.
pub(super) async fn publish(
    queue: &impl Queue,
    sensors: std::ops::Range<i64>,
    minutes: std::ops::Range<i64>,
) {
    let mut confirmations = Vec::new();
    for minute in minutes {
        for sensor in sensors.clone() {
            let message = scoring_message(sensor_id(sensor), minute * 60_000, 60_000);
            confirmations.push(queue.publish(message).await.unwrap());
        }
    }
    for confirmation in confirmations {
        confirmation.wait().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_out_of_memory_is_drained_of_anomalies_and_only_dead_letters_wait() {
    let stage = Stage::new(Arc::new(Broker::start()), "alarm");
    anomalous_models(&stage, SENSORS).await;
    let queue = stage.queue_of_its_own();
    queue
        .publish(message("rubbish"))
        .await
        .unwrap()
        .wait()
        .await
        .unwrap();
    {
        let mut first = stage.worker("first", &["--flush-age", "100ms"]);
        eventually(SOON, "the first dead letter is there", || {
            first
                .metric("windrow_worker_dead_letters_total")
                .filter(|count| *count == 1.0)
        });
        first.signal("TERM");
        assert_eq!(first.wait(SOON), 0, "{}", first.log());
    }
    publish(&queue, 0..SENSORS, 0..MINUTES).await;
    publish(&queue, 100..100 + UNKNOWN, 0..1).await;
    queue.close().await;
    tokio::task::spawn_blocking(move || under_alarm(&stage))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_out_of_disk_is_drained_and_everybody_else_says_what_it_lacks() {
    let stage = Stage::new(Arc::new(Broker::start()), "disk");
    anomalous_models(&stage, SENSORS).await;
    publish(&stage.queue_of_its_own(), 0..SENSORS, 0..MINUTES).await;
    tokio::task::spawn_blocking(move || out_of_disk(&stage))
        .await
        .unwrap();
}

fn out_of_disk(stage: &Stage) {
    // More than any disk has free.
    stage.broker.control(&["set_disk_free_limit", "1000000GB"]);
    let words = [
        "--prefetch",
        "50",
        "--flush-age",
        "100ms",
        "--drain-timeout",
        "5s",
    ];
    let mut worker = stage.worker("drains", &words);
    eventually(SOON, "every message is scored", || {
        worker
            .metric("windrow_worker_predictions_total")
            .filter(|scored| *scored == (SENSORS * MINUTES) as f64)
    });
    stage.drained(SOON);
    assert_eq!(worker.metric("windrow_worker_redelivered_total"), Some(0.0));
    let lacks = format!(
        "RabbitMQ at 127.0.0.1:{} is out of disk and takes nothing",
        stage.broker.port()
    );
    let csv = stage.text("readings.csv");
    write_csv(&stage.path("readings.csv"), &fleet(3, 600, 6));
    let mut producer = stage.producer(&csv, &["--drain-timeout", "3s"]);
    eventually(SOON, "the producer says what it waits for", || {
        producer
            .get("/readyz")
            .filter(|(code, said)| *code == 503 && said.contains(&lacks))
    });
    producer.signal("TERM");
    assert_eq!(producer.wait(Duration::from_secs(20)), 4, "{}", producer.log());
    // It holds nothing. It has published, so the broker does not even answer the close of that connection.
    assert!(
        worker.metric("windrow_worker_dropped_announcements_total") > Some(0.0),
        "{}",
        worker.log()
    );
    worker.signal("TERM");
    assert_eq!(worker.wait(Duration::from_secs(20)), 0, "{}", worker.log());

    stage.broker.control(&["set_disk_free_limit", "50MB"]);
    assert_eq!(stage.producer(&csv, &[]).wait(SOON), 0);
}

fn under_alarm(stage: &Stage) {
    stage.broker.control(&["set_vm_memory_high_watermark", "0.0001"]);
    // The backlog is many times what it may hold: it has to ack to get on.
    let words = [
        "--prefetch",
        "50",
        "--flush-age",
        "100ms",
        "--drain-timeout",
        "5s",
    ];
    let mut worker = stage.worker("drains", &words);
    let all = (SENSORS * MINUTES) as f64;
    eventually(SOON, "every anomaly is scored", || {
        worker
            .metric("windrow_worker_predictions_total")
            .filter(|scored| *scored == all)
    });
    eventually(SOON, "everything but the dead letters is acked", || {
        let queue = stage.queue();
        (queue["ready"] == 0 && queue["unacked"] == UNKNOWN).then_some(())
    });
    assert_eq!(worker.metric("windrow_worker_redelivered_total"), Some(0.0));
    assert_eq!(
        worker.metric("windrow_worker_held_messages"),
        Some(UNKNOWN as f64)
    );
    assert_eq!(
        worker.metric("windrow_worker_unconfirmed_dead_letters"),
        Some(UNKNOWN as f64)
    );
    let dropped = worker
        .metric("windrow_worker_dropped_announcements_total")
        .unwrap();
    assert!(dropped > all / 2.0, "{dropped}");
    let told = worker
        .log()
        .matches("does not take announcements of anomalies")
        .count();
    assert_eq!(told, 1, "{}", worker.log());
    // Producers wait, and commands that publish say why they give up.
    let csv = stage.text("readings.csv");
    write_csv(&stage.path("readings.csv"), &fleet(3, 600, 6));
    let endpoint = format!("127.0.0.1:{}", stage.broker.port());
    let why = format!("windrow: RabbitMQ at {endpoint} is out of memory and takes nothing");
    let store = stage.store();
    let replay = [
        "replay",
        &csv,
        "--store",
        &store,
        "--from",
        "2026-01-05T00:00:00Z",
        "--to",
        "2026-01-05T00:10:00Z",
    ];
    std::thread::scope(|scope| {
        for words in [&replay[..], &["dead-letters", "replay"]] {
            let why = &why;
            scope.spawn(move || {
                let begun = Instant::now();
                let (code, _, error) = stage.windrow(words);
                assert!(
                    code == 1 && error.contains(why),
                    "{words:?} ended with {code}: {error}"
                );
                assert!(
                    begun.elapsed() < Duration::from_secs(40),
                    "{words:?} took {:?}",
                    begun.elapsed()
                );
            });
        }
        scope.spawn(|| {
            let mut producer = stage.producer(&csv, &["--drain-timeout", "3s"]);
            eventually(SOON, "the producer says what it waits for", || {
                let (code, body) = producer.get("/readyz")?;
                (code == 503 && body.contains("out of memory and takes nothing")).then_some(())
            });
            producer.signal("TERM");
            assert_eq!(producer.wait(Duration::from_secs(20)), 4, "{}", producer.log());
        });
        scope.spawn(|| {
            let (_, body) = eventually(SOON, "the worker says what it waits for", || {
                worker
                    .get("/readyz")
                    .filter(|(code, body)| *code == 503 && body.contains("worker: "))
            });
            assert!(
                body.contains("rabbitmq: RabbitMQ at ")
                    && body.contains(" is out of memory and takes nothing"),
                "{body}"
            );
            assert!(
                body.contains("worker: holds 5 messages and has settled none for "),
                "{body}"
            );
            assert!(
                body.contains("it waits for the broker to confirm 5 dead letters"),
                "{body}"
            );
        });
    });
    worker.signal("TERM");
    assert_eq!(worker.wait(Duration::from_secs(20)), 4, "{}", worker.log());

    stage.broker.control(&["set_vm_memory_high_watermark", "0.4"]);
    let mut after = stage.worker("after", &["--flush-age", "100ms"]);
    // The producer's messages are of sensors without a model as well.
    eventually(SOON, "the dead letters are in their queue", || {
        (stage.dead_letters().len() as i64 > UNKNOWN).then_some(())
    });
    after.ready();
    after.signal("TERM");
    assert_eq!(after.wait(SOON), 0, "{}", after.log());
}
