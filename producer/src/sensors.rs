//! Sensors as small numbers: inside the producer, a reading carries an index instead of two strings.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use windrow_common::{SensorId, SensorIdError};

/// The number of a sensor in one [`SensorTable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SensorIndex(pub u32);

impl SensorIndex {
    /// Returns the number as an index into arrays with one entry for each sensor of the [`SensorTable`].
    pub fn as_usize(self) -> usize {
        self.0 as usize
    }
}

/// A table of every sensor seen so far, numbered from 0 in order of appearance.
#[derive(Debug, Default)]
pub struct SensorTable {
    ids: Vec<SensorId>,
    by_name: HashTable<u32>,
    hasher: FixedState,
}

impl SensorTable {
    /// Creates an empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the index of a sensor, and adds the sensor if it is new. A known sensor costs no allocation.
    pub fn intern(&mut self, device: &str, tag: &str) -> Result<SensorIndex, SensorIdError> {
        let hash = self.hasher.hash_one((device, tag));
        let known = self.by_name.find(hash, |&index| {
            let id = &self.ids[index as usize];
            *id.tag == *tag && *id.device == *device
        });
        if let Some(&index) = known {
            return Ok(SensorIndex(index));
        }
        let index = self.ids.len() as u32;
        self.ids.push(SensorId::new(device, tag)?);
        let (ids, hasher) = (&self.ids, &self.hasher);
        self.by_name.insert_unique(hash, index, |&index| {
            let id = &ids[index as usize];
            hasher.hash_one((&*id.device, &*id.tag))
        });
        Ok(SensorIndex(index))
    }

    /// Returns the sensor of an index, which must come from this table.
    pub fn id(&self, index: SensorIndex) -> &SensorId {
        &self.ids[index.as_usize()]
    }

    /// Returns the sensors that were added after the first `known` ones, in order.
    pub fn after(&self, known: usize) -> &[SensorId] {
        self.ids.get(known..).unwrap_or_default()
    }

    /// Returns the number of sensors.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Returns whether the table is empty.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_names_give_the_same_index() {
        let mut sensors = SensorTable::new();
        let a = sensors.intern("d", "1").unwrap();
        let b = sensors.intern("d1", "").unwrap_err();
        assert_eq!(b, SensorIdError::Empty("tag"));
        for i in 0..10_000 {
            sensors.intern("d", &i.to_string()).unwrap();
        }
        assert_eq!(sensors.intern("d", "1").unwrap(), a);
        assert_eq!(sensors.len(), 10_000);
        assert_eq!(sensors.id(a).to_string(), "d/1");
    }
}
