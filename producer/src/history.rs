//! Windows of the past, for training: the same windows as in production, without queue, store or checkpoint.

use std::time::Instant;

use windrow_common::{EventTime, ScoringMessage};

use crate::sensors::SensorTable;
use crate::source::{Batch, Progress, Read, Source, SourceError};
use crate::window::{PartitionPosition, Position, Windower, Windowing};

/// What [`read_history`] went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HistoryCounts {
    /// Readings put in a window.
    pub readings: u64,
    /// Readings and lines that were left out: unreadable, not finite, far in the future, late.
    pub left_out: u64,
}

/// Reads a source that ends from its start to its end and hands `take` the message of every sensor and interval, by
/// interval; `look` is shown the progress after every batch. It blocks.
pub fn read_history(
    mut source: Box<dyn Source>,
    windowing: Windowing,
    mut take: impl FnMut(ScoringMessage),
    mut look: impl FnMut(Progress),
) -> Result<HistoryCounts, SourceError> {
    let position = Position {
        dispatched_through: EventTime::MIN,
        partitions: vec![PartitionPosition::default(); source.partitions().len()],
    };
    let mut windower = Windower::new(windowing, &position, Instant::now());
    for partition in 0..windower.partitions() {
        if let Some(time) = source.look_ahead(partition) {
            windower.look_ahead(partition, time);
        }
    }
    let mut sensors = SensorTable::new();
    let (mut batch, mut messages, mut quarantined) = (Batch::default(), Vec::new(), Vec::new());
    let mut left_out = 0;
    while source.read(&mut sensors, &mut batch)? == Read::Batch {
        let now = Instant::now();
        windower.quarantine_unreadable(&mut batch, &mut quarantined);
        windower.observe(batch.partition, &batch.readings, now, &mut quarantined, &sensors);
        windower.finish_batch(&batch);
        for partition in 0..windower.partitions() {
            windower.keep_active(partition, now);
        }
        windower.close_ready(now, &sensors, &mut messages);
        messages.drain(..).for_each(&mut take);
        left_out += quarantined.drain(..).count() as u64;
        look(source.progress());
    }
    windower.close_all(&sensors, &mut messages);
    messages.drain(..).for_each(&mut take);
    Ok(HistoryCounts {
        readings: windower.tally().accepted,
        left_out,
    })
}
