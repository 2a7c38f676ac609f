//! The producer, the queue and the workers in one process.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use windrow_common::{Backoff, HasRemedy, Reminder};
use windrow_grouper::{Grouper, GrouperOptions, Incomplete};
use windrow_producer::source::Source;
use windrow_producer::window::Windowing;
use windrow_producer::{Counts as Produced, Pipeline, ProducerOptions, Unusable};
use windrow_queue::{Memory, MemoryLimits, Queue};
use windrow_service::Shutdown;
use windrow_store::Store;
use windrow_worker::{CacheOptions, Counts as Worked, ModelCache, WorkerError, WorkerOptions};

use crate::error::CliError;
use crate::input::{Input, InputError};

/// Interval between two progress updates.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What a run reads.
pub(crate) enum Work {
    /// A source, from its checkpoint on.
    Run(Input),
    /// A source as a whole, without its checkpoint.
    Replay(Box<dyn Source>),
}

/// A run that is ready to start.
pub(crate) struct Run {
    pub(crate) work: Work,
    pub(crate) windowing: Windowing,
    pub(crate) store: Store,
    pub(crate) workers: usize,
    pub(crate) producer: ProducerOptions,
}

/// The counts of a run, so far or in total.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) produced: Produced,
    pub(crate) worked: Worked,
    /// Windows of several tags together that were asked for.
    pub(crate) grouped: u64,
    pub(crate) elapsed: Duration,
}

/// The result of a run.
pub(crate) struct Ran {
    pub(crate) counts: Counts,
    /// Whether the input was of use; only for a run to the end of its source.
    pub(crate) usable: Result<(), Unusable>,
}

impl Work {
    /// Runs `pipeline` on it.
    pub(crate) async fn run<Q: Queue>(
        self,
        pipeline: Pipeline<Q>,
        shutdown: Shutdown,
    ) -> Result<(), InputError> {
        match self {
            Self::Run(source) => source.run(pipeline, shutdown).await?,
            Self::Replay(source) => pipeline.replay(source, shutdown).await?,
        }
        Ok(())
    }
}

impl Run {
    /// Runs until the source ends or `shutdown` requests a stop. Everything dispatched is then scored, persisted and
    /// covered by the checkpoint. Calls `look` with the counts every `LOOK_EVERY`.
    pub(crate) async fn run(
        self,
        shutdown: Shutdown,
        mut look: impl FnMut(&Counts),
    ) -> Result<Ran, CliError> {
        let started = Instant::now();
        let produced = Arc::new(windrow_producer::Stats::default());
        let worked = Arc::new(windrow_worker::Stats::default());
        let queue = Memory::new(MemoryLimits::default(), &self.store);
        // The trigger stays alive and unused: the workers stop when the queue is closed and drained, not on a signal.
        let (_trigger, workers_shutdown) = Shutdown::new();
        let workers = spawn_workers(self.workers, &queue, &self.store, &worked, &workers_shutdown);
        let grouper_stats = Arc::new(windrow_grouper::Stats::default());
        let options = GrouperOptions::default();
        let grouper = Grouper::new(
            queue.clone(),
            self.store.clone(),
            options,
            Arc::clone(&grouper_stats),
        );
        let pipeline = Pipeline {
            windowing: self.windowing,
            queue: queue.clone(),
            store: self.store,
            options: self.producer,
            stats: Arc::clone(&produced),
        };
        let stops_early = shutdown.clone();
        let producing = grouping(self.work.run(pipeline, shutdown), grouper, stops_early);
        let counts = || Counts {
            produced: produced.counts(),
            worked: worked.counts(),
            grouped: grouper_stats.windows(),
            elapsed: started.elapsed(),
        };
        let driven = drive(producing, workers, &queue, || look(&counts())).await;
        produced.log_set_aside();
        driven?;
        Ok(Ran {
            counts: counts(),
            usable: produced.check_usable(),
        })
    }
}

/// Runs a producer with a grouper beside it. Unless the run is stopped early, all windows of the producer have
/// predictions at the end, and all resulting group windows have been requested. After an early stop, the next run
/// requests the windows that lack tags.
async fn grouping(
    producing: impl Future<Output = Result<(), InputError>>,
    grouper: Grouper<Memory>,
    stops_early: Shutdown,
) -> Result<(), CliError> {
    let (trigger, shutdown) = Shutdown::new();
    // Ends with this function, also if a worker fails first.
    let mut following = JoinSet::new();
    following.spawn(grouper.follow(shutdown));
    producing.await?;
    trigger.stop();
    let Some(grouper) = following.join_next().await else {
        return Ok(());
    };
    let mut grouper = grouper.map_err(|error| CliError::Panicked(error.to_string()))?;
    let incomplete = match stops_early.is_stopping() {
        true => Incomplete::Wait,
        false => Incomplete::Ask,
    };
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
    let mut reminder = Reminder::default();
    loop {
        match grouper.catch_up(incomplete).await {
            Ok(()) => return Ok(()),
            // After a stop, the drain timeout ends this.
            Err(error) if error.remedy().may_pass() => {
                if reminder.is_due_for(&error.to_string(), Instant::now()) {
                    tracing::warn!(%error, "cannot bring tags together; retrying");
                }
                tokio::time::sleep(backoff.next_wait()).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Runs `work`, which ends intake when `shutdown` requests a stop. Abandons it if it has not finished within
/// `drain_timeout` of the stop.
pub(crate) async fn within<T>(
    drain_timeout: Duration,
    mut shutdown: Shutdown,
    store: &Store,
    work: impl Future<Output = Result<T, CliError>>,
) -> Result<T, CliError> {
    let overdue = async {
        shutdown.stopping().await;
        tokio::time::sleep(drain_timeout).await;
    };
    tokio::select! {
        ended = work => ended,
        () = overdue => Err(CliError::DrainTimeout {
            waited: drain_timeout,
            outage: store.outage().map(|outage| format!(" (store: {outage})")).unwrap_or_default(),
        }),
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

/// Awaits the producer, then the workers. A worker's failure fails the run, because nothing would confirm the messages
/// that the worker held.
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
