//! What lies ahead in files that are read to their end: the earliest event time that each still has to bring.
//!
//! Rows may come in any order. Only a look at all of them tells when a window is complete, so the files are scanned once
//! before they are read.

use std::time::{Duration, Instant};

use windrow_common::EventTime;

use super::partition::Partition;
use crate::sensors::SensorTable;
use crate::source::decode::{ColumnMapping, Decoder, ROWS_PER_BATCH, RowSink, Step};
use crate::source::{Batch, PartitionIndex, SourceError};
use crate::window::MAX_ABS_VALUE;

/// How long one step of a scan takes, so that a stop is noticed in between.
const STEP: Duration = Duration::from_millis(100);

/// The outlook on a group of files.
pub(super) struct Outlook {
    /// The chunks of each file, from where it is first read on. Once the scan is done, `earliest` of each is the
    /// earliest time from its start to the end of the file.
    files: Vec<Vec<Chunk>>,
    /// The file that is being scanned, and its decoder.
    scanning: PartitionIndex,
    decoder: Option<Decoder>,
    sensors: SensorTable,
    batch: Batch,
}

#[derive(Clone, Copy, Debug)]
struct Chunk {
    start: u64,
    earliest: EventTime,
}

impl Outlook {
    pub(super) fn new(files: usize) -> Self {
        Self {
            files: vec![Vec::new(); files],
            scanning: 0,
            decoder: None,
            sensors: SensorTable::new(),
            batch: Batch::default(),
        }
    }

    /// Returns whether every file has been scanned.
    pub(super) fn is_complete(&self) -> bool {
        self.scanning >= self.files.len()
    }

    /// Scans on for a while.
    pub(super) fn scan(
        &mut self,
        partitions: &[Partition],
        mapping: &ColumnMapping,
    ) -> Result<(), SourceError> {
        let begun = Instant::now();
        while begun.elapsed() < STEP {
            let Some(partition) = partitions.get(self.scanning) else {
                // The names of the sensors are needed no more.
                self.sensors = SensorTable::new();
                return Ok(());
            };
            if self.decoder.is_none() {
                self.decoder = partition.decoder(mapping)?;
            }
            match self.decoder.take() {
                Some(decoder) => self.scan_batch(decoder),
                None => self.end_file(),
            }
        }
        Ok(())
    }

    fn scan_batch(&mut self, mut decoder: Decoder) {
        let start = decoder.position().offset;
        self.batch.clear(0);
        let mut out = RowSink {
            sensors: &mut self.sensors,
            batch: &mut self.batch,
            arrival: EventTime::MIN,
            limit: ROWS_PER_BATCH,
        };
        let decoded = decoder.decode(&mut out);
        let usable = self
            .batch
            .readings
            .iter()
            .filter(|reading| reading.value.abs() <= MAX_ABS_VALUE);
        let earliest = usable.map(|reading| reading.time).min().unwrap_or(EventTime::MAX);
        let mut chunk = Chunk { start, earliest };
        match decoded {
            Ok(Step::More) => self.decoder = Some(decoder),
            Ok(Step::End) => {}
            // What lies behind the damage is unknown. The error comes up again when the rows are read.
            Err(_) => chunk.earliest = EventTime::MIN,
        }
        self.files[self.scanning].push(chunk);
        if self.decoder.is_none() {
            self.end_file();
        }
    }

    fn end_file(&mut self) {
        let mut earliest = EventTime::MAX;
        for chunk in self.files[self.scanning].iter_mut().rev() {
            earliest = earliest.min(chunk.earliest);
            chunk.earliest = earliest;
        }
        self.scanning += 1;
    }

    /// Returns the earliest event time that is still to come; `None` if none is, or before the scan is complete.
    pub(super) fn earliest(&self, partitions: &[Partition]) -> Option<EventTime> {
        if !self.is_complete() {
            return None;
        }
        let files = self.files.iter().zip(partitions);
        let ahead = files
            .filter(|(_, partition)| partition.is_ready())
            .filter_map(|(chunks, partition)| {
                // An unread file is at offset 0, before its first row.
                let next = partition.offset();
                let at = chunks
                    .partition_point(|chunk| chunk.start <= next)
                    .saturating_sub(1);
                Some(chunks.get(at)?.earliest)
            });
        ahead.min().filter(|earliest| *earliest < EventTime::MAX)
    }
}
