//! How far each sensor's intervals are dispatched.

use windrow_common::EventTime;

use crate::sensors::SensorIndex;

/// For each sensor, the end of its last dispatched interval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dispatched {
    /// By sensor; [`EventTime::MIN`] for one of which nothing was dispatched.
    by_sensor: Vec<EventTime>,
    /// What applies to every sensor: set only by checkpoints of versions that did not tell sensors apart.
    floor: EventTime,
}

impl Default for Dispatched {
    fn default() -> Self {
        Self {
            by_sensor: Vec::new(),
            floor: EventTime::MIN,
        }
    }
}

impl Dispatched {
    /// Creates it from the ends by sensor, and from what applies to every sensor.
    pub fn new(by_sensor: Vec<EventTime>, floor: EventTime) -> Self {
        Self { by_sensor, floor }
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

    /// Notes that an interval of the sensor that ends at `end` is dispatched.
    pub(super) fn note(&mut self, sensor: SensorIndex, end: EventTime) {
        if self.by_sensor.len() <= sensor.as_usize() {
            self.by_sensor.resize(sensor.as_usize() + 1, EventTime::MIN);
        }
        let known = &mut self.by_sensor[sensor.as_usize()];
        *known = end.max(*known);
    }
}
