//! The simulated source: partitions that fill up as time passes.

use std::sync::Arc;

use windrow_common::EventTime;
use windrow_producer::sensors::SensorTable;
use windrow_producer::source::{
    Arrivals, Batch, Offset, PartitionIndex, Progress, Raw, Read, Reading, Source, SourceError, Unreadable,
    Until,
};

use crate::clock::Clock;
use crate::plan::{Content, Entry, Kind, Plan, event_time};

/// The most items in a batch: few, so that a crash can fall between any two.
const BATCH: usize = 6;

/// A view of some partitions, as one run has it.
pub(crate) struct SimSource {
    plan: Arc<Plan>,
    clock: Clock,
    until: Until,
    /// The partitions of the plan that it reads.
    mine: Vec<usize>,
    names: Vec<String>,
    /// The index of the next entry of each.
    next: Vec<usize>,
    /// With [`Until::CaughtUp`]: how many entries each had when it was opened.
    ends: Vec<usize>,
    ended: Vec<bool>,
}

pub(crate) fn partition_name(index: usize) -> String {
    format!("p{index}")
}

impl SimSource {
    pub(crate) fn open(plan: &Arc<Plan>, clock: Clock, mine: Vec<usize>, until: Until) -> Self {
        let mut source = Self {
            plan: Arc::clone(plan),
            clock,
            until,
            names: mine.iter().copied().map(partition_name).collect(),
            next: vec![0; mine.len()],
            ends: Vec::new(),
            ended: vec![false; mine.len()],
            mine,
        };
        source.ends = (0..source.mine.len())
            .map(|index| source.released(index))
            .collect();
        source
    }

    fn entries(&self, partition: PartitionIndex) -> &[Entry] {
        &self.plan.partitions[self.mine[partition]]
    }

    fn released(&self, partition: PartitionIndex) -> usize {
        let now = self.clock.now_ms();
        self.entries(partition)
            .partition_point(|entry| entry.released_ms <= now)
    }

    fn end(&self, partition: PartitionIndex) -> usize {
        match self.until {
            Until::CaughtUp => self.ends[partition],
            Until::Stopped => self.released(partition),
        }
    }

    fn has_more(&self, partition: PartitionIndex) -> bool {
        self.next[partition] < self.end(partition)
            || (self.until == Until::CaughtUp && !self.ended[partition])
    }

    /// Fills the batch with the next entries of a partition.
    fn fill(&mut self, partition: PartitionIndex, sensors: &mut SensorTable, batch: &mut Batch) {
        batch.clear(partition);
        let (first, end) = (self.next[partition], self.end(partition));
        let last = end.min(first + 1 + windrow_common::random() as usize % BATCH);
        for entry in &self.plan.partitions[self.mine[partition]][first.min(last)..last] {
            let offset = Offset(entry.offset);
            match entry.content {
                Content::Reading { sensor, time, value } => batch.readings.push(Reading {
                    sensor: sensors.intern(&format!("d{sensor}"), "t").expect("short names"),
                    time,
                    arrival: match self.plan.kind {
                        Kind::Hub => event_time(entry.released_ms),
                        Kind::Files | Kind::Followed | Kind::Folder => self.clock.now(),
                    },
                    value,
                    offset,
                }),
                Content::Garbage => batch.unreadable.push(Unreadable::new(
                    offset,
                    None,
                    "garbage".to_owned(),
                    Raw::default(),
                )),
            }
        }
        let at_end = last == self.entries(partition).len();
        let before = self.entries(partition).get(last.wrapping_sub(1));
        batch.next = match self.entries(partition).get(last) {
            Some(next) if !at_end && last < end => Offset(next.offset),
            _ => Offset(before.map_or(0, |entry| entry.offset + 1)),
        };
        self.next[partition] = last;
        batch.ended = self.until == Until::CaughtUp && last == end;
        self.ended[partition] = batch.ended;
        if self.plan.kind == Kind::Hub {
            batch.arrivals = Arrivals::OfSource;
        }
        batch
            .waiting
            .extend((0..self.mine.len()).map(|index| self.has_more(index)));
        if self.plan.kind != Kind::Hub && self.until == Until::CaughtUp {
            batch.complete_before = Some(self.earliest_ahead());
        }
    }

    /// Returns the earliest event time that is still to come.
    fn earliest_ahead(&self) -> EventTime {
        let partitions = 0..self.mine.len();
        let ahead = partitions.flat_map(|index| {
            let (next, end) = (self.next[index], self.ends[index]);
            self.entries(index)[next..end.max(next)].iter()
        });
        let times = ahead.filter_map(|entry| match entry.content {
            Content::Reading { time, value, .. } if value.is_finite() => Some(time),
            _ => None,
        });
        times.min().unwrap_or(EventTime::MIN)
    }
}

impl Source for SimSource {
    fn partitions(&self) -> &[String] {
        &self.names
    }

    fn seek(&mut self, partition: PartitionIndex, to: Offset) -> Result<(), SourceError> {
        self.next[partition] = self
            .entries(partition)
            .partition_point(|entry| entry.offset < to.0);
        self.ended[partition] = false;
        Ok(())
    }

    fn read(&mut self, sensors: &mut SensorTable, batch: &mut Batch) -> Result<Read, SourceError> {
        let ready: Vec<usize> = (0..self.mine.len())
            .filter(|index| self.has_more(*index))
            .collect();
        if ready.is_empty() {
            let complete_until = (self.plan.kind == Kind::Hub).then(|| self.clock.now());
            return Ok(match self.until {
                Until::CaughtUp => Read::End { complete_until },
                Until::Stopped => Read::Idle { complete_until },
            });
        }
        let partition = ready[windrow_common::random() as usize % ready.len()];
        self.fill(partition, sensors, batch);
        Ok(Read::Batch)
    }

    fn progress(&self) -> Progress {
        Progress { done: 0, total: None }
    }
}
