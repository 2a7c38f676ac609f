//! How far each sensor of a live source has come.
//!
//! A partition's watermark follows whichever of its sensors is ahead. If it alone closed windows, one sensor whose clock
//! is fast would make the readings of all others late. So a window also waits for its own sensor: until a later reading
//! of it passes the window's end, or until the partition has gone on for a while without it.

use std::collections::HashMap;

use windrow_common::EventTime;

use super::Windowing;
use super::partition::Partition;
use crate::sensors::SensorIndex;
use crate::source::PartitionIndex;

/// How far a sensor has come in one partition.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    partition: PartitionIndex,
    /// The latest event time of its readings.
    latest: EventTime,
    /// [`Watermark::progress`](super::watermark::Watermark::progress) when it was last read.
    read_at: u64,
    /// Its intervals that end here or earlier are closed, by its own readings or by its silence.
    closed: EventTime,
}

impl Clock {
    /// Returns the time through which the sensor's intervals are closed in `partition`.
    pub(super) fn closed(&self, partition: &Partition, windowing: &Windowing) -> EventTime {
        match self.is_silent(partition, windowing) {
            false => self.closed,
            // A silent sensor brings nothing more for the intervals that it has readings in, and has none in any other.
            true => {
                let last = self.latest.floor(windowing.interval).as_millis() + windowing.interval.as_millis();
                let last = EventTime::from_millis(last);
                self.closed.max(last.min(partition.watermark.closed(windowing)))
            }
        }
    }

    fn is_silent(&self, partition: &Partition, windowing: &Windowing) -> bool {
        let silence = partition.watermark.progress() - self.read_at;
        u128::from(silence) >= windowing.idle_after.as_millis()
    }
}

/// The clocks of all sensors.
#[derive(Debug, Default)]
pub(super) struct Clocks {
    /// By sensor, in the partition that brought it first.
    first: Vec<Option<Clock>>,
    /// Those of sensors that are in several partitions, in the others.
    others: HashMap<SensorIndex, Vec<Clock>>,
}

impl Clocks {
    /// Returns the sensor's clock in a partition.
    #[inline]
    fn in_partition(&mut self, sensor: SensorIndex, partition: PartitionIndex) -> Option<&mut Clock> {
        match self.first.get_mut(sensor.as_usize()) {
            Some(Some(clock)) if clock.partition == partition => Some(clock),
            Some(Some(_)) => self
                .others
                .get_mut(&sensor)?
                .iter_mut()
                .find(|clock| clock.partition == partition),
            _ => None,
        }
    }

    /// Returns the time before which a reading of the sensor in partition `at` is late.
    #[inline]
    pub(super) fn late_before(
        &mut self,
        sensor: SensorIndex,
        at: PartitionIndex,
        partition: &Partition,
        windowing: &Windowing,
    ) -> EventTime {
        if let Some(clock) = self.in_partition(sensor, at) {
            // Kept, because the sensor is not silent any more once this reading is accepted.
            clock.closed = clock.closed(partition, windowing);
            return clock.closed;
        }
        match self.first.get(sensor.as_usize()) {
            // What it has brought elsewhere says nothing about this partition.
            Some(Some(_)) => partition.watermark.closed(windowing),
            _ => EventTime::MIN,
        }
    }

    /// Notes a reading of the sensor in partition `at`. Returns whether it closes intervals of the sensor.
    #[inline]
    pub(super) fn note(
        &mut self,
        sensor: SensorIndex,
        at: PartitionIndex,
        time: EventTime,
        partition: &Partition,
        windowing: &Windowing,
    ) -> bool {
        let read_at = partition.watermark.progress();
        let Some(clock) = self.in_partition(sensor, at) else {
            let complete = complete(time, windowing);
            self.add(
                sensor,
                Clock {
                    partition: at,
                    latest: time,
                    read_at,
                    closed: complete,
                },
            );
            return false;
        };
        clock.read_at = read_at;
        if time <= clock.latest {
            return false;
        }
        clock.latest = time;
        let complete = complete(time, windowing);
        let closes = complete > clock.closed;
        clock.closed = clock.closed.max(complete);
        closes
    }

    #[cold]
    fn add(&mut self, sensor: SensorIndex, clock: Clock) {
        if self.first.len() <= sensor.as_usize() {
            self.first
                .resize((sensor.as_usize() + 1).next_power_of_two(), None);
        }
        match &mut self.first[sensor.as_usize()] {
            first @ None => *first = Some(clock),
            Some(_) => self.others.entry(sensor).or_default().push(clock),
        }
    }

    /// Returns the time through which the sensor's intervals are closed in every partition that it has been in.
    /// `has_stopped` says which partitions bring nothing more for now.
    pub(super) fn closed(
        &self,
        sensor: SensorIndex,
        partitions: &[Partition],
        has_stopped: impl Fn(&Partition) -> bool,
        windowing: &Windowing,
    ) -> EventTime {
        let first = self.first.get(sensor.as_usize()).into_iter().flatten();
        let others = self.others.get(&sensor).into_iter().flatten();
        let closed = first
            .chain(others)
            .map(|clock| match &partitions[clock.partition] {
                partition if has_stopped(partition) => EventTime::MAX,
                partition => clock.closed(partition, windowing),
            });
        closed.min().unwrap_or(EventTime::MAX)
    }
}

/// Returns the time through which a sensor's intervals are closed by a reading of it at `time`.
#[inline]
fn complete(time: EventTime, windowing: &Windowing) -> EventTime {
    let complete = time
        .saturating_sub(windowing.out_of_orderness)
        .saturating_sub(windowing.allowed_lateness);
    complete.floor(windowing.interval)
}
