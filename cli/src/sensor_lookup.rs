//! Sensors by number, found by their names without a copy of them.

use std::collections::HashMap;

use windrow_common::SensorId;

/// Sensors, numbered from 0 in the order in which they were added.
#[derive(Debug, Default)]
pub(crate) struct SensorLookup {
    all: Vec<Indexed>,
    by_name: HashMap<Box<str>, HashMap<Box<str>, usize>>,
    /// The sensor that was found last.
    last: usize,
}

#[derive(Debug)]
struct Indexed {
    sensor: SensorId,
    /// The sensor that was found after this one, the last time.
    next: usize,
}

impl SensorLookup {
    /// Adds a sensor that the index does not have, and returns its number.
    pub(crate) fn add(&mut self, sensor: SensorId) -> usize {
        let number = self.all.len();
        let tags = self.by_name.entry((*sensor.device).into()).or_default();
        tags.insert((*sensor.tag).into(), number);
        self.all.push(Indexed { sensor, next: 0 });
        number
    }

    /// Returns the number of a sensor, if it is there.
    pub(crate) fn find(&mut self, device: &str, tag: &str) -> Option<usize> {
        // Rows of a sensor are adjacent, or sensors have the same order as in the previous part.
        if self.is(self.last, device, tag) {
            return Some(self.last);
        }
        let next = self.all.get(self.last).map_or(0, |known| known.next);
        let number = match self.is(next, device, tag) {
            true => next,
            false => *self.by_name.get(device)?.get(tag)?,
        };
        if let Some(last) = self.all.get_mut(self.last) {
            last.next = number;
        }
        self.last = number;
        Some(number)
    }

    fn is(&self, number: usize, device: &str, tag: &str) -> bool {
        let sensor = self.all.get(number).map(|known| &known.sensor);
        sensor.is_some_and(|sensor| *sensor.tag == *tag && *sensor.device == *device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sensor_has_one_number_in_whatever_order_it_is_looked_for() {
        let mut index = SensorLookup::default();
        let names = [("a", "1"), ("a", "2"), ("b", "1"), ("b", "2"), ("c", "1")];
        for (at, (device, tag)) in names.iter().enumerate() {
            assert_eq!(index.find(device, tag), None);
            assert_eq!(index.add(SensorId::new(device, tag).unwrap()), at);
        }
        for step in 0..200_usize {
            // In order, one often, and any.
            for at in [step % 5, 3, 3, step * step % 5, (step / 7) % 5] {
                assert_eq!(index.find(names[at].0, names[at].1), Some(at), "{step}");
            }
        }
        assert_eq!(index.find("c", "2"), None);
    }
}
