//! What is known of the sensors of a fleet.

use std::time::Duration;

use windrow_common::{EventTime, SensorId};

use super::cadence::Cadence;
use super::cells::Cell;
use super::incidents::Stretch;
use super::level::Level;
use crate::sensor_lookup::SensorLookup;

/// What is known of a sensor.
#[derive(Debug)]
pub(super) struct Known<'a> {
    pub(super) sensor: SensorId,
    pub(super) cadence: Cadence,
    /// Whether it has a model, if that was looked up.
    pub(super) has_model: Option<bool>,
    /// When it was taken out of service.
    pub(super) retired: Option<EventTime>,
    /// When it was silent, and when it was stuck.
    pub(super) stretches: &'a [Stretch],
    /// Its windows of the hour that is read, if it has any.
    pub(super) cell: Option<Cell>,
    /// The cell of the hour before, for its room.
    pub(super) spare: Option<Cell>,
    pub(super) level: Level,
    /// Time of the windows that were scored, and their number.
    pub(super) scored_time: Duration,
    pub(super) scored: u64,
    /// How many of their rows are anomalies.
    pub(super) anomalies: u64,
    /// Start of its newest window that was scored, and the threshold of its model, if it has one.
    pub(super) newest: Option<(EventTime, Option<f64>)>,
}

/// Sensors by number.
#[derive(Debug, Default)]
pub(super) struct Sensors<'a> {
    pub(super) all: Vec<Known<'a>>,
    index: SensorLookup,
}

impl<'a> Sensors<'a> {
    /// Returns the index of a sensor in the list. If it is not in the list yet, adds it with `new`.
    pub(super) fn find(
        &mut self,
        device: &str,
        tag: &str,
        new: impl FnOnce(SensorId) -> Known<'a>,
    ) -> Result<usize, String> {
        if let Some(at) = self.index.find(device, tag) {
            return Ok(at);
        }
        let sensor = SensorId::new(device, tag).map_err(|error| error.to_string())?;
        self.all.push(new(sensor.clone()));
        Ok(self.index.add(sensor))
    }
}

impl<'a> Known<'a> {
    pub(super) fn new(sensor: SensorId, retired: Option<EventTime>, stretches: &'a [Stretch]) -> Self {
        Self {
            sensor,
            cadence: Cadence::default(),
            has_model: None,
            retired,
            stretches,
            cell: None,
            spare: None,
            level: Level::default(),
            scored_time: Duration::ZERO,
            scored: 0,
            anomalies: 0,
            newest: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sensor_is_made_once_and_one_without_a_name_is_refused() {
        let mut sensors = Sensors::default();
        let mut find = |device: &str, tag: &str| {
            let new = |sensor| Known::new(sensor, None, &[]);
            sensors.find(device, tag, new)
        };
        let found = [("a", "1"), ("b", "1"), ("a", "1")].map(|(device, tag)| find(device, tag));
        assert_eq!(found, [Ok(0), Ok(1), Ok(0)]);
        assert!(find("", "1").is_err());
        assert_eq!(sensors.all.len(), 2);
    }
}
