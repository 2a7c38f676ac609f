//! Measures how much of RabbitMQ's throughput Windrow reaches.
//!
//! Compares the real producer and worker with a bare loop of the client library, which publishes, consumes and acks the
//! same messages (bodies and properties) and does no work. Both use the same broker, queue arguments, prefetch and
//! number of outstanding confirms; rounds alternate, and each figure is a median. Windrow's time runs from the start of
//! the producer's process to the last ack.
//!
//! Run it with `cargo bench -p windrow-tests --bench queue`; it takes about five minutes. `BARE_PROPERTIES=none` runs
//! the bare loop without message properties.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Connection, ConnectionProperties};
use tokio::sync::Semaphore;
use windrow_common::{Aggregate, EventTime, Interval, Length, ScoringMessage, SensorId};
use windrow_model::{Kernel, Model, OneClassSvm};
use windrow_models::ModelRepository;
use windrow_store::Store;
use windrow_tests::{Broker, Service, eventually, windrow};

const ROUNDS: usize = 3;
const SENSORS: u32 = 2_000;
const VECTORS: usize = 100;
const FEATURES: &str = "mean,std,min,max";
const CONFIRM_WINDOW: usize = 1_000;
const PREFETCH: u16 = 10_000;
/// The bare loop acks this many messages at once.
const ACK_EVERY: u64 = 100;
const START_MS: i64 = 1_767_571_200_000;
const WINDOW_MS: i64 = 5_000;
const WITHIN: Duration = Duration::from_secs(300);

/// The number and size of the messages in one comparison.
struct Shape {
    /// Windows per message, and so rows.
    aggregates: u32,
    /// Messages per sensor.
    messages: u32,
}

fn main() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let broker = Broker::start();
    let folder = tempfile::tempdir().unwrap();
    let models = folder.path().join("models_only");
    runtime.block_on(store_models(&models, SENSORS));
    println!(
        "{SENSORS} sensors, models of {VECTORS} vectors over 4 features, quorum queue, medians of {ROUNDS} rounds\n"
    );
    println!(
        "{:>10} {:>9} {:>7} {:>12} {:>14} {:>7} {:>12}",
        "aggregates", "messages", "bytes", "bare msg/s", "windrow msg/s", "ratio", "rows/s"
    );
    for shape in [
        Shape {
            aggregates: 1,
            messages: 200,
        },
        Shape {
            aggregates: 12,
            messages: 100,
        },
        Shape {
            aggregates: 60,
            messages: 40,
        },
    ] {
        let source = folder.path().join("readings.csv");
        write_readings(&source, &shape);
        let body = body(&shape);
        let messages = u64::from(SENSORS * shape.messages);
        let (mut bare, mut ours) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            bare.push(runtime.block_on(bare_loop(&broker.url(), &body, messages)));
            let store = folder.path().join(format!("store{}_{round}", shape.aggregates));
            ours.push(windrow_run(&broker, &models, &store, &source, &shape, SENSORS));
        }
        let (bare, ours) = (median(bare), median(ours));
        println!(
            "{:>10} {messages:>9} {:>7} {bare:>12.0} {ours:>14.0} {:>7.2} {:>12.0}",
            shape.aggregates,
            body.len(),
            ours / bare,
            ours * f64::from(shape.aggregates)
        );
    }
    poisoned(&runtime, &broker, folder.path(), &models);
}

/// Compares throughput with one unscorable message in a hundred to throughput without any.
fn poisoned(runtime: &tokio::runtime::Runtime, broker: &Broker, folder: &Path, models: &Path) {
    let shape = Shape {
        aggregates: 1,
        messages: 200,
    };
    let source = folder.join("readings.csv");
    write_readings(&source, &shape);
    let without = folder.join("models_but_some");
    runtime.block_on(store_models(&without, SENSORS - SENSORS / 100));
    let (mut clean, mut poison) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let store = |kind: &str| folder.join(format!("{kind}{round}"));
        clean.push(windrow_run(
            broker,
            models,
            &store("clean"),
            &source,
            &shape,
            SENSORS,
        ));
        let scored = SENSORS - SENSORS / 100;
        poison.push(windrow_run(
            broker,
            &without,
            &store("poison"),
            &source,
            &shape,
            scored,
        ));
    }
    let (clean, poison) = (median(clean), median(poison));
    println!(
        "\n1 % poison: {poison:.0} msg/s, {clean:.0} without, ratio {:.2}",
        poison / clean
    );
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// Stores the same model for `sensors` sensors; it finds every aggregate normal.
async fn store_models(folder: &Path, sensors: u32) {
    let store = Store::create(folder.to_str().unwrap()).unwrap();
    let repository = ModelRepository::new(store);
    let vectors = (0..VECTORS * 4).map(|at| (at % 97) as f64 / 10.0).collect();
    let kernel = Kernel::Rbf { gamma: 0.02 };
    let svm = OneClassSvm::new(4, vectors, vec![0.01; VECTORS], 1.0, kernel).unwrap();
    let model = Model::new(FEATURES.parse().unwrap(), None, svm, "bench").unwrap();
    for sensor in 0..sensors {
        let sensor = SensorId::new(&format!("d{sensor}"), "temp").unwrap();
        repository.put(&sensor, &model).await.unwrap();
    }
}

/// Writes one reading per window and sensor.
fn write_readings(path: &Path, shape: &Shape) {
    let mut text = "ts,device,tag,value\n".to_owned();
    for window in 0..i64::from(shape.messages * shape.aggregates) {
        for device in 0..SENSORS {
            let time = START_MS + window * WINDOW_MS;
            writeln!(text, "{time},d{device},temp,{}.5", device % 50).unwrap();
        }
    }
    fs::write(path, text).unwrap();
}

/// Returns a body like those of the producer's messages.
fn body(shape: &Shape) -> Vec<u8> {
    let aggregate = |window: u32| Aggregate {
        window_start: EventTime::from_millis(START_MS + i64::from(window) * WINDOW_MS),
        count: 1,
        mean: 1.5,
        std: 0.0,
        min: 1.5,
        max: 1.5,
        first: 1.5,
        last: 1.5,
    };
    let message = ScoringMessage {
        sensor: SensorId::new("d1234", "temp").unwrap(),
        interval: Interval {
            start: EventTime::from_millis(START_MS),
            length: Length::from_millis(i64::from(shape.aggregates) * WINDOW_MS),
        },
        window_length: Length::from_millis(WINDOW_MS),
        aggregates: (0..shape.aggregates).map(aggregate).collect(),
    };
    message.encode().unwrap()
}

/// Returns properties like those of the producer's messages; with `none`, only the persistent flag.
fn properties(none: bool) -> BasicProperties {
    let persistent = BasicProperties::default().with_delivery_mode(2);
    if none {
        return persistent;
    }
    let mut headers = FieldTable::default();
    headers.insert("x-windrow-enqueued-ms".into(), AMQPValue::LongLongInt(START_MS));
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    headers.insert("traceparent".into(), AMQPValue::LongString(traceparent.into()));
    persistent
        .with_message_id("d1234/temp@2026-01-05T00:00:00Z+5s".into())
        .with_type(ScoringMessage::KIND.into())
        .with_content_type(ScoringMessage::CONTENT_TYPE.into())
        .with_timestamp(START_MS as u64 / 1_000)
        .with_headers(headers)
}

/// Runs the bare loop and returns messages per second from the first publish to the last ack.
async fn bare_loop(url: &str, body: &[u8], messages: u64) -> f64 {
    let connect = || Connection::connect(url, ConnectionProperties::default());
    let (publishing, consuming) = (connect().await.unwrap(), connect().await.unwrap());
    let channel = consuming.create_channel().await.unwrap();
    let mut arguments = FieldTable::default();
    for (name, value) in [
        ("x-queue-type", AMQPValue::LongString("quorum".into())),
        ("x-delivery-limit", AMQPValue::LongInt(20)),
        ("x-dead-letter-exchange", AMQPValue::LongString("".into())),
        ("x-dead-letter-routing-key", AMQPValue::LongString("dead".into())),
        (
            "x-dead-letter-strategy",
            AMQPValue::LongString("at-least-once".into()),
        ),
        ("x-overflow", AMQPValue::LongString("reject-publish".into())),
    ] {
        arguments.insert(name.into(), value);
    }
    channel
        .queue_declare("bare".into(), QueueDeclareOptions::durable(), arguments)
        .await
        .unwrap();
    channel
        .basic_qos(PREFETCH, BasicQosOptions::default())
        .await
        .unwrap();
    let mut deliveries = channel
        .basic_consume(
            "bare".into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await
        .unwrap();
    let started = Instant::now();
    let body: Arc<[u8]> = body.into();
    let bare = std::env::var("BARE_PROPERTIES").is_ok_and(|which| which == "none");
    let publisher = tokio::spawn(async move {
        let channel = publishing.create_channel().await.unwrap();
        channel.confirm_select(Default::default()).await.unwrap();
        let window = Arc::new(Semaphore::new(CONFIRM_WINDOW));
        for _ in 0..messages {
            let permit = Arc::clone(&window).acquire_owned().await.unwrap();
            let (channel, body) = (channel.clone(), Arc::clone(&body));
            let properties = properties(bare);
            tokio::spawn(async move {
                let options = BasicPublishOptions {
                    mandatory: true,
                    immediate: false,
                };
                let publish = channel.basic_publish("".into(), "bare".into(), options, &body, properties);
                assert!(publish.await.unwrap().await.unwrap().is_ack());
                drop(permit);
            });
        }
        drop(window.acquire_many(CONFIRM_WINDOW as u32).await.unwrap());
    });
    for number in 1..=messages {
        let delivery = deliveries.next().await.unwrap().unwrap();
        if number % ACK_EVERY == 0 || number == messages {
            delivery
                .acker
                .ack(BasicAckOptions { multiple: true })
                .await
                .unwrap();
        }
    }
    let rate = messages as f64 / started.elapsed().as_secs_f64();
    publisher.await.unwrap();
    channel
        .queue_delete("bare".into(), Default::default())
        .await
        .unwrap();
    rate
}

/// Runs Windrow and returns messages per second from the start of the producer's process to the last ack.
///
/// Only `scored` of the sensors have a model; messages of the others become dead letters.
fn windrow_run(
    broker: &Broker,
    models: &Path,
    store: &Path,
    source: &Path,
    shape: &Shape,
    scored: u32,
) -> f64 {
    let copied = std::process::Command::new("cp")
        .arg("-r")
        .args([models, store])
        .status();
    assert!(copied.unwrap().success());
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let (store_text, source, log) = (text(store), text(source), text(&store.join("log")));
    let interval = format!("{}s", i64::from(shape.aggregates) * WINDOW_MS / 1_000);
    let prefix = store.file_name().unwrap().to_str().unwrap();
    let (url, prefetch) = (broker.url(), PREFETCH.to_string());
    let common = [
        "--store",
        &store_text,
        "--amqp-url",
        &url,
        "--queue-prefix",
        prefix,
    ];
    let mut worker = Service::start(
        "windrow-worker",
        &[&common[..], &["--prefetch", &prefetch, "--flush-age", "200ms"]].concat(),
        &log,
    );
    worker.ready();
    let read = [
        "--source",
        &source,
        "--window",
        "5s",
        "--interval",
        &interval,
        "--until-caught-up",
    ];
    let started = Instant::now();
    let mut producer = Service::start("windrow-producer", &[&common[..], &read].concat(), &log);
    let rows = f64::from(scored * shape.messages * shape.aggregates);
    eventually(WITHIN, "everything is persisted and acked", || {
        let predictions = worker.metric("windrow_worker_predictions_total")?;
        let held = worker.metric("windrow_worker_held_messages")?;
        (predictions >= rows && held == 0.0).then_some(())
    });
    let rate = f64::from(SENSORS * shape.messages) / started.elapsed().as_secs_f64();
    assert_eq!(producer.wait(WITHIN), 0, "{}", producer.log());
    worker.signal("TERM");
    assert_eq!(worker.wait(WITHIN), 0, "{}", worker.log());
    // A figure counts only if the run lost nothing.
    let (code, _, error) = windrow(
        &[
            &["audit", "--amqp-url", &url],
            &["--queue-prefix", prefix, "--store", &store_text][..],
        ]
        .concat(),
    )
    .end();
    assert_eq!(code, 0, "{error}");
    rate
}
