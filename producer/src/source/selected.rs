//! A selection of a source's readings.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use windrow_common::{EventTime, SensorId};

use super::{Batch, Offset, PartitionIndex, Progress, Read, Source, SourceError};
use crate::sensors::{SensorIndex, SensorTable};

/// Which readings of a source are wanted.
#[derive(Clone, Debug)]
pub struct Selection {
    /// Only readings at or after this time.
    pub from: EventTime,
    /// Only readings before this time.
    pub to: EventTime,
    /// Only readings of this sensor.
    pub sensor: Option<SensorId>,
}

/// A source that returns some of the readings of another source, and nothing that cannot be read.
pub struct Selected {
    source: Box<dyn Source>,
    selection: Selection,
    /// The index of the wanted sensor, once it has appeared.
    sensor: Option<SensorIndex>,
    unreadable: Arc<AtomicU64>,
}

impl Selected {
    /// Creates a selection of `source`.
    pub fn new(source: Box<dyn Source>, selection: Selection) -> Self {
        Self {
            source,
            selection,
            sensor: None,
            unreadable: Arc::default(),
        }
    }

    /// Returns the running count of items that could not be read.
    pub fn unreadable(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.unreadable)
    }

    fn wants_sensor(&mut self, sensor: SensorIndex, sensors: &SensorTable) -> bool {
        let Some(wanted) = &self.selection.sensor else {
            return true;
        };
        if self.sensor.is_none() && sensors.id(sensor) == wanted {
            self.sensor = Some(sensor);
        }
        self.sensor == Some(sensor)
    }
}

impl Source for Selected {
    fn partitions(&self) -> &[String] {
        self.source.partitions()
    }

    fn seek(&mut self, partition: PartitionIndex, to: Offset) -> Result<(), SourceError> {
        self.source.seek(partition, to)
    }

    fn next_time(&self, partition: PartitionIndex) -> Option<EventTime> {
        self.source.next_time(partition)
    }

    fn read(&mut self, sensors: &mut SensorTable, batch: &mut Batch) -> Result<Read, SourceError> {
        let read = self.source.read(sensors, batch)?;
        if read == Read::Batch {
            let Selection { from, to, .. } = self.selection;
            // The run that read it first has set it aside.
            self.unreadable.fetch_add(batch.unreadable.len() as u64, Relaxed);
            batch.unreadable.clear();
            batch.readings.retain(|reading| {
                from <= reading.time && reading.time < to && self.wants_sensor(reading.sensor, sensors)
            });
        }
        Ok(read)
    }

    fn progress(&self) -> Progress {
        self.source.progress()
    }
}
