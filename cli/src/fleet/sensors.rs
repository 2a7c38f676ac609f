//! The sensors of a fleet, found by their names without a copy of them.

use std::collections::HashMap;

use windrow_common::{EventTime, SensorId};

use super::cadence::Cadence;
use super::cells::Cell;
use super::incidents::Stretch;
use super::level::Level;

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
    /// Windows that were scored, in milliseconds, and how many of them.
    pub(super) scored_ms: i64,
    pub(super) scored: u64,
    /// How many of their rows are anomalies.
    pub(super) anomalies: u64,
    /// The sensor whose row came next when this one's was read last.
    next: usize,
}

/// Sensors by name.
#[derive(Debug, Default)]
pub(super) struct Sensors<'a> {
    pub(super) all: Vec<Known<'a>>,
    by_name: HashMap<Box<str>, HashMap<Box<str>, usize>>,
    /// The sensor that was found last.
    last: usize,
}

impl<'a> Sensors<'a> {
    /// Returns the place of a sensor in the list. One that is new is made by `new`.
    pub(super) fn find(
        &mut self,
        device: &str,
        tag: &str,
        new: impl FnOnce(SensorId) -> Known<'a>,
    ) -> Result<usize, String> {
        let is = |at: usize| {
            let known: Option<&Known<'_>> = self.all.get(at);
            known.is_some_and(|known| *known.sensor.tag == *tag && *known.sensor.device == *device)
        };
        // Rows of a sensor come together, or sensors come in the order of the part before.
        if is(self.last) {
            return Ok(self.last);
        }
        let next = self.all.get(self.last).map_or(0, |known| known.next);
        let at = match is(next) {
            true => next,
            false => self.look_up(device, tag, new)?,
        };
        if let Some(last) = self.all.get_mut(self.last) {
            last.next = at;
        }
        self.last = at;
        Ok(at)
    }

    fn look_up(
        &mut self,
        device: &str,
        tag: &str,
        new: impl FnOnce(SensorId) -> Known<'a>,
    ) -> Result<usize, String> {
        if let Some(at) = self.by_name.get(device).and_then(|tags| tags.get(tag)) {
            return Ok(*at);
        }
        let sensor = SensorId::new(device, tag).map_err(|error| error.to_string())?;
        let at = self.all.len();
        self.all.push(new(sensor));
        self.by_name
            .entry(device.into())
            .or_default()
            .insert(tag.into(), at);
        Ok(at)
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
            scored_ms: 0,
            scored: 0,
            anomalies: 0,
            next: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sensor_has_one_place_in_whatever_order_its_rows_come() {
        let mut sensors = Sensors::default();
        let mut find = |device: &str, tag: &str| {
            let new = |sensor| Known::new(sensor, None, &[]);
            sensors.find(device, tag, new)
        };
        let names = [("a", "1"), ("a", "2"), ("b", "1"), ("b", "2"), ("c", "1")];
        for (at, (device, tag)) in names.iter().enumerate() {
            assert_eq!(find(device, tag), Ok(at));
        }
        for step in 0..200_usize {
            // In order, one often, and any.
            for at in [step % 5, 3, 3, step * step % 5, (step / 7) % 5] {
                assert_eq!(find(names[at].0, names[at].1), Ok(at), "{step}");
            }
        }
        assert!(find("", "1").is_err());
    }
}
