//! What is durable, and what has been claimed beyond it.
//!
//! A claim is saved before its effects can be seen: quarantined readings, dispatched windows, messages. So a run that
//! continues from the checkpoint knows everything that may have been done and repeats it with the same readings. A
//! producer whose partition was taken over cannot claim any more, so it publishes nothing that the new owner does not know of.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;
use windrow_common::SensorId;

use crate::checkpoint::Checkpoint;
use crate::window::{Claim, Position};
use crate::{ProducerError, Stats};

/// Progress is saved with a claim, or else at most this often, and at the end.
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// The pause after a save is at least this many times as long as the save, so that large checkpoints cost little.
const PAUSES_PER_SAVE: u32 = 10;

/// The checkpoint of a group, and the outstanding steps beyond it.
pub(crate) struct Journal {
    state: Mutex<State>,
    stats: Arc<Stats>,
}

struct State {
    checkpoint: Checkpoint,
    /// Everything before it is durable.
    durable: Position,
    partitions: Arc<[String]>,
    /// The steps beyond it, in order.
    ahead: VecDeque<Ahead>,
    /// Whether more is durable than the checkpoint says.
    has_progress: bool,
    /// Whether the checkpoint holds a claim.
    holds_claim: bool,
    /// When progress is saved at the earliest, unless it goes with a claim.
    save_next: Instant,
}

/// An outstanding step.
pub(crate) struct Ahead {
    pub(crate) position: Position,
    /// What it has set aside, by partition.
    pub(crate) news: Vec<Claim>,
    pub(crate) partitions: Arc<[String]>,
}

/// Adds what was set aside later, by partition.
pub(crate) fn add_news(news: &mut Vec<Claim>, later: &[Claim]) {
    if news.len() < later.len() {
        news.resize_with(later.len(), Claim::default);
    }
    for (news, later) in news.iter_mut().zip(later) {
        news.extend(later);
    }
}

impl Journal {
    /// Creates a journal that starts at the position of `checkpoint`, for these partitions.
    pub(crate) fn new(checkpoint: Checkpoint, partitions: Arc<[String]>, stats: Arc<Stats>) -> Self {
        let state = State {
            durable: checkpoint.position(&partitions),
            checkpoint,
            partitions,
            ahead: VecDeque::new(),
            has_progress: false,
            holds_claim: false,
            save_next: Instant::now() + SAVE_EVERY,
        };
        Self {
            state: Mutex::new(state),
            stats,
        }
    }

    /// Adds a step. If it will leave traces, the claim to it is saved before this returns.
    pub(crate) async fn claim(
        &self,
        step: Ahead,
        new_sensors: Vec<SensorId>,
        leaves_traces: bool,
    ) -> Result<(), ProducerError> {
        let mut state = self.state.lock().await;
        state.checkpoint.add_sensors(new_sensors);
        state.ahead.push_back(step);
        match leaves_traces {
            true => self.save(&mut state).await,
            false => Ok(()),
        }
    }

    /// Notes that the first step ahead is durable.
    pub(crate) async fn confirm(&self) -> Result<(), ProducerError> {
        let mut state = self.state.lock().await;
        if let Some(step) = state.ahead.pop_front() {
            (state.durable, state.partitions) = (step.position, step.partitions);
            state.has_progress = true;
        }
        match Instant::now() >= state.save_next {
            true => self.save(&mut state).await,
            false => Ok(()),
        }
    }

    /// Saves what is durable, unless that has been done.
    pub(crate) async fn save_last(&self) -> Result<(), ProducerError> {
        let mut state = self.state.lock().await;
        match state.has_progress || state.holds_claim {
            true => self.save(&mut state).await,
            false => Ok(()),
        }
    }

    async fn save(&self, state: &mut State) -> Result<(), ProducerError> {
        let begun = Instant::now();
        let (position, partitions) = match state.ahead.back() {
            None => (state.durable.clone(), Arc::clone(&state.partitions)),
            Some(last) => {
                let mut news = Vec::new();
                for step in &state.ahead {
                    add_news(&mut news, &step.news);
                }
                (
                    state.durable.claiming(&last.position, &news),
                    Arc::clone(&last.partitions),
                )
            }
        };
        state.checkpoint.save(&partitions, &position).await?;
        if state.has_progress {
            state.save_next = Instant::now() + SAVE_EVERY.max(begun.elapsed() * PAUSES_PER_SAVE);
        }
        state.has_progress = false;
        state.holds_claim = !state.ahead.is_empty();
        self.stats.checkpoints.inc();
        Ok(())
    }
}
