//! From readings to scoring messages: sources, windows, dispatch, checkpoints.
//!
//! ```text
//! source ──batch──▶ window ──step──▶ dispatch ──confirmations──▶ checkpoint
//!   └─ one blocking thread ─┘          └──────── async tasks ────────┘
//! ```

pub mod args;
mod checkpoint;
mod dispatch;
mod history;
mod ingest;
pub mod pace;
pub mod quarantine;
pub mod sensors;
pub mod source;
mod stats;
pub mod window;

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};
use windrow_common::queue::{Queue, QueueError};
use windrow_common::store::{Store, StoreError, TableError};
use windrow_common::{CodecError, Shutdown};

pub use checkpoint::CheckpointError;
pub use history::{HistoryCounts, read_history};
pub use ingest::AtEnd;
pub use stats::{Counts, Stats};

use checkpoint::{Checkpoint, Group};
use dispatch::Dispatcher;
use ingest::{Counted, Ingest};
use pace::Pace;
use source::{Source, SourceError};
use window::{Windower, Windowing};

/// Steps between the ingest thread and the dispatcher: enough to keep both busy, few enough to bound memory.
const STEPS_AHEAD: usize = 4;

/// Published steps whose confirmations are waited for; the queue's own bound comes first as a rule.
const OUTSTANDING_STEPS: usize = 64;

/// What a producer is told besides its source and windows.
#[derive(Clone, Debug)]
pub struct ProducerOptions {
    /// Names the source in checkpoints and quarantine.
    pub source_name: String,
    /// What becomes of open windows at the end of a source that ends.
    pub at_end: AtEnd,
    /// Replay at this multiple of real time; as fast as possible when absent.
    pub speed: Option<f64>,
}

/// What ends a producer before its source does.
#[derive(Debug, thiserror::Error)]
pub enum ProducerError {
    /// The source failed.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The store failed for good.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The queue failed for good.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The checkpoint cannot be used.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A scoring message cannot be encoded.
    #[error("message {id} cannot be encoded")]
    Encode {
        /// The message.
        id: String,
        /// Why.
        source: CodecError,
    },
    /// A part of `dispatched/` cannot be encoded.
    #[error("{path} cannot be encoded")]
    Dispatched {
        /// The part.
        path: String,
        /// Why.
        source: TableError,
    },
    /// The Event Hub refused, or the options for it are wrong.
    #[cfg(feature = "eventhubs")]
    #[error(transparent)]
    EventHub(#[from] source::eventhubs::EventHubError),
    /// The ingest thread cannot be started.
    #[error("no thread can be started: {0}")]
    Thread(std::io::Error),
    /// The ingest thread panicked.
    #[error("the ingest thread died: {0}")]
    Panicked(String),
}

impl ProducerError {
    /// Whether a person has to change what the program was told, as opposed to the world it met.
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Source(error) => error.is_usage(),
            Self::Store(error) => error.is_usage(),
            Self::Queue(QueueError::Amqp(error)) => !error.is_transient(),
            Self::Checkpoint(error) => error.is_usage(),
            #[cfg(feature = "eventhubs")]
            Self::EventHub(error) => !error.is_transient(),
            _ => false,
        }
    }
}

/// A source as a producer meets it.
pub enum Input {
    /// All its partitions are this producer's.
    Own(Box<dyn Source>),
    /// Its partitions are shared with other producers.
    #[cfg(feature = "eventhubs")]
    Shared(Box<source::eventhubs::EventHubSource>),
}

/// Reads `input` from where its checkpoints left it and dispatches every complete interval, until it ends or a stop is
/// asked for. When it returns `Ok`, everything published is confirmed and the checkpoints say so.
pub async fn run<Q: Queue>(
    input: Input,
    windowing: Windowing,
    queue: Q,
    store: Store,
    options: ProducerOptions,
    stats: Arc<Stats>,
    shutdown: Shutdown,
) -> Result<(), ProducerError> {
    let downstream = Downstream {
        windowing,
        queue,
        store,
        options,
        stats,
    };
    match input {
        Input::Own(source) => run_group(source, Group::Whole, downstream, shutdown).await,
        #[cfg(feature = "eventhubs")]
        Input::Shared(source) => source::eventhubs::run(*source, downstream, shutdown).await,
    }
}

/// What readings become and where it goes, whatever they are read from.
#[derive(Clone)]
pub(crate) struct Downstream<Q> {
    pub(crate) windowing: Windowing,
    pub(crate) queue: Q,
    pub(crate) store: Store,
    pub(crate) options: ProducerOptions,
    pub(crate) stats: Arc<Stats>,
}

/// Reads the partitions of one group, which `source` consists of.
pub(crate) async fn run_group<Q: Queue>(
    mut source: Box<dyn Source>,
    group: Group,
    downstream: Downstream<Q>,
    shutdown: Shutdown,
) -> Result<(), ProducerError> {
    let Downstream {
        windowing,
        queue,
        store,
        options,
        stats,
    } = downstream;
    let checkpoint = Checkpoint::open(&store, &options.source_name, &group, windowing).await?;
    let expired = checkpoint.expired(&group);
    if expired > 0 {
        let partition = group.name();
        tracing::warn!(
            partition,
            events = expired,
            "events expired before they were read"
        );
        stats.expired_events.inc_by(expired);
    }
    let partitions: Arc<[String]> = source.partitions().into();
    let position = checkpoint.position(&partitions);
    for (index, partition) in position.partitions.iter().enumerate() {
        source.seek(index, partition.resume)?;
    }
    let (steps, to_dispatch) = mpsc::channel(STEPS_AHEAD);
    let (outstanding, to_confirm) = mpsc::channel(OUTSTANDING_STEPS);
    let ingest = Ingest {
        source,
        windower: Windower::new(windowing, &position, Instant::now()),
        known: checkpoint.known().clone(),
        partitions,
        at_end: options.at_end,
        pace: options.speed.map(Pace::new),
        steps,
        stats: Arc::clone(&stats),
        counted: Counted::default(),
        shutdown,
    };
    let dispatcher = Dispatcher {
        source_name: options.source_name,
        queue,
        store,
        stats: Arc::clone(&stats),
    };
    let (tell, ingested) = oneshot::channel();
    // A thread of its own: it is busy for as long as the source lives.
    std::thread::Builder::new()
        .name("ingest".to_owned())
        .spawn(move || tell.send(ingest.run()))
        .map_err(ProducerError::Thread)?;
    let (dispatched, saved) = tokio::join!(
        dispatcher.run(to_dispatch, outstanding),
        dispatch::save_checkpoints(to_confirm, checkpoint, stats),
    );
    // When an async side failed, its channel is closed and the ingest thread ends by itself.
    let ingested = ingested
        .await
        .map_err(|_| ProducerError::Panicked("the log says where".to_owned()))?;
    saved.and(dispatched).and(ingested.map_err(ProducerError::from))
}
