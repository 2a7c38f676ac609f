//! Sensors as small numbers: a reading on its way through the producer carries an index, not two strings.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use windrow_common::{SensorId, SensorIdError};

/// Names a sensor within one [`SensorTable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SensorIndex(pub u32);

impl SensorIndex {
    /// As an index into arrays that run along a [`SensorTable`].
    pub fn as_usize(self) -> usize {
        self.0 as usize
    }
}

/// Every sensor seen so far, numbered from 0 in order of appearance.
#[derive(Debug, Default)]
pub struct SensorTable {
    ids: Vec<SensorId>,
    by_name: HashTable<u32>,
    hasher: FixedState,
}

impl SensorTable {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// The index of a sensor, new or known. For a known one nothing is allocated.
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

    /// The sensor an index stands for; it must come from this table.
    pub fn id(&self, index: SensorIndex) -> &SensorId {
        &self.ids[index.as_usize()]
    }

    /// How many sensors there are.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are none.
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
