//! Begins a session: finds where each partition begins and ends, and checks that the checkpoints belong to this hub.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use azure_messaging_eventhubs::models::EventHubPartitionProperties;
use azure_messaging_eventhubs::{EventHubsError, EventProcessor, StartLocation, StartPosition};
use windrow_common::EventTime;
use windrow_queue::Queue;

use super::ownership::{Hub, Ownerships};
use super::{EventHubSource, RENEWALS, Start};
use crate::SharingError;
use crate::body::time_of;
use crate::hub_clock::HubClock;
use crate::partition::Bounds;
use windrow_producer::Pipeline;
use windrow_producer::checkpoint::{Checkpoint, CheckpointError, Resume};
use windrow_producer::source::{Offset, Until};

/// An open session with the hub.
pub(crate) struct Opened {
    pub(crate) processor: Arc<EventProcessor>,
    pub(crate) ownerships: Arc<Ownerships>,
    /// The hub's partitions.
    pub(crate) partitions: HashMap<String, Bounds>,
    /// Where the receivers of partitions without a checkpoint begin.
    pub(crate) positions: HashMap<String, StartPosition>,
    /// The hub's clock.
    pub(crate) clock: Arc<HubClock>,
}

/// Opens a session. `known` holds the partitions of earlier sessions.
pub(crate) async fn open<Q: Queue>(
    source: &EventHubSource,
    pipeline: &Pipeline<Q>,
    known: &HashSet<String>,
) -> Result<Opened, SharingError> {
    let hub = &source.hub;
    let failed = |error: EventHubsError| hub.error(&error);
    // Read the checkpoints before the ends: another producer may save one in between, and it would seem to lie past
    // an end that is older.
    let resumes = Checkpoint::resumes(&pipeline.store, &pipeline.options.opening).await?;
    let client = hub.consumer(&source.consumer_group).await?;
    let properties = client.get_eventhub_properties().await.map_err(failed)?;
    let mut partitions = HashMap::new();
    let clock = HubClock::default();
    let mut positions = HashMap::new();
    for partition in properties.partition_ids {
        let asked = (Instant::now(), EventTime::now());
        let state = client
            .get_partition_properties(&partition)
            .await
            .map_err(failed)?;
        note_newest(&clock, &state);
        if let Some(resume) = resumes.iter().find(|resume| resume.partition == partition) {
            check_end(resume, &state)?;
        }
        // A partition added since then is read from its oldest event.
        let is_new = !known.is_empty() && !known.contains(&partition);
        let start = if is_new { Start::Earliest } else { source.start };
        let bounds = bounds_of(&state, start, source.until, asked);
        positions.insert(partition.clone(), first_position(source.start, bounds.start));
        partitions.insert(partition, bounds);
    }
    clock.note_opening();
    let names = Hub {
        namespace: hub.host.clone(),
        name: hub.name.clone(),
        consumer_group: source.consumer_group.clone(),
    };
    let ownerships = Arc::new(Ownerships::new(&pipeline.store, &pipeline.options.opening, names));
    let span = |duration: Duration| azure_core::time::Duration::try_from(duration).unwrap_or_default();
    let processor = EventProcessor::builder()
        .with_update_interval(span(source.ownership_expiry / RENEWALS))
        .with_partition_expiration_duration(span(source.ownership_expiry))
        .build(client, Arc::clone(&ownerships) as _)
        .await
        .map_err(failed)?;
    Ok(Opened {
        processor,
        ownerships,
        partitions,
        positions,
        clock: Arc::new(clock),
    })
}

/// Returns where a receiver begins: at the sequence number `begin`, or at a time if that number is unknown. It never
/// returns `@latest`, which would skip events that arrive before the receiver is attached.
fn first_position(start: Start, begin: Option<Offset>) -> StartPosition {
    match (begin, start) {
        (Some(begin), _) => from(begin),
        (None, Start::Earliest | Start::Latest) => StartPosition {
            location: StartLocation::Earliest,
            inclusive: false,
        },
        (None, Start::At(time)) => StartPosition {
            location: StartLocation::EnqueuedTime(system_time(time)),
            inclusive: true,
        },
    }
}

/// Returns the position before an event.
pub(super) fn from(begin: Offset) -> StartPosition {
    let before = i64::try_from(begin.0).unwrap_or(i64::MAX) - 1;
    StartPosition {
        location: StartLocation::SequenceNumber(before),
        inclusive: false,
    }
}

/// Notes the partition's newest event, which the hub has just named.
pub(super) fn note_newest(clock: &HubClock, state: &EventHubPartitionProperties) {
    if let Some(newest) = state.last_enqueued_time_utc
        && !state.is_empty
    {
        clock.note(time_of(newest), Instant::now());
    }
}

fn system_time(time: EventTime) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or_default())
}

fn offset(number: i64) -> Offset {
    Offset(u64::try_from(number).unwrap_or_default())
}

/// Returns where a partition begins and ends for a session that starts now.
fn bounds_of(
    state: &EventHubPartitionProperties,
    start: Start,
    until: Until,
    (asked, asked_at): (Instant, EventTime),
) -> Bounds {
    let oldest = offset(state.beginning_sequence_number);
    let next = if state.is_empty {
        oldest
    } else {
        offset(state.last_enqueued_sequence_number + 1)
    };
    let nothing_since = |time| {
        state.is_empty
            || state
                .last_enqueued_time_utc
                .is_some_and(|last| last < system_time(time))
    };
    let start = match start {
        Start::Latest => Some(next),
        Start::At(time) if nothing_since(time) => Some(next),
        Start::Earliest => Some(oldest),
        Start::At(_) => None,
    };
    Bounds {
        asked,
        asked_at,
        start,
        oldest,
        end: (until == Until::CaughtUp).then_some(next),
    }
}

/// Refuses a checkpoint past the end of its partition. The sequence numbers of an empty partition prove nothing.
fn check_end(resume: &Resume, state: &EventHubPartitionProperties) -> Result<(), CheckpointError> {
    let end = offset(state.last_enqueued_sequence_number + 1);
    if state.is_empty || resume.judged <= end {
        return Ok(());
    }
    Err(CheckpointError::BeyondEnd {
        path: resume.path.clone(),
        partition: resume.partition.clone(),
        judged: resume.judged.0,
        end: end.0,
    })
}
