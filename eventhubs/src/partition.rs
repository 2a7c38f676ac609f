//! One partition as a [`Source`]: decodes the events that the receiving task hands over.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, mpsc};
use windrow_common::EventTime;

use crate::decode::EventDecoder;
use crate::event::Event;
use crate::hub_clock::HubClock;
use windrow_producer::Stats;
use windrow_producer::sensors::SensorTable;
use windrow_producer::source::decode::{ColumnMapping, ROWS_PER_BATCH, RowSink};
use windrow_producer::source::{
    Arrivals, Batch, Offset, PartitionIndex, Progress, RAW_BYTES_PER_BATCH, Read, Source, SourceError,
};

/// A received event, and the room that it occupies until it is decoded.
pub(crate) struct Incoming {
    pub(crate) event: Event,
    /// Held only for its drop, which frees the room.
    #[allow(dead_code)]
    pub(crate) room: Room,
}

/// The room that a received event occupies; dropping it frees the room.
pub(crate) struct Room {
    pub(crate) bytes: usize,
    /// Absent while the event waits for it.
    pub(crate) permit: Option<OwnedSemaphorePermit>,
    stats: Arc<Stats>,
}

impl Room {
    /// Counts an event that has arrived.
    pub(crate) fn new(stats: Arc<Stats>, bytes: usize) -> Self {
        stats.hold_event(bytes);
        Self {
            bytes,
            permit: None,
            stats,
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.stats.release_event(self.bytes);
    }
}

/// How far a partition has been read, for measuring its lag.
#[derive(Debug)]
pub(crate) struct ReadTo {
    /// Sequence number of the next event to read.
    next: AtomicU64,
    /// Enqueued time of the last event read, in milliseconds since the epoch.
    enqueued_ms: AtomicI64,
    /// Every event enqueued before this time, by the hub's clock, has been read, in milliseconds since the epoch.
    complete_until_ms: AtomicI64,
}

impl ReadTo {
    pub(crate) fn next(&self) -> u64 {
        self.next.load(Relaxed)
    }

    pub(crate) fn enqueued_ms(&self) -> i64 {
        self.enqueued_ms.load(Relaxed)
    }

    /// Records that every event enqueued before `time`, by the hub's clock, has been read.
    pub(crate) fn is_complete_until(&self, time: EventTime) {
        self.complete_until_ms.fetch_max(time.as_millis(), Relaxed);
    }
}

/// The bounds of a partition, fixed when the session began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// When the hub was asked for them.
    pub(crate) asked: Instant,
    /// The same, by the clock of this machine.
    pub(crate) asked_at: EventTime,
    /// Where to start without a checkpoint; absent if the start is a time without a known sequence number.
    pub(crate) start: Option<Offset>,
    /// The oldest event that the hub still has.
    pub(crate) oldest: Offset,
    /// Where to stop; absent if the partition is followed.
    pub(crate) end: Option<Offset>,
}

/// A source that reads the events of one partition.
pub(crate) struct PartitionSource {
    names: [String; 1],
    events: mpsc::Receiver<Incoming>,
    decoder: EventDecoder,
    read_to: Arc<ReadTo>,
    clock: Arc<HubClock>,
    next: Offset,
    bounds: Bounds,
    events_read: u64,
}

impl PartitionSource {
    pub(crate) fn new(
        partition: &str,
        events: mpsc::Receiver<Incoming>,
        mapping: &ColumnMapping,
        bounds: Bounds,
        clock: Arc<HubClock>,
    ) -> Self {
        let begun = clock.time_at_or(bounds.asked, bounds.asked_at);
        Self {
            names: [partition.to_owned()],
            events,
            decoder: EventDecoder::new(mapping),
            read_to: Arc::new(ReadTo {
                next: AtomicU64::new(0),
                // Until the first event is read, the lag in seconds counts from `begun`.
                enqueued_ms: AtomicI64::new(begun.as_millis()),
                complete_until_ms: AtomicI64::new(EventTime::MIN.as_millis()),
            }),
            clock,
            next: Offset(0),
            bounds,
            events_read: 0,
        }
    }

    pub(crate) fn read_to(&self) -> Arc<ReadTo> {
        Arc::clone(&self.read_to)
    }

    fn complete_until(&self) -> Option<EventTime> {
        let time = EventTime::from_millis(self.read_to.complete_until_ms.load(Relaxed));
        (time > EventTime::MIN).then_some(time)
    }

    fn has_ended(&self) -> bool {
        self.bounds.end.is_some_and(|end| self.next >= end)
    }

    /// Records that every event that existed when the session began has been read.
    fn note_end(&self) {
        let Bounds { asked, asked_at, .. } = self.bounds;
        self.read_to
            .is_complete_until(self.clock.time_at_or(asked, asked_at));
    }
}

impl Source for PartitionSource {
    fn partitions(&self) -> &[String] {
        &self.names
    }

    fn seek(&mut self, _: PartitionIndex, to: Offset) -> Result<(), SourceError> {
        // Expired events never arrive. Without this, the source would wait for them in an empty partition.
        self.next = to.max(self.bounds.oldest);
        self.read_to.next.store(self.next.0, Relaxed);
        if self.has_ended() {
            self.note_end();
        }
        Ok(())
    }

    fn read(&mut self, sensors: &mut SensorTable, batch: &mut Batch) -> Result<Read, SourceError> {
        if self.has_ended() {
            return Ok(Read::End {
                complete_until: self.complete_until(),
            });
        }
        batch.clear(0);
        let before = self.next;
        let mut newest = None;
        // Events are read whole: the readings of one share an offset, so no checkpoint can lie between them.
        while batch.readings.len() + batch.unreadable.len() < ROWS_PER_BATCH
            && batch.raw_bytes <= RAW_BYTES_PER_BATCH
            && !self.has_ended()
        {
            let Ok(Incoming { event, .. }) = self.events.try_recv() else {
                break;
            };
            // A receiver may begin before the offset it was asked for.
            if event.offset < self.next {
                continue;
            }
            let mut out = RowSink {
                sensors,
                batch,
                arrival: event.enqueued,
                limit: usize::MAX,
            };
            self.decoder.decode(&event, &mut out);
            self.next = Offset(event.offset.0 + 1);
            newest = newest.max(Some(event.enqueued));
            self.read_to
                .enqueued_ms
                .store(event.enqueued.as_millis(), Relaxed);
            self.events_read += 1;
        }
        self.read_to.next.store(self.next.0, Relaxed);
        batch.next = self.next;
        batch.arrivals = Arrivals::OfSource;
        batch.waiting.push(!self.events.is_empty());
        batch.ended = self.has_ended();
        if let Some(newest) = newest {
            self.clock.note(newest, Instant::now());
        }
        if batch.ended {
            self.note_end();
        }
        Ok(if self.next == before {
            Read::Idle {
                complete_until: self.complete_until(),
            }
        } else {
            Read::Batch
        })
    }

    fn progress(&self) -> Progress {
        Progress {
            done: self.events_read,
            total: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_from_which_nothing_is_read_falls_behind_from_the_start() {
        let asked_at = EventTime::from_millis(1_767_571_200_000);
        let bounds = Bounds {
            asked: Instant::now(),
            asked_at,
            start: None,
            oldest: Offset(0),
            end: None,
        };
        let (_sender, events) = mpsc::channel(1);
        let mapping = ColumnMapping::default();
        let source = PartitionSource::new("0", events, &mapping, bounds, Arc::default());
        assert_eq!(source.read_to().enqueued_ms(), asked_at.as_millis());
    }
}
