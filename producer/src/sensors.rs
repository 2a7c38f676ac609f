//! Sensors as small numbers: inside the producer, a reading carries an index instead of two strings.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use windrow_common::{GROUP_TAG, SensorId, SensorIdError};

/// The number of a sensor in one [`SensorTable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SensorIndex(pub u32);

impl SensorIndex {
    /// Returns the number as an index into arrays with one entry for each sensor of the [`SensorTable`].
    pub fn as_usize(self) -> usize {
        self.0 as usize
    }
}

/// Most sensors of one table. A sensor is never forgotten, because a late reading of it must be known to be late: it
/// costs about 250 bytes of memory for good, and some of every checkpoint. An unbounded set of names, such as device
/// ids that contain a time, must not exhaust memory.
pub const MAX_SENSORS: usize = 10_000_000;

/// Why names have no number in a [`SensorTable`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SensorError {
    /// The names make no sensor.
    #[error(transparent)]
    Id(#[from] SensorIdError),
    /// The sensor is new, and the table is full.
    #[error(
        "too many sensors: {0} are known already, and this one is new; if every reading has a new device or tag, \
         choose another column or field"
    )]
    TooMany(usize),
}

/// A table of every sensor seen so far, numbered from 0 in order of appearance.
#[derive(Debug)]
pub struct SensorTable {
    ids: Vec<SensorId>,
    by_name: HashTable<u32>,
    hasher: FixedState,
    most: usize,
}

impl Default for SensorTable {
    fn default() -> Self {
        Self::with_room_for(MAX_SENSORS)
    }
}

impl SensorTable {
    /// Creates an empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates an empty table that takes at most `most` sensors.
    pub fn with_room_for(most: usize) -> Self {
        Self {
            ids: Vec::new(),
            by_name: HashTable::new(),
            hasher: FixedState::default(),
            most,
        }
    }

    /// Returns the index of a sensor, and adds the sensor if it is new. A known sensor costs no allocation.
    pub fn intern(&mut self, device: &str, tag: &str) -> Result<SensorIndex, SensorError> {
        let hash = self.hasher.hash_one((device, tag));
        let known = self.by_name.find(hash, |&index| {
            let id = &self.ids[index as usize];
            *id.tag == *tag && *id.device == *device
        });
        if let Some(&index) = known {
            return Ok(SensorIndex(index));
        }
        SensorId::check(device, tag)?;
        if tag == GROUP_TAG {
            return Err(SensorIdError::Reserved.into());
        }
        if self.ids.len() >= self.most {
            return Err(SensorError::TooMany(self.most));
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
        assert_eq!(b, SensorIdError::Empty("tag").into());
        for i in 0..10_000 {
            sensors.intern("d", &i.to_string()).unwrap();
        }
        assert_eq!(sensors.intern("d", "1").unwrap(), a);
        assert_eq!(sensors.len(), 10_000);
        assert_eq!(sensors.id(a).to_string(), "d/1");
    }

    #[test]
    fn a_full_table_refuses_new_names_and_knows_the_old_ones() {
        let mut sensors = SensorTable::with_room_for(2);
        let a = sensors.intern("d", "1").unwrap();
        sensors.intern("d", "2").unwrap();
        assert_eq!(sensors.intern("d", "3"), Err(SensorError::TooMany(2)));
        assert_eq!(sensors.intern("d", ""), Err(SensorIdError::Empty("tag").into()));
        assert_eq!(
            sensors.intern("d", GROUP_TAG),
            Err(SensorIdError::Reserved.into())
        );
        assert_eq!(sensors.intern("d", "1"), Ok(a));
        assert_eq!(sensors.len(), 2);
    }
}
