//! Runs one group of partitions from source to queue.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::Instant;
use windrow_queue::Queue;
use windrow_service::Shutdown;
use windrow_store::Store;

use crate::checkpoint::{Checkpoint, Group, Opening};
use crate::dispatch::{self, Dispatcher};
use crate::ingest::{AtEnd, Counted, Ingest};
use crate::journal::Journal;
use crate::oversize::Confirmer;
use crate::source::{Batch, Paced, Source};
use crate::window::{Windower, Windowing};
use crate::{ProducerError, Stats};

/// Steps between the ingest thread and the dispatcher: enough to keep both busy, few enough to bound memory.
const STEPS_AHEAD: usize = 4;

/// Published steps whose confirmations are outstanding; the queue's own bound is usually reached first.
const OUTSTANDING_STEPS: usize = 64;

/// Options of a producer besides its source and windows.
#[derive(Clone, Debug)]
pub struct ProducerOptions {
    /// The source's name in checkpoints and quarantine, and what its checkpoints belong to.
    pub opening: Opening,
    /// What to do with open windows at the end of the source.
    pub at_end: AtEnd,
    /// Replay speed as a multiple of real time; as fast as possible if absent.
    pub speed: Option<f64>,
}

/// A pipeline that turns a source's readings into scoring messages on a queue. Clones share queue, store and counts.
#[derive(Clone)]
pub struct Pipeline<Q> {
    /// How windows are cut.
    pub windowing: Windowing,
    /// Where scoring messages go.
    pub queue: Q,
    /// Where checkpoints, quarantine and the list of dispatched windows go.
    pub store: Store,
    /// The other options.
    pub options: ProducerOptions,
    /// Counts over all groups.
    pub stats: Arc<Stats>,
}

impl<Q: Queue> Pipeline<Q> {
    /// Reads a source that belongs to this producer alone, from its checkpoint on, and dispatches every complete
    /// interval until the source ends or a stop is requested. When it returns `Ok`, every published message is
    /// confirmed and the checkpoint is saved.
    pub async fn run(self, source: Box<dyn Source>, shutdown: Shutdown) -> Result<(), ProducerError> {
        self.run_group(source, Group::Whole, shutdown).await
    }

    /// Reads the whole source once more and dispatches what it holds, whatever an earlier run has read. The source's
    /// checkpoint is neither used nor moved. When it returns `Ok`, every published message is confirmed.
    #[tracing::instrument(name = "group", skip_all, fields(partition = Group::Whole.name()))]
    pub async fn replay(self, source: Box<dyn Source>, shutdown: Shutdown) -> Result<(), ProducerError> {
        let checkpoint = Checkpoint::unkept(&self.store, &self.options.opening, self.windowing);
        self.run_from(source, checkpoint, shutdown).await
    }

    /// Does the same as [`Pipeline::run`] for one `group`. `source` has exactly the partitions of that group.
    #[tracing::instrument(name = "group", skip_all, fields(partition = group.name()))]
    pub async fn run_group(
        self,
        source: Box<dyn Source>,
        group: Group,
        shutdown: Shutdown,
    ) -> Result<(), ProducerError> {
        let opening = &self.options.opening;
        let checkpoint = Checkpoint::open(&self.store, opening, &group, self.windowing).await?;
        let expired = checkpoint.expired(&group);
        if expired > 0 {
            tracing::warn!(events = expired, "events expired before they were read");
            self.stats.expired_events.inc_by(expired);
        }
        self.run_from(source, checkpoint, shutdown).await
    }

    /// Reads `source` from `checkpoint` on.
    async fn run_from(
        self,
        mut source: Box<dyn Source>,
        checkpoint: Checkpoint,
        shutdown: Shutdown,
    ) -> Result<(), ProducerError> {
        let Self {
            windowing,
            queue,
            store,
            options,
            stats,
        } = self;
        source.recognise(checkpoint.saved_partitions());
        let partitions: Arc<[String]> = source.partitions().into();
        for (partition, position) in checkpoint.missed(&partitions) {
            tracing::warn!(
                partition,
                from = position.resume.0,
                to = position.judged.0,
                "the file is gone or was replaced, and windows that are not dispatched need its rows between these \
                 offsets; put it back and start again, or they are scored without them"
            );
            stats.missed_partitions.inc();
        }
        let position = checkpoint.position(&partitions);
        for (index, partition) in position.partitions.iter().enumerate() {
            source.seek(index, partition.resume)?;
        }
        if let Some(speed) = options.speed {
            source = Box::new(Paced::new(source, speed));
        }
        let (steps, to_dispatch) = mpsc::channel(STEPS_AHEAD);
        let (outstanding, to_confirm) = mpsc::channel(OUTSTANDING_STEPS);
        let sensors = checkpoint.sensors()?;
        let now = Instant::now().into_std();
        let ingest = Ingest {
            windower: Windower::of_source(windowing, &position, &*source, now),
            source,
            known: checkpoint.known().clone(),
            partitions: Arc::clone(&partitions),
            at_end: options.at_end,
            steps,
            stats: Arc::clone(&stats),
            counted: Counted::from(&sensors),
            sensors,
            shutdown,
            batch: Batch::default(),
            sent_at: now,
        };
        let journal = Arc::new(Journal::new(checkpoint, partitions, Arc::clone(&stats)));
        let name = &options.opening.source_name;
        let confirmer = Confirmer::new(queue.clone(), &store, Arc::clone(&stats));
        let dispatcher = Dispatcher::new(queue, &store, name, Arc::clone(&journal), Arc::clone(&stats));
        let (dispatched, saved, ingested) = tokio::join!(
            dispatcher.run(to_dispatch, outstanding),
            dispatch::save_checkpoints(to_confirm, journal, confirmer),
            ingest.run(),
        );
        saved.and(dispatched).and(ingested)
    }
}
