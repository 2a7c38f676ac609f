//! A source replayed at a multiple of real time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{Batch, Content, Known, Offset, PartitionIndex, Progress, Read, Source, SourceError};
use crate::pace::Pace;
use crate::sensors::SensorTable;
use windrow_common::EventTime;

/// The longest wait in one call; a longer one would delay a stop.
const NAP: Duration = Duration::from_millis(20);

/// A source that returns the readings of another source no earlier than they are due.
pub struct Paced {
    source: Box<dyn Source>,
    pace: Pace,
    /// The last batch read from the source.
    held: Batch,
    /// How many readings and unreadable items of `held` have been returned.
    given: (usize, usize),
    /// [`Batch::complete_before`] of what has been returned whole.
    complete_before: Option<EventTime>,
}

impl Paced {
    /// Creates a replay of `source` at `speed` times real time; `speed` must be positive.
    pub fn new(source: Box<dyn Source>, speed: f64) -> Self {
        Self {
            source,
            pace: Pace::new(speed),
            held: Batch::default(),
            given: (0, 0),
            complete_before: None,
        }
    }

    fn is_holding(&self) -> bool {
        self.given.0 < self.held.readings.len()
    }

    /// Moves the due items into `batch`. A batch never ends among the readings of one offset, because it must hold
    /// everything below its `next`.
    fn give(&mut self, batch: &mut Batch) {
        let rest = &self.held.readings[self.given.0..];
        let mut due = self.pace.due(rest, Instant::now());
        while due > 0 && due < rest.len() && rest[due - 1].offset == rest[due].offset {
            due += 1;
        }
        let (now, later) = rest.split_at(due);
        let next = later.first().map_or(self.held.next, |reading| reading.offset);
        batch.clear(self.held.partition);
        batch.readings.extend_from_slice(now);
        let unreadable = &self.held.unreadable[self.given.1..];
        // The last readings take all remaining unreadable items with them, whatever their offset: a damaged file is
        // reported at `next`, an unusable one at 0.
        let passed = match later.is_empty() {
            true => unreadable.len(),
            false => unreadable.partition_point(|unreadable| unreadable.offset < next),
        };
        batch.unreadable.extend_from_slice(&unreadable[..passed]);
        if later.is_empty() {
            batch.left_out = std::mem::take(&mut self.held.left_out);
        }
        batch.next = next;
        batch.ended = later.is_empty() && self.held.ended;
        batch.arrivals = self.held.arrivals;
        batch.waiting.clone_from(&self.held.waiting);
        if later.is_empty() {
            self.complete_before = self.held.complete_before;
        }
        let knows = self.held.complete_before.is_some();
        batch.complete_before = knows.then(|| self.complete_before.unwrap_or(EventTime::MIN));
        if !later.is_empty()
            && let Some(waiting) = batch.waiting.get_mut(self.held.partition)
        {
            *waiting = true;
        }
        self.given = (self.given.0 + due, self.given.1 + passed);
    }
}

impl Source for Paced {
    fn partitions(&self) -> &[String] {
        self.source.partitions()
    }

    fn recognise(&mut self, known: BTreeMap<String, Known>) {
        self.source.recognise(known);
    }

    fn content(&mut self, partition: PartitionIndex) -> Option<Content> {
        self.source.content(partition)
    }

    fn seek(&mut self, partition: PartitionIndex, to: Offset) -> Result<(), SourceError> {
        self.source.seek(partition, to)
    }

    fn next_time(&self, partition: PartitionIndex) -> Option<EventTime> {
        self.source.next_time(partition)
    }

    fn read(&mut self, sensors: &mut SensorTable, batch: &mut Batch) -> Result<Read, SourceError> {
        if !self.is_holding() {
            match self.source.read(sensors, &mut self.held)? {
                Read::Batch => self.given = (0, 0),
                other => {
                    self.held.clear(0);
                    return Ok(other);
                }
            }
        }
        self.give(batch);
        if self.is_holding() && batch.readings.is_empty() {
            std::thread::sleep(NAP);
        }
        Ok(Read::Batch)
    }

    fn progress(&self) -> Progress {
        self.source.progress()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sensors::SensorIndex;
    use crate::source::{Arrivals, Raw, Reading, Unreadable};

    /// A source of one batch. Its readings 1 and 2 share an offset, as the readings of one event do.
    struct OneBatch(Option<Batch>);

    impl Source for OneBatch {
        fn partitions(&self) -> &[String] {
            &[]
        }

        fn seek(&mut self, _: PartitionIndex, _: Offset) -> Result<(), SourceError> {
            Ok(())
        }

        fn read(&mut self, _: &mut SensorTable, batch: &mut Batch) -> Result<Read, SourceError> {
            Ok(match self.0.take() {
                Some(all) => {
                    *batch = all;
                    Read::Batch
                }
                None => Read::End { complete_until: None },
            })
        }

        fn progress(&self) -> Progress {
            Progress { done: 0, total: None }
        }
    }

    #[test]
    fn a_paced_batch_ends_between_two_offsets_and_nothing_is_left_out() {
        let reading = |ms, offset| Reading {
            sensor: SensorIndex(0),
            time: EventTime::from_millis(ms),
            arrival: EventTime::from_millis(ms),
            value: 1.0,
            offset: Offset(offset),
        };
        let unreadable = |offset| Unreadable::new(Offset(offset), None, String::new(), Raw::default());
        let all = Batch {
            // Reading 2 has the same offset as reading 1, but is due a day later.
            readings: vec![
                reading(0, 5),
                reading(0, 6),
                reading(86_400_000, 6),
                reading(40, 9),
            ],
            // The last one is reported where the partition continues, as a damaged file is.
            unreadable: vec![unreadable(4), unreadable(7), unreadable(11)],
            next: Offset(11),
            ended: true,
            waiting: vec![false],
            ..Batch::default()
        };
        let mut paced = Paced::new(Box::new(OneBatch(Some(all))), 1.0);
        let (mut sensors, mut batch) = (SensorTable::new(), Batch::default());
        let (mut readings, mut unreadable, mut batches) = (0, 0, 0);
        while paced.read(&mut sensors, &mut batch).unwrap() == Read::Batch {
            readings += batch.readings.len();
            unreadable += batch.unreadable.len();
            batches += 1;
            let (given, waits) = (batch.readings.len(), batch.waiting[0]);
            assert!(
                given == 3 && batch.next == Offset(9) && waits || given < 3,
                "{batch:?}"
            );
            assert_eq!(batch.ended, readings == 4);
        }
        assert_eq!((readings, unreadable), (4, 3));
        assert!(batches > 1, "nothing was paced");
        assert_eq!(batch.arrivals, Arrivals::OfReader);
    }
    #[test]
    fn a_batch_without_readings_keeps_its_unreadable_rows() {
        let unusable = Unreadable::new(Offset(0), None, String::new(), Raw::default());
        let all = Batch {
            unreadable: vec![unusable],
            ended: true,
            ..Batch::default()
        };
        let mut paced = Paced::new(Box::new(OneBatch(Some(all))), 1.0);
        let (mut sensors, mut batch) = (SensorTable::new(), Batch::default());
        assert_eq!(paced.read(&mut sensors, &mut batch).unwrap(), Read::Batch);
        assert_eq!((batch.unreadable.len(), batch.ended), (1, true));
    }
}
