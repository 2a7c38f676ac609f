//! Runs a worker on the in-memory queue: publishes a scoring message, waits until its prediction is durable, reads it back.
//!
//! `cargo run --example worker_in_memory`

use std::error::Error;
use std::sync::Arc;

use windrow_common::{Aggregate, EventTime, Interval, Length, ScoringMessage, SensorId};
use windrow_model::{Features, TrainOptions, train};
use windrow_models::ModelRepository;
use windrow_queue::{Memory, MemoryLimits, Message, Queue};
use windrow_service::Shutdown;
use windrow_store::Store;
use windrow_worker::{CacheOptions, ModelCache, Stats, WorkerOptions};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let store = Store::create("memory:///")?;
    let sensor = SensorId::new("pump-7", "temp")?;
    let normal: Vec<f64> = (0..200)
        .map(|minute| 70.0 + (f64::from(minute) / 9.0).sin())
        .collect();
    let model = train(&normal, "mean".parse::<Features>()?, &TrainOptions::default())?;
    ModelRepository::new(store.clone()).put(&sensor, &model).await?;

    let queue = Memory::new(MemoryLimits::default(), &store);
    let stats = Arc::new(Stats::default());
    let models = ModelCache::new(store.clone(), CacheOptions::default(), Arc::clone(&stats));
    let (_trigger, shutdown) = Shutdown::new();
    let options = WorkerOptions::new("example");
    let worker = tokio::spawn(windrow_worker::run(
        queue.clone(),
        store.clone(),
        models,
        options,
        stats,
        shutdown,
    ));

    let confirmation = queue.publish(scoring_message(sensor)?).await?;
    // In memory a message is safe once it is scored, so this waits for the worker.
    confirmation.wait().await?;
    queue.close();
    worker.await??;

    for hour in store.hours("predictions", None, None).await? {
        for prediction in store.predictions(&hour).await?.rows {
            println!("{} decision {:+.3}", prediction.sensor, prediction.decision);
        }
    }
    Ok(())
}

/// One window of one sensor, as the producer publishes it.
fn scoring_message(sensor: SensorId) -> Result<Message, Box<dyn Error>> {
    let start = EventTime::from_millis(1_767_571_200_000);
    let length = Length::from_millis(60_000);
    let message = ScoringMessage {
        sensor,
        interval: Interval { start, length },
        window_length: length,
        aggregates: vec![Aggregate {
            window_start: start,
            count: 60,
            mean: 70.2,
            std: 0.1,
            min: 70.0,
            max: 70.4,
            first: 70.1,
            last: 70.3,
        }],
    };
    Ok(Message {
        id: message.id(),
        kind: ScoringMessage::KIND.into(),
        content_type: ScoringMessage::CONTENT_TYPE.into(),
        enqueued_at: EventTime::now(),
        traceparent: None,
        body: message.encode()?.into(),
    })
}
