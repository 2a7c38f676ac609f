//! How far each sensor's intervals are dispatched.

use windrow_common::EventTime;

use crate::sensors::SensorIndex;

/// For each sensor, the end of its last dispatched interval.
#[derive(Clone, Debug)]
pub struct DispatchedThrough {
    /// By sensor; [`EventTime::MIN`] for one of which nothing was dispatched.
    by_sensor: Vec<EventTime>,
    /// Event time of each sensor's last reading that was dispatched in this run; empty after a restart.
    last_readings: Vec<EventTime>,
    /// What applies to every sensor: set only by checkpoints of versions that did not tell sensors apart.
    floor: EventTime,
}

impl PartialEq for DispatchedThrough {
    /// Compares what a checkpoint keeps.
    fn eq(&self, other: &Self) -> bool {
        (&self.by_sensor, self.floor) == (&other.by_sensor, other.floor)
    }
}

impl Eq for DispatchedThrough {}

impl Default for DispatchedThrough {
    fn default() -> Self {
        Self {
            by_sensor: Vec::new(),
            last_readings: Vec::new(),
            floor: EventTime::MIN,
        }
    }
}

impl DispatchedThrough {
    /// Creates it from the ends by sensor, and from what applies to every sensor.
    pub fn new(by_sensor: Vec<EventTime>, floor: EventTime) -> Self {
        Self {
            by_sensor,
            last_readings: Vec::new(),
            floor,
        }
    }

    /// Returns the end of the sensor's last dispatched interval. Readings before it come too late.
    #[inline]
    pub fn through(&self, sensor: SensorIndex) -> EventTime {
        match self.by_sensor.get(sensor.as_usize()) {
            Some(end) => self.floor.max(*end),
            None => self.floor,
        }
    }

    /// Returns the ends by sensor.
    pub fn by_sensor(&self) -> &[EventTime] {
        &self.by_sensor
    }

    /// Returns what applies to every sensor.
    pub fn floor(&self) -> EventTime {
        self.floor
    }

    /// Raises the ends to those of `other`.
    pub fn raise(&mut self, other: &Self) {
        if self.by_sensor.len() < other.by_sensor.len() {
            self.by_sensor.resize(other.by_sensor.len(), EventTime::MIN);
        }
        for (end, other) in self.by_sensor.iter_mut().zip(&other.by_sensor) {
            *end = (*end).max(*other);
        }
        self.floor = self.floor.max(other.floor);
    }

    /// Returns the event time of the sensor's last reading that was dispatched in this run.
    pub(super) fn last_reading(&self, sensor: SensorIndex) -> Option<EventTime> {
        let last = self.last_readings.get(sensor.as_usize()).copied();
        last.filter(|last| *last > EventTime::MIN)
    }

    /// Notes that an interval of the sensor is dispatched, which ends at `end` and whose last reading is at `last`.
    pub(super) fn note(&mut self, sensor: SensorIndex, end: EventTime, last: EventTime) {
        for (times, time) in [(&mut self.by_sensor, end), (&mut self.last_readings, last)] {
            if times.len() <= sensor.as_usize() {
                times.resize(sensor.as_usize() + 1, EventTime::MIN);
            }
            let known = &mut times[sensor.as_usize()];
            *known = time.max(*known);
        }
    }
}
