//! A partition: a log of events in memory, bounded in bytes.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::sync::watch;

use crate::event::StoredEvent;
use crate::start_at::{Bound, StartAt};

/// A log of events in memory, bounded in bytes.
pub(crate) struct Partition {
    log: Mutex<Log>,
    /// The sequence number the next event gets; receivers at the end wait for it to move.
    end: watch::Sender<i64>,
    /// Number of deliveries to receivers.
    pub(crate) delivered: AtomicU64,
    /// Whether events are delivered without their sequence numbers.
    pub(crate) unnumbered: AtomicBool,
    clock_ahead_ms: i64,
}

/// A summary of a partition's contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Sequence number of the oldest event kept.
    pub(crate) begin: i64,
    /// Sequence number the next event gets.
    pub(crate) end: i64,
    /// Offset of the newest event ever stored, one below the first if there was none.
    pub(crate) last_offset: i64,
    /// When the newest event arrived, in milliseconds since 1970; 0 if there was none.
    pub(crate) last_enqueued_ms: i64,
}

struct Log {
    events: VecDeque<StoredEvent>,
    bounds: Bounds,
    /// Offset the next event gets.
    next_offset: i64,
    kept_bytes: usize,
    retain_bytes: usize,
}

impl Partition {
    /// Creates an empty partition that keeps `retain_bytes` of events; the first event gets `first` as sequence number
    /// and offset. The clock that stamps the events is ahead of this machine's.
    pub(crate) fn new(retain_bytes: usize, first: i64, clock_ahead_ms: i64) -> Self {
        Self {
            clock_ahead_ms,
            log: Mutex::new(Log {
                events: VecDeque::new(),
                bounds: Bounds {
                    begin: first,
                    end: first,
                    last_offset: first - 1,
                    last_enqueued_ms: 0,
                },
                next_offset: first,
                kept_bytes: 0,
                retain_bytes,
            }),
            end: watch::Sender::new(first),
            delivered: AtomicU64::new(0),
            unnumbered: AtomicBool::new(false),
        }
    }

    /// Stores encoded messages in order, wakes the waiting receivers, and returns the last sequence number.
    pub(crate) fn append(&self, messages: impl IntoIterator<Item = Bytes>) -> i64 {
        let end = {
            let mut log = self.lock();
            let now = now_ms() + self.clock_ahead_ms;
            for encoded in messages {
                log.push(encoded, now);
            }
            log.bounds.end
        };
        self.end.send_replace(end);
        end - 1
    }

    /// Evicts all events.
    pub(crate) fn expire(&self) {
        let mut log = self.lock();
        log.events.clear();
        log.kept_bytes = 0;
        log.bounds.begin = log.bounds.end;
    }

    /// Returns the partition's bounds.
    pub(crate) fn bounds(&self) -> Bounds {
        self.lock().bounds
    }

    /// Returns a view of the end of the log that signals when it moves.
    pub(crate) fn watch_end(&self) -> watch::Receiver<i64> {
        self.end.subscribe()
    }

    /// Returns up to `limit` events from this sequence number on, or from the oldest kept if that one is evicted.
    pub(crate) fn read(&self, from: i64, limit: usize) -> Vec<StoredEvent> {
        let log = self.lock();
        let skip = usize::try_from(from.saturating_sub(log.bounds.begin)).unwrap_or(0);
        let skip = skip.min(log.events.len());
        log.events.range(skip..).take(limit).cloned().collect()
    }

    /// Returns the sequence number to read from, or the reason to refuse the position.
    pub(crate) fn locate(&self, position: &StartAt) -> Result<i64, String> {
        let log = self.lock();
        let Bounds { begin, end, .. } = log.bounds;
        let found = |index: usize| begin + i64::try_from(index).unwrap_or(i64::MAX - begin);
        // The service refuses a position it has never issued, as in a checkpoint of another or a recreated hub.
        let refuse = |what: &str, bound: Bound, last: i64| {
            Err(format!(
                "The supplied {what} '{}' is invalid. The last {what} in the system is '{last}'",
                bound.value
            ))
        };
        match *position {
            StartAt::Earliest => Ok(begin),
            StartAt::Latest => Ok(end),
            StartAt::Offset(bound) if bound.value > log.bounds.last_offset => {
                refuse("offset", bound, log.bounds.last_offset)
            }
            StartAt::Offset(bound) => Ok(found(
                log.events.partition_point(|event| event.offset < bound.first()),
            )),
            StartAt::Sequence(bound) if bound.value >= end && bound.value >= 0 => {
                refuse("sequence number", bound, end - 1)
            }
            StartAt::Sequence(bound) => Ok(bound.first().max(begin)),
            StartAt::EnqueuedTime(bound) => Ok(found(
                log.events
                    .partition_point(|event| event.enqueued_ms < bound.first()),
            )),
        }
    }

    /// Counts an event delivered to a receiver.
    pub(crate) fn count_delivered(&self) {
        self.delivered.fetch_add(1, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        // The log is consistent between any two statements, so a panic cannot leave it broken.
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log {
    fn push(&mut self, encoded: Bytes, now_ms: i64) {
        let size = encoded.len();
        // The clock may step back; arrival times must not, or a search by time would miss events.
        let enqueued_ms = now_ms.max(self.bounds.last_enqueued_ms);
        self.events.push_back(StoredEvent {
            sequence: self.bounds.end,
            offset: self.next_offset,
            enqueued_ms,
            encoded,
        });
        self.bounds.last_offset = self.next_offset;
        self.bounds.last_enqueued_ms = enqueued_ms;
        self.bounds.end += 1;
        // No event is empty on the wire, so offsets always grow.
        self.next_offset += i64::try_from(size.max(1)).unwrap_or(1);
        self.kept_bytes += size;
        while self.kept_bytes > self.retain_bytes && self.events.len() > 1 {
            if let Some(oldest) = self.events.pop_front() {
                self.kept_bytes -= oldest.encoded.len();
                self.bounds.begin += 1;
            }
        }
    }
}

/// Returns the current time in milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(retain_bytes: usize, sizes: &[usize]) -> Partition {
        let partition = Partition::new(retain_bytes, 0, 0);
        for &size in sizes {
            partition.append([Bytes::from(vec![0; size])]);
        }
        partition
    }

    fn sequences(partition: &Partition, from: i64) -> Vec<i64> {
        partition
            .read(from, 100)
            .iter()
            .map(|event| event.sequence)
            .collect()
    }

    #[test]
    fn a_position_from_before_a_restart_is_the_beginning() {
        let partition = Partition::new(1000, 5_000, 0);
        partition.append([Bytes::from_static(b"x")]);
        let before = StartAt::Sequence(Bound {
            value: 4_000,
            inclusive: true,
        });
        assert_eq!(partition.locate(&before), Ok(5_000));
        assert_eq!(sequences(&partition, 5_000), [5_000]);
    }

    #[test]
    fn the_oldest_events_go_when_the_bytes_are_used_up() {
        let partition = filled(100, &[40, 40, 40]);
        assert_eq!(sequences(&partition, 0), [1, 2]);
        assert_eq!((partition.bounds().begin, partition.bounds().end), (1, 3));
        partition.append([Bytes::from(vec![0; 500])]);
        assert_eq!(
            sequences(&partition, 0),
            [3],
            "the newest event is kept whatever its size"
        );
    }

    #[test]
    fn a_position_is_found_by_offset_and_by_sequence_number() {
        let partition = filled(1000, &[10, 20, 30]);
        let bound = |value, inclusive| Bound { value, inclusive };
        for (position, first) in [
            (StartAt::Earliest, 0),
            (StartAt::Latest, 3),
            (StartAt::Offset(bound(10, true)), 1),
            (StartAt::Offset(bound(10, false)), 2),
            (StartAt::Offset(bound(30, false)), 3),
            (StartAt::Sequence(bound(-1, false)), 0),
            (StartAt::Sequence(bound(1, true)), 1),
            (StartAt::Sequence(bound(1, false)), 2),
            (StartAt::EnqueuedTime(bound(0, true)), 0),
            (StartAt::EnqueuedTime(bound(i64::MAX, false)), 3),
        ] {
            assert_eq!(partition.locate(&position), Ok(first), "{position:?}");
        }
    }

    #[test]
    fn a_position_nobody_was_ever_given_is_refused() {
        let partition = filled(1000, &[10]);
        let bound = Bound {
            value: 1,
            inclusive: false,
        };
        assert!(partition.locate(&StartAt::Offset(bound)).is_err());
        assert!(partition.locate(&StartAt::Sequence(bound)).is_err());
        let empty = Partition::new(1000, 0, 0);
        let bound = Bound {
            value: -1,
            inclusive: false,
        };
        assert_eq!(empty.locate(&StartAt::Sequence(bound)), Ok(0));
    }
}
