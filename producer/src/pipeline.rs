//! One group of partitions on its way from source to queue.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};
use windrow_queue::Queue;
use windrow_service::Shutdown;
use windrow_store::Store;

use crate::checkpoint::{Checkpoint, Group};
use crate::dispatch::{self, Dispatcher};
use crate::ingest::{AtEnd, Counted, Ingest};
use crate::source::{Paced, Source};
use crate::window::{Windower, Windowing};
use crate::{ProducerError, Stats};

/// Steps between the ingest thread and the dispatcher: enough to keep both busy, few enough to bound memory.
const STEPS_AHEAD: usize = 4;

/// Published steps whose confirmations are outstanding; the queue's own bound is usually reached first.
const OUTSTANDING_STEPS: usize = 64;

/// What a producer needs to know besides its source and windows.
#[derive(Clone, Debug)]
pub struct ProducerOptions {
    /// Names the source in checkpoints and quarantine.
    pub source_name: String,
    /// What becomes of open windows at the end of a source that ends.
    pub at_end: AtEnd,
    /// Replay at this multiple of real time; as fast as possible when absent.
    pub speed: Option<f64>,
}

/// What readings become and where the messages go. Clones share queue, store and counts.
#[derive(Clone)]
pub struct Pipeline<Q> {
    /// How windows are cut.
    pub windowing: Windowing,
    /// Where scoring messages go.
    pub queue: Q,
    /// Where checkpoints, quarantine and the list of dispatched windows go.
    pub store: Store,
    /// The rest.
    pub options: ProducerOptions,
    /// Counts of all groups together.
    pub stats: Arc<Stats>,
}

impl<Q: Queue> Pipeline<Q> {
    /// Reads a source that belongs to this producer alone from where its checkpoint left it, and dispatches every complete
    /// interval, until the source ends or a stop is requested. When it returns `Ok`, everything published is confirmed and
    /// the checkpoint says so.
    pub async fn run(self, source: Box<dyn Source>, shutdown: Shutdown) -> Result<(), ProducerError> {
        self.run_group(source, Group::Whole, shutdown).await
    }

    /// Does the same for `group`, whose partitions are all of `source`'s.
    #[tracing::instrument(name = "group", skip_all, fields(partition = group.name()))]
    pub async fn run_group(
        self,
        mut source: Box<dyn Source>,
        group: Group,
        shutdown: Shutdown,
    ) -> Result<(), ProducerError> {
        let Self {
            windowing,
            queue,
            store,
            options,
            stats,
        } = self;
        let checkpoint = Checkpoint::open(&store, &options.source_name, &group, windowing).await?;
        let expired = checkpoint.expired(&group);
        if expired > 0 {
            tracing::warn!(events = expired, "events expired before they were read");
            stats.expired_events.inc_by(expired);
        }
        let partitions: Arc<[String]> = source.partitions().into();
        let position = checkpoint.position(&partitions);
        for (index, partition) in position.partitions.iter().enumerate() {
            source.seek(index, partition.resume)?;
        }
        if let Some(speed) = options.speed {
            source = Box::new(Paced::new(source, speed));
        }
        let (steps, to_dispatch) = mpsc::channel(STEPS_AHEAD);
        let (outstanding, to_confirm) = mpsc::channel(OUTSTANDING_STEPS);
        let ingest = Ingest {
            windower: Windower::of_source(windowing, &position, &*source, Instant::now()),
            source,
            known: checkpoint.known().clone(),
            partitions,
            at_end: options.at_end,
            steps,
            stats: Arc::clone(&stats),
            counted: Counted::default(),
            shutdown,
        };
        let dispatcher = Dispatcher::new(queue, &store, &options.source_name, Arc::clone(&stats));
        let (report_end, ingested) = oneshot::channel();
        let span = tracing::Span::current();
        // A thread of its own: it is busy for as long as the source lives.
        std::thread::Builder::new()
            .name("ingest".to_owned())
            .spawn(move || report_end.send(span.in_scope(|| ingest.run())))
            .map_err(ProducerError::Thread)?;
        let (dispatched, saved) = tokio::join!(
            dispatcher.run(to_dispatch, outstanding),
            dispatch::save_checkpoints(to_confirm, checkpoint, stats),
        );
        // When an async side has failed, its channel is closed and the ingest thread ends by itself.
        let ingested = ingested
            .await
            .map_err(|_| ProducerError::Panicked("its panic is in the log".to_owned()))?;
        saved.and(dispatched).and(ingested.map_err(ProducerError::from))
    }
}
