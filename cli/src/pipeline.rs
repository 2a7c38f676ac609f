//! Producer, queue and workers in this one process.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use windrow_common::Shutdown;
use windrow_common::queue::{Memory, MemoryLimits};
use windrow_common::store::Store;
use windrow_producer::window::Windowing;
use windrow_producer::{Counts as Produced, Input, ProducerOptions};
use windrow_worker::{CacheOptions, Counts as Worked, ModelCache, WorkerError, WorkerOptions};

use crate::error::CliError;

/// How often progress is shown.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// One run, ready to go.
pub(crate) struct Pipeline {
    pub(crate) source: Input,
    pub(crate) windowing: Windowing,
    pub(crate) store: Store,
    pub(crate) workers: usize,
    pub(crate) producer: ProducerOptions,
}

/// What a run has done, so far or in all.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) produced: Produced,
    pub(crate) worked: Worked,
    pub(crate) elapsed: Duration,
}

impl Pipeline {
    /// Runs until the source ends or `shutdown` asks for a stop; whatever was dispatched is then scored, persisted and
    /// in the checkpoint. `look` is shown the counts now and then.
    pub(crate) async fn run(
        self,
        shutdown: Shutdown,
        mut look: impl FnMut(&Counts),
    ) -> Result<Counts, CliError> {
        let started = Instant::now();
        let produced = Arc::new(windrow_producer::Stats::default());
        let worked = Arc::new(windrow_worker::Stats::default());
        let queue = Memory::new(MemoryLimits::default(), self.store.clone());
        // Kept: the workers stop when the queue is closed and drained, not when the signal comes.
        let (_trigger, workers_shutdown) = Shutdown::new();
        let workers = spawn_workers(self.workers, &queue, &self.store, &worked, &workers_shutdown);
        let producing = windrow_producer::run(
            self.source,
            self.windowing,
            queue.clone(),
            self.store,
            self.producer,
            Arc::clone(&produced),
            shutdown,
        );
        let counts = || Counts {
            produced: produced.counts(),
            worked: worked.counts(),
            elapsed: started.elapsed(),
        };
        drive(producing, workers, &queue, || look(&counts())).await?;
        Ok(counts())
    }
}

/// Spawns `count` workers that share one model cache.
pub(crate) fn spawn_workers(
    count: usize,
    queue: &Memory,
    store: &Store,
    stats: &Arc<windrow_worker::Stats>,
    shutdown: &Shutdown,
) -> JoinSet<Result<(), WorkerError>> {
    let models = ModelCache::new(store.clone(), CacheOptions::default(), Arc::clone(stats));
    let mut workers = JoinSet::new();
    for number in 0..count {
        workers.spawn(windrow_worker::run(
            queue.clone(),
            store.clone(),
            models.clone(),
            WorkerOptions::new(&format!("w{number}")),
            Arc::clone(stats),
            shutdown.clone(),
        ));
    }
    workers
}

/// Awaits the producing side, then the workers. A worker that fails fails the run: nobody would confirm what it held.
pub(crate) async fn drive<E>(
    producing: impl Future<Output = Result<(), E>>,
    mut workers: JoinSet<Result<(), WorkerError>>,
    queue: &Memory,
    mut look: impl FnMut(),
) -> Result<(), CliError>
where
    CliError: From<E>,
{
    let mut producing = std::pin::pin!(producing);
    let mut tick = tokio::time::interval(LOOK_EVERY);
    let mut produced = false;
    loop {
        tokio::select! {
            result = &mut producing, if !produced => {
                result?;
                produced = true;
                queue.close();
            }
            ended = workers.join_next() => match ended {
                None => break,
                Some(ended) => ended.map_err(|error| CliError::Panicked(error.to_string()))??,
            },
            _ = tick.tick() => look(),
        }
    }
    look();
    Ok(())
}
