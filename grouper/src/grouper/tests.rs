use std::time::Duration;

use tokio::time::sleep;
use windrow_common::Aggregate;
use windrow_model::{Group, Kernel, Model, OneClassSvm};
use windrow_models::ModelRepository;
use windrow_queue::{Memory, MemoryLimits};
use windrow_service::{Shutdown, ShutdownTrigger};
use windrow_store::PartWriter;
use windrow_worker::{CacheOptions, ModelCache, WorkerOptions};

use super::*;

const MINUTE: i64 = 60_000;
const TAGS: [&str; 3] = ["flow", "power", "speed"];

fn minute(at: i64) -> EventTime {
    EventTime::from_millis(at * MINUTE)
}

fn row(tag: &str, at: i64, count: u64) -> Prediction {
    let mean = (at as f64 / 7.0).sin() + count as f64;
    Prediction {
        sensor: SensorId::new("pump", tag).unwrap(),
        window_length: Length::from_millis(MINUTE),
        aggregate: Aggregate {
            window_start: minute(at),
            count,
            mean,
            std: 0.0,
            min: mean,
            max: mean,
            first: mean,
            last: mean,
        },
        decision: 1.0,
        score: Some(-1.0),
        threshold: None,
        anomaly: false,
        model_version: "0123456789abcdef".into(),
        cause: None,
        shadow: None,
    }
}

/// A store with a model of three tags, a queue, and a worker.
struct Bench {
    store: Store,
    queue: Memory,
    writer: PartWriter,
    options: GrouperOptions,
    _trigger: ShutdownTrigger,
}

impl Bench {
    async fn new() -> Self {
        let store = Store::create("memory:///").unwrap();
        let group = Group::new(TAGS.map(Arc::from).to_vec(), 5, Length::from_millis(MINUTE)).unwrap();
        let vectors = vec![4.0, 4.0, 4.0, 5.0, 5.0, 5.0];
        let svm = OneClassSvm::new(3, vectors, vec![0.5; 2], -0.4, Kernel::Rbf { gamma: 0.1 }).unwrap();
        let model =
            Model::of_group(group, "mean".parse().unwrap(), Vec::new(), svm.into(), "by hand").unwrap();
        let repository = ModelRepository::new(store.clone());
        repository
            .put(&SensorId::of_group(&"pump".into()), &model)
            .await
            .unwrap();
        let queue = Memory::new(MemoryLimits::default(), &store);
        let stats = Arc::new(windrow_worker::Stats::default());
        let (trigger, shutdown) = Shutdown::new();
        tokio::spawn(windrow_worker::run(
            queue.clone(),
            store.clone(),
            ModelCache::new(store.clone(), CacheOptions::default(), Arc::clone(&stats)),
            WorkerOptions {
                flush_age: Duration::from_millis(1),
                ..WorkerOptions::new("w")
            },
            stats,
            shutdown,
        ));
        Self {
            writer: PartWriter::new(&store, "p"),
            store,
            queue,
            options: GrouperOptions {
                grace: Duration::ZERO,
                hold: Duration::from_secs(1_800),
                calm: Duration::ZERO,
                look_back_every: Duration::ZERO,
                ..GrouperOptions::default()
            },
            _trigger: trigger,
        }
    }

    async fn write(&self, rows: Vec<Prediction>) {
        self.writer.write_rows(rows).await.unwrap();
    }

    fn grouper(&self) -> Grouper<Memory> {
        Grouper::new(
            self.queue.clone(),
            self.store.clone(),
            self.options,
            Arc::default(),
        )
    }

    /// Returns the predictions of the tags together that count: start, readings, and the decision's bits.
    async fn scored(&self) -> Vec<(EventTime, u64, u64)> {
        let mut scored = Vec::new();
        for hour in self.store.hours("predictions", None, None).await.unwrap() {
            let rows = self.store.predictions(&hour).await.unwrap().rows;
            let groups = rows.iter().filter(|row| row.sensor.is_group());
            scored.extend(groups.map(|row| {
                (
                    row.aggregate.window_start,
                    row.aggregate.count,
                    row.decision.to_bits(),
                )
            }));
        }
        scored
    }
}

/// Returns the rows of a night: each tag has some windows less, and some were corrected.
fn night() -> Vec<Prediction> {
    let mut rows = Vec::new();
    for at in 0..300 {
        for (tag, name) in TAGS.into_iter().enumerate() {
            if (at * 7 + tag as i64 * 3) % 41 != 0 {
                rows.push(row(name, at, 4));
            }
            if (at + tag as i64) % 29 == 0 {
                rows.push(row(name, at, 5));
            }
        }
    }
    rows
}

#[tokio::test]
async fn a_quiet_run_scores_every_window_that_has_enough_tags() {
    let bench = Bench::new().await;
    bench.write(night()).await;
    bench.grouper().catch_up(Incomplete::Ask).await.unwrap();
    let scored = bench.scored().await;
    // The first two have less than half of their context. A quarter of three tags is none: the others lack a tag.
    assert!(scored.len() > 230 && scored[0].0 >= minute(2), "{}", scored.len());
    let stats = Arc::new(Stats::default());
    let mut again = Grouper::new(
        bench.queue.clone(),
        bench.store.clone(),
        bench.options,
        Arc::clone(&stats),
    );
    again.catch_up(Incomplete::Ask).await.unwrap();
    assert_eq!(stats.windows(), 0, "everything was scored before");
}

#[tokio::test]
async fn groupers_that_are_killed_and_parts_that_come_late_change_no_prediction_that_counts() {
    let quiet = Bench::new().await;
    quiet.write(night()).await;
    quiet.grouper().catch_up(Incomplete::Ask).await.unwrap();
    let right = quiet.scored().await;
    for seed in 0..3_u64 {
        let bench = Bench::new().await;
        let mut state = seed;
        let mut random = move |below: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        // Roughly in order of time, but every tenth row comes much later, hours after its hour is settled.
        let mut rows: Vec<(i64, Prediction)> = night()
            .into_iter()
            .map(|row| {
                let late = if random(10) == 0 { random(300) } else { random(20) };
                (row.aggregate.window_start.as_millis() / MINUTE + late as i64, row)
            })
            .collect();
        rows.sort_by_key(|(at, _)| *at);
        let mut rows = rows.into_iter().map(|(_, row)| row).peekable();
        let mut grouper = bench.grouper();
        while rows.peek().is_some() {
            let part: Vec<Prediction> = rows.by_ref().take(1 + random(60)).collect();
            bench.write(part).await;
            match random(4) {
                0 => grouper = bench.grouper(),
                1 => {
                    // Killed in the middle of a step.
                    let _ = tokio::time::timeout(
                        Duration::from_micros(random(3_000) as u64),
                        grouper.step(Incomplete::Wait),
                    )
                    .await;
                    grouper = bench.grouper();
                }
                2 => _ = grouper.step(Incomplete::Ask).await.unwrap(),
                _ => _ = grouper.step(Incomplete::Wait).await.unwrap(),
            }
        }
        grouper.catch_up(Incomplete::Ask).await.unwrap();
        // Messages of a killed step may still be in flight.
        let all_scored = async {
            let none = windrow_queue::Depth {
                ready: 0,
                unacked: Some(0),
            };
            while bench.queue.depth().await.unwrap() != none {
                sleep(Duration::from_millis(1)).await;
            }
        };
        let scored = tokio::time::timeout(Duration::from_secs(60), all_scored).await;
        scored.expect("the queue is drained");
        assert_eq!(bench.scored().await, right, "seed {seed}");
    }
}

#[tokio::test]
async fn a_window_that_comes_late_for_an_hour_that_is_read_as_context_alone_is_asked_for() {
    for is_killed in [false, true] {
        let bench = Bench::new().await;
        // Three hours: the first two are settled, and the second one is read again for its last windows.
        let (late, rest): (Vec<_>, Vec<_>) = (0..180)
            .flat_map(|at| TAGS.map(|tag| row(tag, at, 4)))
            .partition(|row| *row.sensor.tag == *"speed" && row.aggregate.window_start == minute(100));
        bench.write(rest).await;
        let mut grouper = bench.grouper();
        grouper.catch_up(Incomplete::Ask).await.unwrap();
        let state = State::load(&bench.store).await.unwrap().unwrap();
        assert_eq!(state.base, minute(120));
        assert!(
            bench
                .scored()
                .await
                .iter()
                .all(|(start, ..)| *start != minute(100))
        );
        if is_killed {
            grouper = bench.grouper();
        }
        bench.write(late).await;
        grouper.catch_up(Incomplete::Ask).await.unwrap();
        let scored = bench.scored().await;
        let readings = |at| {
            scored
                .iter()
                .find(|(start, ..)| *start == minute(at))
                .map(|(_, count, _)| *count)
        };
        assert_eq!(
            [readings(100), readings(104), readings(105)],
            [Some(60); 3],
            "{is_killed}"
        );
    }
}

#[tokio::test]
async fn a_store_without_such_models_is_left_alone() {
    let bench = Bench::new().await;
    let store = Store::create("memory:///").unwrap();
    let mut idle = Grouper::new(bench.queue.clone(), store.clone(), bench.options, Arc::default());
    assert!(!idle.step(Incomplete::Ask).await.unwrap());
    assert!(store.list("grouping").await.unwrap().is_empty());
}
