//! Measures the lag of the partitions, over a separate connection to the hub.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use azure_messaging_eventhubs::ConsumerClient;
use tokio::time::{MissedTickBehavior, interval, timeout};
use windrow_common::EventTime;

use super::EventHubSource;
use super::opening::note_newest;
use crate::EventHubError;
use crate::client::part_with;
use crate::hub_clock::HubClock;
use crate::partition::ReadTo;
use windrow_producer::Stats;

/// Longest wait for the hub to say where a partition ends.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The partitions being read, and how far each has been read.
#[derive(Default)]
pub(crate) struct Watched(RefCell<HashMap<String, Arc<ReadTo>>>);

impl Watched {
    pub(crate) fn insert(&self, partition: &str, read_to: Arc<ReadTo>) {
        self.0.borrow_mut().insert(partition.to_owned(), read_to);
    }

    pub(crate) fn remove(&self, partition: &str) {
        self.0.borrow_mut().remove(partition);
    }

    /// Returns whether the partition is still read by the same pipeline.
    fn has(&self, partition: &str, read_to: &Arc<ReadTo>) -> bool {
        let watched = self.0.borrow();
        watched
            .get(partition)
            .is_some_and(|now| Arc::ptr_eq(now, read_to))
    }

    fn all(&self) -> Vec<(String, Arc<ReadTo>)> {
        let watched = self.0.borrow();
        let each = watched
            .iter()
            .map(|(partition, read_to)| (partition.clone(), Arc::clone(read_to)));
        each.collect()
    }
}

/// Updates the lag until the hub's partitions differ from `known`, and returns that as an error.
pub(crate) async fn watch(
    source: &EventHubSource,
    stats: &Stats,
    watched: &Watched,
    clock: &HubClock,
    known: &HashSet<String>,
    every: Duration,
) -> EventHubError {
    let mut tick = interval(every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut connection = None;
    loop {
        tick.tick().await;
        match look(source, stats, watched, clock, &mut connection).await {
            Ok(partitions) if partitions == *known => {}
            Ok(partitions) => {
                return EventHubError::Away {
                    hub: source.hub.to_string(),
                    why: format!(
                        "it had {} partitions and has {} now",
                        known.len(),
                        partitions.len()
                    ),
                    busy: false,
                };
            }
            Err(error) => {
                // The partitions' own receivers report an outage. An unknown lag is removed instead of left stale.
                tracing::debug!(%error, "cannot measure the lag of the partitions");
                for (partition, _) in watched.all() {
                    stats.forget_lag(&partition);
                }
                if let Some(client) = connection.take() {
                    part_with("watching connection", client.close()).await;
                }
            }
        }
    }
}

/// Sets the lag of each partition being read, and returns all partitions of the hub.
async fn look(
    source: &EventHubSource,
    stats: &Stats,
    watched: &Watched,
    clock: &HubClock,
    connection: &mut Option<ConsumerClient>,
) -> Result<HashSet<String>, EventHubError> {
    let hub = &source.hub;
    let client = match connection {
        Some(client) => client,
        None => {
            let opening = timeout(ANSWER_WITHIN, hub.consumer(&source.consumer_group));
            let opened = opening.await.map_err(|_| hub.silent(ANSWER_WITHIN))??;
            connection.insert(opened)
        }
    };
    let properties = timeout(ANSWER_WITHIN, client.get_eventhub_properties()).await;
    let properties = properties
        .map_err(|_| hub.silent(ANSWER_WITHIN))?
        .map_err(|error| hub.error(&error))?;
    for (partition, read_to) in watched.all() {
        let asked = Instant::now();
        let state = timeout(ANSWER_WITHIN, client.get_partition_properties(&partition)).await;
        let state = state
            .map_err(|_| hub.silent(ANSWER_WITHIN))?
            .map_err(|error| hub.error(&error))?;
        if !watched.has(&partition, &read_to) {
            // This producer lost the partition while the hub was answering. A lag set now would never be removed.
            continue;
        }
        let next = i64::try_from(read_to.next()).unwrap_or(i64::MAX);
        let events = match state.is_empty {
            true => 0,
            false => (state.last_enqueued_sequence_number + 1 - next).max(0),
        };
        note_newest(clock, &state);
        let asked_at = clock.time_at(asked);
        let seconds = if events > 0 {
            let now_ms = asked_at.map_or(0, EventTime::as_millis);
            now_ms.saturating_sub(read_to.enqueued_ms()).max(0) as f64 / 1_000.0
        } else {
            if let Some(asked_at) = asked_at {
                read_to.is_complete_until(asked_at);
            }
            0.0
        };
        stats.set_lag(&partition, events, seconds);
    }
    Ok(properties.partition_ids.into_iter().collect())
}
