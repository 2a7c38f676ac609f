//! Cuts past readings into windows for training: the same windows as in production, without queue, store or checkpoint.

use std::time::Instant;

use windrow_common::ScoringMessage;

use crate::sensors::SensorTable;
use crate::source::{Batch, Progress, Read, Source, SourceError};
use crate::window::{Emitted, Position, Windower, Windowing};

/// Counts of the readings in a [`read_history`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HistoryCounts {
    /// Readings put in a window.
    pub readings: u64,
    /// Readings and lines left out because they are unreadable, not finite, out of range, far in the future or late.
    pub left_out: u64,
}

/// Reads a finite source from start to end. Passes the message of every sensor and interval to `take`, interval by
/// interval, and the progress after every batch to `look`. Blocks the thread.
pub fn read_history(
    mut source: Box<dyn Source>,
    windowing: Windowing,
    mut take: impl FnMut(ScoringMessage),
    mut look: impl FnMut(Progress),
) -> Result<HistoryCounts, SourceError> {
    let position = Position::start(source.partitions().len());
    let mut windower = Windower::of_source(windowing, &position, &*source, Instant::now());
    let (mut sensors, mut batch, mut emitted) = (SensorTable::new(), Batch::default(), Emitted::default());
    let mut left_out = 0;
    loop {
        if source.read(&mut sensors, &mut batch)? == Read::Batch {
            windower.take(&mut batch, &sensors, Instant::now(), &mut emitted);
        } else if let Some(resume) = windower.next_pass(&sensors, Instant::now(), &mut emitted) {
            for (partition, offset) in resume.into_iter().enumerate() {
                source.seek(partition, offset)?;
            }
        } else {
            break;
        }
        emitted.messages.drain(..).for_each(&mut take);
        let aside = emitted.quarantined.drain(..);
        left_out += aside.map(|quarantined| quarantined.record.readings).sum::<u64>();
        emitted.raw_bytes = 0;
        look(source.progress());
    }
    windower.close_all(&sensors, &mut emitted);
    emitted.messages.drain(..).for_each(&mut take);
    Ok(HistoryCounts {
        readings: windower.tally().accepted,
        left_out,
    })
}
