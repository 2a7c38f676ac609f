//! One life of a system after another, each ended by a stop or a crash, until everything is read and scored.

use std::num::NonZeroU16;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use object_store::memory::InMemory;
use windrow_common::SensorId;
use windrow_model::{Features, TrainOptions, train};
use windrow_models::ModelRepository;
use windrow_producer::checkpoint::{Group, Opening, Origin};
use windrow_producer::source::decode::ColumnMapping;
use windrow_producer::source::file::FileSource;
use windrow_producer::source::{Offset, Source, Until};
use windrow_producer::{AtEnd, CheckpointError, Pipeline, ProducerError, ProducerOptions, Stats};
use windrow_service::Shutdown;
use windrow_store::Store;
use windrow_tests::Draws;
use windrow_worker::{CacheOptions, ModelCache, WorkerOptions};

use crate::broker::SimBroker;
use crate::clock::Clock;
use crate::disk::Disk;
use crate::faults::Faults;
use crate::objects::FaultyObjects;
use crate::oracle;
use crate::plan::{Kind, Plan, any, below, chance};
use crate::source::{SimSource, partition_name};

const SOURCE: &str = "simulated";

/// What outlives every process.
struct World {
    plan: Arc<Plan>,
    clock: Clock,
    faults: Faults,
    objects: Arc<InMemory>,
    broker: SimBroker,
    /// The files of [`Kind::Folder`].
    disk: Option<Disk>,
    /// The files that were deleted.
    deleted: Vec<Deleted>,
    /// Counts of the last producer.
    stats: Arc<Stats>,
    /// What has happened; a failure shows it.
    script: Vec<String>,
}

/// A file that was deleted while no producer ran.
#[derive(Debug)]
pub(crate) struct Deleted {
    pub(crate) partition: usize,
    /// The offsets of the entries that were in it.
    pub(crate) offsets: Vec<u64>,
    /// Whether windows that are not dispatched need it.
    pub(crate) is_needed: bool,
}

/// How a process ended.
#[derive(Debug)]
enum End {
    Done,
    Crashed,
    Failed(String),
}

/// Simulates what `seed` decides. An error says what does not hold, and what had happened.
pub(crate) fn simulate(seed: u64) -> Result<(), String> {
    windrow_common::seed_random(seed);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let mut draws = Draws(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let plan = Plan::draw(&mut draws);
        let mut world = World::new(plan, &mut draws).await?;
        let outcome = world.live(&mut draws).await;
        outcome.map_err(|why| format!("{why}\nwhat had happened:\n  {}", world.script.join("\n  ")))
    })
}

impl World {
    async fn new(plan: Plan, draws: &mut Draws) -> Result<Self, String> {
        let faults = Faults::default();
        let plan = Arc::new(plan);
        let disk = match plan.kind {
            Kind::Folder => Some(Disk::start(&plan, draws).map_err(|error| error.to_string())?),
            _ => None,
        };
        let world = Self {
            disk,
            deleted: Vec::new(),
            stats: Arc::default(),
            broker: SimBroker::new(&faults),
            clock: Clock::start(),
            objects: Arc::new(InMemory::new()),
            script: vec![format!(
                "{:?} of {} partitions, {} sensors, {} items until {} ms, windows of {:?}, intervals of {:?}, orderly: {}",
                plan.kind,
                plan.partitions.len(),
                plan.sensors,
                plan.entries().count(),
                plan.released_by_ms,
                plan.window,
                plan.interval,
                plan.orderly,
            )],
            plan,
            faults,
        };
        world.add_models().await?;
        Ok(world)
    }

    async fn add_models(&self) -> Result<(), String> {
        let normal: Vec<f64> = (0..20).map(f64::from).collect();
        let features: Features = "mean".parse().map_err(|_| "no features".to_owned())?;
        let model = train(&normal, features, &TrainOptions::default()).map_err(|error| error.to_string())?;
        let models = ModelRepository::new(self.quiet_store());
        let without = usize::from(self.plan.one_without_model);
        for sensor in 0..self.plan.sensors - without {
            let sensor = SensorId::new(&format!("d{sensor}"), "t").map_err(|error| error.to_string())?;
            models
                .put(&sensor, &model)
                .await
                .map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Returns the store without faults.
    fn quiet_store(&self) -> Store {
        Store::from_objects(Arc::clone(&self.objects) as _, "simulated")
    }

    fn faulty_store(&self) -> Store {
        let objects = FaultyObjects {
            objects: Arc::clone(&self.objects),
            faults: self.faults.clone(),
        };
        Store::from_objects(Arc::new(objects), "simulated")
    }

    async fn live(&mut self, draws: &mut Draws) -> Result<(), String> {
        if self.plan.kind == Kind::Files {
            // Much of the files is there when they are first read.
            let ms = any(
                draws,
                &[0, self.plan.released_by_ms / 2, self.plan.released_by_ms],
            );
            tokio::time::sleep(Duration::from_millis(ms)).await;
        }
        let first_run_ms = self.clock.now_ms();
        for _ in 0..below(draws, 6) {
            self.faults
                .set(any(draws, &[0, 5, 50]), any(draws, &[0, 100, 3_000]));
            self.one_life(draws).await?;
            if chance(draws, 10) {
                self.delete_a_file().await?;
            }
            if chance(draws, 10) {
                self.refuse_a_stranger(draws).await?;
            }
            if chance(draws, 20) {
                let pause = Duration::from_secs(any(draws, &[60, 4_000, 100 * 86_400]));
                self.script.push(format!("{pause:?} pass"));
                tokio::time::sleep(pause).await;
            }
        }
        self.last_life(draws).await?;
        let missed = self.stats.counts().missed_partitions;
        let (store, deleted) = (self.quiet_store(), &self.deleted);
        oracle::check(&self.plan, first_run_ms, deleted, missed, &store, &self.broker).await
    }

    /// Deletes a file that may have been read, and whose windows may be open.
    async fn delete_a_file(&mut self) -> Result<(), String> {
        let Some((partition, offsets)) = self.disk.as_ref().and_then(Disk::delete_a_file) else {
            return Ok(());
        };
        let mut is_needed = false;
        if let Some(checkpoint) = self.checkpoint().await? {
            let position = &checkpoint["partitions"][format!("{partition}.csv")];
            let judged = position["claim"]["judged"].as_u64();
            is_needed = position["resume"].as_u64() < judged.max(position["judged"].as_u64());
        }
        self.script.push(format!(
            "the first file of partition {partition} is deleted; its windows are open: {is_needed}"
        ));
        self.deleted.push(Deleted {
            partition,
            offsets,
            is_needed,
        });
        Ok(())
    }

    /// Starts a producer of another source under the same name. It must not read, once a checkpoint says what was read.
    async fn refuse_a_stranger(&mut self, draws: &mut Draws) -> Result<(), String> {
        let checkpoint = self.checkpoint().await?.unwrap_or_default();
        let is_bound = checkpoint["partitions"]
            .as_object()
            .is_some_and(|partitions| !partitions.is_empty());
        if self.plan.kind == Kind::Hub || !is_bound {
            return Ok(());
        }
        let mut stranger = self.pipeline(draws, AtEnd::Dispatch)?;
        stranger.store = self.quiet_store();
        stranger.options.opening.origin.source = "sim://another".to_owned();
        let source = SimSource::open(&self.plan, self.clock, vec![0], Until::CaughtUp);
        let (_trigger, shutdown) = Shutdown::new();
        match stranger.run(Box::new(source), shutdown).await {
            Err(ProducerError::Checkpoint(CheckpointError::OtherSource { .. })) => Ok(()),
            other => Err(format!("another source used the checkpoint: {other:?}")),
        }
    }

    /// Returns the checkpoint of a source that one producer reads.
    async fn checkpoint(&self) -> Result<Option<serde_json::Value>, String> {
        let store = self.quiet_store();
        let listed = store
            .list("checkpoints")
            .await
            .map_err(|error| error.to_string())?;
        let Some(blob) = listed.first() else {
            return Ok(None);
        };
        let bytes = store.get(&blob.path).await.map_err(|error| error.to_string())?;
        let json = serde_json::from_slice(&bytes.unwrap_or_default());
        json.map(Some).map_err(|error| error.to_string())
    }

    /// Runs producers and workers until they end, crash, or are stopped.
    async fn one_life(&mut self, draws: &mut Draws) -> Result<(), String> {
        let (trigger, shutdown) = Shutdown::new();
        let mut processes = FuturesUnordered::new();
        for producer in 0..self.producers(draws) {
            let polls = self.draw_polls(draws);
            let run = self.producer(draws, false, &shutdown)?;
            self.script
                .push(format!("producer {producer} starts, {polls:?} polls to live"));
            processes.push(Mortal::new(run, polls));
        }
        for worker in 0..below(draws, 3) {
            let polls = self.draw_polls(draws);
            self.script
                .push(format!("worker {worker} starts, {polls:?} polls to live"));
            processes.push(Mortal::new(self.worker(draws, &shutdown), polls));
        }
        let span = Duration::from_millis(1 + below(draws, self.plan.released_by_ms * 2));
        let stop = tokio::time::sleep(span);
        tokio::pin!(stop);
        let mut stopping = false;
        // A stop ends every process that outages do not hold up; the rest is killed.
        loop {
            tokio::select! {
                biased;
                ended = processes.next() => match ended {
                    None => break,
                    Some(End::Failed(why)) => return Err(format!("a process failed: {why}")),
                    Some(end) => self.script.push(format!("a process ended at {} ms: {end:?}", self.clock.now_ms())),
                },
                () = &mut stop => {
                    if stopping {
                        self.script.push("the rest is killed".to_owned());
                        break;
                    }
                    stopping = true;
                    self.script.push(format!("a stop at {} ms", self.clock.now_ms()));
                    trigger.stop();
                    stop.as_mut().reset(tokio::time::Instant::now() + Duration::from_secs(below(draws, 20)));
                }
            }
        }
        Ok(())
    }

    /// Reads and scores all that is left, without faults.
    async fn last_life(&mut self, draws: &mut Draws) -> Result<(), String> {
        self.faults.set(0, 0);
        let left = self.plan.released_by_ms.saturating_sub(self.clock.now_ms());
        tokio::time::sleep(Duration::from_millis(left + 1)).await;
        self.script.push("the last life".to_owned());
        let (_trigger, shutdown) = Shutdown::new();
        let producer = self.producer(draws, true, &shutdown)?;
        if let End::Failed(why) = Mortal::new(producer, None).await {
            return Err(format!("the last producer failed: {why}"));
        }
        self.broker.close();
        match Mortal::new(self.worker(draws, &shutdown), None).await {
            End::Failed(why) => Err(format!("the last worker failed: {why}")),
            _ => Ok(()),
        }
    }

    fn producers(&self, draws: &mut Draws) -> u64 {
        match self.plan.kind {
            Kind::Hub => 1 + below(draws, 2),
            Kind::Files | Kind::Followed | Kind::Folder => 1,
        }
    }

    fn draw_polls(&self, draws: &mut Draws) -> Option<u64> {
        chance(draws, 60).then(|| {
            let most = any(draws, &[20, 200, 2_000]);
            below(draws, most)
        })
    }

    /// Returns a pipeline with options of its own.
    fn pipeline(&mut self, draws: &mut Draws, at_end: AtEnd) -> Result<Pipeline<SimBroker>, String> {
        let options = self.plan.draw_options(draws);
        let max_open = any(draws, &[0, 2, 10, 500_000]);
        self.script.push(format!(
            "out-of-orderness {:?}, lateness {:?}, skew {:?}, idle after {:?}, {max_open} windows in a pass",
            options.out_of_orderness, options.allowed_lateness, options.max_skew, options.idle_after
        ));
        let windowing = options.validate().map_err(|error| error.to_string())?;
        Ok(Pipeline {
            windowing: windowing.with_max_open(max_open),
            queue: self.broker.clone(),
            store: self.faulty_store(),
            options: ProducerOptions {
                opening: Opening {
                    source_name: SOURCE.to_owned(),
                    origin: Origin {
                        source: "sim://plan".to_owned(),
                        ..Origin::default()
                    },
                    restart: false,
                },
                at_end,
                speed: None,
            },
            stats: Arc::new(Stats::default()),
        })
    }

    /// Returns a producer of everything, or of some partitions of a hub.
    fn producer(
        &mut self,
        draws: &mut Draws,
        is_last: bool,
        shutdown: &Shutdown,
    ) -> Result<BoxFuture<'static, End>, String> {
        let at_end = match is_last {
            true => AtEnd::Dispatch,
            false => any(draws, &[AtEnd::Keep, AtEnd::Reached]),
        };
        let pipeline = self.pipeline(draws, at_end)?;
        self.stats = Arc::clone(&pipeline.stats);
        let until = match (self.plan.kind, is_last) {
            (Kind::Files, _) | (_, true) => Until::CaughtUp,
            _ => Until::Stopped,
        };
        let all: Vec<usize> = (0..self.plan.partitions.len()).collect();
        let (plan, clock, shutdown) = (Arc::clone(&self.plan), self.clock, shutdown.clone());
        if self.plan.kind != Kind::Hub {
            let source: Box<dyn Source> = match &self.disk {
                Some(disk) => {
                    let opened = FileSource::open(disk.path(), &ColumnMapping::default(), until);
                    Box::new(opened.map_err(|error| error.to_string())?)
                }
                None => Box::new(SimSource::open(&plan, clock, all, until)),
            };
            return Ok(Box::pin(
                async move { end_of(pipeline.run(source, shutdown).await) },
            ));
        }
        let mine: Vec<usize> = all.into_iter().filter(|_| is_last || chance(draws, 60)).collect();
        self.script.push(format!("it takes partitions {mine:?}"));
        Ok(Box::pin(async move {
            let groups = mine.into_iter().map(|partition| {
                let source = Box::new(SimSource::open(&plan, clock, vec![partition], until));
                let group = Group::Partition {
                    name: partition_name(partition),
                    start: Some(Offset(0)),
                    oldest: Offset(0),
                };
                pipeline.clone().run_group(source, group, shutdown.clone())
            });
            let ended = futures::future::join_all(groups).await;
            let failed = ended
                .into_iter()
                .map(end_of)
                .find(|end| matches!(end, End::Failed(_)));
            failed.unwrap_or(End::Done)
        }))
    }

    fn worker(&self, draws: &mut Draws, shutdown: &Shutdown) -> BoxFuture<'static, End> {
        let stats = Arc::new(windrow_worker::Stats::default());
        let store = self.faulty_store();
        let models = ModelCache::new(store.clone(), CacheOptions::default(), Arc::clone(&stats));
        let prefetch = NonZeroU16::new(any(draws, &[1, 5, 100])).unwrap_or(NonZeroU16::MIN);
        let options = WorkerOptions {
            prefetch: prefetch.into(),
            ..WorkerOptions::new("w")
        };
        let (broker, shutdown) = (self.broker.clone(), shutdown.clone());
        Box::pin(async move {
            match windrow_worker::run(broker, store, models, options, stats, shutdown).await {
                Ok(()) => End::Done,
                Err(error) => End::Failed(error.to_string()),
            }
        })
    }
}

/// A producer whose partition was taken over has to stop, and loses nothing by it.
fn end_of(ended: Result<(), ProducerError>) -> End {
    match ended {
        Ok(()) | Err(ProducerError::Checkpoint(CheckpointError::TakenOver { .. })) => End::Done,
        Err(error) => End::Failed(error.to_string()),
    }
}

/// A process that may die at any await.
struct Mortal {
    process: Option<BoxFuture<'static, End>>,
    polls_left: Option<u64>,
}

impl Mortal {
    fn new(process: BoxFuture<'static, End>, polls_left: Option<u64>) -> Self {
        Self {
            process: Some(process),
            polls_left,
        }
    }
}

impl Future for Mortal {
    type Output = End;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<End> {
        if self.polls_left == Some(0) {
            self.process = None;
        }
        self.polls_left = self.polls_left.map(|left| left.saturating_sub(1));
        match &mut self.process {
            None => Poll::Ready(End::Crashed),
            Some(process) => process.as_mut().poll(context),
        }
    }
}
